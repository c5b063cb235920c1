"""The colour of textured surfaces at points given by a face and barycentric coordinates, differentiably.

PyTorch3D's own ``sample_textures`` needs whole images, one map for each of them, and with several maps in a batch it finds the
map of a face only if all meshes have equally many faces. Here points come as a list: only pixels that see a surface cost time,
the maps of one mesh serve all its images without copies, and ragged batches work. The conventions are PyTorch3D's: v points up
(v = 1 is row 0), and ``align_corners``, ``padding_mode`` and ``sampling_mode`` of the textures are those of
``torch.nn.functional.grid_sample``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from pytorch3d.renderer.mesh.textures import TexturesAtlas, TexturesUV, TexturesVertex
from torch import Tensor

from pt3d_largesteps._checks import check_float_dtype, describe


def surface_colors(meshes: Any, faces: Tensor, weights: Tensor) -> Tensor:
    """Colours (K, 3) of the textures of meshes at K points.

    Differentiable in the values of the textures. Also differentiable in the weights, except for ``TexturesAtlas`` and
    ``sampling_mode="nearest"``, whose samples are piecewise constant.

    Args:
        meshes: N meshes with ``TexturesVertex``, ``TexturesUV`` (one map for each mesh, or several) or ``TexturesAtlas``.
        faces: (K,) int64, the packed face of each point.
        weights: (K, 3), its barycentric coordinates there; for points seen in perspective, the perspective-correct ones.

    Raises:
        TypeError: textures of another class, or with values that are not floating point.
        ValueError: textures of another number of channels than 3.

    Example:
        >>> centroids = surface_colors(meshes, torch.arange(num_faces), torch.full((num_faces, 3), 1 / 3))
    """
    textures = meshes.textures
    if meshes.isempty():
        return weights.new_zeros(0, 3)  # PyTorch3D's packed values of empty textures have other shapes
    if isinstance(textures, TexturesVertex):
        features = checked_values("verts_features", textures.verts_features_packed()).to(weights)
        corners = features.index_select(0, meshes.faces_packed().index_select(0, faces).flatten()).view(-1, 3, 3)
        return (weights[..., None] * corners).sum(1)
    if isinstance(textures, TexturesUV):
        return _sample_maps(meshes, faces, weights)
    if isinstance(textures, TexturesAtlas):
        checked_values("atlas", textures.atlas_packed())
        row = SimpleNamespace(pix_to_face=faces.view(1, 1, -1, 1), bary_coords=weights.view(1, 1, -1, 1, 3))
        return textures.sample_textures(row).view(-1, 3).to(weights)
    raise TypeError(f"meshes.textures: expected TexturesVertex, TexturesUV or TexturesAtlas, got {describe(textures)}")


def vertex_colors(meshes: Any) -> Tensor:
    """The colours of the textures at the vertices, packed (sum(V_n), 3); turns a map into vertex colours.

    They are in the dtype of the textures' values, or in float32 where that is narrower. A vertex on a seam has several
    places in a map; its colour is the mean over the corners of faces that meet there.
    Vertices without faces are black.

    Args:
        meshes: N meshes with textures that :func:`surface_colors` accepts; the errors are the same.

    Example:
        >>> textures = TexturesVertex(vertex_colors(meshes).split(meshes.num_verts_per_mesh().tolist()))
    """
    corners = meshes.faces_packed().flatten()
    num_faces = corners.shape[0] // 3
    faces = torch.arange(num_faces, device=corners.device).repeat_interleave(3)
    weights = torch.eye(3, dtype=_dtype(meshes.textures), device=corners.device).repeat(num_faces, 1)
    colors = surface_colors(meshes, faces, weights)
    num_verts = meshes.verts_packed().shape[0]
    count = torch.bincount(corners, minlength=num_verts).clamp_min(1)
    return colors.new_zeros(num_verts, 3).index_add(0, corners, colors) / count[:, None]


def corner_uvs(textures: TexturesUV) -> Tensor:
    """The uv coordinates (sum(F_n), 3, 2) of the corners of all faces, in the order of the packed faces."""
    pairs = zip(textures.verts_uvs_list(), textures.faces_uvs_list(), strict=True)
    return torch.cat([uvs[index.to(torch.int64)] for uvs, index in pairs])  # PyTorch3D's index of no faces is float


def _dtype(textures: Any) -> torch.dtype:
    """Of the values of textures, at least float32; what :func:`surface_colors` refuses may have any."""
    for name in ("verts_features_padded", "maps_padded", "atlas_padded"):
        if hasattr(textures, name):
            return torch.promote_types(getattr(textures, name)().dtype, torch.float32)
    return torch.float32


def checked_values(name: str, values: Tensor) -> Tensor:
    """The values (..., C) of textures, if they are floating point and C is 3."""
    if values.shape[-1] != 3:
        raise ValueError(f"meshes.textures: expected {name} of 3 channels, got {describe(values)}")
    check_float_dtype(f"meshes.textures: {name}", values)
    return values


def _sample_maps(meshes: Any, faces: Tensor, weights: Tensor) -> Tensor:
    """Colours (K, 3) from the maps of ``TexturesUV``; all points of a map are looked up at once."""
    textures = meshes.textures
    maps = checked_values("maps", textures.maps_padded()).to(weights)
    corners = corner_uvs(textures).to(weights).index_select(0, faces)  # (K, 3, 2)
    uvs = (weights[..., None] * corners).sum(1)
    grid = torch.stack([2 * uvs[:, 0] - 1, 1 - 2 * uvs[:, 1]], dim=1)
    map_index = _map_of_faces(meshes).index_select(0, faces)
    maps = maps.reshape(-1, *maps.shape[-3:]).permute(0, 3, 1, 2)  # (N * M, 3, H, W)

    def look_up(image: Tensor, places: Tensor) -> Tensor:
        samples = torch.nn.functional.grid_sample(
            image[None],
            places[None, None],
            mode=textures.sampling_mode,
            padding_mode=textures.padding_mode,
            align_corners=textures.align_corners,
        )
        return samples[0, :, 0].T

    if maps.shape[0] == 1:
        return look_up(maps[0], grid)
    order = map_index.argsort()
    counts = torch.bincount(map_index, minlength=maps.shape[0]).tolist()
    places = grid.index_select(0, order).split(counts)
    colors = torch.cat([look_up(maps[k], places[k]) for k, count in enumerate(counts) if count > 0])
    return colors.index_select(0, order.argsort())


def _map_of_faces(meshes: Any) -> Tensor:
    """The index of the map of each packed face among the N * M maps, mesh by mesh: (sum(F_n),) int64."""
    mesh = meshes.faces_packed_to_mesh_idx()
    ids = meshes.textures.maps_ids_padded()  # (N, max(F_n)), or None with one map for each mesh
    if ids is None:
        return mesh
    place = torch.arange(mesh.shape[0], device=mesh.device) - meshes.mesh_to_faces_packed_first_idx()[mesh]
    num_maps = meshes.textures.maps_padded().shape[1]
    ids = ids[mesh, place].to(torch.int64)
    if bool(((ids < 0) | (ids >= num_maps)).any()):
        raise ValueError(f"meshes.textures: expected maps_ids from 0 to {num_maps - 1}, got {ids.min()} to {ids.max()}")
    return mesh * num_maps + ids
