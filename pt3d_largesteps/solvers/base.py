"""The solver protocol; how a solver is chosen by name and kept with its matrix."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.native.library import has_cuda, is_compiled


class Solver(Protocol):
    """Solves M x = b for one matrix. A factory makes it from a :class:`SystemMatrix`.

    A solver keeps the tensors that it needs, never the matrix itself, because the matrix keeps the solver.
    """

    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        """x = M^-1 rhs for a contiguous rhs (V, k) without gradients, of the matrix's dtype and device.

        In a batch of matrices each matrix has its own solver, except with "cholesky".

        ``direction`` numbers the passes of one differentiated solve (0 forward, 1 backward, 2 backward of the
        backward, ...). The right-hand sides of a pass resemble those of the same pass in the previous call. So a solver
        that starts from a guess keeps one guess per direction.
        """
        ...


SolverFactory = Callable[[SystemMatrix], Solver]


def _make_cholesky(matrix: SystemMatrix) -> Solver:
    from pt3d_largesteps.solvers.cholesky import CholeskySolver

    return CholeskySolver(matrix)


def _make_cholespy(matrix: SystemMatrix) -> Solver:
    from pt3d_largesteps.solvers.cholespy import CholespySolver

    return CholespySolver(matrix)


def _make_conjugate_gradient(matrix: SystemMatrix) -> Solver:
    from pt3d_largesteps.solvers.conjugate_gradient import ConjugateGradientSolver

    return ConjugateGradientSolver(matrix)


_MAX_KEPT = 4  # solvers per matrix: a new factory at every call must not fill the memory

_FACTORIES: dict[str, SolverFactory] = {
    "cholesky": _make_cholesky,
    "cholespy": _make_cholespy,
    "conjugate_gradient": _make_conjugate_gradient,
}


def available_solvers() -> list[str]:
    """The names of the solvers that can be used here, the best first.

    Example:
        >>> available_solvers()
        ['cholesky', 'cholespy', 'conjugate_gradient']
    """
    names = ["cholesky", "conjugate_gradient"]
    if importlib.util.find_spec("cholespy"):
        names.insert(1 if is_compiled() else 0, "cholespy")
    return names


def _best_solver(device: torch.device) -> str:
    """The name that "auto" stands for on this device."""
    if (device.type == "cpu" and is_compiled()) or (device.type == "cuda" and has_cuda()):
        return "cholesky"  # called at every solve, so it does not search for packages
    return next(name for name in available_solvers() if device.type == "cpu" or name != "cholesky")


def solver_for(matrix: SystemMatrix, solver: str | SolverFactory = "auto") -> Solver:
    """The solver with this name for this matrix. The first call makes it; it is kept as long as the matrix lives.

    Args:
        matrix: symmetric positive definite.
        solver: "auto", a name of :func:`available_solvers`, or a factory, such as
            ``functools.partial(ConjugateGradientSolver, tolerance=1e-4)``.

    Inside ``torch.compile`` it is the solver that an earlier call has made. The compiled code raises if the values were changed
    in place since then.

    Raises:
        ValueError: an unknown name, or a matrix that is not positive definite.
        ImportError: the package of the solver is not installed.
        RuntimeError: inside ``torch.compile``, if no earlier call has made the solver.

    Example:
        >>> solver_for(matrix) is solver_for(matrix)
        True
    """
    solver = _checked(matrix, solver)
    if torch.compiler.is_compiling():  # it cannot factorise, and it cannot trace version counters
        kept = matrix._solvers.get(solver)
        if kept is None:
            raise RuntimeError(
                "matrix: expected one that was factorised by a call before torch.compile traces its solve, got one that was"
                " not; call the solve once outside of torch.compile, and give lambda as numbers"
            )
        return kept[1]
    # A change of the values in place makes a factorisation stale. The version counter of the tensor shows it.
    if matrix.values.is_inference():  # inference tensors have no version counter
        return _make(matrix, solver)
    version = matrix.values._version
    kept = matrix._solvers.get(solver)
    if kept is None or kept[0] != version:
        matrix._solvers.pop(solver, None)  # frees its memory before the new one needs some
        while len(matrix._solvers) >= _MAX_KEPT:
            matrix._solvers.pop(next(iter(matrix._solvers)))
        kept = matrix._solvers[solver] = (version, _make(matrix, solver))
    return kept[1]


def version_of(matrix: SystemMatrix, solver: str | SolverFactory) -> int:
    """The version counter that the values had when :func:`solver_for` made the kept solver."""
    return matrix._solvers[_checked(matrix, solver)][0]


def _checked(matrix: SystemMatrix, solver: str | SolverFactory) -> str | SolverFactory:
    check_solver(solver)
    return _best_solver(matrix.device) if solver == "auto" else solver


class SolverBatch:
    """One solver per matrix of a batch."""

    def __init__(self, matrix: SystemMatrix, factory: SolverFactory) -> None:
        self._solvers = [factory(one) for one in matrix.matrices()]

    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        """x = M_b^-1 rhs_b, (B, V, k)."""
        solutions = [solver.solve(one, direction) for solver, one in zip(self._solvers, rhs, strict=True)]
        return torch.stack(solutions) if solutions else rhs.clone()


def _make(matrix: SystemMatrix, solver: str | SolverFactory) -> Solver:
    factory = _FACTORIES[solver] if isinstance(solver, str) else solver
    matrix = matrix.detach()
    if matrix.batch_size is not None and solver != "cholesky":
        return SolverBatch(matrix, factory)
    return factory(matrix)


def is_direct(solver: str | SolverFactory, device: torch.device) -> bool:
    """Whether the blocks of a block-diagonal matrix are solved as exactly together as alone. False for factories."""
    name = _best_solver(device) if solver == "auto" else solver
    return name in ("cholesky", "cholespy")


def check_solver(solver: str | SolverFactory) -> None:
    """Raises unless ``solver`` is a known name or a callable."""
    if solver != "auto" and solver not in _FACTORIES and not callable(solver):
        raise ValueError(f"solver: expected one of {['auto', *_FACTORIES]} or a factory, got {describe(solver)}")
