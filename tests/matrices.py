"""Matrices for the tests of the solvers, and their solutions by another."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from pt3d_largesteps import SystemMatrix, compute_matrix


def scipy_solve(matrix: SystemMatrix, rhs: torch.Tensor) -> torch.Tensor:
    """In float64, by SuperLU."""
    csc = scipy.sparse.csr_matrix((matrix.values.double(), matrix.col_indices, matrix.crow_indices), shape=matrix.shape).tocsc()
    return torch.from_numpy(np.asarray(scipy.sparse.linalg.splu(csc).solve(rhs.double().numpy())))


def mesh_matrix(meshes, dtype=torch.float64, **kwargs) -> SystemMatrix:
    return compute_matrix(meshes.verts_packed().to(dtype), meshes.faces_packed(), **kwargs)
