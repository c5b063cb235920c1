"""x = M^-1 b as one differentiable function, for any solver.

M is symmetric and linear in its numbers p: the values of a sparse matrix, or a few coefficients of a grid. For an upstream
gradient g of x and for tangents db and dM,

    dL/db = M^-1 g =: y,      dL/dp = -<y, (dM/dp) x>,      dx = M^-1 (db - dM x).

Every derivative is a solve with the same matrix, so derivatives of any order exist and are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.autograd.forward_ad
from torch import Tensor


class Inverse(Protocol):
    """M^-1, and how M depends on its numbers."""

    def solve(self, rhs: Tensor, direction: int, numbers: Sequence[Tensor]) -> Tensor:
        """x, a new tensor without derivatives. ``direction`` counts the passes of one solve: 0 is forward, 1 backward, ..."""
        ...

    def gradients(
        self, adjoint: Tensor, solution: Tensor, numbers: Sequence[Tensor], needed: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """-<y, (dM/dp) x> for each number that needs it; differentiable."""
        ...

    def change(self, solution: Tensor, numbers: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        """dM x for the tangents of the numbers; differentiable."""
        ...

    def vmap(
        self, info: Any, in_dims: Sequence[int | None], direction: int, rhs: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """A batch of solves; ``in_dims`` are the batched dimensions of (rhs, *numbers). Returns x and its batched dimension."""
        ...


def linear_solve(inverse: Inverse, rhs: Tensor, *numbers: Tensor, direction: int = 0) -> Tensor:
    """x = M^-1 rhs, differentiable in rhs and in the numbers any number of times, in reverse and in forward mode, and under the
    transforms of ``torch.func``.

    If no derivative is needed, only ``inverse.solve`` runs: autograd costs as much as a small solve.
    """
    if is_transformed():
        return _TransformedSolve.apply(rhs, inverse, direction, *numbers)
    if torch.is_grad_enabled() and (rhs.requires_grad or any(number.requires_grad for number in numbers)):
        return _EagerSolve.apply(rhs, inverse, direction, *numbers)
    return inverse.solve(rhs, direction, numbers)


def is_transformed() -> bool:
    """Whether a transform of ``torch.func``, or forward mode, is active."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


class _EagerSolve(torch.autograd.Function):
    """The solve without a transform. For functions with ``setup_context`` torch binds arguments with ``inspect``, which takes
    as long as a small solve."""

    @staticmethod
    def forward(ctx: Any, rhs: Tensor, inverse: Inverse, direction: int, *numbers: Tensor) -> Tensor:
        solution = inverse.solve(rhs, direction, numbers)
        ctx.inverse, ctx.direction = inverse, direction
        ctx.save_for_backward(solution, *numbers)
        return solution

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        solution, *numbers = ctx.saved_tensors
        adjoint = linear_solve(ctx.inverse, gradient, *numbers, direction=ctx.direction + 1)
        needed = ctx.needs_input_grad[3:]
        gradients = ctx.inverse.gradients(adjoint, solution, numbers, needed) if any(needed) else (None,) * len(numbers)
        return adjoint, None, None, *gradients


class _TransformedSolve(_EagerSolve):
    """The same under the transforms of ``torch.func`` and in forward mode."""

    @staticmethod
    def forward(rhs: Tensor, inverse: Inverse, direction: int, *numbers: Tensor) -> Tensor:  # type: ignore[override]
        return inverse.solve(rhs, direction, numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.inverse, ctx.direction, *numbers = inputs
        ctx.save_for_backward(output, *numbers)
        ctx.save_for_forward(output, *numbers)

    @staticmethod
    def jvp(ctx: Any, rhs_tangent: Tensor | None, *others: Any) -> Tensor:
        solution, *numbers = ctx.saved_tensors
        tangents = others[2:]  # after those of the two arguments that are not tensors
        change = torch.zeros_like(solution) if rhs_tangent is None else rhs_tangent
        if any(tangent is not None for tangent in tangents):
            change = change - ctx.inverse.change(solution, numbers, tangents)
        return linear_solve(ctx.inverse, change, *numbers, direction=ctx.direction + 1)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], rhs: Tensor, inverse: Inverse, direction: int, *numbers: Tensor
    ) -> tuple[Tensor, int]:
        return inverse.vmap(info, (in_dims[0], *in_dims[3:]), direction, rhs, numbers)
