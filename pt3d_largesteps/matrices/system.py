"""The system matrix of the parameterisation, M = I + lambda L or M = (1 - alpha) I + alpha L, in CSR.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Eq. 10
(u = (I + lambda L) x). lambda_alpha.py describes the forms of lambda and alpha.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, describe
from pt3d_largesteps.matrices.assembly import Assembly, EntryAssembly
from pt3d_largesteps.matrices.given import checked_entries
from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.laplacian import coalesced_coo
from pt3d_largesteps.matrices.pattern import Pattern


@dataclass(frozen=True, eq=False)
class SystemMatrix:
    """A symmetric sparse matrix in CSR, or a batch of B such matrices with one pattern. The columns increase in each row, and
    every diagonal entry is present.

    Make one with :func:`compute_matrix` or :meth:`from_sparse`, which check their arguments. The constructor checks nothing.
    ``matrix @ x`` is differentiable, twice and more, in ``values`` and in ``x``.

    Attributes:
        crow_indices: (V + 1,) int64, where each row starts.
        col_indices: (nnz,) int64.
        values: (nnz,) float, or (B, nnz); may require gradients.
        positions: (V, 3), the positions of the rows in space, or None. Solvers use them to order the rows. Results depend on
            them only up to rounding.
        num_verts_per_mesh: how many rows each mesh has, if the rows are the packed vertices of several meshes; else None.
        pattern: of the matrix (:class:`~pt3d_largesteps.matrices.pattern.Pattern`); made from the indices if not given.
            Matrices that share a pattern need one analysis.

    Example:
        >>> matrix = compute_matrix(meshes, lambda_=19.0)
        >>> u = matrix @ meshes.verts_packed()          # (sum(V_n), 3)
    """

    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor
    positions: Tensor | None = field(default=None, repr=False)
    num_verts_per_mesh: tuple[int, ...] | None = field(default=None, repr=False)
    pattern: Pattern = field(default=None, repr=False)  # type: ignore[assignment]  # filled below
    # Factorisations by solver name, filled by the solvers. Copies and pickles do not contain them.
    _solvers: dict = field(default_factory=dict, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.pattern is None:
            object.__setattr__(self, "pattern", Pattern(self.crow_indices, self.col_indices))

    @classmethod
    def from_sparse(cls, matrix: Any) -> SystemMatrix:
        """From a symmetric torch tensor (COO, CSR, CSC or dense) or scipy.sparse matrix (V, V), of any float dtype.

        Raises:
            TypeError, ValueError: the matrix is not square, not symmetric, or has an entry that is NaN or infinite.
        """
        rows, cols, entries, size = checked_entries("matrix", matrix)
        assembly = EntryAssembly(rows, cols, size)
        values = assembly.values(entries, entries.new_zeros(size))
        _check_numbers(0.0, values.detach())
        return cls.of_pattern(assembly.pattern, values)

    @classmethod
    def from_laplacian(
        cls, laplacian: Any, *, lambda_: float | Tensor | None = None, alpha: float | Tensor | None = None
    ) -> SystemMatrix:
        """I + lambda L or (1 - alpha) I + alpha L for a symmetric L (V, V), torch or scipy, of this package or your own.

        Args:
            laplacian: symmetric positive semidefinite. Symmetry and finiteness are checked here; the solvers check
                definiteness.
            lambda_: finite, at least 0: a number, or one per vertex (V,); tensors may require gradients. 19 if alpha is not
                given either.
            alpha: in [0, 1), instead of ``lambda_``.

        Differentiable once in the values of a torch tensor: torch's second derivatives through sparse tensors are wrong.
        """
        rows, cols, values, size = checked_entries("laplacian", laplacian)
        return cls.from_assembly(EntryAssembly(rows, cols, size), values, Strength.of(lambda_, alpha, (size,), values))

    @classmethod
    def from_edges(
        cls,
        edges: Tensor,
        weights: Tensor,
        num_verts: int,
        *,
        lambda_: float | Tensor | None = None,
        alpha: float | Tensor | None = None,
    ) -> SystemMatrix:
        """Like :meth:`from_laplacian`, for a weighted graph; differentiable in the weights, twice and more.

        Args:
            edges: (E, 2) int64 vertex indices, each edge once, no self-edges.
            weights: (E,) float.
            num_verts: V.
        """
        if edges.dim() != 2 or edges.shape[1] != 2 or weights.shape != edges.shape[:1]:
            raise ValueError(f"edges: expected (E, 2) beside weights (E,), got {describe(edges)} and {describe(weights)}")
        if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= num_verts):
            raise ValueError(
                f"edges: expected vertex indices in [0, {num_verts}), got {int(edges.min())} to {int(edges.max())}"
            )
        check_float_dtype("weights", weights)
        check_finite("weights", weights.detach())
        return cls.from_assembly(Assembly(edges, num_verts), weights, Strength.of(lambda_, alpha, (num_verts,), weights))

    @classmethod
    def from_assembly(
        cls,
        assembly: Assembly | EntryAssembly,
        weights: Tensor,
        strength: Strength,
        positions: Tensor | None = None,
        num_verts_per_mesh: tuple[int, ...] | None = None,
    ) -> SystemMatrix:
        """From edge weights (E,), or (B, E) for a batch, or from the entries (K,) of L, with a known assembly.
        Differentiable in these numbers and in the strength."""
        values = assembly.system_values(weights, strength)
        _check_numbers(strength.identity, values.detach())
        return cls.of_pattern(assembly.pattern, values, positions, num_verts_per_mesh)

    @classmethod
    def of_pattern(
        cls,
        pattern: Pattern,
        values: Tensor,
        positions: Tensor | None = None,
        num_verts_per_mesh: tuple[int, ...] | None = None,
    ) -> SystemMatrix:
        """From values (nnz,), or (B, nnz), on a known pattern. The values are not checked."""
        return cls(pattern.crow_indices, pattern.col_indices, values, positions, num_verts_per_mesh, pattern)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.crow_indices.shape[0] - 1,) * 2

    @property
    def nnz(self) -> int:
        return self.col_indices.shape[0]

    @property
    def batch_size(self) -> int | None:
        """How many matrices are in the batch; None for a single matrix."""
        return self.values.shape[0] if self.values.dim() == 2 else None

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def row_indices(self) -> Tensor:
        """(nnz,) int64, the row of each entry."""
        return self.pattern.row_indices

    def diagonal(self) -> Tensor:
        """(V,) or (B, V), differentiable in the values."""
        return self.values[..., self.pattern.on_diagonal]

    def matrices(self) -> list[SystemMatrix]:
        """The matrices of a batch, one by one."""
        return [self] if self.batch_size is None else [replace(self, values=values) for values in self.values]

    def with_pinned(self, pinned: Tensor) -> SystemMatrix:
        """The matrix of the free vertices. The rows and columns of pinned vertices are those of the identity.

        Args:
            pinned: (V,) bool, or (B, V) for a batch of different matrices.
        """
        touched = pinned.index_select(-1, self.row_indices) | pinned.index_select(-1, self.col_indices)
        return replace(self, values=torch.where(touched, self.pattern.on_diagonal.to(self.dtype), self.values))

    def check_rhs(self, name: str, rhs: Tensor) -> None:
        """Raises unless ``rhs`` is (V,), (V, k) or (B, V, k), of this matrix's dtype and device."""
        size, batch_size = self.shape[0], self.batch_size
        if batch_size is not None:
            if not isinstance(rhs, Tensor) or rhs.dim() != 3 or tuple(rhs.shape[:2]) != (batch_size, size):
                raise ValueError(f"{name}: expected a tensor of shape ({batch_size}, {size}, k), got {describe(rhs)}")
        elif not isinstance(rhs, Tensor) or rhs.dim() not in (1, 2, 3) or rhs.shape[-2 if rhs.dim() == 3 else 0] != size:
            raise ValueError(
                f"{name}: expected a tensor of shape ({size},), ({size}, k) or (B, {size}, k), got {describe(rhs)}"
            )
        if rhs.dtype != self.dtype:
            raise TypeError(f"{name}: expected {self.dtype}, the dtype of the matrix, got {describe(rhs)}")
        if rhs.device != self.device:
            raise ValueError(f"{name}: expected it on {self.device}, as the matrix, got {describe(rhs)}")

    def __matmul__(self, x: Tensor) -> Tensor:
        """M x for x (V,), (V, k) or (B, V, k), differentiable in x and in the values."""
        self.check_rhs("x", x)
        if x.dim() == 1:
            return (self @ x[:, None])[:, 0]
        products = self.values[..., None] * x.index_select(-2, self.col_indices)
        return torch.zeros_like(x).index_add(-2, self.row_indices, products)

    def to(self, *args: Any, **kwargs: Any) -> SystemMatrix:
        """Like ``Tensor.to``: a device, a float dtype, or both. Factorisations are not moved; the next solve makes new ones."""
        values = self.values.to(*args, **kwargs)
        check_float_dtype("dtype", values)
        if values is self.values:
            return self
        positions = None if self.positions is None else self.positions.to(values.device)
        return self.of_pattern(self.pattern.to(values.device), values, positions, self.num_verts_per_mesh)

    def detach(self) -> SystemMatrix:
        """The same matrix without gradients."""
        return replace(self, values=self.values.detach()) if self.values.requires_grad else self

    def to_sparse_coo(self) -> Tensor:
        """Coalesced sparse COO tensor (V, V), of a single matrix."""
        if self.batch_size is not None:
            raise ValueError(f"matrix: expected a single matrix, got a batch of {self.batch_size}; see matrices()")
        return coalesced_coo(torch.stack([self.row_indices, self.col_indices]), self.values, self.shape[0])

    def to_dense(self) -> Tensor:
        """Dense tensor (V, V) or (B, V, V), to look at small matrices."""
        if self.batch_size is not None:
            return torch.stack([matrix.to_dense() for matrix in self.matrices()])
        return self.to_sparse_coo().to_dense()

    def __repr__(self) -> str:
        batch = "" if self.batch_size is None else f"batch_size={self.batch_size}, "
        return f"SystemMatrix({batch}shape={self.shape}, nnz={self.nnz}, dtype={self.dtype}, device={self.device})"

    def __getstate__(self) -> dict:
        kept = ("crow_indices", "col_indices", "values", "positions", "num_verts_per_mesh", "pattern")
        return {**{name: getattr(self, name) for name in kept}, "_solvers": {}}


def _check_numbers(identity_weight: float | Tensor, values: Tensor) -> None:
    """Raises for values that are not finite. Raises if lambda L is so large that the dtype loses the identity: L alone is
    singular, and solves would be noise."""
    check_finite("matrix", values, "; lambda or the Laplacian is too large for the dtype")
    if values.numel() == 0:
        return
    least = float(identity_weight.detach().min()) if isinstance(identity_weight, Tensor) else identity_weight
    largest = float(values.abs().max())
    if least != 0.0 and largest * torch.finfo(values.dtype).eps > 0.5 * least:
        raise ValueError(
            f"matrix: expected a lambda whose lambda L leaves the identity visible in {values.dtype}, got entries of"
            f" {largest:.3g} beside {least:.3g}; take a smaller lambda, or float64 vertices"
        )
