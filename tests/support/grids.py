"""Matrices of grids by other means, for the tests: Kronecker products and loops, in SciPy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

BOUNDARIES = ("natural", "periodic", "fixed")


def axis_laplacian(size: int, boundary: str) -> scipy.sparse.csr_matrix:
    """Of a line, by adding up its edges."""
    laplacian = scipy.sparse.lil_matrix((size, size))
    edges = [(i, i + 1) for i in range(size - 1)] + ([(size - 1, 0)] if boundary == "periodic" else [])
    for i, j in edges:
        laplacian[i, i] += 1
        laplacian[j, j] += 1
        laplacian[i, j] -= 1
        laplacian[j, i] -= 1
    if boundary == "fixed":
        laplacian[0, 0] += 1
        laplacian[size - 1, size - 1] += 1
    return laplacian.tocsr()


def kronecker(shape: Sequence[int], boundary: Sequence[str], weights: Sequence[float]) -> scipy.sparse.csc_matrix:
    """sum_k weights_k L_k over the texels in row-major order."""
    total = scipy.sparse.csr_matrix((int(np.prod(shape)),) * 2)
    for axis, name in enumerate(boundary):
        parts = [axis_laplacian(n, name) if k == axis else scipy.sparse.identity(n) for k, n in enumerate(shape)]
        product = parts[0]
        for part in parts[1:]:
            product = scipy.sparse.kron(product, part)
        total = total + weights[axis] * product
    return total.tocsc()


def by_loops(lambda_: np.ndarray, boundary: Sequence[str], spacing: Sequence[float], mask: np.ndarray):
    """I + lambda L with a lambda per texel and a mask, texel by texel."""
    shape = lambda_.shape
    index = np.arange(lambda_.size).reshape(shape)
    matrix = scipy.sparse.identity(lambda_.size).tolil()
    for texel in itertools.product(*map(range, shape)):
        for axis, step in itertools.product(range(len(shape)), (-1, 1)):
            other = list(texel)
            other[axis] += step
            is_outside = not 0 <= other[axis] < shape[axis]
            if not mask[texel] or (is_outside and boundary[axis] == "natural"):
                continue
            if is_outside and boundary[axis] == "fixed":
                matrix[index[texel], index[texel]] += lambda_[texel] / spacing[axis] ** 2
                continue
            other[axis] %= shape[axis]
            if mask[tuple(other)]:
                weight = (lambda_[texel] + lambda_[tuple(other)]) / 2 / spacing[axis] ** 2
                matrix[index[texel], index[texel]] += weight
                matrix[index[texel], index[tuple(other)]] -= weight
    return matrix.tocsc()


def scipy_product(matrix, field: torch.Tensor) -> torch.Tensor:
    """Of fields (N, C, *shape), in float64."""
    return _applied(lambda columns: matrix @ columns, field)


def scipy_solution(matrix, field: torch.Tensor) -> torch.Tensor:
    """Of fields (N, C, *shape), in float64, by SuperLU."""
    return _applied(scipy.sparse.linalg.splu(matrix).solve, field)


def _applied(function, field: torch.Tensor) -> torch.Tensor:
    shape = field.shape
    columns = field.detach().double().cpu().reshape(shape[0] * shape[1], -1).T.contiguous().numpy()
    return torch.from_numpy(np.ascontiguousarray(function(columns).T)).view(shape).to(field.device)


def relative_error(field: torch.Tensor, expected: torch.Tensor) -> float:
    return float((field.detach().double() - expected).norm() / expected.norm())
