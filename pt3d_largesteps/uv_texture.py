"""The older name of :mod:`pt3d_largesteps.uv`."""

from pt3d_largesteps.uv import TexelGraph, texel_graph

__all__ = ["TexelGraph", "texel_graph"]
