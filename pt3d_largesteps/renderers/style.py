"""How surfaces are drawn, whatever draws them."""

from __future__ import annotations

from dataclasses import dataclass

from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight


@dataclass(frozen=True)
class Style:
    """The arguments of :class:`~pt3d_largesteps.renderers.PyTorch3DRenderer`, which explains them."""

    image_size: tuple[int, int]
    light: SphericalHarmonicsLight | None
    background: tuple[float, float, float]
    cull_backfaces: bool
    antialiased: bool
    textured: bool
