"""The texels of uv maps as a graph on the surface: neighbours inside the uv islands, and across the seams between them.

Large steps of a texture on the grid of its map would stop at the borders of the uv islands, and leak between islands that lie
side by side. Here the unknowns are the texels that faces cover, and an edge joins two of them

    if they are neighbours in the map and belong to one island; across a seam, if they coincide on the surface (seams.py).

So L = D - A of that graph is the Laplacian of a grid inside the islands, however the map is cut. Stretch of the map is ignored:
every edge has the weight 1.

Source: Prada, Kazhdan, Chuang, Hoppe, "Gradient-Domain Processing within a Texture Atlas", ACM TOG 37(4), 2018, which solves
on texels across seams too, but with finite elements for bilinear interpolation instead of a graph; Nicolet, Jacobson, Jakob,
"Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_float_dtype, describe
from pt3d_largesteps.matrices.assembly import Assembly
from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.renderers.gutter import gutter_sources
from pt3d_largesteps.renderers.texturing import corner_uvs
from pt3d_largesteps.renderers.uv import UVRenderer
from pt3d_largesteps.uv.seams import face_pairs, islands, seam_edges


@dataclass(frozen=True)
class TexelGraph:
    """The covered texels of N maps, and the edges between them.

    Attributes:
        mask: (N, H, W) bool, the covered texels, T of them, numbered in this order.
        edges: (E, 2) int64, pairs of texels, each once.
        num_seam_edges: the number of edges across seams; they come last.
        positions: (T, 3), the positions of the texels on the surface.
        gutter: (G,) int64, the texels around the islands that copy covered ones, as indices into the flat maps.
        sources: (G,) int64, the covered texel that each of them copies.

    Example:
        >>> graph = texel_graph(meshes, 512)
        >>> matrix = graph.matrix(lambda_=19.0)
        >>> u = to_differential(matrix, graph.gather(meshes.textures.maps_padded()))     # (T, C)
        >>> maps = graph.scatter(from_differential(matrix, u))                           # (N, 512, 512, C)
    """

    mask: Tensor
    edges: Tensor
    num_seam_edges: int
    positions: Tensor
    gutter: Tensor
    sources: Tensor

    @cached_property
    def places(self) -> Tensor:
        """(T,) int64, the indices of the covered texels in the flat maps."""
        with torch.inference_mode(False):  # it is kept, and may be needed for gradients later
            return self.mask.flatten().nonzero().squeeze(1)

    @property
    def num_texels_per_map(self) -> tuple[int, ...]:
        """N numbers, which add up to T."""
        return tuple(self.mask.sum((1, 2)).tolist())

    def matrix(
        self,
        lambda_: float | Tensor | None = None,
        *,
        alpha: float | Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> SystemMatrix:
        """M over the covered texels, lambda as for :func:`~pt3d_largesteps.compute_matrix` (a number, one per map (N,), or
        one per texel (T,))."""
        sizes = self.num_texels_per_map
        weights = torch.ones(len(self.edges), dtype=dtype, device=self.edges.device)
        strength = Strength.of(lambda_, alpha, sizes, weights, ("texel", "texels"))
        return SystemMatrix.from_assembly(self._assembly, weights, strength, self.positions, sizes)

    @cached_property
    def _assembly(self) -> Assembly:
        with torch.inference_mode(False):  # it is kept
            return Assembly(self.edges, len(self.positions))

    def gather(self, maps: Tensor) -> Tensor:
        """(T, C), the covered texels of maps (N, H, W, C)."""
        if not isinstance(maps, Tensor) or maps.dim() != 4 or maps.shape[:3] != self.mask.shape:
            raise ValueError(f"maps: expected a tensor of shape {(*self.mask.shape, 'C')}, got {describe(maps)}")
        check_float_dtype("maps", maps)
        return maps.flatten(0, 2).index_select(0, self.places)

    def scatter(self, values: Tensor, background: Tensor | None = None) -> Tensor:
        """Maps (N, H, W, C) of the texels' values (T, C), with the gutter filled; elsewhere ``background``, or 0."""
        if background is None:
            background = values.new_zeros(*self.mask.shape, values.shape[1])
        places = self.places
        if len(self.gutter):
            places, values = torch.cat([places, self.gutter]), torch.cat([values, values.index_select(0, self.sources)])
        return background.flatten(0, 2).index_copy(0, places, values).view(background.shape)

    def fill(self, maps: Tensor) -> Tensor:
        """Maps (N, H, W, C) with the gutter filled, so that bilinear look-ups on the surface read no background."""
        return self.scatter(self.gather(maps), maps)

    def to(self, device: torch.device | str) -> TexelGraph:
        """The same on another device."""
        names = ("mask", "edges", "positions", "gutter", "sources")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@torch.no_grad()
