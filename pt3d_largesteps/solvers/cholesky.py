"""Sparse Cholesky: numeric factorisation and solves. The symbolic analysis is in symbolic.py.

Source: George, "Nested Dissection of a Regular Finite Element Mesh", 1973; Duff, Reid, "The Multifrontal Solution of
Indefinite Sparse Symmetric Linear Equations", ACM TOMS 9(3), 1983. See docs/solver.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, describe
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers.symbolic import SymbolicFactor, analyze

# For smaller systems the call of a solve costs more than its arithmetic. And a float32 solve loses more than the rounding of
# its right-hand side: single-precision errors average out over many vertices, but here there are few.
ALWAYS_DOUBLE_BELOW = 2000


class NotPositiveDefiniteError(ValueError):
    """The matrix is not positive definite, or only within rounding errors.

    Attributes:
        vertex: the row at which the factorisation broke down.
        matrix: the index of the matrix in a batch.
    """

    def __init__(self, message: str, vertex: int, matrix: int = 0) -> None:
        super().__init__(message)
        self.vertex = vertex
        self.matrix = matrix

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.vertex, self.matrix)


@dataclass(frozen=True, eq=False, repr=False)
class CholeskyFactor:
    """A factorised matrix, or several with one pattern; made by :func:`factorize`. A pickle stores the matrix; loading it
    factorises again, and so does ``copy.copy``.

    Attributes:
        symbolic: the result of :func:`analyze`.
        matrix_values: (nnz,) or (B, nnz) float32 or float64, the entries of the matrix; may require gradients.
        values: the stored factor, float32 or float64; solves compute in this dtype. (B, size) for a batch.

    Example:
        >>> factor = factorize(analyze(matrix), matrix.values)
        >>> x = factor.solve(b)
    """

    symbolic: SymbolicFactor
    matrix_values: Tensor
    values: Tensor

    @property
    def nnz(self) -> int:
        return self.symbolic.nnz

    @property
    def levels(self) -> int:
        return self.symbolic.levels

    @property
    def nbytes(self) -> int:
        """Bytes of the stored factor, including explicit inverses and padding."""
        return self.values.nbytes

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix, right-hand sides and solutions."""
        return self.matrix_values.dtype

    def solve(self, rhs: Tensor, *, refine: int = 0) -> Tensor:
        """x = M^-1 rhs, differentiable in ``rhs`` and in the matrix's values any number of times.

        Args:
            rhs: (V,), (V, k) or (B, V, k), any k, of the dtype of the matrix; (B, V, k) for a batch of B matrices.
            refine: steps of iterative refinement, x += M^-1 (rhs - M x), with the residual in float64. Each step costs a
                product and a solve.

        Returns:
            x, in the shape of ``rhs``. The bits are the same for every number of threads, and at every call on CUDA.

        Raises:
            TypeError, ValueError: a wrong shape, dtype or device; on the CPU also a number that is NaN or infinite. (CUDA
                does not check, because the check would wait for the device. There the result is NaN.)
        """
        self._check_rhs("rhs", rhs)
        if isinstance(refine, bool) or not isinstance(refine, int) or refine < 0:
            raise ValueError(f"refine: expected an integer of at least 0, got {describe(refine)}")
        columns = rhs if rhs.dim() > 1 else rhs[:, None]
        solution = self._solve(columns)
        for _ in range(refine):
            solution = solution + self._solve(self._residual(columns, solution).to(self.dtype))
        return solution if rhs.dim() > 1 else solution[:, 0]

    def _solve(self, columns: Tensor) -> Tensor:
        symbolic = self.symbolic
        return operators.solve(self.matrix_values, self.values, symbolic.index, columns, 0, symbolic.solve_plan)

    def residual(self, rhs: Tensor, solution: Tensor) -> Tensor:
        """rhs - M solution, computed in float64 and returned in the dtype and shape of ``rhs``."""
        self._check_rhs("rhs", rhs)
        self._check_rhs("solution", solution)
        if rhs.shape != solution.shape:
            raise ValueError(f"solution: expected the shape of rhs, {tuple(rhs.shape)}, got {describe(solution)}")
        return self._residual(rhs, solution).to(rhs.dtype)

    def _residual(self, rhs: Tensor, solution: Tensor) -> Tensor:
        if rhs.dim() == 1:
            return self._residual(rhs[:, None], solution[:, None])[:, 0]
        entries = operators.entries(self.matrix_values, self.symbolic.index)
        products = self.matrix_values.double()[..., None] * solution.double().index_select(-2, entries[1])
        return rhs.double().index_add(-2, entries[0], products, alpha=-1)

    def refactorize(self, values: Tensor) -> CholeskyFactor:
        """The factor of another matrix with the same pattern, without a new analysis; see :func:`factorize`."""
        same_dtype = isinstance(values, Tensor | SystemMatrix) and values.dtype == self.dtype
        return factorize(self.symbolic, values, self.values.dtype if same_dtype else None)

    def to(self, dtype: torch.dtype) -> CholeskyFactor:
        """The factor of the same matrix in float32 or float64; factorised again. For another device call analyze there."""
        if not isinstance(dtype, torch.dtype):
            raise TypeError(
                f"dtype: expected torch.float32 or torch.float64 (for another device call analyze there), got {describe(dtype)}"
            )
        return self if dtype == self.dtype else factorize(self.symbolic, self.matrix_values.to(dtype))

    def _check_rhs(self, name: str, rhs: Tensor) -> None:
        size = self.symbolic.num_verts
        dim = rhs.dim() if isinstance(rhs, Tensor) else 0
        if self.values.dim() == 2:
            fits = dim == 3 and tuple(rhs.shape[:2]) == (len(self.values), size)
        else:
            fits = dim in (1, 2, 3) and rhs.size(-2 if dim == 3 else 0) == size
        if not fits:
            raise ValueError(f"{name}: expected a tensor of shape {self._shapes()}, got {describe(rhs)}")
        if rhs.dtype != self.matrix_values.dtype:
            raise TypeError(f"{name}: expected {self.dtype}, the dtype of the matrix, got {describe(rhs)}")
        if rhs.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got one of layout {rhs.layout}")
        if rhs.device != self.values.device:
            raise ValueError(f"{name}: expected it on {self.values.device}, as the factor, got {describe(rhs)}")

    def _shapes(self) -> str:
        size = self.symbolic.num_verts
        return f"({size},), ({size}, k) or (B, {size}, k)" if self.values.dim() == 1 else f"({len(self.values)}, {size}, k)"

    def __repr__(self) -> str:
        symbolic = self.symbolic
        return (
            f"CholeskyFactor(num_verts={symbolic.num_verts}, nnz={self.nnz}, levels={self.levels}, dtype={self.dtype},"
            f" stored={self.values.dtype}, nbytes={self.nbytes})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return factorize, (self.symbolic, self.matrix_values.detach(), self.values.dtype)

    def __deepcopy__(self, memo: dict) -> CholeskyFactor:
        return replace(self, matrix_values=self.matrix_values.detach().clone(), values=self.values.clone())


def factorize(symbolic: SymbolicFactor, values: Tensor | SystemMatrix, dtype: torch.dtype | None = None) -> CholeskyFactor:
    """Factorises a symmetric positive definite matrix, always in float64.

    Args:
        symbolic: the result of :func:`analyze` for the pattern of the matrix.
        values: (nnz,) float32 or float64, the matrix's ``values``; or (B, nnz), those of B matrices; or the matrix itself,
            whose pattern is then compared. They must be on the device of the analysis. On CUDA only the error status is
            copied to the host.
        dtype: of the stored factor and of the arithmetic of the solves. By default that of the values, but float64 for
            fewer than 2,000 vertices. float64 for a float32 matrix is exact to rounding, and takes up to twice as long.

    Raises:
        NotPositiveDefiniteError: with the vertex and the likely cause.
        TypeError, ValueError: a wrong shape, dtype or device, another pattern, or numbers that are NaN or infinite.

    Example:
        >>> factor = factorize(symbolic, matrix)
    """
    if not isinstance(symbolic, SymbolicFactor):
        raise TypeError(f"symbolic: expected a SymbolicFactor, of analyze, got {describe(symbolic)}")
    if isinstance(values, SystemMatrix):
        symbolic.check_pattern(values)
        values = values.values
    num_entries = symbolic.num_entries
    if not isinstance(values, Tensor) or values.dim() not in (1, 2) or values.shape[-1] != num_entries:
        raise ValueError(
            f"values: expected a tensor of shape ({num_entries},) or (B, {num_entries}), one number per entry of the"
            f" pattern that was analysed, got {describe(values)}"
        )
    if values.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"matrix: Cholesky factorisations expect float32 or float64, got {describe(values)}")
    if values.device != symbolic.device:
        raise ValueError(f"values: expected a tensor on {symbolic.device}, the device of the analysis, got {describe(values)}")
    if dtype is None:
        dtype = torch.float64 if symbolic.num_verts < ALWAYS_DOUBLE_BELOW else values.dtype
    if dtype != torch.float64 and (dtype != torch.float32 or values.dtype != torch.float32):
        raise TypeError(f"dtype: expected torch.float64, or torch.float32 for a float32 matrix, got {dtype}")
    check_finite("values", values.detach())
    with torch.inference_mode(False):  # it may be kept, and gradients may need it later
        if not values.requires_grad:
            values = values.clone()  # later in-place changes of the given tensor have no effect
        numbers = values.detach().contiguous()
        factor, breakdown = operators.factorize(numbers, symbolic.index, dtype == torch.float64, symbolic.factor_plan)
        for matrix, (vertex, pivot, diagonal) in enumerate(breakdown.view(-1, 3).tolist()):
            if vertex >= 0:
                message = _breakdown_message(symbolic, numbers.view(-1, num_entries)[matrix], int(vertex), pivot, diagonal)
                raise NotPositiveDefiniteError(message, int(vertex), matrix)
            if vertex == -2:
                check_finite("factor", factor, "; float32 cannot hold the inverses of such small numbers, store float64")
    return CholeskyFactor(symbolic, values, factor)


