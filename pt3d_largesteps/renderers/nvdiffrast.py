"""The GPU renderer based on nvdiffrast, with the same calls and the same images as ``PyTorch3DRenderer``.

Source: Laine, Hellsten, Karras, Seol, Lehtinen, Aila, "Modular Primitives for High-Performance Differentiable Rendering",
ACM TOG 39(6), 2020. nvdiffrast is a separate package with its own licence, imported only when a renderer is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from pytorch3d.renderer import TexturesUV, TexturesVertex
from torch import Tensor

from pt3d_largesteps._checks import check_number, describe
from pt3d_largesteps.renderers.clip_space import clip_from_world, depth_range, to_clip_space
from pt3d_largesteps.renderers.projection import check_image_size
from pt3d_largesteps.renderers.scene import check_views
from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight, vertex_normals

_INSTALL = "pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast.git"
_BOUNDARY_MODES = {"border": "clamp", "zeros": "zero", "reflection": "clamp"}  # what is reflected stays inside
_FILTER_MODES = {"bilinear": "linear", "nearest": "nearest"}


@dataclass(frozen=True)
class _Triangles:
    """The input of the rasteriser: all images at once, with the same triangles for all or separate ones for each.

    pos: clip coordinates, (N, V, 4) with the same triangles (nvdiffrast's instanced mode), else (P, 4) (its range mode).
    tri: (F, 3) int32.    ranges: (N, 2) int32 on the CPU, first triangle and number of triangles of each image, or None.
    face: (F,) int64, the packed face behind each triangle; None with the same triangles.
    """

    pos: Tensor
    tri: Tensor
    ranges: Tensor | None = None
    face: Tensor | None = None

    def attributes(self, packed: Tensor) -> Tensor:
        """Attributes (sum(V_n), K) of the packed vertices in nvdiffrast's layout, for one mesh or as many as images."""
        if self.ranges is None:
            return packed.view(-1, self.pos.shape[1], packed.shape[1])  # (1 or N, V, K)
        return packed.repeat(self.pos.shape[0] // packed.shape[0], 1)  # one mesh before several cameras is repeated


class NvdiffrastRenderer:
    """Images of meshes in a diffuse light, or their silhouettes, by nvdiffrast; on CUDA only.

    Called like :class:`~pt3d_largesteps.renderers.PyTorch3DRenderer`, with the same images except for some pixels along the
    outlines: nvdiffrast searches for the crossing edge only in the triangle that the pixel in front of it sees. With smaller
    triangles more of the outline is not blended, and gradients are shorter: render at a higher resolution, or see
    ``pos_gradient_boost``. A face that reaches behind a camera without ``znear`` is clipped; PyTorch3D skips it.

    Args:
        image_size: pixels, (H, W) or one number for both.
        light: :class:`SphericalHarmonicsLight`, for an environment map its ``from_environment_map``; images are
            (N, H, W, 4), colour and alpha. None gives silhouettes (N, H, W, 1), without shading.
        background: colour behind the meshes, (3,), of alpha 0.
        cull_backfaces: skip faces that are seen from behind.
        antialiased: blend across the outlines. Without it images do not depend differentiably on the outlines.
        textured: multiply the shading by the colours of ``meshes.textures``, if there are any: ``TexturesVertex``, or
            ``TexturesUV`` of one map for each mesh, of 3 channels, sampled as PyTorch3D does, up to the borders of the map.
            Without it, and without textures, surfaces are white.
        pos_gradient_boost: factor, at least 0, of the gradients that reach the vertices through the outlines.

    Gradients reach vertices, textures and cameras. Images are float32. The first call on a device creates the rasteriser's
    context, which is kept; copies and pickles create their own.

    Raises:
        RuntimeError: torch sees no CUDA device.
        ImportError: nvdiffrast is not installed.
        TypeError, ValueError: arguments out of range; in a call, meshes or cameras that are not on CUDA, numbers of them that
            do not match, cameras without a projection matrix, textures other than those above.

    Example:
        >>> renderer = NvdiffrastRenderer(512, light=SphericalHarmonicsLight.default())
        >>> images = renderer(meshes.cuda(), cameras.cuda())      # (N, 512, 512, 4)
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
        pos_gradient_boost: float = 1.0,
    ) -> None:
        self.image_size = check_image_size(image_size)
        self.light = light
        self.background = background
        self.cull_backfaces = cull_backfaces
        self.antialiased = antialiased
        self.textured = textured
        self.pos_gradient_boost = check_number("pos_gradient_boost", pos_gradient_boost, low=0.0)
        if not _device_types():
            raise RuntimeError(f"NvdiffrastRenderer renders only on CUDA, and torch {torch.__version__} sees no such device")
        _nvdiffrast()
        self._contexts: dict[torch.device, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_contexts": {}}

    def __call__(self, meshes: Any, cameras: Any) -> Tensor:
        """Images (N, H, W, 4), or silhouettes (N, H, W, 1), of N meshes, or of one mesh from N cameras."""
        num_images = _check_devices(meshes, cameras)
        background = torch.tensor([0.0] if self.light is None else [*self.background, 0.0], device=meshes.device)
        if meshes.isempty():
            return background.expand(num_images, *self.image_size, -1).clone()
        dr = _nvdiffrast()
        triangles = self._triangles(meshes, cameras, num_images)
        pos, tri = triangles.pos, triangles.tri
        if pos.device not in self._contexts:
            self._contexts[pos.device] = dr.RasterizeCudaContext(device=pos.device)
        rast, _ = dr.rasterize(self._contexts[pos.device], pos, tri, self.image_size, ranges=triangles.ranges, grad_db=False)
        hit = rast[..., 3:] > 0  # the index of the triangle plus 1
        if self.light is None:
            images = hit.float()
        else:
            colors = self._shade(self.light, dr, meshes, triangles, rast)
            images = torch.where(hit, torch.cat([colors, torch.ones_like(colors[..., :1])], dim=-1), background)
        if not self.antialiased:
            return images
        return dr.antialias(images.contiguous(), rast, pos, tri, pos_gradient_boost=self.pos_gradient_boost)

    def _triangles(self, meshes: Any, cameras: Any, num_images: int) -> _Triangles:
        verts, valid = meshes.verts_padded(), None
        if len(meshes) > 1:
            valid = torch.arange(verts.shape[1], device=verts.device) < meshes.num_verts_per_mesh()[:, None]
        matrices = clip_from_world(cameras, self.image_size, *depth_range(cameras, verts, valid))
        pos = to_clip_space(verts, matrices).float().contiguous()  # (N, V, 4)
        if not self.cull_backfaces and _share_faces(meshes):
            return _Triangles(pos, meshes.faces_list()[0].to(torch.int32).contiguous())
        faces, num_verts = meshes.faces_packed(), pos.shape[1]
        pos = pos.flatten(0, 1)
        face = torch.arange(faces.shape[0], device=faces.device)
        if len(meshes) == 1:
            image = torch.arange(num_images, device=faces.device).repeat_interleave(faces.shape[0])
            face = face.repeat(num_images)
            faces = faces[face] + num_verts * image[:, None]
        else:
            image = meshes.faces_packed_to_mesh_idx()
            pos = pos.index_select(0, meshes.verts_padded_to_packed_idx())
        if self.cull_backfaces:
            kept = _faces_camera(pos, faces).nonzero().squeeze(1)
            image, face, faces = image[kept], face[kept], faces[kept]
        counts = torch.bincount(image, minlength=num_images).cpu()
        ranges = torch.stack([counts.cumsum(0) - counts, counts], dim=1).to(torch.int32)
        if faces.shape[0] == 0:  # nvdiffrast needs at least one triangle; this one is in no range
            faces, face = faces.new_zeros(1, 3), face.new_zeros(1)
        return _Triangles(pos, faces.to(torch.int32).contiguous(), ranges, face)

    def _shade(
        self, light: SphericalHarmonicsLight, dr: ModuleType, meshes: Any, triangles: _Triangles, rast: Tensor
    ) -> Tensor:
        """Colours (N, H, W, 3), undefined where no surface is visible."""
        normals = vertex_normals(meshes.verts_packed(), meshes.faces_packed())
        shades = light.to(normals.device)(normals).float()  # (sum(V_n), 3)
        textures = meshes.textures if self.textured else None
        if isinstance(textures, TexturesVertex):
            features = _three_channels(textures.verts_features_packed())
            both = triangles.attributes(torch.cat([shades, features], dim=1))
            shades, colors = dr.interpolate(both, rast, triangles.tri)[0].split(3, dim=-1)
            return shades * colors
        shades, _ = dr.interpolate(triangles.attributes(shades).contiguous(), rast, triangles.tri)
        if textures is None:
            return shades
        if not isinstance(textures, TexturesUV):
            raise TypeError(f"meshes.textures: expected TexturesVertex or TexturesUV, got {type(textures).__name__}")
        return shades * _sample_uv(dr, textures, triangles, rast)


def _sample_uv(dr: ModuleType, textures: TexturesUV, triangles: _Triangles, rast: Tensor) -> Tensor:
    """Colours (N, H, W, 3) of the maps, which have their own vertices and triangles."""
    if textures.maps_ids_padded() is not None:
        raise ValueError("meshes.textures: expected one map for each mesh, got several, chosen by maps_ids")
    uvs = textures.verts_uvs_padded().float()  # (N, T, 2)
    faces_uvs = [faces.to(torch.int32) for faces in textures.faces_uvs_list()]  # PyTorch3D's index of no faces is float
    tri = faces_uvs[0]
    if triangles.face is not None:  # uvs and faces of all meshes in one array, as the triangles are
        tri = torch.cat([faces + number * uvs.shape[1] for number, faces in enumerate(faces_uvs)])[triangles.face]
        uvs = uvs.flatten(0, 1)
    uv, _ = dr.interpolate(uvs.contiguous(), rast, tri.contiguous())
    maps = _three_channels(textures.maps_padded())
    # At row 0 of a map v is 1 in PyTorch3D and 0 in nvdiffrast. In nvdiffrast 0 and 1 are the outer borders of the first and
    # last texel; in PyTorch3D with align_corners they are the centres.
    uv = torch.stack([uv[..., 0], 1 - uv[..., 1]], dim=-1)
    if textures.padding_mode == "reflection":
        uv = 1 - (torch.remainder(uv, 2) - 1).abs()
    if textures.align_corners:
        size = uv.new_tensor([maps.shape[2], maps.shape[1]])
        uv = (uv * (size - 1) + 0.5) / size
    filter_mode, boundary_mode = _FILTER_MODES[textures.sampling_mode], _BOUNDARY_MODES[textures.padding_mode]
    return dr.texture(maps, uv.contiguous(), filter_mode=filter_mode, boundary_mode=boundary_mode)


def _three_channels(features: Tensor) -> Tensor:
    if features.shape[-1] != 3:
        raise ValueError(f"meshes.textures: expected 3 channels, got {describe(features)}")
    return features.float().contiguous()


def _share_faces(meshes: Any) -> bool:
    """Whether all meshes have the same faces, also in their textures."""
    if len(meshes) == 1 or not meshes.equisized:
        return len(meshes) == 1
    arrays = [meshes.faces_padded()]
    if isinstance(meshes.textures, TexturesUV):
        arrays.append(meshes.textures.faces_uvs_padded())
    return all(bool((faces == faces[:1]).all()) for faces in arrays)


def _faces_camera(pos: Tensor, faces: Tensor) -> Tensor:
    """(F,) bool, which faces are seen from the front, by x, y and w of the corners; also for faces that reach behind the
    camera."""
    a, b, c = pos.detach()[:, [0, 1, 3]][faces].unbind(1)
    return (a * torch.linalg.cross(b, c)).sum(1) <= 0


def _check_devices(meshes: Any, cameras: Any) -> int:
    """The number of images."""
    num_images = check_views(meshes, cameras)
    for name, device in (("meshes", meshes.device), ("cameras", cameras.device)):
        if torch.device(device).type not in _device_types():
            raise ValueError(f"{name}: expected them on a CUDA device, which nvdiffrast needs, got {name} on {device}")
    if torch.device(cameras.device) != torch.device(meshes.device):
        raise ValueError(f"cameras: expected them on {meshes.device}, as the meshes, got cameras on {cameras.device}")
    return num_images


def _device_types() -> tuple[str, ...]:
    """The types of devices that nvdiffrast can render on here."""
    return ("cuda",) if torch.cuda.is_available() else ()


def _nvdiffrast() -> ModuleType:
    try:
        import nvdiffrast.torch as dr
    except ImportError as error:
        raise ImportError(
            f"NvdiffrastRenderer needs nvdiffrast: {_INSTALL} (PyPI has only diffrp-nvdiffrast, a copy that is imported by the"
            f" same name); importing it says: {error}"
        ) from error
    return dr
