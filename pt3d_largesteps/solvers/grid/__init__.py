"""Which solver a grid gets, and the solve as a differentiable function of the field and of lambda.

    "cosine"              fast transforms (cosine.py): exact, for every size; no mask, no lambda per texel
    "cholesky"            the sparse Cholesky factorisation over the valid texels (or "cholespy")
    "conjugate_gradient"  matrix-free, with the transforms as preconditioner (grid_conjugate_gradient.py)
    "auto"                the first that is possible and not too large

The sparse factor of an image of T texels has about 8 T log2 T entries and is quicker than conjugate gradients from the second
solve on; that of a volume has T^(4/3) and is not. So "auto" factorises up to 2^20 valid texels of a line or an image,
up to 2^15 of a volume, and iterates above. ``torch.compile(fullgraph=True)`` takes "cosine", and the factorisations of a call
before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.grids.differences import differences, multiply
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.grids.sparse import grid_system_matrix, places_of
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.native.linear_solve import linear_solve
from pt3d_largesteps.solvers.differentiable import solve
from pt3d_largesteps.solvers.grid.conjugate_gradient import GridConjugateGradientSolver
from pt3d_largesteps.solvers.grid.cosine import solve_uniform

MAX_FACTORISED = {1: 2**20, 2: 2**20, 3: 2**15}  # valid texels, by the number of axes
_NAMES = ("cosine", "cholesky", "cholespy", "conjugate_gradient")
_MAX_KEPT = 4  # solvers per matrix: a factory made anew at every call must not fill the memory

GridSolverFactory = Callable[[GridMatrix, Tensor], Any]


def solve_grid(matrix: GridMatrix, rhs: Tensor, solver: str | GridSolverFactory = "auto") -> Tensor:
    """x with M x = rhs.

    Args:
        matrix: what is computed once (a factor, a guess) is kept with it.
        rhs: (N, C, *shape), float32 or float64.
        solver: "auto", "cosine", "cholesky", "cholespy", "conjugate_gradient", or a factory such as
            ``functools.partial(GridConjugateGradientSolver, tolerance=1e-4)``.

    Returns:
        x, of the shape of ``rhs``, differentiable in ``rhs`` and in lambda as often as one likes. Equal to ``rhs`` where the
        mask has no valid texel.

    Raises:
        TypeError, ValueError: a wrong shape, dtype or device; on the CPU a number that is NaN or infinite; a solver that
            this matrix cannot have.
        ConvergenceError: conjugate gradients did not reach their tolerance.

    Example:
        >>> x = solve_grid(GridMatrix((512, 512), mask=mask), u)
    """
    if torch.compiler.is_compiling() and not matrix.is_uniform and ("system", rhs.dtype, rhs.device) not in matrix._kept:
        raise RuntimeError(
            "matrix: expected one that was factorised by a call before torch.compile traces its solve, got one that was not;"
            " call it once without, and give lambda as numbers"
        )
    if isinstance(solver, str) and solver == "auto":
        solver = best_solver(matrix)
    if not callable(solver) and solver not in _NAMES:
        raise ValueError(f"solver: expected one of {['auto', *_NAMES]} or a factory, got {describe(solver)}")
    if solver == "cosine":
        if not matrix.is_uniform:
            raise ValueError('solver: expected another than "cosine" for a mask or a lambda per texel, got "cosine"')
        return solve_uniform(matrix, rhs)
    matrix.check_field("rhs", rhs)
    if solver in ("cholesky", "cholespy"):
        return _solve_factorised(matrix, rhs, solver)
    factory = solver if callable(solver) else GridConjugateGradientSolver
    like = torch.empty(0, dtype=rhs.dtype, device=rhs.device)  # what is kept must not be of a transform of torch.func
    kept = _kept(matrix, ("solver", solver, rhs.dtype, rhs.device), lambda: factory(matrix.detach(), like))
    return linear_solve(_IterativeInverse(matrix.boundary, kept), rhs, *matrix.weights(like))


def best_solver(matrix: GridMatrix) -> str:
    """What "auto" means for this matrix; see the top of this file."""
    if matrix.is_uniform:
        return "cosine"
    small = matrix.batch_size is None and matrix.num_valid <= MAX_FACTORISED[matrix.ndim]
    return "cholesky" if small else "conjugate_gradient"


def _solve_factorised(matrix: GridMatrix, rhs: Tensor, solver: str) -> Tensor:
    system: SystemMatrix = _kept(
        matrix, ("system", rhs.dtype, rhs.device), lambda: grid_system_matrix(matrix, rhs.dtype, valid_only=True)
    )
    columns = rhs.flatten(2).flatten(0, 1)  # (N C, T)
    valid = places_of(matrix, valid_only=True).texels
    own = columns if valid is None else columns.index_select(1, valid)
    solution = solve(system, own.T, solver).T
    solution = solution if valid is None else columns.index_copy(1, valid, solution)
    return solution.reshape(rhs.shape)


def _kept(matrix: GridMatrix, key: tuple, make: Callable[[], Any]) -> Any:
    """What the matrix has kept under this key, made where it has not; not kept where lambda is learned, and changes."""
    if matrix.requires_grad:
        return make()
    kept = matrix._kept
    if key not in kept:
        alike = [other for other in kept if isinstance(other, tuple) and other[0] == key[0]]
        for other in alike[: len(alike) + 1 - _MAX_KEPT]:
            del kept[other]
        with torch.inference_mode(False):  # it may be needed for gradients later
            kept[key] = make()
    return kept[key]


class _IterativeInverse:
    """M^-1 by an iterative solver; its numbers are the 1 + K weights of :meth:`GridMatrix.weights`."""

    def __init__(self, boundary: tuple[str, ...], solver: Any) -> None:
        self.boundary, self.solver = boundary, solver

    def solve(self, rhs: Tensor, direction: int, numbers: Sequence[Tensor]) -> Tensor:
        with torch.autocast(rhs.device.type, enabled=False):
            return self.solver.solve(rhs.detach().contiguous(), direction)

    def gradients(
        self, adjoint: Tensor, solution: Tensor, numbers: Sequence[Tensor], needed: Sequence[bool]
    ) -> list[Tensor | None]:
        """-y x and -(D_k y) (D_k x), summed to the shapes of the weights."""
        gradients: list[Tensor | None] = [None] * len(numbers)
        for k, weight in enumerate(numbers):
            if not needed[k]:
                continue
            ends = [adjoint, solution]
            if k > 0:
                ends = [differences(field, k - 1 - len(self.boundary), self.boundary[k - 1]) for field in ends]
            gradients[k] = -(ends[0] * ends[1]).sum_to_size(weight.shape)
        return gradients

    def change(self, solution: Tensor, numbers: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        """dM x."""
        pairs = zip(numbers, tangents, strict=True)
        weights = [torch.zeros_like(weight) if tangent is None else tangent for weight, tangent in pairs]
        return multiply(solution, weights, self.boundary)

    def vmap(
        self, info: Any, in_dims: Sequence[int | None], direction: int, rhs: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """More channels: each of them is solved by itself, with the weights of its field."""
        if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
            raise ValueError("vmap: conjugate gradients expect one lambda for the whole batch; loop over them")
        rhs = rhs.movedim(in_dims[0], 1)  # (N, B, C, *shape)
        solution = linear_solve(self, rhs.flatten(1, 2), *numbers, direction=direction)
        return solution.unflatten(1, rhs.shape[1:3]), 1
