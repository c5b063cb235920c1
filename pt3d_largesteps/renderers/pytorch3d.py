"""A differentiable renderer for PyTorch3D's meshes and cameras, fast enough on a CPU to optimise with.

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
from pt3d_largesteps.renderers.projection import check_image_size, ndc_half_ranges
from pt3d_largesteps.renderers.rasterization import VisibleFaces, rasterize
from pt3d_largesteps.renderers.scene import Scene, make_scene
from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight, vertex_normals
from pt3d_largesteps.renderers.texturing import surface_colors


class PyTorch3DRenderer:
    """Images of meshes in a diffuse light, or their silhouettes.

    Args:
        image_size: pixels, (H, W) or one number for both.
        light: :class:`SphericalHarmonicsLight`; images are (N, H, W, 4), shading and alpha. None gives silhouettes
            (N, H, W, 1), without shading and textures. ``SphericalHarmonicsLight.ambient()`` shows colours without shading.
        background: colour behind the meshes, (3,), of alpha 0.
        cull_backfaces: skip faces that are seen from behind.
        antialiased: blend across the outlines. Without it images do not depend differentiably on the outlines.
        textured: multiply the shading by the colours of ``meshes.textures``, if there are any: ``TexturesVertex``,
            ``TexturesUV`` or ``TexturesAtlas`` of 3 channels. Without it, and without textures, surfaces are white.

    Gradients reach the vertices of the meshes, the colours of their vertices, and their texture maps. Images are
    float32. Faces nearer than half the cameras' ``znear`` are clipped, as in PyTorch3D.

    Raises:
        TypeError, ValueError: a bad ``image_size``; in a call, arguments that are not meshes or cameras, numbers of them that
            do not match, cameras of another dtype or device, textures of another class or number of channels.

    Example:
        >>> renderer = PyTorch3DRenderer(128, light=SphericalHarmonicsLight.default())
        >>> images = renderer(meshes, cameras)      # (N, 128, 128, 4)
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        light: SphericalHarmonicsLight | None = None,
        *,
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        cull_backfaces: bool = False,
        antialiased: bool = True,
        textured: bool = True,
    ) -> None:
        self.image_size = check_image_size(image_size)
        self.light = light
        self.background = background
        self.cull_backfaces = cull_backfaces
        self.antialiased = antialiased
        self.textured = textured

    def __call__(self, meshes: Any, cameras: Any) -> Tensor:
        """Images (N, H, W, 4), or silhouettes (N, H, W, 1), of N meshes, or of one mesh from N cameras."""
        scene = make_scene(meshes, cameras)
        perspective = bool(cameras.is_perspective())
        z_clip = _z_clip(cameras, perspective)
        visible = self._visible_faces(scene, perspective, z_clip)
        hit = visible.pix_to_face.flatten() >= 0
        if self.light is None:
            images = hit.to(scene.ndc.dtype)[:, None]
        else:
            images = self._shade(self.light, meshes, scene, visible, hit, perspective)
        images = images.view(scene.num_images, *self.image_size, -1)
        return antialias(images, scene, visible, perspective, z_clip or 0.0) if self.antialiased else images

    def visible_faces(self, meshes: Any, cameras: Any) -> VisibleFaces:
        """The visible face at each pixel, as an index into the flattened scene: with one mesh, its packed faces per image."""
        perspective = bool(cameras.is_perspective())
        return self._visible_faces(make_scene(meshes, cameras), perspective, _z_clip(cameras, perspective))

    @torch.no_grad()
    def _visible_faces(self, scene: Scene, perspective: bool, z_clip: float | None) -> VisibleFaces:
        """Maps clipped faces to the faces that they were cut from."""
        face_verts = scene.ndc[scene.faces]  # (F, 3, 3)
        if face_verts.is_cuda and face_verts.shape[0] > 0:
            return self._visible_faces_pytorch3d(scene, perspective, z_clip)
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
            self.image_size,
            perspective_correct=perspective,
            cull_backfaces=self.cull_backfaces,
        )
        if original is None or original.numel() == 0:
            return visible
        hit = visible.pix_to_face >= 0
        return VisibleFaces(torch.where(hit, original[visible.pix_to_face.clamp_min(0)], -1), visible.zbuf)

    @torch.no_grad()
    def _visible_faces_pytorch3d(self, scene: Scene, perspective: bool, z_clip: float | None) -> VisibleFaces:
        """Uses PyTorch3D's own rasteriser, which needs ``Meshes``: one for each image, a triangle soup of its faces."""
        counts = torch.bincount(scene.face_to_image, minlength=scene.num_images).tolist()
        soup = scene.ndc[scene.faces].split(counts)
        faces = [torch.arange(3 * count, device=scene.ndc.device).view(-1, 3) for count in counts]
        pix_to_face, zbuf, _, _ = rasterize_meshes(
            Meshes([corners.reshape(-1, 3) for corners in soup], faces),
            image_size=self.image_size,
            faces_per_pixel=1,
            perspective_correct=perspective,
            cull_backfaces=self.cull_backfaces,
            z_clip_value=z_clip,
        )
        pix_to_face, zbuf = pix_to_face[..., 0], zbuf[..., 0]
        return VisibleFaces(pix_to_face, torch.where(pix_to_face >= 0, zbuf, torch.inf))

    def _shade(
        self,
        light: SphericalHarmonicsLight,
        meshes: Any,
        scene: Scene,
        visible: VisibleFaces,
        hit: Tensor,
        perspective: bool,
    ) -> Tensor:
        """(N * H * W, 4): shading at the vertices, interpolated at the pixels; alpha 1 on the meshes, 0 behind them."""
        background = torch.tensor([*self.background, 0.0]).to(scene.ndc)
        images = background.expand(hit.shape[0], 4)
        pixel = hit.nonzero().squeeze(1)
        if pixel.numel() == 0:
            return images
        normals = vertex_normals(meshes.verts_packed(), meshes.faces_packed())
        shades = light.to(normals.device)(normals).to(scene.ndc)  # (sum(V_n), 3)
        attributes = torch.cat([scene.ndc, shades.index_select(0, scene.verts_index)], dim=1)  # (P, 6)
        faces = visible.pix_to_face.flatten()[pixel]
        corner_index = scene.faces.index_select(0, faces)
        corners = attributes.index_select(0, corner_index.flatten()).view(-1, 3, 6)
        weights = self._barycentric(corners[..., :3], pixel, perspective)  # (K, 3)
        colors = (weights[..., None] * corners[..., 3:]).sum(1)
        if self.textured and meshes.textures is not None:
            # the scene repeats the faces of a single mesh for each image; faces of several meshes occur once
            colors = colors * surface_colors(meshes, faces % meshes.faces_packed().shape[0], weights)
        return images.index_copy(0, pixel, torch.cat([colors, torch.ones_like(colors[:, :1])], dim=1))

    def _barycentric(self, corners: Tensor, pixel: Tensor, perspective: bool) -> Tensor:
        """Barycentric coordinates (K, 3) of pixel centres in triangles (K, 3, 3), differentiable in the corners."""
        height, width = self.image_size
        half_x, half_y = ndc_half_ranges(self.image_size)
        col, row = pixel % width, pixel // width % height
        px = half_x * (1 - (2 * col + 1).to(corners) / width)
        py = half_y * (1 - (2 * row + 1).to(corners) / height)
        from_pixel = corners[..., :2] - torch.stack([px, py], dim=1)[:, None]
        after, before = from_pixel.roll(-1, 1), from_pixel.roll(1, 1)
        weights = after[..., 0] * before[..., 1] - after[..., 1] * before[..., 0]  # (K, 3)
        if perspective:
            weights = weights / corners[..., 2]
        return weights / weights.sum(1, keepdim=True)


def _z_clip(cameras: Any, perspective: bool) -> float | None:
    """Half of the nearest ``znear`` of perspective cameras that have one, as in ``MeshRasterizer``."""
    znear = cameras.get_znear()
    if not perspective or znear is None:
        return None
    return (znear.min().item() if isinstance(znear, Tensor) else float(znear)) / 2
