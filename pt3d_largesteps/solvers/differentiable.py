"""The solve as a differentiable function of the right-hand side and of the matrix's values.

M is symmetric and x = M^-1 b. An upstream gradient g of x gives

    dL/db = M^-1 g            (a solve with the same factorisation)
    dL/dM_ij = -(M^-1 g)_i . x_j  (on the pattern of M)

Both can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite
from pt3d_largesteps.matrices.pattern import Pattern
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.native.freshness import if_unchanged
from pt3d_largesteps.native.linear_solve import linear_solve
from pt3d_largesteps.solvers.base import Solver, SolverFactory, solver_for, version_of
from pt3d_largesteps.solvers.cholesky import CholeskySolver


def solve(matrix: SystemMatrix, rhs: Tensor, solver: str | SolverFactory = "auto") -> Tensor:
    """x with M x = rhs.

    Args:
        matrix: symmetric positive definite. The first call factorises it, and it keeps the factorisation.
        rhs: (V,), (V, k) or (B, V, k), any k, of the matrix's dtype and device; (B, V, k) for a batch of B matrices.
        solver: "auto", "cholesky", "cholespy", "conjugate_gradient" or a factory; see :func:`solver_for`.

    Returns:
        x, in the shape of ``rhs``; differentiable in ``rhs`` and ``matrix.values``.

    Raises:
        TypeError, ValueError: a wrong shape, dtype or device; on the CPU also a right-hand side, or a gradient in the
            backward pass, that is NaN or infinite. (CUDA does not check, because the check would wait for the device.
            There the result is NaN.)

    Example:
        >>> x = solve(matrix, u)
    """
    matrix.check_rhs("rhs", rhs)
    columns = rhs if rhs.dim() > 1 else rhs[:, None]
    chosen = solver_for(matrix, solver)
    if torch.compiler.is_dynamo_compiling():  # not torch.export: its program keeps the current numbers
        columns = if_unchanged(columns, matrix.values, version_of(matrix, solver))
    if isinstance(chosen, CholeskySolver):  # a torch operator, differentiable by itself
        factor, symbolic = chosen.factor.values, chosen.factor.symbolic
        solution = operators.solve(matrix.values, factor, symbolic.index, columns, 0, symbolic.solve_plan)
    elif rhs.dim() == 3 and matrix.batch_size is None:  # a solver of one matrix takes a batch as more columns
        num_columns = columns.shape[2]
        side_by_side = columns.transpose(0, 1).flatten(1)
        solution = linear_solve(_SolverInverse(matrix.pattern, chosen), side_by_side, matrix.values)
        solution = solution.view(len(solution), -1, num_columns).transpose(0, 1)
    else:
        solution = linear_solve(_SolverInverse(matrix.pattern, chosen), columns, matrix.values)
    return solution if rhs.dim() > 1 else solution[:, 0]


class _SolverInverse:
    """M^-1 with any solver of a matrix. Its numbers are the values of the matrix."""

    def __init__(self, pattern: Pattern, solver: Solver) -> None:
        self.pattern, self.solver = pattern, solver

    def solve(self, rhs: Tensor, direction: int, numbers: Sequence[Tensor]) -> Tensor:
        if rhs.device.type == "cpu":
            check_finite("rhs" if direction == 0 else "the gradient of the solution", rhs.detach())
        with torch.autocast(rhs.device.type, enabled=False):
            return self.solver.solve(rhs.detach().contiguous(), direction)  # a plain tensor, whatever subclass came

    def gradients(
        self, adjoint: Tensor, solution: Tensor, numbers: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[Tensor | None]:
        """-y_i . x_j on the pattern of M."""
        if not needed[0]:
            return (None,)
        rows, columns = self.pattern.row_indices, self.pattern.col_indices
        return (-(adjoint.index_select(-2, rows) * solution.index_select(-2, columns)).sum(-1),)

    def change(self, solution: Tensor, numbers: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        """dM x."""
        (tangent,) = tangents
        assert tangent is not None  # the only one
        products = tangent[..., None] * solution.index_select(-2, self.pattern.col_indices)
        return torch.zeros_like(solution).index_add(-2, self.pattern.row_indices, products)

    def vmap(
        self, info: Any, in_dims: Sequence[int | None], direction: int, rhs: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """Solves the batch as more columns of the same matrix."""
        if in_dims[0] is None or in_dims[1] is not None:
            raise ValueError('vmap: expected one matrix for the whole batch; only "cholesky" takes a matrix per member')
        rhs = rhs.movedim(in_dims[0], -2)  # (V, B, k), or (N, V, B, k) for a batch of matrices
        solution = linear_solve(self, rhs.flatten(-2), *numbers, direction=direction)
        return solution.unflatten(-1, rhs.shape[-2:]), solution.dim() - 1
