"""The pattern of a sparse matrix, and what is computed from it once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor


class Pattern:
    """The places of the entries of a symmetric sparse matrix, in CSR. All matrices with these places can share one pattern.

    The pattern keeps what depends on it alone: the row of each entry, which entries are on the diagonal, and the structure of
    the Cholesky factor. Each is computed once. So another lambda, other pinned vertices or other weights need no new analysis.
    A pattern lies on one device and never changes. Copies of a matrix share it. Pickles contain only the indices.

    Attributes:
        crow_indices: (V + 1,) int64, where each row starts.
        col_indices: (nnz,) int64, increasing in each row, with every diagonal entry.
        analysis: the structure of the Cholesky factor (:class:`~pt3d_largesteps.solvers.SymbolicFactor`); None before
            :func:`~pt3d_largesteps.solvers.analyze` has found it.
    """

    def __init__(self, crow_indices: Tensor, col_indices: Tensor) -> None:
        self.crow_indices = crow_indices
        self.col_indices = col_indices
        self.analysis: Any = None

    @property
    def num_rows(self) -> int:
        """V."""
        return self.crow_indices.shape[0] - 1

    @property
    def num_entries(self) -> int:
        """nnz."""
        return self.col_indices.shape[0]

    @cached_property
    def row_indices(self) -> Tensor:
        """(nnz,) int64, the row of each entry."""
        with torch.inference_mode(False):  # it is kept, and may be needed for gradients later
            rows = torch.arange(self.num_rows, device=self.crow_indices.device)
            return rows.repeat_interleave(self.crow_indices.diff(), output_size=self.num_entries)

    @cached_property
    def on_diagonal(self) -> Tensor:
        """(nnz,) bool, whether each entry is on the diagonal."""
        with torch.inference_mode(False):  # it is kept
            return self.row_indices == self.col_indices

    def to(self, device: torch.device) -> Pattern:
        """The same pattern on another device, not analysed yet. On its own device, the pattern itself."""
        if device == self.crow_indices.device:
            return self
        return Pattern(self.crow_indices.to(device), self.col_indices.to(device))

    def __copy__(self) -> Pattern:
        return self

    def __deepcopy__(self, memo: dict) -> Pattern:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Pattern, (self.crow_indices, self.col_indices)
