"""A parameter whose rows belong to several meshes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn


class PackedParameter(nn.Parameter):
    """A parameter (V, ...) of packed vertices that knows how many of its rows each mesh has.

    An optimiser that uses statistics of a whole parameter, like :class:`~pt3d_largesteps.UniformAdam`, then uses them per mesh.
    Copies and pickles keep the numbers of rows.

    Attributes:
        num_verts_per_mesh: N numbers that add up to V.

    Example:
        >>> u = PackedParameter(torch.zeros(12 + 42, 3), [12, 42])
    """

    num_verts_per_mesh: tuple[int, ...]

    def __new__(cls, data: Tensor, num_verts_per_mesh: Sequence[int], requires_grad: bool = True) -> PackedParameter:
        sizes = tuple(int(size) for size in num_verts_per_mesh)
        if min(sizes, default=0) < 0 or data.dim() == 0 or sum(sizes) != data.shape[0]:
            raise ValueError(
                f"num_verts_per_mesh: expected numbers of vertices that add up to the rows of data, {tuple(data.shape)},"
                f" got {list(sizes)}"
            )
        parameter = torch.Tensor._make_subclass(cls, data, requires_grad)
        parameter.num_verts_per_mesh = sizes
        return parameter

    def __deepcopy__(self, memo: dict) -> PackedParameter:
        if id(self) not in memo:
            data = self.data.clone(memory_format=torch.preserve_format)
            memo[id(self)] = type(self)(data, self.num_verts_per_mesh, self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.data, self.num_verts_per_mesh, self.requires_grad)


class Segments:
    """The meshes of packed rows, to compute and apply numbers per mesh."""

    def __init__(self, num_verts_per_mesh: Sequence[int]) -> None:
        self.num_verts_per_mesh = num_verts_per_mesh
        # Repeated sequences of sizes, and in each sequence runs of neighbouring meshes of one size: a few operations on views
        # then serve many meshes.
        self._repeats = _repeats(num_verts_per_mesh)
        period = num_verts_per_mesh[: len(num_verts_per_mesh) // self._repeats]
        self._runs = [(size, len(list(run))) for size, run in groupby(period)]
        self._indices: dict[torch.device, Tensor] = {}

    def maxima(self, packed: Tensor) -> Tensor:
        """(N,), the largest number of each mesh; 0 for an empty mesh. The numbers must not be negative."""
        if len(self.num_verts_per_mesh) == 1:
            return packed.amax().reshape(1)
        if self._is_indexed(packed):
            rows = packed.reshape(len(packed), -1).amax(1)
            return rows.new_zeros(len(self.num_verts_per_mesh)).scatter_reduce(0, self._index(packed.device), rows, "amax")
        maxima = [
            rows.amax(2) if rows.shape[2] else rows.new_zeros(rows.shape[:2])  # (repeats, meshes of the run)
            for rows in self._split(packed)
        ]
        return torch.cat(maxima, dim=1).view(-1)

    def add_scaled_(self, packed: Tensor, change: Tensor, scales: Tensor) -> None:
        """packed += scales[mesh] * change, in place; scales is (N,)."""
        if len(self.num_verts_per_mesh) == 1:
            packed.addcmul_(change, scales[0])
            return
        if self._is_indexed(packed):
            packed.addcmul_(change, scales.index_select(0, self._index(packed.device)).view(-1, *[1] * (packed.dim() - 1)))
            return
        scales = scales.view(self._repeats, -1, 1).split([count for _, count in self._runs], dim=1)
        for rows, changes, scale in zip(self._split(packed), self._split(change.contiguous()), scales, strict=True):
            rows.addcmul_(changes, scale)

    def _is_indexed(self, packed: Tensor) -> bool:
        """Whether one pass over an index is faster than a kernel for each run."""
        return not packed.is_contiguous() or (packed.is_cuda and len(self._runs) > 4)

    def _split(self, packed: Tensor) -> list[Tensor]:
        """A view (repeats, meshes, numbers of a mesh) for each run."""
        width = packed.shape[1:].numel()
        parts = packed.view(self._repeats, -1).split([size * count * width for size, count in self._runs], dim=1)
        return [part.unflatten(1, (count, size * width)) for part, (size, count) in zip(parts, self._runs, strict=True)]

    def _index(self, device: torch.device) -> Tensor:
        """(V,) int64, the mesh of each row."""
        if device not in self._indices:
            sizes = torch.tensor(self.num_verts_per_mesh, dtype=torch.int64)
            self._indices[device] = torch.arange(len(sizes)).repeat_interleave(sizes).to(device)
        return self._indices[device]


def _repeats(numbers: Sequence[int]) -> int:
    """The largest number of times that one sequence repeats to give these numbers."""
    length = len(numbers)
    for period in range(1, length):
        if length % period == 0 and numbers[period:] == numbers[:-period]:
            return length // period
    return 1


_kept_segments = lru_cache(maxsize=64)(Segments)


def segments(num_verts_per_mesh: tuple[int, ...]) -> Segments:
    """The same object for the same numbers, except under torch.compile, which ignores such a cache."""
    return Segments(num_verts_per_mesh) if torch.compiler.is_compiling() else _kept_segments(num_verts_per_mesh)
