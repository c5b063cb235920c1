"""Antialiasing of the outlines, the part of an image through which silhouettes become differentiable.

A rasteriser decides at pixel centres, so a moving outline changes nothing until it crosses one. If one of two neighbouring
pixels is inside a surface and the other outside, the outline crosses the line between their centres at a distance d in [0, 1]
from the inside one. As in Laine et al., "Modular Primitives for High-Performance Differentiable Rendering", ACM TOG 39(6),
2020, Sec. 3.4, the two are blended by that distance:

    inside            outside         d < 1/2:  the inside pixel takes 1/2 - d of the outside colour
      o-------|---------o             d > 1/2:  the outside pixel takes d - 1/2 of the inside colour
      <---d-->

Laine et al. search for the crossing edge only in the triangle that the inside pixel sees, which finds few edges if triangles
are smaller than pixels. Here all silhouette edges are enumerated (edges whose faces all lie on one side of them in the image),
and each is intersected with all rows or columns of pixel centres that it crosses: rows for steep edges, columns for flat ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pt3d_largesteps.renderers.projection import ndc_to_pixels
from pt3d_largesteps.renderers.rasterization import VisibleFaces
from pt3d_largesteps.renderers.scene import Scene


@dataclass(frozen=True)
class _Crossings:
    """Where silhouette edges cross the lines between neighbouring pixel centres; K of them.

    edge: (K,) index into the scene's edges.  steep: (K,) bool, a row is crossed, not a column.
    line: (K,) int64, which row or column.    inside, outside: (K,) int64, flat indices of the two pixels.
    inside_coordinate: (K,) int64, the column (for a row) or row (for a column) of the inside pixel.
    distance: (K,) d in [0, 1].               depth: (K,) view-space depth of the edge there.
    """

    edge: Tensor
    steep: Tensor
    line: Tensor
    inside: Tensor
    outside: Tensor
    inside_coordinate: Tensor
    distance: Tensor
    depth: Tensor

    def __getitem__(self, index: Tensor) -> _Crossings:
        return _Crossings(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def antialias(images: Tensor, scene: Scene, visible: VisibleFaces, perspective: bool, z_clip: float) -> Tensor:
    """The images blended across the visible outlines, differentiable in the images and in the projected vertices.

    Args:
        images: (N, H, W, C), one colour for each pixel centre.
        scene: the meshes and their projection.
        visible: the result of :func:`rasterize`.
        perspective: whether depth is interpolated perspectively.
        z_clip: edges that reach nearer than this view-space depth are skipped.
    """
    _, height, width, channels = images.shape
    pixels = ndc_to_pixels(scene.ndc, (height, width))
    found = _visible_crossings(scene, pixels.detach(), visible, perspective, z_clip)
    along, across = _oriented(pixels, scene.edges[found.edge], found.steep)
    t = (found.line - along[:, 0]) / (along[:, 1] - along[:, 0])
    distance = (across[:, 0] + t * (across[:, 1] - across[:, 0]) - found.inside_coordinate).abs()
    reaches_out = found.distance > 0.5
    target = torch.where(reaches_out, found.outside, found.inside)
    source = torch.where(reaches_out, found.inside, found.outside)
    flat = images.reshape(-1, channels)
    change = (distance - 0.5).abs()[:, None] * (flat.index_select(0, source) - flat.index_select(0, target))
    return flat.index_add(0, target, change).view_as(images)


@torch.no_grad()
def _visible_crossings(scene: Scene, pixels: Tensor, visible: VisibleFaces, perspective: bool, z_clip: float) -> _Crossings:
    """One crossing for each pair of pixels and side: the visible one farthest out."""
    edges, side = _silhouette_edges(scene, pixels, z_clip)
    crossings = _all_crossings(scene, pixels, edges, side, visible.zbuf.shape, perspective)
    zbuf = visible.zbuf.flatten()
    outside_depth = zbuf[crossings.outside]
    crossings = crossings[(crossings.depth < outside_depth) & (zbuf[crossings.inside] < outside_depth)]
    if crossings.edge.numel() == 0:
        return crossings
    # The pair and its side: the inside pixel, row or column, and whether the outside pixel comes after.
    pair = (crossings.inside * 2 + crossings.steep) * 2 + (crossings.outside > crossings.inside)
    unique_pairs, pair = torch.unique(pair, return_inverse=True)
    order = torch.arange(pair.shape[0], device=pair.device)
    key = (crossings.distance.float().view(torch.int32).to(torch.int64) << 32) | order  # bits of d >= 0 order as d does
    best = torch.full_like(unique_pairs, -1).scatter_reduce(0, pair, key, "amax")
    return crossings[best & 0xFFFFFFFF]


def _silhouette_edges(scene: Scene, pixels: Tensor, z_clip: float) -> tuple[Tensor, Tensor]:
    """The edges (K,) all of whose faces lie on one side of them in the image, and which: +1 if det(b - a, face - a) > 0.

    The winding of the faces does not matter; an edge with one face (a boundary) is always a silhouette edge.
    """
    corners = pixels.index_select(0, scene.faces.flatten()).view(-1, 3, 2)
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area_sign = torch.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])  # (F,)
    starts_at_first = scene.faces.roll(-1, 1) == scene.edges[:, 0].index_select(0, scene.faces_to_edges.flatten()).view(-1, 3)
    side = area_sign[:, None] * torch.where(starts_at_first, 1.0, -1.0)  # (F, 3), of the face, at each of its edges
    num_edges = scene.edges.shape[0]
    flat_edges = scene.faces_to_edges.flatten()
    total = side.new_zeros(num_edges).index_add(0, flat_edges, side.flatten())
    count = side.new_zeros(num_edges).index_add(0, flat_edges, side.abs().flatten())
    in_front = scene.ndc.detach()[:, 2].index_select(0, scene.edges.flatten()).view(-1, 2).amin(1) > z_clip
    edges = ((total.abs() == count) & (count > 0) & in_front).nonzero().squeeze(1)
    return edges, torch.sign(total[edges])


def _oriented(pixels: Tensor, edges: Tensor, steep: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (K, 2) of the ends of edges (K, 2): along the stepping direction, and across it."""
    ends = pixels.index_select(0, edges.flatten()).view(-1, 2, 2)  # (K, end, (col, row))
    col, row = ends[..., 0], ends[..., 1]
    return torch.where(steep[:, None], row, col), torch.where(steep[:, None], col, row)


