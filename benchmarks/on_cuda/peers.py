"""The other solvers to compare with on a CUDA device, each at its best.

cholespy factorises on the host, whatever device its arrays are on, and solves on the device, up to 128 columns at a call.
cuDSS orders on the host and does everything else on the device. A dense inverse and conjugate gradients need only torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from common.jacobi_cg import conjugate_gradients, iterations_needed, sparse_csr
from on_cuda.cudss import CuDSS, column_major, lower_triangle
from pt3d_largesteps import SystemMatrix

MAX_DENSE_VERTS = 4000
CHOLESPY_COLUMNS = 128  # at a call, on CUDA


class CudaPeer(Protocol):
    """Another solver; made with a matrix on the device, whose conversion to what the solver takes is not timed."""

    name: str
    package: str
    max_verts: float
    is_torch: bool  # nothing but torch: a CUDA graph can hold its solves

    def __init__(self, matrix: SystemMatrix) -> None: ...

    def factorize(self) -> Any:
        """What is timed as the set-up."""
        ...

    def refactorizer(self) -> Callable[[], Any] | None:
        """What is timed where the numbers change and the pattern does not; None where that is a new set-up."""
        ...

    def solver(self, rhs: Tensor) -> Callable[[], Any]:
        """Sets up, untimed, and returns what is timed as a solve, the right-hand side in the layout that it likes best."""
        ...

    def solution(self, result: Any) -> Tensor:
        """(V, k), of what a solve returns."""
        ...


class Cholespy:
    name = package = "cholespy"
    max_verts = float("inf")
    is_torch = False

    def __init__(self, matrix: SystemMatrix) -> None:
        import cholespy

        self._solver_class = {torch.float32: cholespy.CholeskySolverF, torch.float64: cholespy.CholeskySolverD}[matrix.dtype]
        indices = matrix.row_indices.to(torch.int32), matrix.col_indices.to(torch.int32)
        self._arguments = (matrix.shape[0], *indices, matrix.values.detach().double(), cholespy.MatrixType.COO)
        self._factor: Any = None

    def factorize(self) -> Any:
        return self._solver_class(*self._arguments)

    def refactorizer(self) -> None:
        return None

    def solver(self, rhs: Tensor) -> Callable[[], list[Tensor]]:
        factor = self._factor = self._factor or self.factorize()  # for all numbers of columns
        parts = [part.contiguous() for part in rhs.split(CHOLESPY_COLUMNS, dim=1)]

        def solve() -> list[Tensor]:
            solutions = [torch.empty_like(part) for part in parts]  # it fills them all
            for part, solution in zip(parts, solutions, strict=True):
                factor.solve(part, solution)
            return solutions

        return solve

    def solution(self, result: list[Tensor]) -> Tensor:
        return torch.cat(result, dim=1)


class CuDSSPeer:
    name, package = "cuDSS", "nvmath"
    max_verts = float("inf")
    is_torch = False

    def __init__(self, matrix: SystemMatrix) -> None:
        self._triangle = lower_triangle(matrix)
        self._any_rhs = column_major(matrix.values.new_zeros(matrix.shape[0], 3))

    def factorize(self) -> CuDSS:
        return CuDSS([self._triangle], [self._any_rhs]).plan().factorize()

    def refactorizer(self) -> Callable[[], Any]:
        made = self.factorize()
        return made.factorize  # of the values where they lie

    def solver(self, rhs: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        return CuDSS([self._triangle], [column_major(rhs)]).plan().factorize().solve

    def solution(self, result: tuple[Tensor, ...]) -> Tensor:
        return result[0]


class DenseInverse:
    """Small meshes have small inverses: a product with one is a single kernel."""

    name, package = "dense inverse", "torch"
    max_verts = MAX_DENSE_VERTS
    is_torch = True

    def __init__(self, matrix: SystemMatrix) -> None:
        self._dense = matrix.detach().to(torch.float64).to_dense()
        self._dtype = matrix.dtype
        self._inverse: Tensor | None = None

    def factorize(self) -> Tensor:
        return torch.cholesky_inverse(torch.linalg.cholesky(self._dense)).to(self._dtype)

    def refactorizer(self) -> Callable[[], Tensor]:
        return self.factorize

    def solver(self, rhs: Tensor) -> Callable[[], Tensor]:
        inverse = self._inverse = self.factorize() if self._inverse is None else self._inverse
        return lambda: inverse @ rhs

    def solution(self, result: Tensor) -> Tensor:
        return result


class ConjugateGradients:
    """See jacobi_cg.py; a set-up is but the diagonal."""

    name, package = "conjugate gradients", "torch"
    max_verts = float("inf")
    is_torch = True

    def __init__(self, matrix: SystemMatrix) -> None:
        self._matrix = sparse_csr(matrix)
        self._diagonal = matrix.detach().diagonal()[:, None]

    def factorize(self) -> Tensor:
        return self._diagonal

    def refactorizer(self) -> None:
        return None

    def solver(self, rhs: Tensor) -> Callable[[], Tensor]:
        iterations = iterations_needed(self._matrix, self._diagonal, rhs)
        return lambda: conjugate_gradients(self._matrix, self._diagonal, rhs, iterations)[0]

    def solution(self, result: Tensor) -> Tensor:
        return result


DIRECT_PEERS: tuple[type[CudaPeer], ...] = (Cholespy, CuDSSPeer, DenseInverse)
PEERS: tuple[type[CudaPeer], ...] = (*DIRECT_PEERS, ConjugateGradients)


def missing_peers() -> list[str]:
    """A line for each that is not installed."""
    return [
        f"{peer.name} is left out: the package {peer.package} is not installed"
        for peer in PEERS
        if not importlib.util.find_spec(peer.package)
    ]


def available_peers(peers: tuple[type[CudaPeer], ...] = PEERS) -> list[type[CudaPeer]]:
    return [peer for peer in peers if importlib.util.find_spec(peer.package)]


def backward_error(matrix: SystemMatrix, solution: Tensor, rhs: Tensor) -> float:
    """As peers.backward_error, computed on the device: the largest over the columns of |b - M x| / (|M| |x| + |b|)."""
    exact, solution, rhs = sparse_csr(matrix, torch.float64), solution.double(), rhs.double()
    norm = exact.values().new_zeros(matrix.shape[0]).index_add(0, matrix.row_indices, exact.values().abs()).max()
    residual = (rhs - exact @ solution).abs().amax(dim=0)
    return float((residual / (norm * solution.abs().amax(dim=0) + rhs.abs().amax(dim=0))).max())
