"""Solvers of M x = b for a :class:`~pt3d_largesteps.SystemMatrix`, behind one protocol.

    "cholesky"            sparse Cholesky factorisation, compiled with this package; on the CPU and on CUDA
    "cholespy"            sparse Cholesky factorisation through the cholespy package, if it is installed
    "conjugate_gradient"  preconditioned conjugate gradients; needs only torch
    "auto"                the best available one

The solvers of a :class:`~pt3d_largesteps.GridMatrix` are in ``solvers/grid``. Its transforms need no factorisation.

:func:`solve` is differentiable in b and in the matrix's values, any number of times.
"""

from pt3d_largesteps.solvers.base import Solver, available_solvers, solver_for
from pt3d_largesteps.solvers.cholesky import CholeskyFactor, NotPositiveDefiniteError, factorize
from pt3d_largesteps.solvers.conjugate_gradient import ConjugateGradientSolver, ConvergenceError
from pt3d_largesteps.solvers.differentiable import solve
from pt3d_largesteps.solvers.grid import solve_grid
from pt3d_largesteps.solvers.grid.conjugate_gradient import GridConjugateGradientSolver
from pt3d_largesteps.solvers.symbolic import SymbolicFactor, analyze

__all__ = [
    "CholeskyFactor",
    "ConjugateGradientSolver",
    "ConvergenceError",
    "GridConjugateGradientSolver",
    "NotPositiveDefiniteError",
    "Solver",
    "SymbolicFactor",
    "analyze",
    "available_solvers",
    "factorize",
    "solve",
    "solve_grid",
    "solver_for",
]
