"""Rendering into the uv plane: finds the surface point of each texel of a map, to bake attributes into textures.

The positions of texels follow PyTorch3D's convention. With the ``align_corners=True`` of its textures the centre of the texel
in row r and column c is u = c / (W - 1), v = 1 - r / (H - 1): the texels of the border lie on the border of the unit square.
With ``align_corners=False`` it is u = (c + 1/2) / W, v = 1 - (r + 1/2) / H.

In images a pixel centre exactly on an edge belongs to no face. Texels exactly on an edge must not stay empty, because uv
islands that fill the unit square end exactly on texels. So the triangles are filled here by spans, row by row, in float64, and
each covers the texels inside it or at most a thousandth of a texel outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pytorch3d.renderer.mesh.textures import TexturesUV
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, describe
from pt3d_largesteps.renderers.gutter import nearest_covered
from pt3d_largesteps.renderers.texturing import corner_uvs

_TOLERANCE = 1e-3  # in texels: the rounding of float32 uvs in [0, 1] is at most half of this in maps of 8,000 texels
_TEXELS_AT_ONCE = 1 << 22  # bounds the memory: about 30 bytes for each
_NONE = 1 << 62  # larger than all faces and all distances


@dataclass(frozen=True)
class Texels:
    """The surface point of each texel.

    Attributes:
        faces: (N, H, W) int64, the packed face at each texel, -1 where there is none.
        barycentric: (N, H, W, 3), its barycentric coordinates there, all at least 0; float64 where the vertices or the uvs
            are, else float32.
        mask: (N, H, W) bool, the texels that a face covers, without those filled by padding.
    """

    faces: Tensor
    barycentric: Tensor
    mask: Tensor


class UVRenderer:
    """Maps of attributes of vertices, in the uv coordinates of the ``TexturesUV`` of meshes.

    A texel is covered by the face with the lowest index whose triangle in the uv plane contains its centre. Triangles may be
    mirrored and overlap; triangles thinner than a thousandth of a texel are skipped. Parts outside the unit square are cut off,
    not repeated. Maps are differentiable in the attributes, not in the uvs.

    Args:
        size: texels, (H, W) or one number for both.
        padding: rows and columns around the covered texels that take the values of the nearest covered one, so that bilinear
            look-ups at the borders of the uv islands do not read the background; 2 is enough for triangles that are not much
            thinner than texels.

    Raises:
        TypeError, ValueError: a bad ``size`` or ``padding``; in a call, meshes whose textures are not ``TexturesUV`` of one
            map each, uvs that are NaN or infinite, attributes that are not (sum(V_n), C) and floating point.

    Example:
        >>> renderer = UVRenderer(256, padding=2)
        >>> positions, mask = renderer(meshes, meshes.verts_packed())    # (N, 256, 256, 3), (N, 256, 256)
        >>> meshes.textures = renderer.bake(meshes, colors)              # of the vertices (sum(V_n), 3), as a texture
    """

    def __init__(self, size: int | tuple[int, int], *, padding: int = 0) -> None:
        pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(pair) != 2 or not all(_is_int(texels) and texels > 0 for texels in pair):
            raise ValueError(f"size: expected a positive int or (H, W), got {describe(size)}")
        if not _is_int(padding) or padding < 0:
            raise ValueError(f"padding: expected an int of at least 0, got {describe(padding)}")
        self.size = pair
        self.padding = padding

    def __call__(self, meshes: Any, attributes: Tensor, texels: Texels | None = None) -> tuple[Tensor, Tensor]:
        """Maps (N, H, W, C) of the dtype of the attributes, 0 where no face is, and the mask (N, H, W) of covered texels.

        Args:
            meshes: N meshes with ``TexturesUV``; only their uvs are used.
            attributes: (sum(V_n), C), of the packed vertices.
            texels: the result of :meth:`texels` for the same uvs and faces, to avoid computing it again.
        """
        texels = self.texels(meshes) if texels is None else texels
        num_verts = meshes.verts_packed().shape[0]
        if not isinstance(attributes, Tensor) or attributes.dim() != 2 or attributes.shape[0] != num_verts:
            raise ValueError(f"attributes: expected a tensor of shape ({num_verts}, C), got {describe(attributes)}")
        check_float_dtype("attributes", attributes)
        filled = (texels.faces.flatten() >= 0).nonzero().squeeze(1)
        corner_index = meshes.faces_packed().index_select(0, texels.faces.flatten()[filled])
        corners = attributes.index_select(0, corner_index.flatten()).view(-1, 3, attributes.shape[1])
        weights = texels.barycentric.view(-1, 3)[filled].to(attributes)
        maps = attributes.new_zeros(texels.faces.numel(), attributes.shape[1])
        maps = maps.index_copy(0, filled, (weights[..., None] * corners).sum(1))
        return maps.view(*texels.faces.shape, -1), texels.mask

    def bake(self, meshes: Any, colors: Tensor) -> TexturesUV:
        """The textures of the meshes with maps of these colours (sum(V_n), C) of the vertices.

        :func:`~pt3d_largesteps.renderers.texturing.vertex_colors` does the reverse.
        """
        maps, _ = self(meshes, colors)
        textures = meshes.textures
        return TexturesUV(
            maps,
            textures.faces_uvs_list(),
            textures.verts_uvs_list(),
            padding_mode=textures.padding_mode,
            align_corners=textures.align_corners,
            sampling_mode=textures.sampling_mode,
        )

    @torch.no_grad()
    def texels(self, meshes: Any) -> Texels:
        """The face and the barycentric coordinates of each texel. They depend only on the uvs and the faces, not on the
        vertices."""
        if not isinstance(getattr(meshes, "textures", None), TexturesUV):
            got = f"textures: {describe(meshes.textures)}" if hasattr(meshes, "textures") else describe(meshes)
            raise TypeError(f"meshes: expected Meshes with TexturesUV, got {got}")
        if meshes.textures.maps_ids_padded() is not None:
            raise ValueError("meshes: expected textures of one map for each mesh, got several maps with maps_ids")
        height, width = self.size
        uvs = corner_uvs(meshes.textures)
        check_finite("meshes.textures: verts_uvs of the corners of the faces", uvs)
        if meshes.textures.align_corners:
            scale, shift = uvs.new_tensor([width - 1, height - 1], dtype=torch.float64), 0.0
        else:
            scale, shift = uvs.new_tensor([width, height], dtype=torch.float64), 0.5
        corners = torch.stack([uvs[..., 0].double(), 1 - uvs[..., 1].double()], dim=-1) * scale - shift  # columns, rows
        faces = _lowest_faces(corners, meshes.faces_packed_to_mesh_idx(), len(meshes), self.size)
        mask = faces >= 0
        covered = mask.flatten().nonzero().squeeze(1)
        dtype = torch.promote_types(meshes.verts_packed().dtype, torch.promote_types(uvs.dtype, torch.float32))
        barycentric = torch.zeros(faces.numel(), 3, dtype=dtype, device=faces.device)
        place = torch.stack([covered % width, covered // width % height], dim=1)
        barycentric[covered] = _barycentric(corners[faces.flatten()[covered]], place).to(dtype)
        if self.padding:
            source = nearest_covered(mask, min(self.padding, max(self.size)))
            faces, barycentric = faces.flatten()[source], barycentric[source.flatten()]
        return Texels(faces.view(mask.shape), barycentric.view(*mask.shape, 3), mask)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _lowest_faces(corners: Tensor, face_to_map: Tensor, num_maps: int, size: tuple[int, int]) -> Tensor:
    """The lowest face (N, H, W) over each texel, -1 where there is none, for triangles (F, 3, 2) of columns and rows."""
    height, width = size
    lowest = torch.full((num_maps * height * width,), _NONE, device=corners.device)
    edges = corners.roll(-1, 1) - corners
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]  # twice the area, signed
    lengths = edges.norm(dim=2)
    proper = area.abs() > _TOLERANCE * lengths.amax(1)
    inwards = torch.stack([-edges[..., 1], edges[..., 0]], dim=-1) * (area.sign()[:, None] / lengths)[..., None]
    offset = (inwards * corners).sum(2) - _TOLERANCE  # a point is inside if inwards . point >= offset for all edges
    low, high = corners.aminmax(dim=1)
    low, high = low - _TOLERANCE, high + _TOLERANCE
    first_row, num_rows = _whole_numbers(low[:, 1], high[:, 1], height)
    face, row = _ranges(first_row, torch.where(proper, num_rows, 0))
    for spans in range(0, face.shape[0], max(1, _TEXELS_AT_ONCE // width)):
        span_face, span_row = (values[spans : spans + max(1, _TEXELS_AT_ONCE // width)] for values in (face, row))
        slope, room = inwards[span_face, :, 0], offset[span_face] - inwards[span_face, :, 1] * span_row[:, None]
        bound = room / slope  # slope * column >= room; an edge along the rows (slope 0) has bounded the rows already
        left = torch.where(slope > 0, bound, -torch.inf).amax(1).maximum(low[span_face, 0])
        right = torch.where(slope < 0, bound, torch.inf).amin(1).minimum(high[span_face, 0])
        first_col, num_cols = _whole_numbers(left, right, width)
        span, col = _ranges(first_col, num_cols)
        texel = (face_to_map[span_face] * height + span_row)[span] * width + col
        lowest.scatter_reduce_(0, texel, span_face[span], "amin")
    return torch.where(lowest < _NONE, lowest, -1).view(num_maps, height, width)


def _whole_numbers(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first of the whole numbers in [low, high] that are in [0, size), and how many there are; int64."""
    first = low.clamp(0, size).ceil()
    count = high.clamp(-1, size - 1).floor() - first + 1
    return first.to(torch.int64), count.clamp_min(0).to(torch.int64)


def _ranges(first: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """For each i the numbers first[i], first[i] + 1, ...: counts[i] of them; the i, and the numbers."""
    total = int(counts.sum())
    owner = torch.arange(counts.shape[0], device=counts.device).repeat_interleave(counts, output_size=total)
    within = torch.arange(total, device=counts.device) - (counts.cumsum(0) - counts)[owner]
    return owner, first[owner] + within


def _barycentric(corners: Tensor, points: Tensor) -> Tensor:
    """Barycentric coordinates (K, 3) of points (K, 2) in triangles (K, 3, 2); those just outside are moved to the edge."""
    from_point = corners - points[:, None]
    after, before = from_point.roll(-1, 1), from_point.roll(1, 1)
    weights = after[..., 0] * before[..., 1] - after[..., 1] * before[..., 0]
    weights = (weights / weights.sum(1, keepdim=True)).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)
