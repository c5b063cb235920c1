"""The parameterisation u = (I + lambda L) x of images, textures and volumes as a module.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3, with a grid
instead of a mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import check_finite, describe
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.optim.packed import PackedParameter
from pt3d_largesteps.solvers.grid import GridSolverFactory
from pt3d_largesteps.steps.module import PackedModule, check_keys
from pt3d_largesteps.systems.functions import from_differential, to_differential


class LargeStepsGrid(PackedModule):
    """The differential coordinates of fields over a regular grid, as a module with one parameter.

    ``forward()`` returns the fields x = M^-1 u. Optimise ``parameters()`` with :class:`~pt3d_largesteps.UniformAdam`. It
    takes its maximum over each field of the batch (over all channels), so each field moves as it would alone.

    Args:
        field: (N, C, L), (N, C, H, W) or (N, C, D, H, W), float32 or float64, finite.
        lambda_, alpha, boundary, spacing: of :class:`~pt3d_largesteps.GridMatrix`. A ``nn.Parameter`` becomes a parameter of
            the module, and is learned.
        mask: bool tensor (L,), (H, W) or (D, H, W), the valid texels. The others keep the values of ``field`` and do not
            influence the valid texels. Their u gets no gradient.
        solver: of :func:`~pt3d_largesteps.solvers.grid.solve_grid`.

    Attributes:
        u: the parameter, in the shape of the field (:class:`~pt3d_largesteps.PackedParameter` with one mesh per field).
        matrix: the :class:`~pt3d_largesteps.GridMatrix`.

    Raises:
        TypeError, ValueError: see :class:`~pt3d_largesteps.GridMatrix`; also a field of another form or with NaN or infinity.

    Example:
        >>> steps = LargeStepsGrid(texture, lambda_=19.0, boundary=("natural", "periodic"))
        >>> optimizer = UniformAdam(steps.parameters(), lr=1e-2)
        >>> for _ in range(500):
        ...     optimizer.zero_grad()
        ...     loss = image_loss(render(steps()))
        ...     loss.backward()
        ...     optimizer.step()
    """

    def __init__(
        self,
        field: Tensor,
        lambda_: float | Sequence[float] | Tensor | None = None,
        *,
        alpha: float | Tensor | None = None,
        boundary: str | Sequence[str] = "natural",
        spacing: float | Sequence[float] = 1.0,
        mask: Tensor | None = None,
        solver: str | GridSolverFactory = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(field, Tensor) or field.dim() not in (3, 4, 5):
            raise ValueError(f"field: expected a tensor (N, C, L), (N, C, H, W) or (N, C, D, H, W), got {describe(field)}")
        self.lambda_, self.alpha = lambda_, alpha  # registered where one is a parameter
        self.solver = solver
        self._options: dict[str, Any] = {"shape": tuple(field.shape[2:]), "boundary": boundary, "spacing": spacing}
        self._mask = mask
        self.matrix = self._make_matrix(field.device)
        self.matrix.check_field("field", field)
        self._outside: Tensor | None = None  # the values that invalid texels keep
        self.u = PackedParameter(self._encoded(field), [1] * len(field))

    def forward(self) -> Tensor:
        """The fields x = M^-1 u, (N, C, *shape), differentiable in u (and in lambda, if it is a parameter)."""
        field = from_differential(self.matrix, self.u, self.solver)
        mask = self.matrix.mask
        return field if mask is None or self._outside is None else torch.where(mask, field, self._outside)

    @torch.no_grad()
    def set_values(self, field: Tensor) -> None:
        """Encodes other fields in place: u = M x. The optimiser keeps the parameter and its state.

        Args:
            field: in the shape of u. From now on, invalid texels keep the values of this field.

        Example:
            >>> steps.set_values(steps().clamp(0, 1))
        """
        if not isinstance(field, Tensor) or field.shape != self.u.shape:
            raise ValueError(f"field: expected a tensor of shape {tuple(self.u.shape)}, got {describe(field)}")
        self.u.copy_(self._encoded(field.detach().to(self.u)))

    @torch.no_grad()
    def set_lambda(
        self, lambda_: float | Sequence[float] | Tensor | None = None, *, alpha: float | Tensor | None = None
    ) -> None:
        """Sets another lambda or alpha, in any form of the class except a parameter. The fields do not change: u is computed
        again from them.

        Example:
            >>> steps.set_lambda(1.0)
        """
        if self.matrix.requires_grad or isinstance(lambda_, nn.Parameter) or isinstance(alpha, nn.Parameter):
            raise ValueError(
                "lambda_: cannot replace a learned lambda_ or alpha, and cannot make one learned; change the parameter, or make"
                " a new module"
            )
        field, before = self(), (self.lambda_, self.alpha, self.matrix)
        try:
            self.lambda_, self.alpha = lambda_, alpha
            self.matrix = self._make_matrix(self.u.device)
            self.matrix.check_field("field", field)
            self.set_values(field)
        except (TypeError, ValueError):  # an invalid one changes nothing
            self.lambda_, self.alpha, self.matrix = before
            raise

    @torch.no_grad()
    def _encoded(self, field: Tensor) -> Tensor:
        check_finite("field", field)
        u = to_differential(self.matrix, field.detach())
        check_finite("u", u, "; the values are too large for the dtype")
        self._outside = None if self.matrix.mask is None else field.detach().clone()
        return u

    def _make_matrix(self, device: torch.device) -> GridMatrix:
        shape, options = self._options["shape"], {k: v for k, v in self._options.items() if k != "shape"}
        return GridMatrix(shape, self.lambda_, alpha=self.alpha, mask=self._mask, device=device, **options)

    def get_extra_state(self) -> dict[str, Any]:
        """The matrix and the values outside the mask. They are saved with u, because u has no meaning without them."""
        return {**self.matrix.numbers(), "outside": self._outside}

    def set_extra_state(self, state: Any) -> None:
        """Raises if the state belongs to another matrix: the fields would be wrong, without any error."""
        expected = self.matrix.numbers()
        check_keys(state, {*expected, "outside"}, "matrix of the grid")
        for name, own in expected.items():
            if name == "strength" and self.matrix.requires_grad:
                continue
            saved = state[name]
            if isinstance(own, Tensor) and isinstance(saved, Tensor):
                same = own.shape == saved.shape and torch.allclose(own.double(), saved.to(own.device).double(), rtol=1e-5)
            else:
                same = own is saved if own is None or saved is None else type(own) is type(saved) and own == saved
            if not same:
                raise ValueError(
                    f"state_dict: expected the state of the same grid, got another {name}; make LargeStepsGrid with the"
                    " saved one, or transfer the fields with set_values"
                )
        self._outside = None if state["outside"] is None else state["outside"].to(self.u)

    def _follow_parameter(self) -> None:
        self._keep_packed([1] * len(self.u))
        u = self.u
        if self.matrix.requires_grad or self.matrix.device != u.device:
            self._mask = None if self._mask is None else self._mask.to(u.device)
            self.matrix = self._make_matrix(u.device)
        self._outside = None if self._outside is None else self._outside.to(u)

    def extra_repr(self) -> str:
        return f"fields={len(self.u)}, channels={self.u.shape[1]}, {self.matrix!r}, solver={self.solver}"
