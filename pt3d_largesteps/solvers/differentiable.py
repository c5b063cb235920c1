"""The solve as a differentiable function of the right-hand side and of the matrix's values.

With M symmetric and x = M^-1 b, an upstream gradient g of x gives

    dL/db = M^-1 g            (a solve with the same factorisation)
    dL/dM_ij = -(M^-1 g)_i . x_j  (on the pattern of M)

and both are functions that can be differentiated again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers.base import Solver, SolverFactory, solver_for
from pt3d_largesteps.solvers.cholesky import CholeskySolver


def solve(matrix: SystemMatrix, rhs: Tensor, solver: str | SolverFactory = "auto") -> Tensor:
    """x with M x = rhs.

    Args:
        matrix: symmetric positive definite; its factorisation is made at the first call and kept with it.
        rhs: (V,), (V, k) or (B, V, k), any k, of the matrix's dtype and device; (B, V, k) for a batch of B matrices.
        solver: "auto", "cholesky", "cholespy", "conjugate_gradient" or a factory; see :func:`solver_for`.

    Returns:
        x, of the shape of ``rhs``. Gradients reach ``rhs`` and ``matrix.values``.

    Raises:
        TypeError, ValueError: a wrong shape, dtype or device; on the CPU also a right-hand side, or a gradient in the
            backward pass, that is NaN or infinite. (On CUDA these are not looked for, since that would wait for the
            device; they come out as NaN.)

    Example:
        >>> x = solve(matrix, u)
    """
    matrix.check_rhs("rhs", rhs)
    columns = rhs if rhs.dim() > 1 else rhs[:, None]
    chosen = solver_for(matrix, solver)
    if isinstance(chosen, CholeskySolver):  # an operator of torch, which is differentiable by itself
        factor, symbolic = chosen.factor.values, chosen.factor.symbolic
        solution = operators.solve(matrix.values, factor, symbolic.index, columns, 0, symbolic.solve_plan)
    elif rhs.dim() == 3 and matrix.batch_size is None:  # to a solver of one matrix a batch is more columns
        num_columns = columns.shape[2]
        side_by_side = columns.transpose(0, 1).flatten(1)
        solution = _Solve.apply(matrix.values, side_by_side, matrix, chosen, 0)
        solution = solution.view(len(solution), -1, num_columns).transpose(0, 1)
    else:
        solution = _Solve.apply(matrix.values, columns, matrix, chosen, 0)
    return solution if rhs.dim() > 1 else solution[:, 0]


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rhs: Tensor, matrix: SystemMatrix, solver: Solver, direction: int) -> Tensor:
        if rhs.device.type == "cpu":
            check_finite("rhs" if direction == 0 else "the gradient of the solution", rhs)
        with torch.autocast(rhs.device.type, enabled=False):
            solution = solver.solve(rhs.detach().contiguous(), direction)  # a plain tensor, whatever was given
        ctx.save_for_backward(values, solution)
        ctx.matrix, ctx.solver, ctx.direction = matrix, solver, direction
        return solution

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, solution = ctx.saved_tensors
        matrix = ctx.matrix
        rhs_gradient = _Solve.apply(values, gradient, matrix, ctx.solver, ctx.direction + 1)
        values_gradient = None
        if ctx.needs_input_grad[0]:
            rows, cols = matrix.row_indices, matrix.col_indices
            values_gradient = -(rhs_gradient.index_select(-2, rows) * solution.index_select(-2, cols)).sum(-1)
        return values_gradient, rhs_gradient, None, None, None
