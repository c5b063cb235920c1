"""Which meshes of a batch share their faces, and how they are solved together.

Meshes of one topology have matrices of one pattern. It is analysed once, and they are solved as a batch (B, V, 3). Topologies
that occur equally often become the blocks of one block-diagonal matrix. Its blocks are solved side by side. So a batch of one
topology is one group. A batch whose topologies all differ, or all occur four times, is one group too. In general there are as
many groups as there are different numbers of occurrences.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Meshes that are solved together.

    Attributes:
        copies: (B, P) mesh indices: B copies of the same P topologies, in the same order.
        faces: (F, 3) of one copy, indices into its V' vertices.
        num_verts_per_mesh: P numbers.
        rows: (B, V') packed rows, V' = the sum of the P numbers.
        start: the first row, if the rows are consecutive in the packed order; else None.
    """

    copies: tuple[tuple[int, ...], ...]
    faces: Tensor
    num_verts_per_mesh: tuple[int, ...]
    rows: Tensor
    start: int | None

    @property
    def num_verts(self) -> int:
        """V', of one copy."""
        return self.rows.shape[1]

    def gather(self, packed: Tensor) -> Tensor:
        """Takes the group's rows: (B, V') from packed (V,), (B, V', C) from (V, C), or (T, B, V', C) from (T, V, C)."""
        dim = 1 if packed.dim() == 3 else 0
        rows = packed
        if self.start is None:
            rows = packed.index_select(dim, self.rows.flatten())
        elif self.rows.numel() < packed.shape[dim]:
            rows = packed.narrow(dim, self.start, self.rows.numel())
        return rows.reshape(*packed.shape[:dim], *self.rows.shape, *packed.shape[dim + 1 :])

    def to(self, device: torch.device) -> Group:
        """The same group on another device."""
        return replace(self, faces=self.faces.to(device), rows=self.rows.to(device))


def find_groups(meshes: Any, *, join: bool) -> list[Group]:
    """The groups of a batch of ``Meshes``. Empty meshes are in no group. Without ``join`` each topology is its own group."""
    sizes = meshes.num_verts_per_mesh().tolist()
    faces = meshes.faces_list()
    meshes_of: dict[Any, list[int]] = defaultdict(list)
    for mesh, size in enumerate(sizes):
        if size > 0:
            meshes_of[size, _digest(faces[mesh])].append(mesh)
    if join:
        topologies_of: dict[int, list[list[int]]] = defaultdict(list)
        for members in meshes_of.values():
            topologies_of[len(members)].append(members)
        joined = list(topologies_of.values())
    else:
        joined = [[members] for members in meshes_of.values()]
    return [_group(list(zip(*topologies, strict=True)), sizes, faces, meshes.device) for topologies in joined]


def whole(meshes: Any) -> Group:
    """All meshes of a batch as one copy, in the packed order."""
    sizes = meshes.num_verts_per_mesh().tolist()
    return _group([tuple(range(len(sizes)))], sizes, meshes.faces_list(), meshes.device)


def inverse_of(groups: Sequence[Group]) -> Tensor | None:
    """The place of each packed row in the concatenated rows of all groups; None if they are in order already."""
    if not groups:
        return None
    rows = torch.cat([group.rows.flatten() for group in groups])
    order = torch.arange(len(rows), device=rows.device)
    return None if torch.equal(rows, order) else torch.empty_like(rows).index_copy_(0, rows, order)


def _digest(faces: Tensor) -> bytes:
    return hashlib.blake2b(faces.to("cpu", torch.int32).contiguous().numpy().data, digest_size=16).digest()


def _group(copies: list[tuple[int, ...]], sizes: Sequence[int], faces: Sequence[Tensor], device: torch.device) -> Group:
    firsts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    ranges = [torch.arange(firsts[mesh], firsts[mesh] + sizes[mesh]) for copy in copies for mesh in copy]
    rows = torch.cat(ranges).view(len(copies), -1)
    start = int(rows[0, 0])
    is_run = torch.equal(rows.flatten(), torch.arange(start, start + rows.numel()))
    blocks, offset = [], 0
    for mesh in copies[0]:
        blocks.append(faces[mesh] + offset)
        offset += sizes[mesh]
    num_verts_per_mesh = tuple(sizes[mesh] for mesh in copies[0])
    return Group(tuple(copies), torch.cat(blocks), num_verts_per_mesh, rows.to(device), start if is_run else None)
