"""Parameterisations: a module whose call returns the meshes, and its optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps.optim.uniform_adam import UniformAdam
from pt3d_largesteps.solvers.base import SolverFactory
from pt3d_largesteps.steps.meshes import LargeSteps

# A function of the meshes, lambda and the mask of pinned vertices (V,). It returns a module, whose call returns the meshes, and
# its optimiser. The driver sets the step size of all groups: a number, or (N,) if the meshes of a batch differ, which
# UniformAdam accepts. To interpolate moments the parameters must be packed, (V, ...). Other parameters to learn need their own
# optimiser, in a callback.
Parameterization = Callable[[Any, float, Tensor | None], tuple[nn.Module, torch.optim.Optimizer]]


def large_steps(
    *,
    laplacian: str = "combinatorial",
    solver: str | SolverFactory = "auto",
    betas: tuple[float, float] = (0.9, 0.99),
) -> Parameterization:
    """UniformAdam on u = (I + lambda L) x.

    Args:
        laplacian, solver: of :class:`~pt3d_largesteps.LargeSteps`.
        betas: of :class:`~pt3d_largesteps.UniformAdam`. The second moment decays faster than usual in Adam, because stages are
            short.

    Example:
        >>> optimize(start, loss, parameterize=large_steps(laplacian="cotangent"))
    """

    def parameterize(meshes: Any, lambda_: float, pinned: Tensor | None) -> tuple[nn.Module, torch.optim.Optimizer]:
        steps = LargeSteps(meshes, lambda_, laplacian=laplacian, solver=solver, pinned=pinned)
        # Gradients shrink as shapes grow; Adam's usual 1e-8 would matter for shapes measured in millimetres.
        return steps, UniformAdam(steps.parameters(), betas=betas, eps=1e-20)

    return parameterize


def check_packed(parameter: nn.Parameter, num_verts: int) -> None:
    """Raises ``ValueError`` unless the moments of a parameter can be interpolated from vertex to vertex."""
    if parameter.dim() == 0 or len(parameter) != num_verts:
        raise ValueError(
            f"moments: 'interpolate' expects parameters of packed vertices, ({num_verts}, ...), got {tuple(parameter.shape)};"
            " take 'reset' for others"
        )
