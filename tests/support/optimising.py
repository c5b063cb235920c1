"""Optimisations that need no pictures, for tests of batches on every device."""

from __future__ import annotations

import torch
from pytorch3d.structures import Meshes

from pt3d_largesteps import LargeSteps, UniformAdam


def double(meshes: Meshes) -> Meshes:
    return Meshes([verts.double() for verts in meshes.verts_list()], meshes.faces_list())


def optimise(meshes: Meshes, dtype: torch.dtype, num_steps: int, **options) -> list[list[torch.Tensor]]:
    """Each mesh becomes another shape, by a loss that is a sum over the meshes; the vertices of each after every step."""
    meshes = double(meshes) if dtype == torch.float64 else meshes
    steps = LargeSteps(meshes, **options)
    optimizer = UniformAdam(steps.parameters(), lr=0.02)
    start = meshes.verts_list()
    # The scale of the loss differs from mesh to mesh, and so would the step, if there were but one maximum.
    goals = [verts * verts.new_tensor([0.6, 1.3, 0.9]) + 0.1 * torch.sin(3 * verts.flip(1)) for verts in start]
    path = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        verts = steps().verts_list()
        pairs = zip(verts, goals, strict=True)
        loss = sum(len(goal) ** 2 * ((one - goal) ** 2 + (one - goal) ** 4).sum() for one, goal in pairs)
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        path.append([one.detach() for one in verts])
    return path
