"""The system matrix of meshes.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3.2 and Eq. 10.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pt3d_largesteps.matrices.assembly import Assembly, EntryAssembly
from pt3d_largesteps.matrices.edges import FaceGraph
from pt3d_largesteps.matrices.given import checked_entries
from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.laplacian import packed_verts_faces
from pt3d_largesteps.matrices.system import SystemMatrix

LAPLACIANS = {"combinatorial": FaceGraph.combinatorial_weights, "cotangent": FaceGraph.cotangent_weights}


def check_laplacian(laplacian: Any) -> None:
    """Raises if ``laplacian`` is an unknown name."""
    if isinstance(laplacian, str) and laplacian not in LAPLACIANS:
        raise ValueError(f"laplacian: expected one of {list(LAPLACIANS)} or a matrix, got {laplacian!r}")


def compute_matrix(
    verts: Any,
    faces: Tensor | None = None,
    *,
    lambda_: float | Tensor | None = None,
    alpha: float | Tensor | None = None,
    laplacian: str | Any = "combinatorial",
) -> SystemMatrix:
    """The system matrix I + lambda L or (1 - alpha) I + alpha L of a batch of meshes.

    Args:
        verts: a ``Meshes`` batch, or packed positions (V, 3).
        faces: packed vertex indices (F, 3), where ``verts`` is a tensor.
        lambda_: finite, at least 0: a number, one per mesh (N,) or one per vertex (V,), V = sum(V_n); tensors may require
            gradients. 19 if alpha is not given either. With one per vertex, an edge takes the mean of its two ends,
            w_ij (lambda_i + lambda_j) / 2.
        alpha: in [0, 1), instead of ``lambda_`` and in the same forms; lambda = alpha / (1 - alpha).
        laplacian: "combinatorial" (the paper's), "cotangent", or a symmetric positive semidefinite matrix of your own
            (torch or scipy, (V, V)).

    Returns:
        :class:`SystemMatrix` of the dtype and device of the vertices, differentiable in ``lambda_`` or ``alpha`` and, with
        cotangent weights, in the vertices.

    Raises:
        TypeError, ValueError: lambda is negative or not finite; alpha is outside [0, 1); both are given; a wrong length; a
            matrix that is not symmetric or has an entry that is not finite; a face index out of range.

    Example:
        >>> matrix = compute_matrix(ico_sphere(3), lambda_=19.0)
    """
    meshes = verts
    verts, faces = packed_verts_faces(verts, faces)
    size = verts.shape[0]
    sizes = (size,) if meshes is verts else tuple(meshes.num_verts_per_mesh().tolist())
    strength = Strength.of(lambda_, alpha, sizes, verts)
    check_laplacian(laplacian)
    if isinstance(laplacian, str):
        graph = FaceGraph(faces, size)
        weights = LAPLACIANS[laplacian](graph, verts)
        return SystemMatrix.from_assembly(Assembly(graph.edges, size), weights, strength, verts.detach(), sizes)
    rows, cols, values, num_rows = checked_entries("laplacian", laplacian)
    if num_rows != size:
        raise ValueError(f"laplacian: expected a matrix of {size} rows, one per vertex, got {(num_rows, num_rows)}")
    assembly = EntryAssembly(rows.to(verts.device), cols.to(verts.device), size)
    return SystemMatrix.from_assembly(assembly, values.to(verts), strength, verts.detach(), sizes)