def texel_graph(meshes: Any, size: int | tuple[int, int], *, gutter: int = 0) -> TexelGraph:
    """The graph of the covered texels of each mesh's map.

    Args:
        meshes: with ``TexturesUV`` of one map each; no edge joins texels of different meshes.
        size: texels of the maps, (H, W) or one number for both.
        gutter: rows and columns around the covered texels that copy the nearest of them. 1 covers bilinear look-ups, except for
            triangles thinner than texels.

    Raises:
        TypeError, ValueError: as :class:`~pt3d_largesteps.renderers.uv.UVRenderer`; meshes that cover no texel.

    Example:
        >>> graph = texel_graph(meshes, meshes.textures.maps_padded().shape[1:3], gutter=1)
    """
    renderer = UVRenderer(size)
    if not isinstance(gutter, int) or isinstance(gutter, bool) or gutter < 0:
        raise ValueError(f"gutter: expected an int of at least 0, got {describe(gutter)}")
    texels = renderer.texels(meshes)
    if not bool(texels.mask.any()):
        raise ValueError(f"meshes: expected uvs that cover at least one of the texels, got none of {texels.mask.numel()}")
    height, width = renderer.size
    uvs = corner_uvs(meshes.textures).double()
    if meshes.textures.align_corners:
        corners = torch.stack([uvs[..., 0] * (width - 1), (1 - uvs[..., 1]) * (height - 1)], dim=-1)
    else:
        corners = torch.stack([uvs[..., 0] * width, (1 - uvs[..., 1]) * height], dim=-1) - 0.5  # columns, rows
    pairs = face_pairs(meshes.faces_packed(), uvs)
    island = islands(pairs, len(uvs))
    island_at = torch.where(texels.mask, island[texels.faces.clamp_min(0)], -1)
    order = texels.mask.flatten().cumsum(0).view_as(texels.faces) - 1
    number = torch.where(texels.mask, order, -1)
    neighbours = [
        torch.stack([number[first], number[second]], dim=-1)[(island_at[first] == island_at[second]) & (island_at[first] >= 0)]
        for first, second in _neighbours(number.shape)
    ]
    within = torch.cat([joined.reshape(-1, 2) for joined in neighbours])
    seam = seam_edges(corners, pairs, island, meshes.faces_packed_to_mesh_idx(), island_at, number)
    total = int(texels.mask.sum())
    seam = seam[~torch.isin(seam[:, 0] * total + seam[:, 1], within[:, 0] * total + within[:, 1])]
    positions = renderer(meshes, meshes.verts_packed(), texels)[0][texels.mask]
    around, source = gutter_sources(texels.mask, gutter)
    return TexelGraph(texels.mask, torch.cat([within, seam]), len(seam), positions, around, order.flatten()[source])


def _neighbours(shape: torch.Size) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices of each texel and the next in its row, and of each and the next in its column."""
    every, head, tail = slice(None), slice(None, -1), slice(1, None)
    return [((every, every, head), (every, every, tail)), ((every, head, every), (every, tail, every))]
