"""Where the numbers of a matrix go: from weights of edges, or from the entries of a given Laplacian, to values in CSR.

The places depend on the topology alone. They are found once, and new weights or another lambda fill them again without a sort.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.pattern import Pattern


class Assembly:
    """Where the entries of diag(d) + sum over edges of w_e (e_i - e_j) (e_i - e_j)^T stand in CSR, for any d and w.

    Args:
        edges: (E, 2) int64, each once in either direction, no self-edges.
        num_verts: V.

    Attributes:
        pattern: the places, every diagonal entry present.
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
        """The same on another device."""
        assembly = copy.copy(self)
        for name in ("edges", "_order", "pattern"):
            setattr(assembly, name, getattr(self, name).to(device))
        return assembly

    def values(self, weights: Tensor, diagonal: Tensor) -> Tensor:
        """(..., nnz) for weights w (..., E) and diagonals d (..., V), differentiable in both."""
        shape = torch.broadcast_shapes(weights.shape[:-1], diagonal.shape[:-1])
        weights, diagonal = weights.expand(*shape, -1), diagonal.expand(*shape, -1)
        for end in self.edges.unbind(1):
            diagonal = diagonal.index_add(-1, end, weights)
        return torch.cat([-weights, -weights, diagonal], -1).index_select(-1, self._order)

    def system_values(self, weights: Tensor, strength: Strength) -> Tensor:
        """(..., nnz), those of I + lambda L for the Laplacian of the weights (..., E); differentiable in both."""
        return self.values(strength.edge_weights(self.edges, weights), strength.diagonal(weights, self.num_verts))


class EntryAssembly:
    """Where the entries of a given symmetric matrix, and a diagonal beside them, stand in CSR.

    Args:
        rows, cols: (K,) int64, the places of the given entries, each once and with its mirror image.
        num_rows: V.

    Attributes:
        pattern: the places, every diagonal entry present.
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
        """The same on another device."""
        assembly = copy.copy(self)
        for name in ("rows", "cols", "_of_entries", "_of_diagonal", "pattern"):
            setattr(assembly, name, getattr(self, name).to(device))
        return assembly

    def values(self, entries: Tensor, diagonal: Tensor) -> Tensor:
        """(nnz,) of entries (K,) and what is added to the diagonal (V,), differentiable in both."""
        values = entries.new_zeros(self.pattern.num_entries).index_add(0, self._of_entries, entries)
        return values.index_add(0, self._of_diagonal, diagonal)

    def system_values(self, entries: Tensor, strength: Strength) -> Tensor:
        """(nnz,), those of I + lambda L for the entries (K,) of L; differentiable in both."""
        diagonal = strength.diagonal(entries, self.num_rows)
        if not strength.varies:
            return self.values(strength.value * entries, diagonal)
        # An edge takes the mean of its ends. What a row of L sums to belongs to no edge, and takes the vertex's own.
        on_row, on_col = strength.at(self.rows).value, strength.at(self.cols).value
        diagonal = diagonal.index_add(0, self.rows, 0.5 * entries * (on_row - on_col))
        return self.values(0.5 * entries * (on_row + on_col), diagonal)
