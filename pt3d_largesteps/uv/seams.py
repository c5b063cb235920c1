"""The seams of uv maps: where the map cuts the surface, and which texels on both sides of a cut coincide on the surface.

A seam is an edge of the mesh whose two faces have it at different places of the map. Points are placed along each seam, at most
half a texel apart. At each point the nearest texel of one island is paired with the nearest texel of the other. The points lie
a quarter of a texel inside the islands, so that no point is equally near to two texels, whether texels lie on the border of an
island or half a texel inside.

Source: Prada, Kazhdan, Chuang, Hoppe, "Gradient-Domain Processing within a Texture Atlas", ACM TOG 37(4), 2018.
"""

from __future__ import annotations

from typing import NamedTuple

import scipy.sparse.csgraph
import torch
from torch import Tensor

_SAME_UV = 1e-6
_INSIDE = 0.25  # of a texel
_POINTS_PER_TEXEL = 2


class FacePairs(NamedTuple):
    """Pairs of faces that share an edge of the mesh.

    Attributes:
        one, other: (K,) int64, the half-edges of the two faces, 3 face + corner.
        along: (K,) bool, whether both half-edges run in the same direction.
        cut: (K,) bool, whether the map has the edge at two places.
    """

    one: Tensor
    other: Tensor
    along: Tensor
    cut: Tensor


def face_pairs(faces: Tensor, uvs: Tensor) -> FacePairs:
    """The pairs of faces (F, 3) with the uvs (F, 3, 2) of their corners; an edge of k faces gives k - 1 pairs."""
    ends = torch.stack([faces, faces.roll(-1, 1)], dim=2).reshape(-1, 2)
    low, high = ends.aminmax(dim=1)
    keys, order = torch.sort(low * (int(faces.max()) + 1) + high, stable=True)
    same = (keys[1:] == keys[:-1]).nonzero().squeeze(1)
    one, other = order[same], order[same + 1]
    of_ends = torch.stack([uvs, uvs.roll(-1, 1)], dim=2).reshape(-1, 2, 2)
    along = ends[one, 0] == ends[other, 0]
    there = torch.where(along[:, None, None], of_ends[other], of_ends[other].flip(1))
    return FacePairs(one, other, along, (of_ends[one] - there).abs().amax((1, 2)) > _SAME_UV)


def islands(pairs: FacePairs, num_faces: int) -> Tensor:
    """(F,) int64, the uv island of each face: faces joined by edges that the map does not cut."""
    ends = [(half_edge[~pairs.cut] // 3).cpu().numpy() for half_edge in (pairs.one, pairs.other)]
    graph = scipy.sparse.coo_matrix(([1] * len(ends[0]), ends), shape=(num_faces, num_faces))
    labels = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    return torch.from_numpy(labels).to(pairs.cut.device, torch.int64)


def seam_edges(corners: Tensor, pairs: FacePairs, island: Tensor, maps: Tensor, island_at: Tensor, number: Tensor) -> Tensor:
    """(S, 2) int64, pairs of texels that coincide across seams, the lower number first, each once.

    Args:
        corners: (F, 3, 2) columns and rows of the corners of the faces.
        pairs: of all faces.
        island, maps: (F,) of each face.
        island_at, number: (N, H, W), the island and the number of each texel; -1 where no face is.
    """
    points = _seam_points(corners, pairs.one[pairs.cut], pairs.other[pairs.cut], pairs.along[pairs.cut])
    ends = [_nearest_texel(point, island[face], maps[face], island_at, number) for point, face in points]
    edges = torch.stack(ends, dim=1)
    return edges[(edges >= 0).all(1) & (edges[:, 0] != edges[:, 1])].sort(1).values.unique(dim=0)


def _seam_points(corners: Tensor, one: Tensor, other: Tensor, along: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For both sides of the seams, points (P, 2) a little inside the faces, at the same places of the surface, and the
    faces (P,)."""
    starts, stops, inwards = [], [], []
    for half_edge in (one, other):
        face, corner = half_edge // 3, half_edge % 3
        start, stop, third = (corners[face, (corner + k) % 3] for k in range(3))
        edge = stop - start
        inward = third - start
        inward = inward - edge * ((inward * edge).sum(1) / (edge * edge).sum(1).clamp_min(1e-12))[:, None]
        starts.append(start)
        stops.append(stop)
        inwards.append(_INSIDE * inward / inward.norm(dim=1, keepdim=True).clamp_min(1e-12))
    # Faces of one orientation run along their common edge in opposite directions.
    starts[1], stops[1] = (
        torch.where(along[:, None], starts[1], stops[1]),
        torch.where(along[:, None], stops[1], starts[1]),
    )
    lengths = torch.maximum(*((stop - start).norm(dim=1) for start, stop in zip(starts, stops, strict=True)))
    counts = (_POINTS_PER_TEXEL * lengths - 1e-6).ceil().clamp_min(1).to(torch.int64)
    owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    place = torch.arange(len(owner), device=counts.device) - (counts.cumsum(0) - counts)[owner]
    t = ((place + 0.5) / counts[owner])[:, None]
    return [
        ((start + inward)[owner] + t * (stop - start)[owner], half_edge[owner] // 3)
        for start, stop, inward, half_edge in zip(starts, stops, inwards, (one, other), strict=True)
    ]


def _nearest_texel(points: Tensor, islands: Tensor, maps: Tensor, island_at: Tensor, number: Tensor) -> Tensor:
    """(P,), the texel of this island and map nearest to each point among the nine around it; -1 if there is none."""
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
