"""Matrices for the tests of the solvers, and their solutions by another."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import SystemMatrix, compute_matrix


def scipy_matrix(matrix: SystemMatrix) -> scipy.sparse.csc_matrix:
    """In float64."""
    parts = (matrix.values.detach().double().cpu(), matrix.col_indices.cpu(), matrix.crow_indices.cpu())
    return scipy.sparse.csr_matrix(parts, shape=matrix.shape).tocsc()


def scipy_solve(matrix: SystemMatrix, rhs: torch.Tensor) -> torch.Tensor:
    """In float64, by SuperLU; on the device of the right-hand side."""
    solution = scipy.sparse.linalg.splu(scipy_matrix(matrix)).solve(rhs.double().cpu().numpy())
    return torch.from_numpy(np.asarray(solution)).to(rhs.device)


def mesh_matrix(meshes, dtype=torch.float64, **kwargs) -> SystemMatrix:
    return compute_matrix(meshes.verts_packed().to(dtype), meshes.faces_packed(), **kwargs)


def sphere_matrices(level: int, lambdas: list[float], dtype=torch.float64, device="cpu") -> SystemMatrix:
    """Matrices of one sphere."""
    sphere = ico_sphere(level).to(device)
    verts, faces = sphere.verts_packed().to(dtype), sphere.faces_packed()
    matrices = [compute_matrix(verts, faces, lambda_=lambda_) for lambda_ in lambdas]
    first = matrices[0]
    values = torch.stack([matrix.values for matrix in matrices])
    return SystemMatrix(first.crow_indices, first.col_indices, values, first.positions)


def with_diagonal(matrix: SystemMatrix, vertex: int, entry: float) -> torch.Tensor:
    """The values of the matrix with another diagonal entry."""
    here = (matrix.row_indices == vertex) & (matrix.col_indices == vertex)
    return torch.where(here, entry, matrix.values)


def row_sum_norm(matrix: SystemMatrix) -> float:
    """||M||, the largest sum of the absolute values of a row; of the largest of several matrices."""
    values = matrix.values.detach().double().abs()
    sums = values.new_zeros(*values.shape[:-1], matrix.shape[0]).index_add(-1, matrix.row_indices, values)
    return float(sums.max()) if sums.numel() else 0.0


def inverse_norm(matrix: SystemMatrix) -> float:
    """||M^-1|| in the same norm, of one symmetric matrix. With ``row_sum_norm`` it makes the condition number."""
    decomposed = scipy.sparse.linalg.splu(scipy_matrix(matrix))
    inverse = scipy.sparse.linalg.LinearOperator(matrix.shape, decomposed.solve, decomposed.solve, decomposed.solve)
    return float(scipy.sparse.linalg.onenormest(inverse))  # a symmetric matrix has the same sums by columns


def backward_error(matrix: SystemMatrix, solution: torch.Tensor, rhs: torch.Tensor) -> float:
    """||M x - b|| / (||M|| ||x|| + ||b||), in the norm of the largest row sum."""
    if rhs.numel() == 0:
        return 0.0
    return float((matrix @ solution - rhs).abs().max() / (row_sum_norm(matrix) * solution.abs().max() + rhs.abs().max()))
