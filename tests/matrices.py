"""Matrices for the tests of the solvers, and their solutions by another."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from pt3d_largesteps import SystemMatrix, compute_matrix


def scipy_matrix(matrix: SystemMatrix) -> scipy.sparse.csc_matrix:
    """In float64."""
    parts = (matrix.values.double().cpu(), matrix.col_indices.cpu(), matrix.crow_indices.cpu())
    return scipy.sparse.csr_matrix(parts, shape=matrix.shape).tocsc()


def scipy_solve(matrix: SystemMatrix, rhs: torch.Tensor) -> torch.Tensor:
    """In float64, by SuperLU; on the device of the right-hand side."""
    solution = scipy.sparse.linalg.splu(scipy_matrix(matrix)).solve(rhs.double().cpu().numpy())
    return torch.from_numpy(np.asarray(solution)).to(rhs.device)


def mesh_matrix(meshes, dtype=torch.float64, **kwargs) -> SystemMatrix:
    return compute_matrix(meshes.verts_packed().to(dtype), meshes.faces_packed(), **kwargs)
