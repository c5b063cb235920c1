"""The parameterisation u = (I + lambda L) x as functions of tensors.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.solvers import solve
from pt3d_largesteps.solvers.base import SolverFactory
from pt3d_largesteps.solvers.grid import GridSolverFactory, solve_grid
from pt3d_largesteps.systems.batch import BatchSystem


def to_differential(matrix: SystemMatrix | GridMatrix, verts: Tensor) -> Tensor:
    """The differential coordinates u = M x.

    Args:
        matrix: of :func:`compute_matrix`, or a :class:`GridMatrix`.
        verts: (V,), (V, C) or T frames (T, V, C), float: positions, colours or any other quantity per vertex; fields
            (N, C, *shape) over a grid.

    Returns:
        u, of the same shape. Differentiable in ``verts`` and in ``matrix.values``.

    Example:
        >>> u = to_differential(matrix, meshes.verts_packed())
    """
    _check_matrix(matrix)
    if isinstance(matrix, GridMatrix):
        matrix.check_field("field", verts)
        return matrix.multiply(verts)
    matrix.check_rhs("verts", verts)
    return matrix @ verts


def from_differential(
    matrix: SystemMatrix | GridMatrix, u: Tensor, solver: str | SolverFactory | GridSolverFactory = "auto"
) -> Tensor:
    """The positions x = M^-1 u; the inverse of :func:`to_differential`.

    Args:
        matrix: of :func:`compute_matrix`; the first call factorises it, and it keeps the factorisation. Or a
            :class:`GridMatrix`.
        u: (V,), (V, C) or T frames (T, V, C), float; fields (N, C, *shape) over a grid.
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory; for a grid see
            :func:`~pt3d_largesteps.solvers.grid.solve_grid`.

    Returns:
        x, of the same shape. Differentiable in ``u`` and in ``matrix.values``, any number of times. The backward
        pass is a solve with the same factorisation.

    Example:
        >>> verts = from_differential(matrix, u)
    """
    _check_matrix(matrix)
    given: Any = solver  # a factory must fit the kind of matrix
    return solve_grid(matrix, u, given) if isinstance(matrix, GridMatrix) else solve(matrix, u, given)


def precondition(gradient: Tensor, system: BatchSystem | SystemMatrix | GridMatrix, power: int = 2) -> Tensor:
    """M^-1 g or M^-2 g: a smoothed gradient with respect to the vertices, for pipelines that keep their own optimiser.

    A step of gradient descent along M^-2 g is a step of descent on u (Eq. 13); M^-1 g is the Sobolev gradient.

    Args:
        gradient: packed (V,), (V, C) or T frames (T, V, C), of the dtype and device of the matrix; (N, C, *shape) on a grid.
        system: of the meshes, :class:`~pt3d_largesteps.BatchSystem` or a matrix of :func:`compute_matrix`; or a
            :class:`~pt3d_largesteps.GridMatrix`. At pinned vertices the gradient counts as 0.
        power: 1 or 2.

    Returns:
        A tensor of the shape of ``gradient``; 0 at pinned vertices.

    Example:
        >>> system = BatchSystem(meshes)
        >>> hook = verts.register_hook(lambda g: precondition(g, system))
    """
    if power not in (1, 2) or isinstance(power, bool):
        raise ValueError(f"power: expected 1 or 2, got {describe(power)}")
    if isinstance(system, BatchSystem) and system.pinned is not None:
        gradient = gradient.masked_fill(system.pinned if gradient.dim() == 1 else system.pinned[:, None], 0)
    for _ in range(power):
        gradient = solve_with(system, gradient)
    return gradient


def solve_with(system: BatchSystem | SystemMatrix | GridMatrix, rhs: Tensor) -> Tensor:
    """M^-1 rhs for any kind of system."""
    if isinstance(system, GridMatrix):
        return solve_grid(system, rhs)
    if isinstance(system, BatchSystem):
        return system.solve(rhs)
    if not isinstance(system, SystemMatrix):
        raise TypeError(f"system: expected a BatchSystem or a SystemMatrix, got {describe(system)}")
    return solve(system, rhs)


def _check_matrix(matrix: Any) -> None:
    if not isinstance(matrix, SystemMatrix | GridMatrix):
        raise TypeError(
            "matrix: expected a SystemMatrix (of compute_matrix, or SystemMatrix.from_sparse of your own) or a GridMatrix,"
            f" got {describe(matrix)}"
        )
