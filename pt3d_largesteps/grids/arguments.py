"""Checks the arguments of a grid: its shape, boundary, spacing, lambda or alpha, and mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_number, describe
from pt3d_largesteps.grids.differences import BOUNDARIES
from pt3d_largesteps.matrices.lambda_alpha import check_strength


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The sizes of 1 to 3 axes, whole numbers of at least 1."""
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes)
    if len(sizes) not in (1, 2, 3) or not whole:
        raise ValueError(f"shape: expected (L,), (H, W) or (D, H, W) of whole numbers of at least 1, got {describe(shape)}")
    return sizes


def checked_boundary(boundary: Any, ndim: int) -> tuple[str, ...]:
    """A name for each axis."""
    names = (boundary,) * ndim if isinstance(boundary, str) else tuple(boundary)
    if len(names) != ndim or any(name not in BOUNDARIES for name in names):
        raise ValueError(f"boundary: expected one of {list(BOUNDARIES)}, or {ndim} of them, got {describe(boundary)}")
    return names


def checked_spacing(spacing: Any, ndim: int) -> tuple[float, ...]:
    """A number above 0 for each axis."""
    numbers = tuple(spacing) if isinstance(spacing, Sequence) else (spacing,) * ndim
    if len(numbers) != ndim:
        raise ValueError(f"spacing: expected a number, or {ndim} of them, got {describe(spacing)}")
    return tuple(check_number("spacing", number, low=0.0, low_open=True) for number in numbers)


def checked_mask(mask: Any, shape: tuple[int, ...]) -> Tensor | None:
    """A bool tensor of ``shape``; None if all texels are valid."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise ValueError(f"mask: expected a bool tensor of shape {shape}, got {describe(mask)}")
    if not bool(mask.any()):
        raise ValueError(f"mask: expected at least one valid texel, got none among {mask.numel()}")
    return None if bool(mask.all()) else mask


def checked_strength(name: str, value: Any, shape: tuple[int, ...]) -> tuple[Tensor, str]:
    """A tensor of one number, (K,), (N, 1, ..., 1) or ``shape``; and its form: "number", "axis", "field" or "texel"."""
    ndim = len(shape)
    if not isinstance(value, Tensor):
        numbers = list(value) if isinstance(value, Sequence) else None
        for number in [value] if numbers is None else numbers:
            check_strength(name, number)
        value = torch.tensor(float(value) if numbers is None else numbers, dtype=torch.float64)
        sizes = tuple(value.shape) if value.dim() and value.shape != (ndim,) else None
        if sizes is not None:
            raise ValueError(f"{name}: expected a number, or {ndim} of them, one per axis, got {describe(numbers)}")
    else:
        check_strength(name, value)
        value = value if value.is_floating_point() else value.to(torch.float64)
    if value.numel() == 1 and value.dim() < ndim + 2:
        return value, "number"
    if value.dim() == 1 and value.shape[0] == ndim and name == "lambda_" and ndim > 1:
        return value, "axis"
    if tuple(value.shape) == shape:
        return value, "texel"
    if value.dim() == ndim + 2 and tuple(value.shape[1:]) == (1,) * (ndim + 1):
        return value, "field"
    per_axis = f" ({ndim},), one per axis," if name == "lambda_" else ""
    ones = ", ".join(["1"] * (ndim + 1))
    raise ValueError(
        f"{name}: expected a number, or a tensor of shape{per_axis} (N, {ones}), one per field, or {shape}, one per texel,"
        f" got {describe(value)}"
    )
