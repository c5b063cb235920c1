"""Reads the pinned vertices that users give: masks, indices, or one of these per mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe


def pinned_mask(pinned: Any, num_verts_per_mesh: Sequence[int], device: torch.device) -> Tensor:
    """The mask (V,) bool of the packed pinned vertices, V = sum(V_n).

    Args:
        pinned: a mask (V,) bool or indices (K,) of packed vertices; or a list of N masks or indices, one per mesh.

    Raises:
        TypeError, ValueError: a wrong type or length, an index out of range, or no free vertex.
    """
    num_verts = sum(num_verts_per_mesh)
    if isinstance(pinned, (list, tuple)):
        if len(pinned) != len(num_verts_per_mesh):
            raise ValueError(
                f"pinned: expected one mask or list of indices per mesh, {len(num_verts_per_mesh)}, got {len(pinned)}"
            )
        masks = [
            _mask(f"pinned[{mesh}]", of_mesh, size, device)
            for mesh, (of_mesh, size) in enumerate(zip(pinned, num_verts_per_mesh, strict=True))
        ]
        mask = torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool, device=device)
    else:
        mask = _mask("pinned", pinned, num_verts, device)
    if num_verts and bool(mask.all()):
        raise ValueError(f"pinned: expected at least one free vertex, got all {num_verts} pinned")
    return mask


def _mask(name: str, pinned: Any, num_verts: int, device: torch.device) -> Tensor:
    if not isinstance(pinned, Tensor):
        raise TypeError(f"{name}: expected a tensor, a mask (bool) or indices (int64), got {describe(pinned)}")
    if pinned.device != device:
        raise ValueError(f"{name}: expected it on {device}, as the meshes, got {describe(pinned)}")
    if pinned.dtype == torch.bool:
        if tuple(pinned.shape) != (num_verts,):
            raise ValueError(f"{name}: expected a mask of shape ({num_verts},), got {describe(pinned)}")
        return pinned.clone()
    if pinned.is_floating_point() or pinned.is_complex():
        raise TypeError(f"{name}: expected a mask (bool) or indices (int64), got {describe(pinned)}")
    if pinned.dim() != 1:
        raise ValueError(f"{name}: expected indices of shape (K,), got {describe(pinned)}")
    bad = (pinned < 0) | (pinned >= num_verts)
    if bool(bad.any()):
        raise ValueError(f"{name}: expected vertex indices in [0, {num_verts}), got {int(pinned[bad][0])}")
    mask = torch.zeros(num_verts, dtype=torch.bool, device=device)
    mask[pinned.long()] = True
    return mask
