"""lambda and alpha: one number, one per mesh or one per vertex.

M = I + lambda L or M = (1 - alpha) I + alpha L. The alpha form is (1 - alpha) times the lambda form with lambda =
alpha / (1 - alpha). Both give the same shapes x; u is scaled by 1 - alpha. If the smoothing strengths s_i vary over the
vertices, they scale the edge weights,

    w_ij (s_i + s_j) / 2

so M stays symmetric and positive definite, as the paper's M is. (diag(s) L would not be symmetric.)

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Eq. 10 and Sec. 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_number, describe

DEFAULT_LAMBDA = 19.0  # the paper's choice for most of its experiments: alpha = 0.95


def lambda_from_alpha(alpha: float | Tensor) -> float | Tensor:
    """lambda = alpha / (1 - alpha), for alpha in [0, 1), a number or a tensor of any shape.

    Example:
        >>> round(lambda_from_alpha(0.95), 6)
        19.0
    """
    check_strength("alpha", alpha)
    return alpha / (1 - alpha)


@dataclass(frozen=True)
class Strength:
    """The smoothing strength, lambda or alpha, after its checks.

    Attributes:
        name: "lambda_" or "alpha".
        value: a float, or a tensor of shape () or (V,), which may require gradients.
    """

    name: str
    value: float | Tensor

    @classmethod
    def of(
        cls,
        lambda_: float | Tensor | None,
        alpha: float | Tensor | None,
        num_verts_per_mesh: Sequence[int],
        like: Tensor,
        rows: tuple[str, str] = ("vertex", "vertices"),
    ) -> Strength:
        """From the arguments of the public functions. Tensors are converted to the dtype and device of ``like``.

        Args:
            lambda_: finite, at least 0: a number, or a tensor of 1, N (one per mesh) or V (one per vertex) numbers. 19 if
                alpha is not given either.
            alpha: in [0, 1), instead of ``lambda_``, in the same forms.
            num_verts_per_mesh: N numbers; V is their sum.
            rows: what to call one row and several rows in messages.
        """
        if lambda_ is not None and alpha is not None:
            raise ValueError(f"alpha: expected lambda_ or alpha, not both; got lambda_={lambda_} and alpha={alpha}")
        name, value = ("lambda_", lambda_) if alpha is None else ("alpha", alpha)
        value = DEFAULT_LAMBDA if value is None else value
        if isinstance(value, Tensor) and value.device != like.device and value.numel() > 1:
            raise ValueError(f"{name}: expected it on {like.device}, as the {rows[1]}, got {describe(value)}")
        check_strength(name, value)
        if not isinstance(value, Tensor):
            return cls(name, float(value))
        if value.is_floating_point() and value.dtype != like.dtype and value.requires_grad:
            raise TypeError(f"{name}: expected {like.dtype}, the dtype of the {rows[1]}, got {describe(value)}")
        value = value.to(like)
        num_meshes, num_verts = len(num_verts_per_mesh), sum(num_verts_per_mesh)
        if value.numel() == 1:
            return cls(name, value.reshape(()))
        if value.dim() != 1 or value.shape[0] not in (num_meshes, num_verts):
            raise ValueError(_shape_message(name, num_meshes, num_verts, value, rows[0]))
        if value.shape[0] == num_meshes:
            sizes = torch.tensor(num_verts_per_mesh, dtype=torch.int64, device=like.device)
            value = value.repeat_interleave(sizes, output_size=num_verts)
        return cls(name, value)

    @property
    def varies(self) -> bool:
        """Whether it is one per vertex."""
        return isinstance(self.value, Tensor) and self.value.dim() > 0

    @property
    def requires_grad(self) -> bool:
        return isinstance(self.value, Tensor) and self.value.requires_grad

    @property
    def identity(self) -> float | Tensor:
        """The factor of the identity; one per vertex where it varies."""
        return 1.0 if self.name == "lambda_" else 1 - self.value

    def at(self, rows: Tensor) -> Strength:
        """The strength at the packed rows (..., V'), in their shape."""
        value = self.value
        return Strength(self.name, value[rows]) if isinstance(value, Tensor) and value.dim() > 0 else self

    def edge_weights(self, edges: Tensor, weights: Tensor) -> Tensor:
        """w_ij (s_i + s_j) / 2, (..., E)."""
        value = self.value
        if not isinstance(value, Tensor) or value.dim() == 0:
            return value * weights
        return weights * 0.5 * (value.index_select(-1, edges[:, 0]) + value.index_select(-1, edges[:, 1]))

    def diagonal(self, weights: Tensor, num_verts: int) -> Tensor:
        """The weight of the identity, (V,) or (..., V) where it varies."""
        identity = self.identity
        if isinstance(identity, Tensor):
            return identity.expand(*identity.shape[:-1], num_verts) if identity.dim() else identity.expand(num_verts)
        return weights.new_full((num_verts,), identity)


def check_strength(name: str, value: Any) -> None:
    """Raises unless all numbers are valid: for "lambda_" finite and at least 0, for "alpha" in [0, 1)."""
    high = {"lambda_": float("inf"), "alpha": 1.0}[name]
    if not isinstance(value, Tensor) or value.numel() == 1:
        check_number(name, value, low=0.0, high=high)
        return
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name}: expected real numbers, got {describe(value)}")
    inside = torch.isfinite(value) & (value >= 0) & (value < high)
    if not bool(inside.all()):
        index = tuple((~inside).nonzero()[0].tolist())
        interval = "[0, infinity)" if name == "lambda_" else "[0, 1)"
        raise ValueError(f"{name}: expected finite numbers in {interval}, got {value[index].item()} at index {index}")


def _shape_message(name: str, num_meshes: int, num_verts: int, value: Tensor, row: str) -> str:
    return (
        f"{name}: expected a number, or a tensor of shape ({num_meshes},), one per mesh, or ({num_verts},), one per {row},"
        f" got {describe(value)}"
    )
