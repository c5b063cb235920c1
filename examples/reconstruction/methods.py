"""The methods that are compared: large steps, plain Adam on the vertices, and Adam with a Laplacian regulariser.

Each owns its parameter and its optimiser and gives the current meshes; the loop does not know which one it drives.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from pytorch3d.structures import Meshes
from torch import Tensor

from pt3d_largesteps import LargeSteps, SystemMatrix, UniformAdam, combinatorial_laplacian

METHODS = ("large-steps", "adam", "laplacian")
DEFAULT_LR = {"large-steps": 1.3, "adam": 0.1, "laplacian": 0.1}  # in mean edge lengths


class Method(Protocol):
    optimizer: torch.optim.Optimizer

    def meshes(self) -> Meshes:
        """The current meshes, differentiable in the parameter."""
        ...

    def regularizer(self, meshes: Meshes) -> Tensor | float:
        """What is added to the loss."""
        ...


class LargeStepsMethod:
    """UniformAdam on u = (I + lambda L) x."""

    def __init__(self, start: Meshes, lambda_: float, lr: float, solver: Any) -> None:
        self.steps = LargeSteps(start, lambda_=lambda_, solver=solver)
        self.optimizer = UniformAdam(self.steps.parameters(), lr=lr, betas=(0.9, 0.99))

    def meshes(self) -> Meshes:
        return self.steps()

    def regularizer(self, meshes: Meshes) -> float:
        return 0.0


class AdamMethod:
    """Adam on the vertices, with ``weight`` times the mean of x . L x per vertex (the paper's Laplacian regulariser)."""

    def __init__(self, start: Meshes, lr: float, weight: float) -> None:
        self.start = start
        self.verts = torch.nn.Parameter(start.verts_padded().clone())
        self.weight = weight
        self.laplacian = SystemMatrix.from_sparse(combinatorial_laplacian(start)) if weight else None
        self.optimizer = torch.optim.Adam([self.verts], lr=lr)

    def meshes(self) -> Meshes:
        return self.start.update_padded(self.verts)

    def regularizer(self, meshes: Meshes) -> Tensor | float:
        if self.laplacian is None:
            return 0.0
        verts = meshes.verts_packed()
        return self.weight * (verts * (self.laplacian @ verts)).mean()


def make_method(name: str, start: Meshes, lambda_: float, lr: float, weight: float, solver: Any) -> Method:
    """A method by its name of ``METHODS``."""
    if name == "large-steps":
        return LargeStepsMethod(start, lambda_, lr, solver)
    return AdamMethod(start, lr, weight if name == "laplacian" else 0.0)
