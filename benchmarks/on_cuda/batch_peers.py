"""Solvers of a batch of meshes on a CUDA device: from packed rows (V, 3) to packed rows, differentiable once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from on_cuda.cudss import CuDSS, lower_triangle
from pt3d_largesteps import SystemMatrix

Solve = Callable[[Tensor], Tensor]


def cholespy_loop(matrices: Sequence[SystemMatrix]) -> Solve:
    """A factor for each mesh, and a call for each: all that cholespy offers. Nothing is copied together or apart."""
    import cholespy

    solver_class = {torch.float32: cholespy.CholeskySolverF, torch.float64: cholespy.CholeskySolverD}[matrices[0].dtype]
    factors = []
    for matrix in matrices:
        indices = matrix.row_indices.to(torch.int32), matrix.col_indices.to(torch.int32)
        factors.append(solver_class(matrix.shape[0], *indices, matrix.values.double(), cholespy.MatrixType.COO))
    sizes = [matrix.shape[0] for matrix in matrices]

    def solve(packed: Tensor) -> Tensor:
        packed = packed.contiguous()
        result = torch.empty_like(packed)
        for factor, rhs, solution in zip(factors, packed.split(sizes), result.split(sizes), strict=True):
            factor.solve(rhs, solution)
        return result

    return solve


def cudss_batch(matrices: Sequence[SystemMatrix]) -> Solve:
    """All meshes in one call, as a batch of matrices beside a batch of right-hand sides.

    cuDSS wants each right-hand side column-major: the rows are brought into that order, and the solutions out of it, by a
    kernel each for the whole batch.
    """
    sizes = [matrix.shape[0] for matrix in matrices]
    values = matrices[0].values
    to_columns = column_major_order(sizes).to(values.device)
    to_rows = torch.argsort(to_columns)
    buffer = torch.empty(3 * sum(sizes), dtype=values.dtype, device=values.device)
    rhs = [part.view(3, -1).t() for part in buffer.split([3 * size for size in sizes])]  # views, (V, 3) column-major
    solver = CuDSS([lower_triangle(matrix) for matrix in matrices], rhs).plan().factorize()

    def solve(packed: Tensor) -> Tensor:
        torch.index_select(packed.reshape(-1), 0, to_columns, out=buffer)
        solutions = torch.cat([solution.t().reshape(-1) for solution in solver.solve()])  # views, and one kernel
        return solutions.index_select(0, to_rows).view(packed.shape)

    return solve


def column_major_order(sizes: Sequence[int]) -> Tensor:
    """(3 V,): which of the flattened packed rows (V, 3) stands where, when each mesh is column-major by itself."""
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return torch.cat([
        (3 * (start + torch.arange(size))[None, :] + torch.arange(3)[:, None]).reshape(-1)
        for start, size in zip(starts, sizes, strict=False)
    ])  # fmt: skip


class Differentiable(torch.autograd.Function):
    """M^-1 of packed rows through one of the solvers above, and the same for its gradient: M is symmetric."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, solve: Solve) -> Tensor:
        ctx.solve = solve
        return solve(packed.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.solve(gradient), None


BATCH_PEERS: dict[str, tuple[str, Callable[[Sequence[SystemMatrix]], Solve]]] = {
    "cholespy": ("cholespy", cholespy_loop),
    "cuDSS": ("nvmath", cudss_batch),
}


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(BATCH_PEERS[name][0]) is not None