def _breakdown_message(symbolic: SymbolicFactor, values: Tensor, vertex: int, pivot: float, diagonal: float) -> str:
    crow_indices, col_indices = symbolic.pattern()
    row = slice(int(crow_indices[vertex]), int(crow_indices[vertex + 1]))
    off_diagonal = values[row][col_indices[row] != vertex]
    if diagonal <= 0:
        cause = "the diagonal itself is not positive: a Laplacian of the opposite sign, or negative weights"
    elif bool((off_diagonal > 0).any()):
        cause = "negative weights at this vertex: cotangents of obtuse or degenerate faces, or your own Laplacian"
    elif pivot < -1e-10 * diagonal:
        cause = "the diagonal here or at a vertex nearby is too small beside its neighbours: not a Laplacian plus the identity"
    else:
        cause = (
            "the weights at or near this vertex differ too much, for example at degenerate faces, or lambda is too large:"
            " the identity is lost in rounding"
        )
    return (
        f"matrix: expected a positive definite matrix, got the pivot {pivot:.3g} (the diagonal entry is {diagonal:.3g}) at"
        f" vertex {vertex}; the likely cause: {cause}"
    )


class CholeskySolver:
    """The factorisation as a :class:`~pt3d_largesteps.solvers.Solver`."""

    def __init__(self, matrix: SystemMatrix) -> None:
        if matrix.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"matrix: Cholesky factorisations expect float32 or float64, got {describe(matrix.values)}")
        check_finite("matrix", matrix.values.detach())
        self.factor = factorize(analyze(matrix, matrix.positions), matrix.values.detach().clone())

    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        """x = M^-1 rhs, (V, k) or (B, V, k)."""
        factor = self.factor
        symbolic = factor.symbolic
        return operators.solve(factor.matrix_values, factor.values, symbolic.index, rhs, direction, symbolic.solve_plan)
