"""Graphs of every kind, and their matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pt3d_largesteps import SystemMatrix

# Of the matrix, of the stored factor, and how far a solution may be off.
EVERY_DTYPE = pytest.mark.parametrize(
    ("dtype", "stored", "tolerance"),
    [(torch.float32, torch.float32, 2e-5), (torch.float32, torch.float64, 3e-7), (torch.float64, torch.float64, 1e-10)],
)


def graph_matrix(edges: torch.Tensor, size: int, weights=None, lambda_=19.0, device="cpu") -> SystemMatrix:
    weights = torch.ones(len(edges), dtype=torch.float64) if weights is None else weights
    return SystemMatrix.from_edges(edges.to(device), weights.to(device), size, lambda_=lambda_)


def fan(size: int) -> torch.Tensor:
    return torch.stack([torch.zeros(size - 1, dtype=torch.int64), torch.arange(1, size)], dim=1)


def path(size: int) -> torch.Tensor:
    return torch.stack([torch.arange(size - 1), torch.arange(1, size)], dim=1)


def lattice(*sizes: int, diagonals: bool) -> torch.Tensor:
    """Neighbours along the axes or, with diagonals, all of the box of side 3 around each vertex."""
    index = np.arange(np.prod(sizes)).reshape(sizes)
    edges = []
    for step in np.ndindex(*[3] * len(sizes)):
        step = np.array(step) - 1
        if tuple(step) > (0,) * len(sizes) and (diagonals or np.abs(step).sum() == 1):
            near = index[tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, sizes, strict=True))]
            far = index[tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, sizes, strict=True))]
            edges.append(np.stack([near.ravel(), far.ravel()], axis=1))
    return torch.from_numpy(np.concatenate(edges))


def triangles(number: int) -> torch.Tensor:
    return (torch.tensor([[0, 1], [1, 2], [0, 2]]) + 3 * torch.arange(number)[:, None, None]).view(-1, 2)


GRAPHS = {
    "fan": lambda: (fan(10_001), 10_001),
    "path": lambda: (path(100_000), 100_000),
    "grid": lambda: (lattice(60, 70, diagonals=False), 4200),
    "cubes": lambda: (lattice(12, 13, 14, diagonals=True), 12 * 13 * 14),
    "thousand_components": lambda: (triangles(1000), 3000),
    "isolated": lambda: (triangles(5) + 7, 29),
    "complete": lambda: (torch.combinations(torch.arange(150)), 150),
    "no_edges": lambda: (torch.zeros(0, 2, dtype=torch.int64), 1000),
}
