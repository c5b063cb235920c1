"""Signed distances of simple solids (negative inside), their smooth union, and the surfaces that they describe."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pytorch3d.structures import Meshes
from skimage.measure import marching_cubes
from torch import Tensor


def surface(distance: Callable[[Tensor], Tensor], resolution: int, half_side: float = 1.1) -> Meshes:
    """The zero level set of a distance function of points (..., 3), sampled in the cube [-half_side, half_side]^3."""
    axis = torch.linspace(-half_side, half_side, resolution)
    values = distance(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1))
    # scikit-image's, not PyTorch3D's, which leaves a few holes here
    verts, faces, _, _ = marching_cubes(values.numpy(), 0.0)
    verts = torch.from_numpy(verts.copy()) * (2 * half_side / (resolution - 1)) - half_side
    return Meshes(verts=[verts], faces=[torch.from_numpy(faces.copy()).long()])


def capsule(points: Tensor, start: Tensor, end: Tensor, start_radius: float, end_radius: float) -> Tensor:
    axis = end - start
    t = (((points - start) @ axis) / (axis @ axis)).clamp(0, 1)
    return (points - start - t[..., None] * axis).norm(dim=-1) - (start_radius + t * (end_radius - start_radius))


def cylinder(points: Tensor, radius: float, bottom: float, top: float, rounding: float) -> Tensor:
    """Upright, around the y axis."""
    across = points[..., [0, 2]].norm(dim=-1) - radius + rounding
    along = (points[..., 1] - 0.5 * (bottom + top)).abs() - 0.5 * (top - bottom) + rounding
    return torch.maximum(across, along).clamp_max(0) + torch.hypot(across.clamp_min(0), along.clamp_min(0)) - rounding


def stadium(points: Tensor, length: float, radius: float, thickness: float) -> Tensor:
    """A ring in the xy plane, drawn out along x by ``length``: two half circles of ``radius`` and two straight pieces."""
    along = (points[..., 0].abs() - length / 2).clamp_min(0)
    return torch.hypot(torch.hypot(along, points[..., 1]) - radius, points[..., 2]) - thickness


def smooth_union(first: Tensor, second: Tensor, softness: float) -> Tensor:
    """Polynomial smooth minimum."""
    blend = (0.5 + 0.5 * (second - first) / softness).clamp(0, 1)
    return second + (first - second) * blend - softness * blend * (1 - blend)
