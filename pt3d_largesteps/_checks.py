"""Checks of arguments shared by the whole package: every message names the argument, what was expected and what came."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor


def describe(value: Any) -> str:
    """A short description of any value for an error message: tensors by shape, dtype and device."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}, on {value.device}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def check_number(name: str, value: Any, *, low: float, low_open: bool = False, high: float = math.inf) -> float:
    """Returns ``value`` (a number or a 0-dimensional tensor) as a float in ``[low, high)``; raises ``ValueError`` else.

    ``low_open`` excludes the lower bound. NaN and infinity are never accepted.
    """
    scalar = value.detach().item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(scalar, bool) or not isinstance(scalar, numbers.Real):  # numpy's scalars are Real too
        raise TypeError(f"{name}: expected a number, got {describe(value)}")
    number = float(scalar)
    inside = number > low if low_open else number >= low
    if not (math.isfinite(number) and inside and number < high):
        interval = f"{'(' if low_open else '['}{low:g}, {'infinity' if high == math.inf else f'{high:g}'})"
        raise ValueError(f"{name}: expected a finite number in {interval}, got {scalar}")
    return number


def check_finite(name: str, tensor: Tensor, hint: str = "") -> None:
    """Raises ``ValueError`` naming the first entry of ``tensor`` that is NaN or infinite."""
    if tensor.device.type == "cpu" and math.isfinite(tensor.sum()):
        return  # many times faster; a sum that is not finite may be one that overflowed
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        index = tuple((~finite).nonzero()[0].tolist())
        count = int((~finite).sum())
        raise ValueError(
            f"{name}: expected finite numbers, got {tensor[index].item()} at index {index}"
            f" ({count} of {tensor.numel()} entries are NaN or infinite){hint}"
        )


def check_float_dtype(name: str, tensor: Tensor) -> None:
    """Raises ``TypeError`` unless ``tensor`` holds real floating-point numbers."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a real floating-point dtype, got {describe(tensor)}")


def check_solvable_dtype(name: str, tensor: Tensor) -> None:
    """Raises ``TypeError`` unless ``tensor`` has a dtype that is solved in."""
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {describe(tensor)}")
