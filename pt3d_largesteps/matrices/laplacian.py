r"""Laplacians of triangle meshes as sparse (sum(V_n), sum(V_n)) matrices; from ``Meshes`` or from packed (verts, faces).

Both Laplacians have the form

    L = sum over edges (i, j) of  w_ij (e_i - e_j) (e_i - e_j)^T        L_ij = -w_ij,   L_ii = sum_j w_ij

so they are symmetric and their rows sum to zero. They are positive semidefinite with w_ij >= 0, and also with cotangent
weights of any sign. The packed order of a batch makes L block-diagonal: no mesh influences another.

    combinatorial   w_ij = 1 for each edge, counted once even if many faces share it; L = D - A
    cotangent       w_ij = (cot a_ij + cot b_ij) / 2, the stiffness matrix of linear finite elements

                 k            a_ij is the angle at k, b_ij the one at l; a boundary edge has only one of them,
                / \           an edge that is not manifold has one for each of its faces.
               /a_ij\
              i-----j         Against other libraries (off the diagonal):
               \b_ij/          gpytoolbox.cotangent_laplacian      the same matrix
                \ /            largesteps.geometry.laplacian_cot   2 L
                 l            pytorch3d.ops.cot_laplacian         -2 L, and no diagonal

References: [1] Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3.2;
[2] Pinkall, Polthier, "Computing Discrete Minimal Surfaces and Their Conjugates", Experimental Mathematics 2(1), 1993.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_float_dtype, describe
from pt3d_largesteps.matrices.edges import FaceGraph


def combinatorial_laplacian(verts: Any, faces: Tensor | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
    """The combinatorial Laplacian L = D - A. Each edge of the faces counts once [1].

    Args:
        verts: a ``Meshes`` batch, or packed positions (V, 3) of any float dtype (only their number matters).
        faces: packed vertex indices (F, 3), where ``verts`` is a tensor.
        dtype: of the result; that of the vertices unless given.

    Returns:
        Coalesced sparse COO tensor (V, V) with V = sum(V_n). A vertex without faces has an empty row; the repeated
        vertex of a degenerate face gives no self-edge.

    Raises:
        TypeError, ValueError: wrong types or shapes; a face index out of range (the message says which mesh and face).

    Example:
        >>> L = combinatorial_laplacian(ico_sphere(2))
        >>> (L @ torch.ones(L.shape[0], 1)).abs().max()
        tensor(0.)
    """
    verts, faces = packed_verts_faces(verts, faces)
    edges = FaceGraph(faces, verts.shape[0]).edges
    return laplacian_from_edges(edges, verts.new_ones(edges.shape[0], dtype=dtype), verts.shape[0])


def cotangent_laplacian(verts: Any, faces: Tensor | None = None) -> Tensor:
    """The cotangent Laplacian (stiffness matrix, weights (cot a + cot b) / 2) [2], differentiable in the positions.

    Where the area of a face vanishes, its cotangents are bounded: twice the area is taken as at least sqrt(eps) times
    the square of its longest edge, with eps of the dtype. The result stays finite and positive semidefinite up to
    rounding. All other faces get the exact weights. The result does not depend on the scale of the mesh.

    Args:
        verts: a ``Meshes`` batch, or packed positions (V, 3) of any float dtype.
        faces: packed vertex indices (F, 3), where ``verts`` is a tensor.

    Returns:
        Coalesced sparse COO tensor (V, V), of the dtype and device of the positions.

    Raises:
        TypeError, ValueError: as :func:`combinatorial_laplacian`; also positions that are NaN or infinite.

    Example:
        >>> L = cotangent_laplacian(ico_sphere(2))
        >>> energy = (x * (L @ x)).sum() / 2        # the Dirichlet energy of the functions in the columns of x
    """
    verts, faces = packed_verts_faces(verts, faces)
    graph = FaceGraph(faces, verts.shape[0])
    return laplacian_from_edges(graph.edges, graph.cotangent_weights(verts), verts.shape[0])


def laplacian_from_edges(edges: Tensor, weights: Tensor, num_verts: int) -> Tensor:
    """The Laplacian sum_e w_e (e_i - e_j) (e_i - e_j)^T of a weighted graph, differentiable in the weights.

    Differentiable once: torch's second derivatives through the values of a sparse tensor are wrong. For second derivatives
    use ``SystemMatrix.from_edges`` or :func:`~pt3d_largesteps.compute_matrix`, which do not use sparse tensors.

    Args:
        edges: (E, 2) int64, each edge once, no self-edges.
        weights: (E,) float, one per edge.
        num_verts: V.

    Returns:
        Coalesced sparse COO tensor (V, V). A vertex without edges has an empty row.
    """
    i, j = edges.unbind(1)
    degree = weights.new_zeros(num_verts).index_add(0, edges.flatten(), weights.repeat_interleave(2))
    has_edge = torch.zeros(num_verts, dtype=torch.bool, device=edges.device)
    has_edge[edges.flatten()] = True
    diagonal = has_edge.nonzero().squeeze(1)
    rows = torch.cat([i, j, diagonal])
    cols = torch.cat([j, i, diagonal])
    values = torch.cat([-weights, -weights, degree[diagonal]])
    order = torch.argsort(rows * num_verts + cols)
    return coalesced_coo(torch.stack([rows, cols])[:, order], values[order], num_verts)


def coalesced_coo(indices: Tensor, values: Tensor, size: int) -> Tensor:
    """Sparse COO tensor (size, size) from sorted indices (2, nnz); hides torch's warning about invariant checks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.sparse_coo_tensor(indices, values, (size, size), is_coalesced=True, check_invariants=True)


