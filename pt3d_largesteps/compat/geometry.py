"""Laplacians and the system matrix of one mesh, under the names of ``largesteps.geometry``.

    laplacian_uniform    w_ij = 1                        as combinatorial_laplacian
    laplacian_cot        w_ij = cot a_ij + cot b_ij      twice cotangent_laplacian, the stiffness matrix

Source of the interface: https://github.com/rgl-epfl/large-steps-pytorch, version 0.2.2.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from pt3d_largesteps.compat._matrices import keep
from pt3d_largesteps.matrices.assembly import Assembly
from pt3d_largesteps.matrices.edges import FaceGraph
from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.laplacian import combinatorial_laplacian, laplacian_from_edges, packed_verts_faces
from pt3d_largesteps.matrices.system import SystemMatrix


def laplacian_cot(verts: Tensor, faces: Tensor) -> Tensor:
    """The cotangent Laplacian with weights cot a + cot b: twice :func:`~pt3d_largesteps.cotangent_laplacian`.

    Args:
        verts: (V, 3), any float dtype and device.
        faces: (F, 3), integers.

    Returns:
        Coalesced sparse COO tensor (V, V) of the dtype and device of the positions, differentiable in them.

    Raises:
        TypeError, ValueError: wrong types or shapes; a face index out of range; positions that are NaN or infinite.

    Example:
        >>> loss = (laplacian_cot(verts, faces) @ verts).square().mean()
    """
    verts, faces = packed_verts_faces(verts, faces)
    graph = FaceGraph(faces, verts.shape[0])
    return laplacian_from_edges(graph.edges, _cotangents(graph, verts), verts.shape[0])


def laplacian_uniform(verts: Tensor, faces: Tensor) -> Tensor:
    """The combinatorial Laplacian D - A, each edge counted once: :func:`~pt3d_largesteps.combinatorial_laplacian`.

    Args:
        verts: (V, 3), any float dtype and device; only their number matters.
        faces: (F, 3), integers.

    Returns:
        Coalesced sparse COO tensor (V, V) of the dtype and device of the positions.

    Raises:
        TypeError, ValueError: wrong types or shapes; a face index out of range.

    Example:
        >>> loss = (verts * (laplacian_uniform(verts, faces) @ verts)).mean()
    """
    return combinatorial_laplacian(*packed_verts_faces(verts, faces))


def compute_matrix(
    verts: Tensor, faces: Tensor, lambda_: float | Tensor | None, alpha: float | Tensor | None = None, cotan: bool = False
) -> Tensor:
    """The matrix M = I + lambda L or, where ``alpha`` is given, M = (1 - alpha) I + alpha L.

    Args:
        verts: (V, 3), float32 or float64, on any device.
        faces: (F, 3), integers.
        lambda_: finite, at least 0. Ignored if ``alpha`` is given, and may be None then. The value 0.95 in papers and scripts
            is an alpha; it corresponds to a lambda of 19.
        alpha: in [0, 1).
        cotan: L of :func:`laplacian_cot` instead of :func:`laplacian_uniform`.

    Returns:
        Coalesced sparse COO tensor (V, V) of the dtype and device of the positions, for ``M @ x``,
        :func:`~pt3d_largesteps.compat.to_differential` and :func:`~pt3d_largesteps.compat.from_differential`.

    Raises:
        TypeError, ValueError: neither lambda nor alpha, or one out of its range; wrong types or shapes; a face index out of
            range; a lambda so large that rounding removes the identity from I + lambda L.

    Example:
        >>> M = compute_matrix(verts, faces, lambda_=19)
        >>> u = to_differential(M, verts)
    """
    verts, faces = packed_verts_faces(verts, faces)
    if lambda_ is None and alpha is None:
        raise TypeError("lambda_: expected a number of at least 0 (or None with alpha=..., in [0, 1)), got None")
    size = verts.shape[0]
    strength = Strength.of(lambda_ if alpha is None else None, alpha, (size,), verts)
    graph = FaceGraph(faces, size)
    weights = _cotangents(graph, verts) if cotan else graph.combinatorial_weights(verts)
    system = SystemMatrix.from_assembly(Assembly(graph.edges, size), weights, strength, verts.detach(), (size,))
    matrix = system.to_sparse_coo()
    keep(matrix, replace(system, values=system.values.detach().clone()))
    return matrix


def _cotangents(graph: FaceGraph, verts: Tensor) -> Tensor:
    """(E,), the sum of the cotangents opposite each edge; the rest of this package uses half of it."""
    return 2 * graph.cotangent_weights(verts)
