"""The texels of uv maps as a graph on the surface: neighbours inside the uv islands, and across the seams between them.

Large steps of a texture on the grid of its map would stop at the borders of the uv islands, and leak where two islands lie side
by side. Here the unknowns are the texels that a face covers, and two of them are joined

    where they are neighbours in the map and of one island;
    across a seam: along each edge of the mesh whose two faces have it at different places of the map, at points a texel apart
    at most, the nearest texel of the one island with the nearest of the other.

So L = D - A of that graph is the one of a grid wherever the map is one, whatever way it is cut. Stretch of the map is not
looked at: every edge has the weight 1.

Source: Prada, Kazhdan, Chuang, Hoppe, "Gradient-Domain Processing within a Texture Atlas", ACM TOG 37(4), 2018, which solves
on texels across seams too, but with finite elements for bilinear interpolation in the place of a graph; Nicolet, Jacobson,
Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import scipy.sparse.csgraph
import torch
from torch import Tensor

from pt3d_largesteps._checks import check_float_dtype, describe
from pt3d_largesteps.renderers.texturing import corner_uvs
from pt3d_largesteps.renderers.uv import UVRenderer
from pt3d_largesteps.system import SystemMatrix

_SAME_UV = 1e-6


@dataclass(frozen=True)
class TexelGraph:
    """The covered texels of N maps, and the edges between them.

    Attributes:
        mask: (N, H, W) bool, the covered texels, T of them, numbered in this order.
        edges: (E, 2) int64, pairs of texels, each once.
        num_seam_edges: how many of them cross a seam; they are the last ones.

    Example:
        >>> graph = texel_graph(meshes, 512)
        >>> matrix = graph.matrix(lambda_=19.0)
        >>> u = to_differential(matrix, graph.gather(meshes.textures.maps_padded()))     # (T, C)
        >>> maps = graph.scatter(from_differential(matrix, u))                           # (N, 512, 512, C)
    """

    mask: Tensor
    edges: Tensor
    num_seam_edges: int

    def matrix(
        self,
        lambda_: float | Tensor | None = None,
        *,
        alpha: float | Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> SystemMatrix:
        """M over the covered texels, lambda as for :func:`~pt3d_largesteps.compute_matrix` (a number, or one per texel)."""
        weights = torch.ones(len(self.edges), dtype=dtype, device=self.edges.device)
        return SystemMatrix.from_edges(self.edges, weights, int(self.mask.sum()), lambda_=lambda_, alpha=alpha)

    def gather(self, maps: Tensor) -> Tensor:
        """(T, C), the covered texels of maps (N, H, W, C)."""
        if not isinstance(maps, Tensor) or maps.dim() != 4 or maps.shape[:3] != self.mask.shape:
            raise ValueError(f"maps: expected a tensor of shape {(*self.mask.shape, 'C')}, got {describe(maps)}")
        check_float_dtype("maps", maps)
        return maps[self.mask]

    def scatter(self, values: Tensor, background: Tensor | None = None) -> Tensor:
        """Maps (N, H, W, C) of the texels' values (T, C); elsewhere those of ``background``, or 0."""
        if background is None:
            background = values.new_zeros(*self.mask.shape, values.shape[1])
        place = self.mask.flatten().nonzero().squeeze(1)
        return background.flatten(0, 2).index_copy(0, place, values).view(background.shape)


