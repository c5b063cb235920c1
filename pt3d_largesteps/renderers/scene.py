"""A batch of meshes and its cameras, flattened to packed arrays over all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.renderers.projection import project_to_ndc


@dataclass(frozen=True)
class Scene:
    """Vertices, faces and edges of all images, one after the other.

    Attributes:
        num_images: N.
        ndc: (P, 3), NDC x and y and view-space z of the vertices of all images; differentiable.
        verts_index: (P,) int64, the packed vertex of the meshes for each row.
        verts_to_image: (P,) int64.
        faces: (F, 3) int64 into ``ndc``.
        face_to_image: (F,) int64.
        edges: (E, 2) int64 into ``ndc``.
        faces_to_edges: (F, 3) int64, the edge opposite each corner.
        edge_to_image: (E,) int64.
    """

    num_images: int
    ndc: Tensor
    verts_index: Tensor
    verts_to_image: Tensor
    faces: Tensor
    face_to_image: Tensor
    edges: Tensor
    faces_to_edges: Tensor
    edge_to_image: Tensor


def check_views(meshes: Any, cameras: Any) -> int:
    """The number of images: of N meshes for N cameras, one mesh for all cameras, or all meshes for one camera."""
    check_kinds(meshes, cameras)
    num_meshes, num_cameras = len(meshes), len(cameras)
    if num_meshes != num_cameras and 1 not in (num_meshes, num_cameras):
        raise ValueError(f"cameras: expected 1 or {num_meshes} cameras for {num_meshes} meshes, got {num_cameras}")
    return max(num_meshes, num_cameras)


def check_scene(meshes: Any, cameras: Any) -> int:
    """The same, and that the cameras are float32 and on the meshes' device."""
    num_images = check_views(meshes, cameras)
    check_cameras(meshes, cameras)
    return num_images


def check_kinds(meshes: Any, cameras: Any) -> None:
    """Raises unless these are ``Meshes`` and cameras."""
    if not hasattr(meshes, "verts_packed"):
        raise TypeError(f"meshes: expected Meshes, got {describe(meshes)}")
    if not hasattr(cameras, "get_world_to_view_transform"):
        raise TypeError(f"cameras: expected PyTorch3D cameras, got {describe(cameras)}")


def check_cameras(meshes: Any, cameras: Any) -> None:
    """Raises unless the cameras are float32 and on the meshes' device."""
    if torch.device(cameras.device) != torch.device(meshes.device):
        raise ValueError(f"cameras: expected them on {meshes.device}, as the meshes, got cameras on {cameras.device}")
    if cameras.R.dtype != torch.float32:
        raise TypeError(f"cameras: expected float32 cameras, as PyTorch3D's rasteriser does, got {cameras.R.dtype}")


def make_scene(meshes: Any, cameras: Any) -> Scene:
    """Projects N meshes for N cameras, one mesh for all cameras, or all meshes for one camera."""
    num_images, num_meshes = check_scene(meshes, cameras), len(meshes)
    if meshes.isempty():
        return _empty_scene(num_images, meshes.device)
    faces, edges = meshes.faces_packed(), meshes.edges_packed()
    arrays = {"faces": faces, "edges": edges, "faces_to_edges": meshes.faces_packed_to_edges_packed()}
    if num_meshes == 1:
        num_verts = meshes.verts_packed().shape[0]
        ndc = project_to_ndc(meshes.verts_packed()[None].float(), cameras)
        image = torch.arange(num_images, device=meshes.device)
        sizes = {"faces": num_verts, "edges": num_verts, "faces_to_edges": edges.shape[0]}
        arrays = {name: (array + image[:, None, None] * sizes[name]).flatten(0, 1) for name, array in arrays.items()}
        return Scene(
            num_images,
            ndc.reshape(-1, 3),
            torch.arange(num_verts, device=meshes.device).repeat(num_images),
            verts_to_image=image.repeat_interleave(num_verts),
            face_to_image=image.repeat_interleave(faces.shape[0]),
            edge_to_image=image.repeat_interleave(edges.shape[0]),
            **arrays,
        )
    ndc = project_to_ndc(meshes.verts_padded().float(), cameras).reshape(-1, 3)
    return Scene(
        num_images,
        ndc.index_select(0, meshes.verts_padded_to_packed_idx()),
        torch.arange(meshes.verts_packed().shape[0], device=meshes.device),
        verts_to_image=meshes.verts_packed_to_mesh_idx(),
        face_to_image=meshes.faces_packed_to_mesh_idx(),
        edge_to_image=meshes.edges_packed_to_mesh_idx(),
        **arrays,
    )


def _empty_scene(num_images: int, device: torch.device) -> Scene:
    none = torch.zeros(0, dtype=torch.int64, device=device)
    triples, pairs = none.view(0, 3), none.view(0, 2)
    return Scene(num_images, triples.to(torch.float32), none, none, triples, none, pairs, triples, none)
