"""Detects in compiled code that values were changed in place: ``torch.ops.pt3d_largesteps.if_unchanged``.

``torch.compile`` cannot trace the version counter of a tensor, so it takes the factor that an earlier call has made. In the
compiled code this operator runs before the solve and compares the counter at each run. (A CUDA graph replays only kernels, so
it does not compare.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("pt3d_largesteps::if_unchanged", mutates_args=())
def if_unchanged(rhs: Tensor, values: Tensor, version: int) -> Tensor:
    """A copy of rhs.

    Args:
        rhs: the right-hand side.
        values: the numbers that were factorised.
        version: their version counter at that time.

    Raises:
        RuntimeError: the values were changed in place since then.
    """
    if values._version > version:  # it only grows; the copy in an exported program starts at zero
        raise RuntimeError(
            "matrix: expected the values that were factorised, got others: they were changed in place; call the solve once"
            " outside of torch.compile to factorise them"
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