def packed_verts_faces(verts: Any, faces: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Checked packed tensors (sum(V_n), 3) and (sum(F_n), 3) int64 of ``Meshes`` or of (verts, faces).

    ``Meshes`` accepts a face index beyond the vertices of its own mesh. Such an index points into the next mesh of the
    batch. Here it raises an error that names the mesh and the face.
    """
    if isinstance(verts, Tensor):
        if not isinstance(faces, Tensor):
            raise TypeError(f"faces: expected packed faces (F, 3) beside packed verts, got {describe(faces)}")
        if verts.dim() != 2 or verts.shape[1] != 3:
            raise ValueError(f"verts: expected packed positions of shape (V, 3), got {describe(verts)}")
        if faces.dim() != 2 or faces.shape[1] != 3:
            raise ValueError(f"faces: expected packed vertex indices of shape (F, 3), got {describe(faces)}")
        if faces.is_floating_point() or faces.is_complex() or faces.dtype == torch.bool:
            raise TypeError(f"faces: expected integer vertex indices, got {describe(faces)}")
        if faces.device != verts.device:
            raise ValueError(f"faces: expected them on {verts.device}, as verts, got {describe(faces)}")
        check_float_dtype("verts", verts)
        faces = faces.to(torch.int64)
        _check_indices(faces, torch.zeros_like(faces[:, :1]), torch.full_like(faces[:, :1], verts.shape[0]), None)
        return verts, faces
    if faces is not None:
        raise TypeError(f"faces: expected none beside Meshes, got {describe(faces)}")
    if not hasattr(verts, "verts_packed"):
        raise TypeError(f"verts: expected Meshes or packed positions (V, 3), got {describe(verts)}")
    meshes = verts
    verts, faces = meshes.verts_packed(), meshes.faces_packed()
    check_float_dtype("verts", verts)
    mesh_of_face = meshes.faces_packed_to_mesh_idx()
    if faces.shape[0] > 0:
        first = meshes.mesh_to_verts_packed_first_idx()[mesh_of_face, None]
        size = meshes.num_verts_per_mesh()[mesh_of_face, None]
        _check_indices(faces - first, torch.zeros_like(size), size, (mesh_of_face, meshes))
    return verts, faces


def _check_indices(faces: Tensor, low: Tensor, high: Tensor, batch: tuple[Tensor, Any] | None) -> None:
    bad = ((faces < low) | (faces >= high)).any(1)
    if not bool(bad.any()):
        return
    face = int(bad.nonzero()[0])
    where = f"face {face}"
    if batch is not None:
        mesh_of_face, meshes = batch
        mesh = int(mesh_of_face[face])
        where = f"face {face - int(meshes.mesh_to_faces_packed_first_idx()[mesh])} of mesh {mesh}"
    raise ValueError(
        f"faces: expected vertex indices in [0, {int(high[face])}), got {faces[face].tolist()} in {where}"
        f" ({int(bad.sum())} faces are out of range)"
    )
