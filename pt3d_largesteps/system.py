"""The system matrix of the parameterisation, M = I + lambda L or M = (1 - alpha) I + alpha L, in CSR.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Eq. 10
(u = (I + lambda L) x). The alpha form is (1 - alpha) times the lambda form with lambda = alpha / (1 - alpha): the same
shapes x, with u scaled by 1 - alpha.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, check_number, describe
from pt3d_largesteps._symmetric import checked_entries
from pt3d_largesteps.laplacian import (
    coalesced_coo,
    combinatorial_edges,
    cotangent_edges,
    laplacian_entries,
    packed_verts_faces,
)

DEFAULT_LAMBDA = 19.0  # the paper's choice for most of its experiments: alpha = 0.95
LAPLACIANS = {"combinatorial": combinatorial_edges, "cotangent": cotangent_edges}


def lambda_from_alpha(alpha: float | Tensor) -> float | Tensor:
    """lambda = alpha / (1 - alpha), for alpha in [0, 1).

    Example:
        >>> round(lambda_from_alpha(0.95), 6)
        19.0
    """
    check_number("alpha", alpha, low=0.0, high=1.0)
    return alpha / (1 - alpha)


@dataclass(frozen=True, eq=False)
class SystemMatrix:
    """A symmetric sparse matrix in CSR, the columns of each row in increasing order and every diagonal entry present.

    Make one with :func:`compute_matrix` or :meth:`from_sparse`, which check what they are given; the constructor takes
    the tensors as they are. ``matrix @ x`` is differentiable, twice and more, in ``values`` and in ``x``.

    Attributes:
        crow_indices: (V + 1,) int64, where each row starts.
        col_indices: (nnz,) int64.
        values: (nnz,) float; may require gradients.
        positions: (V, 3), where the rows are points in space, or None. Solvers order the rows by them; no result depends
            on them beyond rounding.

    Example:
        >>> matrix = compute_matrix(meshes, lambda_=19.0)
        >>> u = matrix @ meshes.verts_packed()          # (sum(V_n), 3)
    """

    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor
    positions: Tensor | None = field(default=None, repr=False)
    # Factorisations by solver name, filled by the solvers; left behind by copies and pickles.
    _solvers: dict = field(default_factory=dict, repr=False, init=False)

    @classmethod
    def from_sparse(cls, matrix: Any) -> SystemMatrix:
        """From a symmetric torch tensor (COO, CSR, CSC or dense) or scipy.sparse matrix (V, V), of any dtype of floats.

        Raises:
            TypeError, ValueError: not square, not symmetric, or with an entry that is NaN or infinite.
        """
        rows, cols, values, size = checked_entries("matrix", matrix)
        return cls._identity_plus(0.0, 1.0, rows, cols, values, size)

    @classmethod
    def from_laplacian(
        cls, laplacian: Any, *, lambda_: float | Tensor | None = None, alpha: float | Tensor | None = None
    ) -> SystemMatrix:
        """I + lambda L or (1 - alpha) I + alpha L for a symmetric L (V, V), torch or scipy, given or your own.

        Args:
            laplacian: symmetric positive semidefinite; only symmetry and finiteness are checked here, definiteness by
                the solvers.
            lambda_: finite, at least 0; a 0-dimensional tensor may require gradients. 19 if alpha is not given either.
            alpha: in [0, 1), instead of ``lambda_``.

        Gradients reach the values of a torch tensor, once: torch's second derivatives through sparse tensors are wrong.
        """
        identity_weight, laplacian_weight = _weights(lambda_, alpha)
        rows, cols, values, size = checked_entries("laplacian", laplacian)
        return cls._identity_plus(identity_weight, laplacian_weight, rows, cols, values, size)

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
        """As :meth:`from_laplacian`, for the Laplacian of a weighted graph; differentiable in the weights, twice and more.

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
        identity_weight, laplacian_weight = _weights(lambda_, alpha)
        return cls._identity_plus(identity_weight, laplacian_weight, *laplacian_entries(edges, weights, num_verts), num_verts)

    @classmethod
    def _identity_plus(cls, identity_weight, laplacian_weight, rows, cols, values, size) -> SystemMatrix:
        diagonal = torch.arange(size, device=values.device)
        keys = torch.cat([rows * size + cols, diagonal * (size + 1)])
        entries = torch.cat([laplacian_weight * values, (identity_weight * values.new_ones(size))])
        unique_keys, position = torch.unique(keys, return_inverse=True)
        merged = entries.new_zeros(unique_keys.shape[0]).index_add(0, position, entries)
        counts = torch.bincount(unique_keys // max(size, 1), minlength=size)
        crow_indices = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        check_finite("matrix", merged.detach(), "; lambda or the Laplacian is too large for the dtype")
        _check_identity_is_felt(identity_weight, merged.detach())
        return cls(crow_indices, unique_keys % max(size, 1), merged)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.crow_indices.shape[0] - 1,) * 2

    @property
    def nnz(self) -> int:
        return self.col_indices.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    @cached_property
    def row_indices(self) -> Tensor:
        """(nnz,) int64, the row of each entry."""
        with torch.inference_mode(False):  # it is kept, and may be needed for gradients later
            rows = torch.arange(self.shape[0], device=self.device)
            return rows.repeat_interleave(self.crow_indices.diff(), output_size=self.nnz)

    def diagonal(self) -> Tensor:
        """(V,), differentiable in the values."""
        return self.values[self.row_indices == self.col_indices]

    def check_rhs(self, name: str, rhs: Tensor) -> None:
        """Raises unless ``rhs`` is (V,) or (V, k), of this matrix's dtype and device."""
        if not isinstance(rhs, Tensor) or rhs.dim() not in (1, 2) or rhs.shape[0] != self.shape[0]:
            raise ValueError(
                f"{name}: expected a tensor of shape ({self.shape[0]},) or ({self.shape[0]}, k), got {describe(rhs)}"
            )
        if rhs.dtype != self.dtype:
            raise TypeError(f"{name}: expected {self.dtype}, the dtype of the matrix, got {describe(rhs)}")
        if rhs.device != self.device:
            raise ValueError(f"{name}: expected it on {self.device}, as the matrix, got {describe(rhs)}")

    def __matmul__(self, x: Tensor) -> Tensor:
        """M x for x (V,) or (V, k), differentiable in x and in the values."""
        self.check_rhs("x", x)
        values = self.values if x.dim() == 1 else self.values[:, None]
        return torch.zeros_like(x).index_add(0, self.row_indices, values * x.index_select(0, self.col_indices))

    def to(self, *args, **kwargs) -> SystemMatrix:
        """As ``Tensor.to``: a device, a float dtype, or both. The factorisations stay behind and are made again."""
        values = self.values.to(*args, **kwargs)
        check_float_dtype("dtype", values)
        if values is self.values:
            return self
        positions = None if self.positions is None else self.positions.to(values.device)
        return SystemMatrix(self.crow_indices.to(values.device), self.col_indices.to(values.device), values, positions)

    def detach(self) -> SystemMatrix:
        """The same matrix without gradients."""
        return replace(self, values=self.values.detach()) if self.values.requires_grad else self

    def to_sparse_coo(self) -> Tensor:
        """Coalesced sparse COO tensor (V, V)."""
        return coalesced_coo(torch.stack([self.row_indices, self.col_indices]), self.values, self.shape[0])

    def to_dense(self) -> Tensor:
        """Dense tensor (V, V), for looking at small ones."""
        return self.to_sparse_coo().to_dense()

    def __repr__(self) -> str:
        return f"SystemMatrix(shape={self.shape}, nnz={self.nnz}, dtype={self.dtype}, device={self.device})"

    def __getstate__(self) -> dict:
        kept = {name: getattr(self, name) for name in ("crow_indices", "col_indices", "values", "positions")}
        return {**kept, "_solvers": {}}


