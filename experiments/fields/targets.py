"""A texture and a density made in code, with features of every size: gradients, waves, sharp edges and fine lines.

Both are functions of places in [0, 1], the same at every number of texels. Edges are as wide as a texel, not jagged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TURN = 2 * math.pi
NAVY, SAND, RUST, TEAL, WHITE = (
    torch.tensor(color) for color in ([0.10, 0.16, 0.33], [0.90, 0.78, 0.55], [0.78, 0.30, 0.16], [0.12, 0.55, 0.52], [1.0] * 3)
)


def texture(height: int, width: int) -> Tensor:
    """(1, 3, H, W) in [0, 1]; its columns go on without a break from the last to the first."""
    v = ((torch.arange(height) + 0.5) / height)[:, None]
    u = ((torch.arange(width) + 0.5) / width)[None, :]
    texel = 1 / min(height, width)
    # Smooth: a gradient from row to row, bent by waves, and slow waves of brightness.
    bend = 0.08 * torch.sin(TURN * (2 * u + v)) + 0.04 * torch.sin(TURN * (5 * u - 3 * v))
    field = _mixed(NAVY, SAND, (1 - v + bend).clamp(0, 1))
    field = field * (0.88 + 0.12 * torch.cos(TURN * 3 * u) * torch.cos(TURN * 2 * v))
    # Rings that become finer outwards, round two places; one of them lies where the columns close.
    for center_u, center_v, radius, color in ((0.0, 0.5, 0.22, RUST), (0.5, 0.34, 0.2, TEAL)):
        distance = torch.hypot(_around(u - center_u), v - center_v)
        rings = 0.5 + 0.5 * torch.cos(TURN * 40 * distance**2 / radius)
        field = _mixed(field, color, rings * _inside(radius - distance, texel))
    # Sharp: tiles, a star, and lines of one to four 500ths.
    tiles = torch.sign(torch.cos(TURN * 16 * u)) * torch.sign(torch.sin(TURN * 16 * v))
    field = _mixed(field, WHITE, 0.9 * (tiles > 0) * _inside(0.07 - (v - 0.86).abs(), texel))
    angle = torch.atan2(v - 0.68, u - 0.5)
    star = 0.09 + 0.035 * torch.cos(5 * angle) - torch.hypot(u - 0.5, v - 0.68)
    field = _mixed(field, WHITE, _inside(star, texel))
    for line in range(9):
        middle = 0.06 + 0.012 * line + 0.012 * torch.sin(TURN * (3 * u + 0.1 * line))
        field = _mixed(field, NAVY, _inside((1 + line % 4) / 1000 - (v - middle).abs(), texel))
    return field[None].clamp(0, 1)


def density(size: int) -> Tensor:
    """(1, 1, S, S, S) in [0, 1]: soft blobs, a shell, a helix of wire and a grating."""
    axis = (torch.arange(size) + 0.5) / size
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    voxel = 1 / size
    field = torch.zeros_like(x)
    for center, radius, strength in (
        ((0.32, 0.36, 0.4), 0.16, 0.8),
        ((0.66, 0.6, 0.62), 0.2, 0.6),
        ((0.5, 0.75, 0.3), 0.1, 0.9),
    ):
        squared = (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2
        field = field + strength * torch.exp(-squared / (2 * (0.6 * radius) ** 2))
    distance = torch.sqrt((x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2)
    field = field + 0.5 * _inside(0.02 - (distance - 0.42).abs(), voxel)
    turns = TURN * 4 * z
    wire = torch.hypot(x - 0.5 - 0.3 * torch.cos(turns), y - 0.5 - 0.3 * torch.sin(turns))
    field = field + 0.8 * _inside(0.025 - wire, voxel)
    block = torch.maximum(torch.maximum((x - 0.55).abs() / 0.14, (y - 0.24).abs() / 0.06), (z - 0.5).abs() / 0.14)
    grating = 0.5 + 0.5 * torch.cos(TURN * 24 * x)
    field = field + 0.7 * grating * _inside(0.1 * (1 - block), voxel)
    return field.clamp(0, 1)[None, None]


def _mixed(below: Tensor, above: Tensor, share: Tensor) -> Tensor:
    """Colours (3,) or fields (3, H, W), blended by a share (H, W) of the upper."""
    below, above = (color[:, None, None] if color.dim() == 1 else color for color in (below, above))
    return below + share * (above - below)


def _inside(distance: Tensor, width: float) -> Tensor:
    """1 where a distance is positive and 0 where it is negative, with a ramp as wide as a texel between."""
    return (distance / width + 0.5).clamp(0, 1)


def _around(offset: Tensor) -> Tensor:
    """A difference of columns the short way round."""
    return offset - offset.round()
