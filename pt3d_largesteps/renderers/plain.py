"""Images of meshes in plain torch, on any device.

The visible faces are found without gradients (on CUDA by PyTorch3D's rasteriser, on a CPU by
:mod:`~pt3d_largesteps.renderers.rasterization`, which finds the same ones). Their barycentric coordinates are recomputed in
torch, which makes shading differentiable; antialiasing makes silhouettes differentiable.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch3d.renderer.mesh.clip import ClipFrustum, clip_faces
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from torch import Tensor

from pt3d_largesteps.renderers.antialiasing import antialias
from pt3d_largesteps.renderers.projection import ndc_half_ranges
from pt3d_largesteps.renderers.rasterization import VisibleFaces, rasterize
from pt3d_largesteps.renderers.scene import Scene, make_scene
from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight, vertex_normals
from pt3d_largesteps.renderers.style import Style
from pt3d_largesteps.renderers.texturing import surface_colors


def render(style: Style, meshes: Any, cameras: Any, z_clip: float | None) -> Tensor:
    """Images (N, H, W, 4), or silhouettes (N, H, W, 1)."""
    scene = make_scene(meshes, cameras)
    perspective = bool(cameras.is_perspective())
    visible = _visible_faces(style, scene, perspective, z_clip)
    hit = visible.pix_to_face.flatten() >= 0
    if style.light is None:
        images = hit.to(scene.ndc.dtype)[:, None]
    else:
        images = _shade(style, style.light, meshes, scene, visible, hit, perspective)
    images = images.view(scene.num_images, *style.image_size, -1)
    return antialias(images, scene, visible, perspective, z_clip or 0.0) if style.antialiased else images


def visible_faces(style: Style, meshes: Any, cameras: Any, z_clip: float | None) -> VisibleFaces:
    """The visible face at each pixel, as an index into the flattened scene: with one mesh, its packed faces per image."""
    return _visible_faces(style, make_scene(meshes, cameras), bool(cameras.is_perspective()), z_clip)


@torch.no_grad()
def _visible_faces(style: Style, scene: Scene, perspective: bool, z_clip: float | None) -> VisibleFaces:
    """Maps clipped faces to the faces that they were cut from."""
    face_verts = scene.ndc[scene.faces]  # (F, 3, 3)
    if face_verts.is_cuda and face_verts.shape[0] > 0:
        return visible_faces_pytorch3d(style, scene, perspective, z_clip)
    original = None
    face_to_image = scene.face_to_image
    if z_clip is not None and bool((face_verts[..., 2] < z_clip).any()):
        counts = torch.bincount(face_to_image, minlength=scene.num_images)
        frustum = ClipFrustum(perspective_correct=perspective, z_clip_value=z_clip, cull=False)
        clipped = clip_faces(face_verts, counts.cumsum(0) - counts, counts, frustum)
        face_verts, original = clipped.face_verts, clipped.faces_clipped_to_unclipped_idx
        face_to_image = face_to_image if original is None else face_to_image[original]
    visible = rasterize(
        face_verts,
        face_to_image,
        scene.num_images,
        style.image_size,
        perspective_correct=perspective,
        cull_backfaces=style.cull_backfaces,
    )
    if original is None or original.numel() == 0:
        return visible
    hit = visible.pix_to_face >= 0
    return VisibleFaces(torch.where(hit, original[visible.pix_to_face.clamp_min(0)], -1), visible.zbuf)


@torch.no_grad()
def visible_faces_pytorch3d(style: Style, scene: Scene, perspective: bool, z_clip: float | None) -> VisibleFaces:
    """Uses PyTorch3D's own rasteriser, which needs ``Meshes``: one for each image, a triangle soup of its faces."""
    counts = torch.bincount(scene.face_to_image, minlength=scene.num_images).tolist()
    soup = scene.ndc[scene.faces].split(counts)
    faces = [torch.arange(3 * count, device=scene.ndc.device).view(-1, 3) for count in counts]
    pix_to_face, zbuf, _, _ = rasterize_meshes(
        Meshes([corners.reshape(-1, 3) for corners in soup], faces),
        image_size=style.image_size,
        faces_per_pixel=1,
        perspective_correct=perspective,
        cull_backfaces=style.cull_backfaces,
        z_clip_value=z_clip,
    )
    pix_to_face, zbuf = pix_to_face[..., 0], zbuf[..., 0]
    return VisibleFaces(pix_to_face, torch.where(pix_to_face >= 0, zbuf, torch.inf))


def _shade(
    style: Style,
    light: SphericalHarmonicsLight,
    meshes: Any,
    scene: Scene,
    visible: VisibleFaces,
    hit: Tensor,
    perspective: bool,
) -> Tensor:
    """(N * H * W, 4): shading at the vertices, interpolated at the pixels; alpha 1 on the meshes, 0 behind them."""
    background = scene.ndc.new_tensor([*style.background, 0.0])
    images = background.expand(hit.shape[0], 4)
    pixel = hit.nonzero().squeeze(1)
    if pixel.numel() == 0:
        return images
    normals = vertex_normals(meshes.verts_packed(), meshes.faces_packed())
    basis = light.basis(normals).to(scene.ndc)  # (sum(V_n), 9)
    table = light.polynomials(scene.num_images).to(scene.ndc)  # (1 or N, 9, 3)
    if len(table) == 1:
        shades = (basis @ table[0]).index_select(0, scene.verts_index)
    else:
        shades = (basis[scene.verts_index, :, None] * table[scene.verts_to_image]).sum(1)
    attributes = torch.cat([scene.ndc, shades], dim=1)  # (P, 6)
    faces = visible.pix_to_face.flatten()[pixel]
    corner_index = scene.faces.index_select(0, faces)
    corners = attributes.index_select(0, corner_index.flatten()).view(-1, 3, 6)
    weights = _barycentric(style.image_size, corners[..., :3], pixel, perspective)  # (K, 3)
    colors = (weights[..., None] * corners[..., 3:]).sum(1)
    if style.textured and meshes.textures is not None:
        # the scene repeats the faces of a single mesh for each image; faces of several meshes occur once
        colors = colors * surface_colors(meshes, faces % meshes.faces_packed().shape[0], weights)
    return images.index_copy(0, pixel, torch.cat([colors, torch.ones_like(colors[:, :1])], dim=1))


def _barycentric(image_size: tuple[int, int], corners: Tensor, pixel: Tensor, perspective: bool) -> Tensor:
    """Barycentric coordinates (K, 3) of pixel centres in triangles (K, 3, 3), differentiable in the corners."""
    height, width = image_size
    half_x, half_y = ndc_half_ranges(image_size)
    col, row = pixel % width, pixel // width % height
    px = half_x * (1 - (2 * col + 1).to(corners) / width)
    py = half_y * (1 - (2 * row + 1).to(corners) / height)
    from_pixel = corners[..., :2] - torch.stack([px, py], dim=1)[:, None]
    after, before = from_pixel.roll(-1, 1), from_pixel.roll(1, 1)
    weights = after[..., 0] * before[..., 1] - after[..., 1] * before[..., 0]  # (K, 3)
    if perspective:
        weights = weights / corners[..., 2]
    return weights / weights.sum(1, keepdim=True)
