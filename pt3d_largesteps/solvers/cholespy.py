"""Sparse Cholesky through cholespy, the solver of the paper's release (CHOLMOD on the CPU, its own kernels on CUDA)."""

from __future__ import annotations

import atexit
import weakref

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, describe
from pt3d_largesteps.matrices.system import SystemMatrix

_CUDA_MAX_COLUMNS = 128  # a limit of cholespy's CUDA kernels


_alive: weakref.WeakSet[CholespySolver] = weakref.WeakSet()


@atexit.register
def _release_factors() -> None:
    """Frees the remaining factors at exit. If the interpreter ends first, nanobind (used by cholespy) reports a leak."""
    for solver in list(_alive):
        solver._factor = None


class CholespySolver:
    """Factorises M = P^T L L^T P once with cholespy; float32 or float64. ``pip install cholespy``."""

    def __init__(self, matrix: SystemMatrix) -> None:
        try:
            import cholespy
        except ImportError as error:
            raise ImportError(
                'solver: "cholespy" needs the package cholespy (pip install cholespy);'
                ' solver="conjugate_gradient" needs only torch'
            ) from error
        solvers = {torch.float32: cholespy.CholeskySolverF, torch.float64: cholespy.CholeskySolverD}
        if matrix.dtype not in solvers:
            raise TypeError(f"matrix: cholespy expects float32 or float64, got {describe(matrix.values)}")
        if matrix.nnz >= 2**31:
            raise ValueError(f"matrix: cholespy expects fewer than 2^31 entries, got {matrix.nnz}")
        check_finite("matrix", matrix.values.detach())
        self._factor = None
        self._num_rows = matrix.shape[0]
        self._max_columns = _CUDA_MAX_COLUMNS if matrix.device.type == "cuda" else None
        if self._num_rows == 0:
            return
        try:
            self._factor = solvers[matrix.dtype](
                self._num_rows,
                matrix.crow_indices.to(torch.int32),
                matrix.col_indices.to(torch.int32),
                matrix.values.detach().clone(),
                cholespy.MatrixType.CSR,
            )
            _alive.add(self)
        except ValueError as error:
            raise ValueError(
                "matrix: expected a positive definite matrix; the likely cause is your own Laplacian with negative"
                f" weights, or a lambda too large for {matrix.dtype}"
            ) from error

    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        """x = M^-1 rhs, (V, k)."""
        solution = torch.zeros_like(rhs)
        if self._factor is None or rhs.numel() == 0:
            return solution
        if self._max_columns is None or rhs.shape[1] <= self._max_columns:
            self._factor.solve(rhs, solution)
            return solution
        pieces = []
        for columns in rhs.split(self._max_columns, dim=1):
            piece = torch.zeros_like(columns, memory_format=torch.contiguous_format)
            self._factor.solve(columns.contiguous(), piece)
            pieces.append(piece)
        return torch.cat(pieces, dim=1)
