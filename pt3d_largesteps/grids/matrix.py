r"""Laplacians of regular grids, and M = I + lambda L on them without a sparse matrix.

The vertices are the texels of a line (L,), an image (H, W) or a volume (D, H, W). The edges join neighbours along the axes:

    L = sum over axes k of  D_k^T W_k D_k          D_k: differences along axis k,   W_k = 1 / spacing_k^2 on each edge

With a spacing of 1, L is the combinatorial Laplacian D - A of the grid's graph. The boundary at the two ends of an axis:

    "natural"    the border texels have one edge less (Neumann; the mirror lies half a texel outside)
    "periodic"   the last texel is joined to the first (two texels are joined twice; one is joined to nothing)
    "fixed"      the vertices just outside, at -1 and n, exist and are 0 (Dirichlet): the border texels keep their degree

If lambda varies over the texels, an edge takes the mean of its two ends, as in lambda_alpha.py. An edge to a vertex just
outside takes the lambda of its texel. With a mask, only edges between two valid texels remain, and edges from valid texels to
vertices just outside. The rows of the other texels are those of the identity.

Source: Strang, "The Discrete Cosine Transform", SIAM Review 41(1), 1999, for boundaries and their transforms; Nicolet,
Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Eq. 10.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_float_dtype, describe
from pt3d_largesteps.grids.arguments import checked_boundary, checked_mask, checked_shape, checked_spacing, checked_strength
from pt3d_largesteps.grids.differences import both_valid, eigenvalues_of_axis, mean_of_ends, multiply
from pt3d_largesteps.matrices.lambda_alpha import DEFAULT_LAMBDA


class GridMatrix:
    """M = I + lambda L, or (1 - alpha) I + alpha L, on fields (N, C, *shape) over a regular grid.

    It is matrix-free: it holds a few numbers only. ``matrix @ field`` computes M x by differences, and
    :func:`~pt3d_largesteps.from_differential` solves by fast cosine, sine or Fourier transforms, without a factorisation.
    With a mask, or a lambda per texel, solves need sparse Cholesky or conjugate gradients
    (:mod:`pt3d_largesteps.solvers.grid`).

    Args:
        shape: (L,), (H, W) or (D, H, W), each at least 1.
        lambda_: at least 0; 19 if ``alpha`` is not given either. A number, one per axis (a sequence or tensor (K,) for K
            axes), one per field of the batch (a tensor (N, 1, ..., 1) of K + 2 dimensions), or one per texel (a tensor of
            ``shape``). A tensor is copied, unless it requires gradients.
        alpha: in [0, 1), instead of ``lambda_`` and in the same forms, but not per axis.
        boundary: "natural", "periodic" or "fixed", for all axes or for each.
        spacing: distance of neighbours, for all axes or for each, larger than 0: weights are 1 / spacing^2.
        mask: bool tensor of ``shape``, the valid texels; at the others M is the identity.
        device: of ``mask`` and of tensors of lambda; fields must be on it too. A matrix without such tensors takes fields on
            any device.

    Attributes:
        shape, boundary, spacing: tuples of K.
        mask: as given, or None.

    Raises:
        TypeError, ValueError: an argument of another form; a lambda that is negative, NaN or infinite; a mask without texels.

    Example:
        >>> matrix = GridMatrix((512, 512), lambda_=19.0, boundary=("natural", "periodic"))
        >>> u = to_differential(matrix, texture)          # (N, C, 512, 512)
        >>> texture = from_differential(matrix, u)
    """

    def __init__(
        self,
        shape: Sequence[int],
        lambda_: float | Sequence[float] | Tensor | None = None,
        *,
        alpha: float | Tensor | None = None,
        boundary: str | Sequence[str] = "natural",
        spacing: float | Sequence[float] = 1.0,
        mask: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.shape = checked_shape(shape)
        self.boundary = checked_boundary(boundary, self.ndim)
        self.spacing = checked_spacing(spacing, self.ndim)
        if lambda_ is not None and alpha is not None:
            raise ValueError(f"alpha: expected lambda_ or alpha, not both; got lambda_={lambda_} and alpha={alpha}")
        self._name = "lambda_" if alpha is None else "alpha"
        value = (DEFAULT_LAMBDA if lambda_ is None else lambda_) if alpha is None else alpha
        value, self._form = checked_strength(self._name, value, self.shape)
        self.mask = checked_mask(mask, self.shape)
        given = value.device if self.mask is None else self.mask.device
        self.device = given if device is None else torch.device(device)
        if self.mask is not None and self.mask.device.type not in ("cpu", self.device.type):
            raise ValueError(f"mask: expected it on {self.device}, got {describe(self.mask)}")
        self.mask = None if self.mask is None else self.mask.to(self.device)
        if value.requires_grad and value.device != self.device:
            raise ValueError(f"{self._name}: expected it on {self.device}, since it requires gradients, got {describe(value)}")
        # A copy: later in-place changes of a given tensor have no effect, unless it is learned.
        with torch.inference_mode(False):  # it is kept, and may be needed for gradients later
            self._value = value if value.requires_grad else value.to(self.device, copy=True)
        self._kept: dict[Any, Any] = {}  # results for numbers that do not require gradients
        self.places: dict[bool, Any] = {}  # of the sparse matrix's entries, for any lambda; sparse.py fills it

    @property
    def ndim(self) -> int:
        """K, the number of axes."""
        return len(self.shape)

    @property
    def is_uniform(self) -> bool:
        """Whether the transforms diagonalise M: no mask, and no lambda per texel."""
        return self.mask is None and not self.varies

    @property
    def varies(self) -> bool:
        """Whether there is one lambda per texel."""
        return self._form == "texel"

    @property
    def requires_grad(self) -> bool:
        """Whether lambda requires gradients."""
        return self._value.requires_grad

    @cached_property
    def num_valid(self) -> int:
        """How many texels are valid."""
        return math.prod(self.shape) if self.mask is None else int(self.mask.sum())

    @property
    def batch_size(self) -> int | None:
        """N, if each field of the batch has its own lambda; None if all have the same."""
        return self._value.shape[0] if self._form == "field" else None

    def eigenvalues(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The eigenvalues of M, a tensor of ``shape``, or (N, 1, *shape) with one lambda per field.

        They are in the order of the frequencies. Entry k of a natural axis is c (2 sin(pi k / 2n))^2, of a periodic axis
        c (2 sin(pi k / n))^2, of a fixed axis c (2 sin(pi (k + 1) / 2(n + 1)))^2, with c = lambda / spacing^2.

        Raises:
            ValueError: a mask, or a lambda per texel: there is no closed form.
        """
        if not self.is_uniform:
            raise ValueError("eigenvalues: expected a grid without a mask and with a lambda that does not vary, got one with")
        coefficients = self.coefficients()
        total = coefficients[:, 0].view(-1, *[1] * (self.ndim + 1))
        for axis, (size, boundary) in enumerate(zip(self.shape, self.boundary, strict=True)):
            k = torch.arange(size, dtype=torch.float64, device=total.device)
            values = eigenvalues_of_axis(k, size, boundary).view(-1, *[1] * (self.ndim - 1 - axis))
            total = total + coefficients[:, axis + 1].view(-1, *[1] * (self.ndim + 1)) * values
        return (total if self.batch_size is not None else total[0, 0]).to(dtype)

    def coefficients(self, device: torch.device | None = None) -> Tensor:
        """(1, 1 + K) or (N, 1 + K) float64: the factors of the identity and of each axis's Laplacian with unit spacing.
        Differentiable in lambda. Only for a matrix without a lambda per texel."""
        device = self.device if device is None else device
        if device in self._kept:
            return self._kept[device]
        value = self._value.to(torch.float64)
        value = value.reshape(-1, 1) if self._form == "field" else value.reshape(1, -1)
        identity = torch.ones_like(value[:, :1]) if self._name == "lambda_" else 1 - value
        coefficients = torch.cat([identity, value * value.new_tensor([1 / h**2 for h in self.spacing])], dim=1).to(device)
        if self._keeps():  # avoids a copy to a GPU at every solve
            self._kept[device] = coefficients
        return coefficients

    def weights(self, like: Tensor) -> list[Tensor]:
        """1 + K tensors, the weights of the identity and of the edges along each axis, for
        :func:`~pt3d_largesteps.grids.differences.multiply`; differentiable in lambda.

        They have the dtype and device of ``like``. They broadcast with fields, and with their differences along an axis.
        """
        if self.is_uniform:
            return [c.view(-1, *[1] * (self.ndim + 1)) for c in self.coefficients(like.device).to(like.dtype).unbind(1)]
        key = (like.dtype, like.device)
        if key in self._kept:
            return self._kept[key]
        value = self._value.to(like)
        value = value.reshape(()) if self._form == "number" else value
        identity = torch.ones_like(value) if self._name == "lambda_" else 1 - value
        identity = identity.reshape(-1)[0] if self._form == "axis" else identity
        weights = [identity if self.mask is None else torch.where(self.mask, identity, 1)]
        for k, (boundary, spacing) in enumerate(zip(self.boundary, self.spacing, strict=True)):
            axis = k - self.ndim
            on_axis = value[k] if self._form == "axis" else value
            weight = (mean_of_ends(on_axis, axis, boundary) if self.varies else on_axis) / spacing**2
            weights.append(weight if self.mask is None else both_valid(self.mask, axis, boundary) * weight)
        if self._keeps():
            self._kept[key] = weights
        return weights

    def _keeps(self) -> bool:
        """Whether results of now can be kept. torch.compile would keep its tracing tensors."""
        if self.requires_grad or torch.compiler.is_compiling():
            return False
        return not torch.is_inference_mode_enabled()

    def check_field(self, name: str, field: Tensor) -> None:
        """Raises unless ``field`` is (N, C, *shape) of float32 or float64, on the matrix's device."""
        if not isinstance(field, Tensor) or field.dim() != self.ndim + 2 or tuple(field.shape[2:]) != self.shape:
            sizes = ", ".join(str(size) for size in self.shape)
            raise ValueError(f"{name}: expected a tensor of shape (N, C, {sizes}), got {describe(field)}")
        check_float_dtype(name, field)
        if field.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: expected float32 or float64, got {describe(field)}")
        if self.batch_size not in (None, 1, field.shape[0]):
            raise ValueError(f"{name}: expected {self.batch_size} fields, one for each of {self._name}, got {describe(field)}")
        if field.device != self.device and (not self.is_uniform or self.requires_grad):
            raise ValueError(f"{name}: expected it on {self.device}, as the matrix, got {describe(field)}")

    def __matmul__(self, field: Tensor) -> Tensor:
        """M x of fields (N, C, *shape), differentiable in x and in lambda any number of times."""
        self.check_field("field", field)
        return self.multiply(field)

    def multiply(self, field: Tensor) -> Tensor:
        """The same without checks. It is a method because torch.compile does not trace operators of objects."""
        return multiply(field, self.weights(field), self.boundary)

    def numbers(self) -> dict[str, Any]:
        """The numbers that define the matrix, to compare and to save."""
        return {
            "shape": self.shape,
            "boundary": self.boundary,
            "spacing": self.spacing,
            "name": self._name,
            "strength": self._value.detach(),
            "mask": self.mask,
        }

    def detach(self) -> GridMatrix:
        """The same matrix without gradients."""
        if not self.requires_grad:
            return self
        matrix = copy.copy(self)
        matrix._value, matrix._kept = self._value.detach(), {}
        return matrix

    def to(self, device: torch.device | str) -> GridMatrix:
        """The same matrix on another device."""
        matrix = copy.copy(self)
        matrix.device, matrix._kept, matrix.places = torch.device(device), {}, {}
        matrix._value = self._value.to(device)
        matrix.mask = None if self.mask is None else self.mask.to(device)
        return matrix

    def __repr__(self) -> str:
        value = self._value.detach()
        text = f"{float(value.min()):g}" if value.numel() == 1 else f"{float(value.min()):g} to {float(value.max()):g}"
        valid = "" if self.mask is None else f", valid={int(self.mask.sum())}"
        return f"GridMatrix(shape={self.shape}, {self._name}={text}, boundary={self.boundary}, spacing={self.spacing}{valid})"

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kept": {}, "places": {}}
