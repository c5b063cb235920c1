"""The operators of torch as they are on each device, and what they take for a factor."""

from __future__ import annotations

import torch
from torch import Tensor

from pt3d_largesteps.solvers import CholeskyFactor

_CUDA_NAMES = {
    "factorize": "factorize_levels",
    "solve": "solve_levels",
    "solve_detached": "solve_levels_detached",
}


def operator(name: str, device: torch.device) -> torch._ops.OpOverload:
    name = name if device.type == "cpu" else _CUDA_NAMES[name]
    return getattr(torch.ops.pt3d_largesteps, name).default


def factorize_arguments(factor: CholeskyFactor, store_double: bool) -> tuple:
    symbolic = factor.symbolic
    return factor.matrix_values, symbolic.index, store_double, *_plan(symbolic.factor_plan)


def solve_arguments(factor: CholeskyFactor, rhs: Tensor, direction: int = 0) -> tuple:
    symbolic = factor.symbolic
    return factor.matrix_values, factor.values, symbolic.index, rhs, direction, *_plan(symbolic.solve_plan)


def _plan(numbers: tuple[int, ...]) -> tuple:
    """What there is on CUDA alone: the numbers that the host must know."""
    return (list(numbers),) if numbers else ()
