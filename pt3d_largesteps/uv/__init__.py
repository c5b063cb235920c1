"""The texels of uv maps as a graph on the surface, across the seams of the map."""

from pt3d_largesteps.uv.texels import TexelGraph, texel_graph

__all__ = ["TexelGraph", "texel_graph"]