def compute_matrix(
    verts: Any,
    faces: Tensor | None = None,
    *,
    lambda_: float | Tensor | None = None,
    alpha: float | Tensor | None = None,
    laplacian: str | Any = "combinatorial",
) -> SystemMatrix:
    """The system matrix I + lambda L or (1 - alpha) I + alpha L of a batch of meshes.

    Args:
        verts: a ``Meshes`` batch, or packed positions (V, 3).
        faces: packed vertex indices (F, 3), where ``verts`` is a tensor.
        lambda_: finite, at least 0. 19 if alpha is not given either.
        alpha: in [0, 1), instead of ``lambda_``; lambda = alpha / (1 - alpha).
        laplacian: "combinatorial" (the paper's), "cotangent", or a symmetric positive semidefinite matrix of your own
            (torch or scipy, (sum(V_n), sum(V_n))).

    Returns:
        :class:`SystemMatrix` of the dtype and device of the vertices.

    Raises:
        TypeError, ValueError: lambda negative or not finite, alpha outside [0, 1), both given, a matrix that is not
            symmetric or has an entry that is not finite, a face index out of range.

    Example:
        >>> matrix = compute_matrix(ico_sphere(3), lambda_=19.0)
    """
    verts, faces = packed_verts_faces(verts, faces)
    if isinstance(laplacian, str):
        if laplacian not in LAPLACIANS:
            raise ValueError(f"laplacian: expected one of {list(LAPLACIANS)} or a matrix, got {laplacian!r}")
        edges, weights = LAPLACIANS[laplacian](verts, faces)
        matrix = SystemMatrix.from_edges(edges, weights, verts.shape[0], lambda_=lambda_, alpha=alpha)
        return replace(matrix, positions=verts.detach())
    matrix = SystemMatrix.from_laplacian(laplacian, lambda_=lambda_, alpha=alpha)
    if matrix.shape[0] != verts.shape[0]:
        raise ValueError(f"laplacian: expected a matrix of {verts.shape[0]} rows, one per vertex, got {matrix.shape}")
    return replace(matrix.to(device=verts.device, dtype=verts.dtype), positions=verts.detach())


def _weights(lambda_: Any, alpha: Any) -> tuple[Any, Any]:
    """The weights of I and of L."""
    if alpha is None:
        lambda_ = DEFAULT_LAMBDA if lambda_ is None else lambda_
        check_number("lambda_", lambda_, low=0.0)
        return 1.0, lambda_.reshape(()) if isinstance(lambda_, Tensor) else lambda_
    if lambda_ is not None:
        raise ValueError(f"alpha: expected lambda_ or alpha, not both; got lambda_={lambda_} and alpha={alpha}")
    check_number("alpha", alpha, low=0.0, high=1.0)
    alpha = alpha.reshape(()) if isinstance(alpha, Tensor) else alpha
    return 1 - alpha, alpha


def _check_identity_is_felt(identity_weight: float | Tensor, values: Tensor) -> None:
    """Refuses a lambda L beside which the dtype loses the identity: L alone is singular, and solves would be noise."""
    if values.numel() == 0 or float(identity_weight) == 0.0:
        return
    lost = float(values.abs().max()) * torch.finfo(values.dtype).eps
    if lost > 0.5 * float(identity_weight):
        raise ValueError(
            f"matrix: expected a lambda whose lambda L leaves the identity visible in {values.dtype}, got entries of"
            f" {float(values.abs().max()):.3g} beside {float(identity_weight):.3g}; take a smaller lambda, or float64 vertices"
        )
