"""Solver objects and the differentiable solve, under the names of ``largesteps.solvers``.

Source of the interface: https://github.com/rgl-epfl/large-steps-pytorch, version 0.2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, describe
from pt3d_largesteps.compat._matrices import system_of
from pt3d_largesteps.solvers import solver_for


class Solver:
    """The interface that :func:`solve` needs, ``solve(b, backward)``; a base class for your own solvers.

    Args:
        M: the matrix.
    """

    def __init__(self, M: Tensor) -> None:
        pass

    def solve(self, b: Tensor, backward: bool = False) -> Tensor:
        """x with M x = b, without gradients.

        Args:
            b: (V, C).
            backward: whether it is the solve of a backward pass; a solver that starts from a guess keeps one per direction.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a solver with a method solve(b, backward=False)")


class _NamedSolver(Solver):
    """One of this package's solvers, for the matrix at construction time."""

    _name: str

    def __init__(self, M: Tensor) -> None:
        self._system = system_of(M, "M")
        self._solver = solver_for(self._system, self._name)

    @torch.no_grad()
    def solve(self, b: Tensor, backward: bool = False) -> Tensor:
        """x with M x = b, of the shape of b and without gradients; see :func:`solve`.

        Args:
            b: (V,) or (V, C), of the dtype and device of the matrix.
            backward: whether it is the solve of a backward pass.

        Raises:
            TypeError, ValueError: a wrong shape, dtype or device; on the CPU also a number that is NaN or infinite.
        """
        self._check("b", b)
        columns = (b if b.dim() == 2 else b[:, None]).detach().contiguous()
        if columns.device.type == "cpu":
            check_finite("b", columns)
        with torch.autocast(columns.device.type, enabled=False):
            solution = self._solver.solve(columns, int(backward))
        return solution if b.dim() == 2 else solution[:, 0]

    def _check(self, name: str, b: Any) -> None:
        if isinstance(b, Tensor) and b.dim() == 3:
            raise ValueError(f"{name}: expected a tensor of shape (V,) or (V, C), got {describe(b)}")
        self._system.check_rhs(name, b)


class CholeskySolver(_NamedSolver):
    """The sparse Cholesky factorisation of a matrix.

    Args:
        M: sparse tensor (V, V), symmetric positive definite, float32 or float64.

    Raises:
        TypeError, ValueError: a matrix that is not square, symmetric, finite and positive definite.

    Example:
        >>> x = CholeskySolver(M).solve(b)
    """

    _name = "auto"


class ConjugateGradientSolver(_NamedSolver):
    """Preconditioned conjugate gradients, which start from the solution of the previous call.

    A column stops at a residual of 1e-6 of its right-hand side (1e-12 in float64), after a bounded number of iterations:
    :class:`pt3d_largesteps.solvers.ConjugateGradientSolver`.

    Args:
        M: sparse tensor (V, V), symmetric positive definite, float32 or float64.

    Raises:
        TypeError, ValueError: as :class:`CholeskySolver`.

    Example:
        >>> x = ConjugateGradientSolver(M).solve(b)
    """

    _name = "conjugate_gradient"

    @torch.no_grad()
    def solve_axis(self, b: Tensor, x0: Tensor) -> Tensor:
        """x with M x = b for one column (V,), starting from ``x0`` (V,)."""
        for name, column in (("b", b), ("x0", x0)):
            if not isinstance(column, Tensor) or column.dim() != 1:
                raise ValueError(f"{name}: expected a tensor of shape ({self._system.shape[0]},), got {describe(column)}")
            self._check(name, column)
        # Solve for the change from x0, because the solver's own guess belongs to another call.
        return x0 + self.solve(b - self._system @ x0)


class DifferentiableSolve(torch.autograd.Function):
    """The solve as a function of the right-hand side; its backward pass is a solve with the same symmetric matrix, and can be
    differentiated again."""

    @staticmethod
    def forward(ctx: Any, solver: Solver, b: Tensor) -> Tensor:
        if isinstance(solver, Tensor) or not callable(getattr(solver, "solve", None)):  # a tensor has one, of another kind
            raise TypeError(f"solver: expected an object with a method solve(b, backward), got {describe(solver)}")
        ctx.solver = solver
        return solver.solve(b.detach(), backward=False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[None, Tensor | None]:
        return None, _BackwardSolve.apply(ctx.solver, grad_output) if ctx.needs_input_grad[1] else None


class _BackwardSolve(DifferentiableSolve):
    @staticmethod
    def forward(ctx: Any, solver: Solver, b: Tensor) -> Tensor:
        ctx.solver = solver
        return solver.solve(b.detach().contiguous(), backward=True)  # autograd passes views, which few solvers expect


solve = DifferentiableSolve.apply
