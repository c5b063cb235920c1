"""A target shape made in code: an animal with thin legs, ears and tail, and fine relief on its back."""

from __future__ import annotations

import torch
from pytorch3d.structures import Meshes
from skimage.measure import marching_cubes
from torch import Tensor

# Capsules: one end, the other end, the radius at each, and how softly it joins the rest.
_PARTS = (
    ((-0.45, 0.05, 0.0), (0.35, 0.08, 0.0), 0.25, 0.23, 0.10),  # body
    ((0.35, 0.15, 0.0), (0.58, 0.48, 0.0), 0.15, 0.10, 0.10),  # neck
    ((0.55, 0.52, 0.0), (0.82, 0.45, 0.0), 0.14, 0.07, 0.06),  # head
    ((0.52, 0.60, 0.07), (0.44, 0.86, 0.16), 0.05, 0.025, 0.03),  # ears
    ((0.52, 0.60, -0.07), (0.44, 0.86, -0.16), 0.05, 0.025, 0.03),
    ((0.33, 0.0, 0.14), (0.42, -0.62, 0.18), 0.09, 0.05, 0.05),  # front legs
    ((0.33, 0.0, -0.14), (0.28, -0.62, -0.18), 0.09, 0.05, 0.05),
    ((-0.45, 0.0, 0.14), (-0.55, -0.62, 0.18), 0.10, 0.05, 0.05),  # hind legs
    ((-0.45, 0.0, -0.14), (-0.40, -0.62, -0.18), 0.10, 0.05, 0.05),
    ((-0.65, 0.15, 0.0), (-0.98, 0.42, 0.05), 0.05, 0.025, 0.05),  # tail
)


def animal(resolution: int = 96) -> Meshes:
    """A closed surface of genus 0, about 14,000 vertices, before it is put into the unit ball.

    It is the zero level of a signed distance: a smooth union of capsules, less a pattern of waves where the back is.

    Args:
        resolution: samples of the distance along each axis.
    """
    axis = torch.linspace(-1.1, 1.1, resolution)
    distance = _distance(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1))
    # scikit-image's, not PyTorch3D's, which leaves a few holes here
    verts, faces, _, _ = marching_cubes(distance.numpy(), 0.0)
    verts = torch.from_numpy(verts.copy()) * (2.2 / (resolution - 1)) - 1.1
    return Meshes(verts=[verts], faces=[torch.from_numpy(faces.copy()).long()])


def _distance(points: Tensor) -> Tensor:
    """Signed distance, negative inside, of points (..., 3)."""
    distance = torch.full(points.shape[:-1], 10.0)
    for start, end, start_radius, end_radius, softness in _PARTS:
        part = _capsule(points, torch.tensor(start), torch.tensor(end), start_radius, end_radius)
        blend = (0.5 + 0.5 * (part - distance) / softness).clamp(0, 1)  # polynomial smooth minimum
        distance = part + (distance - part) * blend - softness * blend * (1 - blend)
    on_back = torch.sigmoid((points[..., 1] - 0.12) * 25) * torch.sigmoid((0.3 - points[..., 0]) * 25)
    waves = torch.cos(22 * points[..., 0]) * torch.cos(22 * points[..., 2])
    return distance - 0.018 * waves * on_back


def _capsule(points: Tensor, start: Tensor, end: Tensor, start_radius: float, end_radius: float) -> Tensor:
    axis = end - start
    t = (((points - start) @ axis) / (axis @ axis)).clamp(0, 1)
    return (points - start - t[..., None] * axis).norm(dim=-1) - (start_radius + t * (end_radius - start_radius))