def _all_crossings(
    scene: Scene, pixels: Tensor, edges: Tensor, side: Tensor, shape: torch.Size, perspective: bool
) -> _Crossings:
    """Intersects each silhouette edge with the rows (steep edges) or columns (flat ones) of pixel centres that it spans."""
    _, height, width = shape
    ends = scene.edges[edges]
    delta = pixels[ends[:, 1]] - pixels[ends[:, 0]]
    steep = delta[:, 1].abs() >= delta[:, 0].abs()
    along, across = _oriented(pixels, ends, steep)
    num_lines = torch.where(steep, height, width)
    last_across = torch.where(steep, width, height) - 1  # the last pixel of a line
    low, high = along.aminmax(dim=1)
    first = low.clamp(-1, max(height, width)).ceil().clamp_min(0)
    stop = torch.minimum(high.clamp(-1, max(height, width)).ceil(), num_lines)  # half open: a shared end is cut once
    counts = (stop - first).clamp_min(0).nan_to_num(0).to(torch.int64)
    total = int(counts.sum())
    owner = torch.arange(edges.shape[0], device=edges.device).repeat_interleave(counts, output_size=total)
    line = first[owner].to(torch.int64) + torch.arange(total, device=edges.device) - (counts.cumsum(0) - counts)[owner]
    start, end = along[owner].unbind(1)
    t = (line - start) / (end - start)
    cut = across[owner, 0] + t * (across[owner, 1] - across[owner, 0])
    before = cut.floor()
    # The side of the faces: for a steep edge that runs down the rows, det > 0 means smaller columns; a flat edge has swapped
    # axes, which mirrors the plane.
    inside_before = (side[owner] > 0) == ((end > start) == steep[owner])
    before_index = before.to(torch.int64)
    inside_coordinate = torch.where(inside_before, before_index, before_index + 1)
    outside_coordinate = torch.where(inside_before, before_index + 1, before_index)
    distance = torch.where(inside_before, cut - before, before + 1 - cut)
    z0, z1 = scene.ndc.detach()[:, 2].index_select(0, ends.flatten()).view(-1, 2)[owner].unbind(1)
    depth = z0 * z1 / (z1 + t * (z0 - z1)) if perspective else z0 + t * (z1 - z0)

    kept = ((before >= 0) & (before < last_across[owner])).nonzero().squeeze(1)
    owner, line, steep = owner[kept], line[kept], steep[owner[kept]]
    first_pixel = scene.edge_to_image[edges[owner]] * (height * width)

    def flat_index(coordinate: Tensor) -> Tensor:
        return first_pixel + torch.where(steep, line * width + coordinate, coordinate * width + line)

    inside_coordinate = inside_coordinate[kept]
    return _Crossings(
        edges[owner],
        steep,
        line,
        flat_index(inside_coordinate),
        flat_index(outside_coordinate[kept]),
        inside_coordinate,
        distance[kept],
        depth[kept],
    )
