"""Images of meshes by the compiled operators of :mod:`~pt3d_largesteps.native.rendering`, on the CPU.

The same pictures as :mod:`~pt3d_largesteps.renderers.plain` makes in torch, tens of times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch3d.renderer.mesh.textures import TexturesVertex
from torch import Tensor
from torch.nn.functional import pad

from pt3d_largesteps.native import rendering
from pt3d_largesteps.native.rendering import Difference, Mode, Visible
from pt3d_largesteps.renderers.cameras import CameraMatrices, version_of
from pt3d_largesteps.renderers.projection import project_to_ndc
from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight, vertex_normals
from pt3d_largesteps.renderers.style import Style
from pt3d_largesteps.renderers.texturing import checked_values, surface_colors


@dataclass(frozen=True)
class Targets:
    """Pictures to compare with, (T, H, W, C), which of them for each image, and how: see :func:`rendering.compare`."""

    images: Tensor
    of_image: Sequence[int]
    channel_weights: Sequence[float]
    pixel_weights: Tensor | None
    difference: Difference
    beta: float


class IndexCache:
    """The indices of the faces that came last, so that a mesh that only moves is sorted once.

    ``Meshes.update_padded`` and ``offset_verts`` keep the tensor of the packed faces, so mostly it is the same object.
    """

    SIZE = 4

    def __init__(self) -> None:
        self._entries: list[tuple[Tensor, int, list[int], list[int], Tensor]] = []

    def of(self, meshes: Any) -> Tensor:
        faces = meshes.faces_packed()
        verts, counts = meshes.num_verts_per_mesh().tolist(), meshes.num_faces_per_mesh().tolist()
        if meshes.isempty():  # PyTorch3D counts no meshes then
            verts = counts = [0] * len(meshes)
        for k, (kept, version, kept_verts, kept_counts, index) in enumerate(self._entries):
            if version != version_of(kept) or verts != kept_verts or counts != kept_counts:
                continue
            if kept is faces:
                return index
            if torch.equal(kept, faces):  # and next time by identity
                self._entries[k] = (faces, version_of(faces), verts, counts, index)
                return index
        vert_first, face_first = (torch.tensor([0, *values], device="cpu").cumsum(0) for values in (verts, counts))
        index = rendering.mesh_index(faces.to(torch.int64).contiguous(), vert_first, face_first)
        self._entries = [(faces, version_of(faces), verts, counts, index), *self._entries[: self.SIZE - 1]]
        return index


def render(style: Style, indices: IndexCache, meshes: Any, cameras: Any, matrices: CameraMatrices) -> Tensor:
    """Images (N, H, W, 4), or silhouettes (N, H, W, 1)."""
    index, mode = indices.of(meshes), _mode(style, meshes)
    points = _points(style, mode, meshes, cameras, matrices, index)
    visible = _rasterize(style, points, index, matrices)
    options: dict[str, Any] = {"perspective": matrices.perspective, "background": (*style.background, 0.0)}
    if mode is not Mode.WEIGHTS:
        return rendering.draw(points, visible, index, style.image_size[1], mode=mode, **options)
    sharp = visible._replace(crossings=visible.crossings[:0])
    images = rendering.draw(points, sharp, index, style.image_size[1], mode=Mode.SHADED, **options)
    weights = rendering.draw(points, sharp, index, style.image_size[1], mode=Mode.WEIGHTS, **options)
    return rendering.blend(_textured(meshes, images, weights, sharp, index), points, visible, index)


def compare(
    style: Style, indices: IndexCache, meshes: Any, cameras: Any, matrices: CameraMatrices, targets: Targets
) -> Tensor | None:
    """(N,): the mean weighted differences of the images, which are not stored; None if these textures need an image."""
    mode = _mode(style, meshes)
    if mode is Mode.WEIGHTS:
        return None
    index = indices.of(meshes)
    points = _points(style, mode, meshes, cameras, matrices, index)
    return rendering.compare(
        points,
        _rasterize(style, points, index, matrices),
        index,
        targets.images,
        targets.of_image,
        channel_weights=targets.channel_weights,
        pixel_weights=targets.pixel_weights,
        difference=targets.difference,
        beta=targets.beta,
        perspective=matrices.perspective,
        mode=mode,
        background=(*style.background, 0.0),
    )


def visible_faces(
    style: Style, indices: IndexCache, meshes: Any, cameras: Any, matrices: CameraMatrices
) -> tuple[Tensor, Tensor]:
    """The packed face, int64 or -1, and the depth at each pixel: (N, H, W) both."""
    index = indices.of(meshes)
    points = _points(style, Mode.SILHOUETTE, meshes, cameras, matrices, index)
    visible = _rasterize(style, points.detach(), index, matrices, outlined=False)
    width = style.image_size[1]
    return rendering.given_faces(index, visible.faces[..., :width]), visible.depth[..., :width].contiguous()


def _mode(style: Style, meshes: Any) -> Mode:
    if style.light is None:
        return Mode.SILHOUETTE
    if not style.textured or meshes.textures is None or meshes.isempty():
        return Mode.SHADED
    return Mode.PRODUCT if isinstance(meshes.textures, TexturesVertex) else Mode.WEIGHTS


def _rasterize(style: Style, points: Tensor, index: Tensor, matrices: CameraMatrices, outlined: bool | None = None) -> Visible:
    return rendering.rasterize(
        points,
        index,
        len(matrices),
        style.image_size,
        perspective=matrices.perspective,
        z_clip=matrices.z_clip,
        cull_backfaces=style.cull_backfaces,
        outlined=style.antialiased if outlined is None else outlined,
    )


def _points(style: Style, mode: Mode, meshes: Any, cameras: Any, matrices: CameraMatrices, index: Tensor) -> Tensor:
    verts = meshes.verts_packed().float().contiguous()
    light = None if style.light is None or mode is Mode.SILHOUETTE else style.light.polynomials(len(matrices)).to(verts)
    colors = None
    if mode is Mode.PRODUCT:
        colors = checked_values("verts_features", meshes.textures.verts_features_packed()).to(verts).contiguous()
    if matrices.projection is None:
        return _points_in_torch(meshes, cameras, len(matrices), light, colors, index)
    view, projection = matrices.view.contiguous(), matrices.projection.contiguous()
    light = None if light is None else light.contiguous()
    return rendering.render_points(verts, view, projection, light, colors, index, len(meshes))


def _points_in_torch(
    meshes: Any, cameras: Any, num_images: int, light: Tensor | None, colors: Tensor | None, index: Tensor
) -> Tensor:
    """For cameras without a projection matrix."""
    order = rendering.vert_order(index)
    verts = meshes.verts_packed().float()
    if len(meshes) == 1:
        ndc = project_to_ndc(verts[None], cameras)[:, order]  # (N, V, 3)
        image = torch.arange(num_images, device=verts.device).repeat_interleave(len(order))
        order = order.repeat(num_images)
    else:
        ndc = project_to_ndc(meshes.verts_padded().float(), cameras).flatten(0, 1)
        ndc = ndc.index_select(0, meshes.verts_padded_to_packed_idx())[order]
        image = meshes.verts_packed_to_mesh_idx()[order]
    planes = [torch.cat([ndc.reshape(-1, 3), verts.new_ones(len(order), 1)], dim=1)]
    if light is not None:
        basis = SphericalHarmonicsLight.basis(vertex_normals(verts, meshes.faces_packed()))[order]  # (P, 9)
        table = light[image] if len(light) > 1 else light.expand(1, 9, 3)
        planes.append(pad((basis[..., None] * table).sum(1), (0, 1)))
    if colors is not None:
        planes.append(pad(colors[order], (0, 1)))
    return torch.stack(planes)


def _textured(meshes: Any, images: Tensor, weights: Tensor, visible: Visible, index: Tensor) -> Tensor:
    """The images times the colours of textures that are not interpolated from the vertices."""
    faces = rendering.given_faces(index, visible.faces[..., : images.shape[2]]).flatten()
    pixel = (faces >= 0).nonzero().squeeze(1)
    if pixel.numel() == 0:
        return images
    colors = surface_colors(meshes, faces[pixel], weights.reshape(-1, 3).index_select(0, pixel))
    flat = images.reshape(-1, 4)
    shaded = flat.index_select(0, pixel)
    shaded = torch.cat([shaded[:, :3] * colors, shaded[:, 3:]], dim=1)
    return flat.index_copy(0, pixel, shaded).view_as(images)
