"""Comparisons for tests that run on every device.

On CUDA, torch adds what falls on one entry (``index_add``) in any order, so that matrices and derivatives, unlike solves,
differ from run to run by rounding; and each of many small operations costs a launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def assert_same_sums(actual: Tensor, expected: Tensor) -> None:
    """Numbers made by the same sums: equal to the bit on the CPU, to rounding on CUDA."""
    if actual.is_cuda:
        torch.testing.assert_close(actual, expected)
    else:
        assert torch.equal(actual, expected)


def gradcheck(function: Callable, inputs: Any, **options: Any) -> bool:
    """torch's; on CUDA through a random projection of the derivatives, whose every entry is looked at on the CPU."""
    return torch.autograd.gradcheck(function, inputs, **{**_options(inputs), **options})


def gradgradcheck(function: Callable, inputs: Any, **options: Any) -> bool:
    """As :func:`gradcheck`."""
    return torch.autograd.gradgradcheck(function, inputs, **{**_options(inputs), **options})


def _options(inputs: Any) -> dict[str, Any]:
    first = inputs if isinstance(inputs, Tensor) else inputs[0]
    return {"fast_mode": True, "nondet_tol": 1e-10} if first.is_cuda else {}
