"""Compiled code notices an edit in place: ``torch.ops.pt3d_largesteps.if_unchanged``.

``torch.compile`` cannot trace the version counter of a tensor, so it takes the factor that a call before has made. This
operator stands in front of the solve in the compiled code and compares the counter each time that the code runs. (A CUDA
graph replays kernels alone, and does not look.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("pt3d_largesteps::if_unchanged", mutates_args=())
def if_unchanged(rhs: Tensor, values: Tensor, version: int) -> Tensor:
    """A copy of rhs.

    Args:
        rhs: what is to be solved for.
        values: the numbers that were factorised.
        version: their version counter at that time.

    Raises:
        RuntimeError: the values were edited in place since then.
    """
    if values._version > version:  # it only grows; the copy in an exported program begins at zero
        raise RuntimeError(
            "matrix: expected the values that were factorised, got others: they were edited in place; call the solve once"
            " outside of torch.compile, which factorises them"
        )
    return rhs.clone()


@if_unchanged.register_fake
def _(rhs: Tensor, values: Tensor, version: int) -> Tensor:
    return torch.empty_like(rhs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return gradient, None, None


if_unchanged.register_autograd(_backward)


@if_unchanged.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], rhs: Tensor, values: Tensor, version: int) -> tuple[Tensor, int | None]:
    return if_unchanged(rhs, values, version), in_dims[0]