@torch.no_grad()
def texel_graph(meshes: Any, size: int | tuple[int, int]) -> TexelGraph:
    """The graph of the covered texels of each mesh's map.

    Args:
        meshes: with ``TexturesUV`` of one map each; no texel is joined to one of another mesh.
        size: texels of the maps, (H, W) or one number for both.

    Raises:
        TypeError, ValueError: as :class:`~pt3d_largesteps.renderers.uv.UVRenderer`; meshes that cover no texel.

    Example:
        >>> graph = texel_graph(meshes, meshes.textures.maps_padded().shape[1:3])
    """
    renderer = UVRenderer(size)
    texels = renderer.texels(meshes)
    if not bool(texels.mask.any()):
        raise ValueError(f"meshes: expected uvs that cover at least one of the texels, got none of {texels.mask.numel()}")
    height, width = renderer.size
    uvs = corner_uvs(meshes.textures).double()
    if meshes.textures.align_corners:
        corners = torch.stack([uvs[..., 0] * (width - 1), (1 - uvs[..., 1]) * (height - 1)], dim=-1)
    else:
        corners = torch.stack([uvs[..., 0] * width, (1 - uvs[..., 1]) * height], dim=-1) - 0.5  # columns, rows
    one, other, along, cut = _face_pairs(meshes.faces_packed(), uvs)
    island = _islands(one[~cut] // 3, other[~cut] // 3, len(uvs), uvs.device)
    island_at = torch.where(texels.mask, island[texels.faces.clamp_min(0)], -1)
    number = torch.where(texels.mask, texels.mask.flatten().cumsum(0).view_as(texels.faces) - 1, -1)
    neighbours = [
        torch.stack([number[first], number[second]], dim=-1)[(island_at[first] == island_at[second]) & (island_at[first] >= 0)]
        for first, second in _neighbours(number.shape)
    ]
    within = torch.cat([pairs.reshape(-1, 2) for pairs in neighbours])
    maps = meshes.faces_packed_to_mesh_idx()
    points = _seam_points(corners, one[cut], other[cut], along[cut])
    ends = [_nearest_texel(point, island[face], maps[face], island_at, number) for point, face in points]
    seam = torch.stack(ends, dim=1)
    seam = seam[(seam >= 0).all(1) & (seam[:, 0] != seam[:, 1])].sort(1).values.unique(dim=0)
    total = int(texels.mask.sum())
    seam = seam[~torch.isin(seam[:, 0] * total + seam[:, 1], within[:, 0] * total + within[:, 1])]
    return TexelGraph(texels.mask, torch.cat([within, seam]), len(seam))


def _neighbours(shape: torch.Size) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices of each texel and the next in its row, and of each and the next in its column."""
    every, head, tail = slice(None), slice(None, -1), slice(1, None)
    return [((every, every, head), (every, every, tail)), ((every, head, every), (every, tail, every))]


def _face_pairs(faces: Tensor, uvs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half-edges (K,) and (K,) of faces that share an edge of the mesh, 3 face + corner; whether they run in one direction; and
    whether the map cuts it."""
    ends = torch.stack([faces, faces.roll(-1, 1)], dim=2).reshape(-1, 2)
    low, high = ends.aminmax(dim=1)
    keys, order = torch.sort(low * (int(faces.max()) + 1) + high, stable=True)
    same = (keys[1:] == keys[:-1]).nonzero().squeeze(1)
    one, other = order[same], order[same + 1]
    of_ends = torch.stack([uvs, uvs.roll(-1, 1)], dim=2).reshape(-1, 2, 2)
    along = ends[one, 0] == ends[other, 0]
    there = torch.where(along[:, None, None], of_ends[other], of_ends[other].flip(1))
    return one, other, along, (of_ends[one] - there).abs().amax((1, 2)) > _SAME_UV


def _islands(one: Tensor, other: Tensor, num_faces: int, device: torch.device) -> Tensor:
    """(F,) int64, the uv island of each face: those that are joined by edges that the map does not cut."""
    pairs = (one.cpu().numpy(), other.cpu().numpy())
    graph = scipy.sparse.coo_matrix(([1] * len(one), pairs), shape=(num_faces, num_faces))
    labels = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    return torch.from_numpy(labels).to(device, torch.int64)


def _seam_points(corners: Tensor, one: Tensor, other: Tensor, along: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For both sides of the seams, points (P, 2) half a texel inside the faces, at the same places of the surface, and
    the faces (P,)."""
    starts, stops, inwards = [], [], []
    for half_edge in (one, other):
        face, corner = half_edge // 3, half_edge % 3
        start, stop, third = (corners[face, (corner + k) % 3] for k in range(3))
        edge = stop - start
        inward = third - start
        inward = inward - edge * ((inward * edge).sum(1) / (edge * edge).sum(1).clamp_min(1e-12))[:, None]
        starts.append(start)
        stops.append(stop)
        inwards.append(0.5 * inward / inward.norm(dim=1, keepdim=True).clamp_min(1e-12))
    # Faces of one orientation run along their common edge in opposite directions.
    starts[1], stops[1] = (
        torch.where(along[:, None], starts[1], stops[1]),
        torch.where(along[:, None], stops[1], starts[1]),
    )
    lengths = torch.maximum(*((stop - start).norm(dim=1) for start, stop in zip(starts, stops, strict=True)))
    counts = (lengths - 1e-6).ceil().clamp_min(1).to(torch.int64)
    owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    place = torch.arange(len(owner), device=counts.device) - (counts.cumsum(0) - counts)[owner]
    t = ((place + 0.5) / counts[owner])[:, None]
    return [
        ((start + inward)[owner] + t * (stop - start)[owner], half_edge[owner] // 3)
        for start, stop, inward, half_edge in zip(starts, stops, inwards, (one, other), strict=True)
    ]


def _nearest_texel(points: Tensor, islands: Tensor, maps: Tensor, island_at: Tensor, number: Tensor) -> Tensor:
    """(P,), the texel of this island and map next to each point among the nine around it; -1 where there is none."""
    _, height, width = number.shape
    best = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    least = torch.full((len(points),), float("inf"), dtype=points.dtype, device=points.device)
    centre = points.round().to(torch.int64)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            column, row = centre[:, 0] + right, centre[:, 1] + down
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = (maps, row.clamp(0, height - 1), column.clamp(0, width - 1))
            distance = (points - torch.stack([column, row], dim=1)).square().sum(1)
            better = inside & (island_at[place] == islands) & (distance < least)
            best, least = torch.where(better, number[place], best), torch.where(better, distance, least)
    return best
