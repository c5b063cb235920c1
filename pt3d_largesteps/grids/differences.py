r"""Differences along the axes of a regular grid, and products with W_0 + sum_k D_k^T W_k D_k.

Fields are (..., *shape) with K axes. D_k has one row per edge along axis k. The number of edges of an axis of n texels depends
on its boundary:

    "natural"    n - 1    x[i + 1] - x[i]
    "periodic"   n        the last one is x[0] - x[n - 1]
    "fixed"      n + 1    the first one is x[0] - 0, the last one is 0 - x[n - 1]

Source: Strang, "The Discrete Cosine Transform", SIAM Review 41(1), 1999.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BOUNDARIES = ("natural", "periodic", "fixed")


def differences(x: Tensor, axis: int, boundary: str) -> Tensor:
    """D x along an axis, differentiable."""
    size = x.shape[axis]
    if boundary == "periodic":
        return x.roll(-1, axis) - x
    inner = x.narrow(axis, 1, size - 1) - x.narrow(axis, 0, size - 1)
    if boundary == "natural":
        return inner
    return torch.cat([x.narrow(axis, 0, 1), inner, -x.narrow(axis, size - 1, 1)], axis)


def differences_transposed(d: Tensor, axis: int, boundary: str) -> Tensor:
    """D^T d, differentiable."""
    if boundary == "periodic":
        return d.roll(1, axis) - d
    if boundary == "natural":
        shape = list(d.shape)
        shape[axis] = 1
        outside = d.new_zeros(shape)
        d = torch.cat([outside, d, outside], axis)
    size = d.shape[axis] - 1
    return d.narrow(axis, 0, size) - d.narrow(axis, 1, size)


def multiply(x: Tensor, weights: Sequence[Tensor], boundary: Sequence[str]) -> Tensor:
    """W_0 x + sum_k D_k^T W_k D_k x, differentiable in x and in the weights, twice and more.

    Args:
        x: (N, C, *shape).
        weights: 1 + K tensors that broadcast with x, or with D_k x.
        boundary: K names.
    """
    if not torch.compiler.is_compiling() and not _is_differentiated(x, *weights):
        return multiply_out(x, weights, boundary)
    result = weights[0] * x
    for k, name in enumerate(boundary):
        axis = k - len(boundary)
        result = result + differences_transposed(weights[k + 1] * differences(x, axis, name), axis, name)
    return result


def _is_differentiated(*tensors: Tensor) -> bool:
    transformed = torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    return transformed or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def multiply_out(x: Tensor, weights: Sequence[Tensor], boundary: Sequence[str], out: Tensor | None = None) -> Tensor:
    """The same without derivatives. It needs one temporary tensor of the size of x. ``out`` takes the result, if given."""
    out = torch.mul(x, weights[0], out=out)
    for k, name in enumerate(boundary):
        axis, weight = k - len(boundary), weights[k + 1]
        size = x.shape[axis]
        is_constant = weight.dim() < len(boundary) or weight.shape[axis] == 1  # along this axis
        if name == "natural":
            ends, inner = [], weight
        elif name == "periodic":
            ends = [weight if is_constant else weight.narrow(axis, size - 1, 1)]
            inner = weight if is_constant else weight.narrow(axis, 0, size - 1)
        else:
            ends = [weight, weight] if is_constant else [weight.narrow(axis, 0, 1), weight.narrow(axis, size, 1)]
            inner = weight if is_constant else weight.narrow(axis, 1, size - 1)
        step = x.narrow(axis, 1, size - 1) - x.narrow(axis, 0, size - 1)
        step.mul_(inner)
        out.narrow(axis, 1, size - 1).add_(step)
        out.narrow(axis, 0, size - 1).sub_(step)
        first, last = (x.narrow(axis, at, 1) for at in (0, size - 1))
        out_first, out_last = (out.narrow(axis, at, 1) for at in (0, size - 1))
        if name == "periodic":
            step = (first - last).mul_(ends[0])
            out_first.add_(step)
            out_last.sub_(step)
        elif name == "fixed":
            out_first.addcmul_(first, ends[0])
            out_last.addcmul_(last, ends[1])
    return out


def mean_of_ends(values: Tensor, axis: int, boundary: str) -> Tensor:
    """Numbers on the edges along an axis, from numbers on the texels. An edge to the outside takes the number of its texel."""
    size = values.shape[axis]
    if boundary == "periodic":
        return 0.5 * (values + values.roll(-1, axis))
    inner = 0.5 * (values.narrow(axis, 1, size - 1) + values.narrow(axis, 0, size - 1))
    if boundary == "natural":
        return inner
    return torch.cat([values.narrow(axis, 0, 1), inner, values.narrow(axis, size - 1, 1)], axis)


def both_valid(mask: Tensor, axis: int, boundary: str) -> Tensor:
    """Which edges along an axis join two valid texels, or a valid texel and the outside; bool."""
    return mean_of_ends(mask.to(torch.float32), axis, boundary) == 1


def edges_of_grid(shape: Sequence[int], boundary: Sequence[str], device: torch.device) -> Tensor:
    """(E, 2) int64, the edges along all axes as pairs of texels, each once; without edges to the outside."""
    texels = torch.arange(math.prod(shape), device=device).view(*shape)
    edges = []
    for k, (size, name) in enumerate(zip(shape, boundary, strict=True)):
        ends = [texels.narrow(k, 0, size - 1), texels.narrow(k, 1, size - 1)]
        if name == "periodic" and size > 2:  # two texels have one pair for both edges; one texel has no neighbour
            ends = [texels, texels.roll(-1, k)]
        edges.append(torch.stack([end.reshape(-1) for end in ends], dim=1))
    return torch.cat(edges)


def weights_of_edges(shape: Sequence[int], boundary: Sequence[str], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The weights (E,) of :func:`edges_of_grid`, and what the edges to the outside add to the diagonal, (T,); differentiable.

    Args:
        weights: K tensors, which broadcast with D_k x.
    """
    excess = weights[0].new_zeros(shape)
    of_edges = []
    for k, (size, name, weight) in enumerate(zip(shape, boundary, weights, strict=True)):
        num_edges = size + {"natural": -1, "periodic": 0, "fixed": 1}[name]
        weight = weight.expand(*shape[:k], num_edges, *shape[k + 1 :])
        if name == "fixed":
            inner = weight.new_zeros(shape).narrow(k, 0, size - 1)
            first, last = weight.narrow(k, 0, 1), weight.narrow(k, size, 1)
            excess = excess + torch.cat([first, inner], k) + torch.cat([inner, last], k)
            weight = weight.narrow(k, 1, size - 1)
        elif name == "periodic" and size <= 2:
            weight = weight.sum(k, keepdim=True).narrow(k, 0, 1) if size == 2 else weight.narrow(k, 0, 0)
        of_edges.append(weight.reshape(-1))
    return torch.cat(of_edges), excess.reshape(-1)


def eigenvalues_of_axis(frequencies: Tensor, size: int, boundary: str) -> Tensor:
    """The eigenvalues of D^T D along an axis of ``size`` texels with unit spacing, at frequencies k, float64."""
    if boundary == "natural":
        angles = frequencies / (2 * size)
    elif boundary == "periodic":
        angles = frequencies / size
    else:
        angles = (frequencies + 1) / (2 * (size + 1))
    return (2 * torch.sin(math.pi * angles)) ** 2
