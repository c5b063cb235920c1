"""Losses that need no pictures, and configs of few steps, for the tests of the driver."""

from __future__ import annotations

import math

import torch
from pytorch3d.structures import Meshes

from pt3d_largesteps import OptimizationConfig, Stage

ONE_STAGE = (Stage(0.0, lambda_=9.0),)
TWO_STAGES = (Stage(0.0, lambda_=9.0), Stage(0.5, lambda_=4.0, num_verts=300))
SHORT = OptimizationConfig(steps=12, stages=ONE_STAGE, untangle=False)
SMALL = OptimizationConfig(steps=12, stages=TWO_STAGES, untangle=False)


def to_ellipsoid(meshes: Meshes) -> torch.Tensor:
    """(N,), 0 where a mesh lies on an ellipsoid."""
    sums = [((verts / verts.new_tensor([1.0, 0.6, 0.8])).square().sum(1) - 1).square().mean() for verts in meshes.verts_list()]
    return torch.stack(sums)


class NoisyViews:
    """A loss that depends on the views and on torch's own random numbers."""

    num_views = 5

    def __call__(self, meshes: Meshes, views: list[int]) -> torch.Tensor:
        verts = meshes.verts_packed()
        noise = 0.01 * torch.randn(len(views), 3)
        target = torch.stack([torch.tensor([math.cos(v), math.sin(v), 0.0]) for v in views])
        return to_ellipsoid(meshes) + 0.1 * (verts.mean(0) - target - noise).square().mean()
