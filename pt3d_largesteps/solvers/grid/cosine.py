"""The diagonal solve on a regular grid, ``torch.ops.pt3d_largesteps.grid_solve``: exact, without a factorisation.

    x = (c_0 I + sum_k c_k D_k^T D_k)^-1 rhs

It costs O(T log T) for T texels. Its derivatives are those of every solve (native/linear_solve.py): with the adjoint y,

    dL/dc_0 = -<y, x>,    dL/dc_k = -<D_k y, D_k x>.

Source: Strang, "The Discrete Cosine Transform", SIAM Review 41(1), 1999; Buzbee, Golub, Nielson, "On Direct Methods for
Solving Poisson's Equations", SIAM J. Numer. Anal. 7(4), 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite
from pt3d_largesteps.grids.differences import differences, multiply
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.native.linear_solve import linear_solve
from pt3d_largesteps.solvers.grid.cosine_in_torch import solve_by_torch
from pt3d_largesteps.solvers.grid.cosine_on_cpu import solve_in_blocks

_LETTERS = {"natural": "n", "periodic": "p", "fixed": "f"}
_NAMES = {letter: name for name, letter in _LETTERS.items()}
_BYTES_AT_ONCE = 256 * 2**20  # on CUDA: what lies in memory beside the fields is a few times that, or one field


def solve_uniform(matrix: GridMatrix, rhs: Tensor) -> Tensor:
    """x with M x = rhs, for a matrix without a mask and without a lambda per texel.

    Args:
        matrix: whose ``is_uniform`` holds.
        rhs: (N, C, *shape), float32 or float64.

    Returns:
        x, of the shape of ``rhs``. Differentiable in ``rhs`` and in lambda as often as one likes, in reverse and forward
        mode, under ``torch.func`` and in ``torch.compile(fullgraph=True)``.

    Raises:
        ValueError: a wrong shape; on the CPU a number that is NaN or infinite.

    Example:
        >>> x = solve_uniform(GridMatrix((64, 64, 64)), u)
    """
    matrix.check_field("rhs", rhs)
    boundary = "".join(_LETTERS[name] for name in matrix.boundary)
    return grid_solve(rhs, matrix.coefficients(rhs.device), boundary)


def grid_solve(rhs: Tensor, coefficients: Tensor, boundary: str, direction: int = 0) -> Tensor:
    """The operator, by the way that costs least where it is called.

    Args:
        rhs: (N, C, *shape).
        coefficients: (1, 1 + K) or (N, 1 + K) float64, on the device of ``rhs``; c_0 positive, the others at least 0.
        boundary: K letters, "n", "p" or "f".
        direction: counts the backward passes, for error messages.
    """
    if torch.compiler.is_compiling():
        return _operator(rhs, coefficients, boundary, direction)
    return linear_solve(_CosineInverse(boundary), rhs, coefficients, direction=direction)


def _solve(rhs: Tensor, coefficients: Tensor, boundary: str, direction: int) -> Tensor:
    names = tuple(_NAMES[letter] for letter in boundary)
    if rhs.numel() == 0:
        return torch.empty(rhs.shape, dtype=rhs.dtype, device=rhs.device)
    if rhs.device.type != "cpu":
        return _solve_by_torch(rhs, coefficients, names)
    given, numbers = rhs.detach().numpy(), coefficients.detach().tolist()
    if len(numbers) == 1:
        solution = solve_in_blocks(given.reshape(-1, *rhs.shape[2:]), numbers[0], names).reshape(rhs.shape)
    else:
        solution = np.empty(rhs.shape, given.dtype)
        for result, fields, own in zip(solution, given, numbers, strict=True):
            result[...] = solve_in_blocks(fields, own, names)
    _check_solution(solution, rhs, "rhs" if direction == 0 else "the gradient of the solution")
    return torch.from_numpy(solution)


@torch.no_grad()
def _solve_by_torch(rhs: Tensor, coefficients: Tensor, boundary: tuple[str, ...]) -> Tensor:
    out = torch.empty(rhs.shape, dtype=rhs.dtype, device=rhs.device)
    groups: Iterable[tuple[Tensor, Tensor, Tensor]] = zip(rhs, coefficients, out, strict=True)
    if len(coefficients) == 1:
        groups = [(rhs.flatten(0, 1), coefficients[0], out.flatten(0, 1))]
    for given, numbers, result in groups:
        at_once = max(1, _BYTES_AT_ONCE // (given[0].numel() * given.element_size()))
        for part, into in zip(given.split(at_once), result.split(at_once), strict=True):
            into.copy_(solve_by_torch(part, numbers, boundary))
    return out


def _check_solution(solution: np.ndarray, rhs: Tensor, name: str) -> None:
    """A number that is not finite spreads over its whole field: so one number of each is looked at."""
    if not np.isfinite(solution.reshape(*solution.shape[:2], -1)[..., 0]).all():
        check_finite(name, rhs)
        raise ValueError(f"{name}: expected numbers that {rhs.dtype} can sum, got up to {float(rhs.abs().max()):.3g}")


class _CosineInverse:
    """M^-1 by transforms; its numbers are the coefficients (1, 1 + K) or (N, 1 + K)."""

    def __init__(self, boundary: str) -> None:
        self.boundary = boundary

    def solve(self, rhs: Tensor, direction: int, numbers: Sequence[Tensor]) -> Tensor:
        return _solve(rhs, numbers[0], self.boundary, direction)

    def gradients(
        self, adjoint: Tensor, solution: Tensor, numbers: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[Tensor | None]:
        """-<y, x> and -<D_k y, D_k x>, for each field or in all."""
        if not needed[0]:
            return (None,)
        products = [_sums(adjoint * solution)]
        for k, letter in enumerate(self.boundary):
            axis, name = k - len(self.boundary), _NAMES[letter]
            products.append(_sums(differences(adjoint, axis, name) * differences(solution, axis, name)))
        gradient = -torch.stack(products, dim=1)
        return (gradient.sum(0, keepdim=True) if numbers[0].shape[0] == 1 else gradient,)

    def change(self, solution: Tensor, numbers: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        """dM x."""
        (tangent,) = tangents
        assert tangent is not None  # the only one
        trailing = [1] * (len(self.boundary) + 1)
        weights = [c.view(-1, *trailing) for c in tangent.to(solution.dtype).unbind(1)]
        return multiply(solution, weights, tuple(_NAMES[letter] for letter in self.boundary))

    def vmap(
        self, info: Any, in_dims: Sequence[int | None], direction: int, rhs: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """One more dimension of the batch, before the others."""
        return _vmap(info, (*in_dims, None, None), rhs, numbers[0], self.boundary, direction)


def _sums(products: Tensor) -> Tensor:
    """(N,) float64; a sum of millions in single precision loses digits."""
    return products.flatten(1).sum(1, dtype=torch.float64)


def _vmap(
    info: Any, in_dims: Sequence[int | None], rhs: Tensor, coefficients: Tensor, boundary: str, direction: int
) -> tuple[Tensor, int]:
    batch = info.batch_size
    rhs = rhs.expand(batch, *rhs.shape) if in_dims[0] is None else rhs.movedim(in_dims[0], 0)
    num_fields = rhs.shape[1]
    if in_dims[1] is not None:
        coefficients = coefficients.movedim(in_dims[1], 0).expand(batch, num_fields, -1).reshape(batch * num_fields, -1)
    elif coefficients.shape[0] > 1:
        coefficients = coefficients.repeat(batch, 1)
    return grid_solve(rhs.flatten(0, 1), coefficients, boundary, direction).unflatten(0, (batch, num_fields)), 0


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, coefficients, ctx.boundary, ctx.direction = inputs
    ctx.save_for_backward(coefficients, output)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    coefficients, solution = ctx.saved_tensors
    adjoint = _operator(gradient, coefficients, ctx.boundary, ctx.direction + 1)
    needed = ctx.needs_input_grad[1:2]
    return adjoint, *_CosineInverse(ctx.boundary).gradients(adjoint, solution, (coefficients,), needed), None, None


@torch.library.custom_op("pt3d_largesteps::grid_solve", mutates_args=())
def _operator(rhs: Tensor, coefficients: Tensor, boundary: str, direction: int) -> Tensor:
    return _solve(rhs, coefficients, boundary, direction)


@_operator.register_fake
def _(rhs: Tensor, coefficients: Tensor, boundary: str, direction: int) -> Tensor:
    return rhs.new_empty(rhs.shape)


_operator.register_autograd(_backward, setup_context=_setup_context)
_operator.register_vmap(_vmap)
