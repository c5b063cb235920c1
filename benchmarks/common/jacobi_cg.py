"""Conjugate gradients as used in PyTorch pipelines without a factorisation, for a matrix in torch's CSR.

The form is that of NVIDIA PhysicsNeMo's sobolev_deform (2.2, its torch implementation): the diagonal preconditions; all
columns share one step length and one residual, which has to fall below 1e-6 (float64: 1e-10) of the right-hand side's; the
number of iterations is fixed, and unnecessary ones change nothing, so that the host never waits for the device. PhysicsNeMo is
matrix-free on the cells of a mesh; here the product is cuSPARSE's. PhysicsNeMo always runs 128 iterations; here
:func:`iterations_needed` finds the number that is enough, once and untimed.

Reference: Shewchuk, "An Introduction to the Conjugate Gradient Method Without the Agonizing Pain", 1994, B3.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pt3d_largesteps import SystemMatrix

TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-10}
MAX_ITERATIONS = 5000


def sparse_csr(matrix: SystemMatrix, dtype: torch.dtype | None = None) -> Tensor:
    """The matrix as torch's CSR tensor, with the 32-bit indices that cuSPARSE is fastest with."""
    indices = matrix.crow_indices.int(), matrix.col_indices.int()
    values = matrix.values.detach().to(dtype or matrix.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that CSR tensors are in beta
        return torch.sparse_csr_tensor(*indices, values, size=matrix.shape, check_invariants=False)


def conjugate_gradients(matrix: Tensor, diagonal: Tensor, rhs: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """x with M x = rhs (V, k) after the given number of iterations from zero, and whether it has converged, () bool.

    Args:
        matrix: (V, V) in CSR.
        diagonal: (V, 1), its own.
    """
    tiny = torch.finfo(rhs.dtype).tiny
    threshold = TOLERANCES[rhs.dtype] ** 2 * rhs.square().sum().clamp_min(tiny)
    solution, residual = torch.zeros_like(rhs), rhs
    direction = preconditioned = residual / diagonal
    inner = (residual * preconditioned).sum()
    active = residual.square().sum() > threshold
    for _ in range(iterations):
        product = matrix @ direction
        step = torch.where(active, inner / (direction * product).sum().clamp_min(tiny), 0)
        solution = solution + step * direction
        residual = residual - step * product
        preconditioned = residual / diagonal
        next_inner = (residual * preconditioned).sum()
        active = active & (residual.square().sum() > threshold)
        direction = preconditioned + (next_inner / inner.clamp_min(tiny)) * direction
        inner = next_inner
    return solution, ~active


def iterations_needed(matrix: Tensor, diagonal: Tensor, rhs: Tensor) -> int:
    """The least number of iterations that converges, found by halving.

    Raises:
        RuntimeError: more than 5,000 would be needed.
    """
    enough = 16
    while not bool(conjugate_gradients(matrix, diagonal, rhs, enough)[1]):
        enough *= 2
        if enough > MAX_ITERATIONS:
            raise RuntimeError(f"conjugate gradients do not converge in {MAX_ITERATIONS} iterations")
    too_few = 0 if enough == 16 else enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if bool(conjugate_gradients(matrix, diagonal, rhs, middle)[1]):
            enough = middle
        else:
            too_few = middle
    return enough
