"""Reads a user's own matrix, sparse or dense. It must be symmetric up to rounding; if not, the error names an entry."""

from __future__ import annotations

from typing import Any

import scipy.sparse
import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, describe

# How far a_ij and a_ji may differ, in units of eps sqrt(a_ii a_jj). No entry of a positive semidefinite matrix exceeds
# sqrt(a_ii a_jj), nor does the sum of the absolute values of the terms that it is assembled from (Cauchy-Schwarz). So two
# sums of the same n terms, rounded in different orders, differ by at most n eps sqrt(a_ii a_jj). n is 2 for the triangles at
# an edge, and about 7 for a product of two Laplacians. A larger factor would accept real asymmetry: +-1 beside a diagonal of
# 1e6 is 17 eps of float32.
_ROUNDINGS = 8


def checked_entries(name: str, matrix: Any) -> tuple[Tensor, Tensor, Tensor, int]:
    """Rows, columns and values of a square symmetric finite matrix, sorted by row and column; and its size."""
    if scipy.sparse.issparse(matrix):
        coo = matrix.tocoo()
        indices = torch.stack([torch.as_tensor(coo.row.astype("int64")), torch.as_tensor(coo.col.astype("int64"))])
        matrix = torch.sparse_coo_tensor(indices, torch.as_tensor(coo.data.copy()), coo.shape)
    if not isinstance(matrix, Tensor):
        raise TypeError(f"{name}: expected a torch tensor or a scipy.sparse matrix, got {describe(matrix)}")
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name}: expected a square matrix (V, V), got {describe(matrix)}")
    check_float_dtype(name, matrix)
    coo = matrix.to_sparse_coo().coalesce()
    (rows, cols), values, size = coo.indices(), coo.values(), matrix.shape[0]
    check_finite(f"{name} (its stored entries)", values.detach())
    return *_symmetrized(name, rows, cols, values, size), size


def _symmetrized(name: str, rows: Tensor, cols: Tensor, values: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Makes entries that are symmetric up to rounding exactly symmetric. Others raise ``ValueError``."""
    if values.numel() == 0:
        return rows, cols, values
    keys = rows * size + cols
    transposed_keys = cols * size + rows
    position = torch.searchsorted(keys, transposed_keys).clamp_max(keys.shape[0] - 1)
    mirror_stored = keys[position] == transposed_keys
    mirrored = torch.where(mirror_stored, values[position], 0)
    sizes, on_diagonal = values.detach().abs(), rows == cols
    roots = sizes.new_zeros(size).index_copy(0, rows[on_diagonal], sizes[on_diagonal].sqrt())
    scales = torch.maximum(torch.maximum(sizes, mirrored.detach().abs()), roots[rows] * roots[cols])
    wrong = (values - mirrored).detach().abs() > _ROUNDINGS * torch.finfo(values.dtype).eps * scales
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        i, j = int(rows[k]), int(cols[k])
        raise ValueError(
            f"{name}: expected a symmetric matrix, got {values[k].item():g} at ({i}, {j})"
            f" and {mirrored[k].item():g} at ({j}, {i}) ({int(wrong.sum())} entries differ)"
        )
    # An entry without a mirror image is zero up to rounding. It is left out, so that the pattern is symmetric too.
    return rows[mirror_stored], cols[mirror_stored], ((values + mirrored) / 2)[mirror_stored]
