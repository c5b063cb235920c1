"""Assembles the CSR values of a matrix from edge weights or from the entries of a given Laplacian.

The pattern depends on the topology alone. It is found once. New weights or another lambda fill it again without a sort.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.pattern import Pattern


class Assembly:
    """The CSR pattern of diag(d) + sum over edges of w_e (e_i - e_j) (e_i - e_j)^T, and its values for any d and w.

    Args:
        edges: (E, 2) int64, each edge once, in either direction; no self-edges.
        num_verts: V.

    Attributes:
        pattern: of the matrix, with every diagonal entry.
    """

    def __init__(self, edges: Tensor, num_verts: int) -> None:
        self.edges = edges
        self.num_verts = num_verts
        i, j = edges.unbind(1)
        diagonal = torch.arange(num_verts, device=edges.device)
        rows, cols = torch.cat([i, j, diagonal]), torch.cat([j, i, diagonal])
        keys, self._order = torch.sort(rows * num_verts + cols)
        twice = keys[1:] == keys[:-1]
        if bool(twice.any()):
            key = int(keys[1:][twice][0])
            raise ValueError(
                "edges: expected each edge once and no self-edges, got an edge between the vertices"
                f" {key // num_verts} and {key % num_verts} again"
            )
        counts = torch.bincount(rows, minlength=num_verts)
        self.pattern = Pattern(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), cols[self._order])

    def to(self, device: torch.device) -> Assembly:
        """The same assembly on another device."""
        assembly = copy.copy(self)
        for name in ("edges", "_order", "pattern"):
            setattr(assembly, name, getattr(self, name).to(device))
        return assembly

    def values(self, weights: Tensor, diagonal: Tensor) -> Tensor:
        """The values (..., nnz) for weights w (..., E) and diagonals d (..., V); differentiable in both."""
        shape = torch.broadcast_shapes(weights.shape[:-1], diagonal.shape[:-1])
        weights, diagonal = weights.expand(*shape, -1), diagonal.expand(*shape, -1)
        for end in self.edges.unbind(1):
            diagonal = diagonal.index_add(-1, end, weights)
        return torch.cat([-weights, -weights, diagonal], -1).index_select(-1, self._order)

    def system_values(self, weights: Tensor, strength: Strength) -> Tensor:
        """The values (..., nnz) of I + lambda L for edge weights (..., E); differentiable in the weights and in lambda."""
        return self.values(strength.edge_weights(self.edges, weights), strength.diagonal(weights, self.num_verts))


class EntryAssembly:
    """The CSR pattern of a given symmetric matrix plus a diagonal, and its values.

    Args:
        rows, cols: (K,) int64, row and column of each given entry; each entry once, and its mirror image too.
        num_rows: V.

    Attributes:
        pattern: of the matrix, with every diagonal entry.
    """

    def __init__(self, rows: Tensor, cols: Tensor, num_rows: int) -> None:
        self.rows, self.cols, self.num_rows = rows, cols, num_rows
        diagonal = torch.arange(num_rows, device=rows.device)
        keys = torch.cat([rows * num_rows + cols, diagonal * (num_rows + 1)])
        unique_keys, places = torch.unique(keys, return_inverse=True)
        self._of_entries, self._of_diagonal = places[: len(rows)], places[len(rows) :]
        divisor = max(num_rows, 1)
        counts = torch.bincount(unique_keys // divisor, minlength=num_rows)
        self.pattern = Pattern(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), unique_keys % divisor)

    def to(self, device: torch.device) -> EntryAssembly:
        """The same assembly on another device."""
        assembly = copy.copy(self)
        for name in ("rows", "cols", "_of_entries", "_of_diagonal", "pattern"):
            setattr(assembly, name, getattr(self, name).to(device))
        return assembly

    def values(self, entries: Tensor, diagonal: Tensor) -> Tensor:
        """The values (nnz,) for entries (K,) and a diagonal (V,) that is added; differentiable in both."""
        values = entries.new_zeros(self.pattern.num_entries).index_add(0, self._of_entries, entries)
        return values.index_add(0, self._of_diagonal, diagonal)

    def system_values(self, entries: Tensor, strength: Strength) -> Tensor:
        """The values (nnz,) of I + lambda L for the entries (K,) of L; differentiable in the entries and in lambda."""
        diagonal = strength.diagonal(entries, self.num_rows)
        if not strength.varies:
            return self.values(strength.value * entries, diagonal)
        # An edge takes the mean lambda of its ends. The row sum of L belongs to no edge: it takes the vertex's own lambda.
        on_row, on_col = strength.at(self.rows).value, strength.at(self.cols).value
        diagonal = diagonal.index_add(0, self.rows, 0.5 * entries * (on_row - on_col))
        return self.values(0.5 * entries * (on_row + on_col), diagonal)
