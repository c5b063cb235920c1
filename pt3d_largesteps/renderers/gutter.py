"""The gutter: texels just outside the uv islands, which bilinear look-ups at the borders of the islands read.

Source: Prada, Kazhdan, Chuang, Hoppe, "Gradient-Domain Processing within a Texture Atlas", ACM TOG 37(4), 2018, Sec. 3, treats
    these texels as separate unknowns; here they copy the nearest covered texel.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NONE = 1 << 62  # larger than all indices and all distances


def gutter_sources(mask: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The uncovered texels with a covered one within ``width`` rows and columns.

    Args:
        mask: (N, H, W) bool, the covered texels.
        width: at least 0; 0 finds none.

    Returns:
        (G,) int64, their indices in the flat maps, and (G,) int64, the indices of the nearest covered texels of the same map.
    """
    source = nearest_covered(mask, width).flatten()
    gutter = (source != torch.arange(mask.numel(), device=mask.device)).nonzero().squeeze(1)
    return gutter, source[gutter]


def nearest_covered(mask: Tensor, width: int) -> Tensor:
    """The flat index (N, H, W) of the nearest True within ``width`` rows and columns; of the texel itself if there is none."""
    itself = torch.arange(mask.numel(), device=mask.device).view(mask.shape)
    # Squared distance and index in one number, so that a minimum finds the nearest: first in the column, then in the row.
    nearest = torch.where(mask, itself, _NONE)
    for axis, pad in ((1, (0, 0, width, width)), (2, (width, width))):
        padded = torch.nn.functional.pad(nearest, pad, value=_NONE)
        size = mask.shape[axis]
        for step in range(-width, width + 1):
            shifted = padded.narrow(axis, width + step, size)
            nearest = torch.minimum(nearest, shifted + (step * step << 32))
    return torch.where(nearest < _NONE, nearest & 0xFFFFFFFF, itself)
