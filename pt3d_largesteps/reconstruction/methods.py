"""The methods that are compared: large steps, plain Adam on the vertices, and Adam with a Laplacian regulariser.

The driver treats all methods alike: stages, remeshing and the rule for the step size are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pytorch3d.structures import Meshes, list_to_padded
from torch import Tensor, nn

from pt3d_largesteps.optimization import Parameterization, large_steps
from pt3d_largesteps.reconstruction.timing import time_solves, time_steps
from pt3d_largesteps.renderers import ImageLoss
from pt3d_largesteps.steps.meshes import LargeSteps


class Positions(nn.Module):
    """The vertices themselves as the parameter."""

    def __init__(self, meshes: Meshes) -> None:
        super().__init__()
        self._template = meshes
        self._sizes = meshes.num_verts_per_mesh().tolist()
        self.verts = nn.Parameter(meshes.verts_packed().clone())  # packed, so that moments can be carried over remeshings

    def forward(self) -> Meshes:
        return self._template.update_padded(list_to_padded(list(self.verts.split(self._sizes))))


class RegularizedLoss:
    """A loss and ``weight`` times the mean of x . L x per vertex (the paper's Laplacian regulariser)."""

    def __init__(self, loss: ImageLoss, weight: float) -> None:
        self._loss, self._weight, self.num_views = loss, weight, loss.num_views

    def __call__(self, meshes: Meshes, views: Sequence[int]) -> Tensor:
        verts, edges = meshes.verts_packed(), meshes.edges_packed()
        lengths = (verts[edges[:, 0]] - verts[edges[:, 1]]).square().sum(1)  # x . L x is their sum
        energies = lengths.new_zeros(len(meshes)).index_add(0, meshes.edges_packed_to_mesh_idx(), lengths)
        return self._loss(meshes, views) + self._weight * energies / (3 * meshes.num_verts_per_mesh().clamp_min(1))


def parameterization(method: str, solver: str, seconds: dict[str, float]) -> Parameterization:
    """The parameterisation of one of ``METHODS``. Adds the time of solves and optimisers to ``seconds["solve"]`` and
    ``["optimizer"]``."""
    make = large_steps(solver=solver) if method == "large-steps" else _adam

    def parameterize(meshes: Meshes, lambda_: float, pinned: Tensor | None) -> tuple[nn.Module, torch.optim.Optimizer]:
        module, optimizer = make(meshes, lambda_, pinned)
        if isinstance(module, LargeSteps):
            time_solves(module, seconds)
        time_steps(optimizer, meshes.device, seconds)
        return module, optimizer

    return parameterize


def _adam(meshes: Meshes, lambda_: float, pinned: Tensor | None) -> tuple[nn.Module, torch.optim.Optimizer]:
    module = Positions(meshes)
    return module, torch.optim.Adam(module.parameters())
