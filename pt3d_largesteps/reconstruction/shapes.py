"""Generated target shapes: an animal with thin legs and fine relief, and shapes of other topology than a sphere."""

from __future__ import annotations

import itertools
import math

import torch
from pytorch3d.structures import Meshes
from torch import Tensor

from pt3d_largesteps.reconstruction.signed_distances import capsule, cylinder, smooth_union, stadium, surface

# Capsules: both ends, the radius at each end, and the smoothness of the union with the rest.
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

# The pretzel's rope from end to end; both ends lie at its bottom, and it crosses itself in between.
_ROPE = (
    (0.42, -0.60, 0.06), (0.22, -0.28, 0.08), (0.0, 0.02, 0.06), (-0.22, 0.36, 0.0), (-0.50, 0.58, 0.0), (-0.80, 0.46, 0.0),
    (-0.90, 0.10, 0.0), (-0.76, -0.32, 0.0), (-0.42, -0.60, 0.0), (0.0, -0.70, 0.0), (0.42, -0.60, 0.0), (0.76, -0.32, 0.0),
    (0.90, 0.10, 0.0), (0.80, 0.46, 0.0), (0.50, 0.58, 0.0), (0.22, 0.36, 0.0), (0.0, 0.02, -0.06), (-0.22, -0.28, -0.08),
    (-0.42, -0.60, -0.06),
)  # fmt: skip


def animal(resolution: int = 96) -> Meshes:
    """A closed surface of genus 0, about 14,000 vertices, not yet scaled into the unit ball.

    It is the zero level set of a signed distance: a smooth union of capsules minus a pattern of waves on the back.

    Args:
        resolution: samples of the distance along each axis.
    """
    return surface(_animal_distance, resolution)


def pot(resolution: int = 96) -> Meshes:
    """A closed surface of genus 1: a teapot with its lid on."""
    return surface(_pot_distance, resolution)


def mug(resolution: int = 96) -> Meshes:
    """A closed surface of genus 1: a mug with a wall, whose inside no silhouette shows, and a handle."""
    return surface(_mug_distance, resolution)


def pretzel(resolution: int = 96) -> Meshes:
    """A closed surface of genus 3: a rope that crosses itself once and whose ends lie on its middle."""
    return surface(_pretzel_distance, resolution)


def links(resolution: int = 96) -> Meshes:
    """Two closed surfaces of genus 1 that do not touch: links of a chain."""
    return surface(_links_distance, resolution)


def hand(resolution: int = 96) -> Meshes:
    """A closed surface of genus 0: a palm and five fingers, somewhat apart."""
    return surface(_hand_distance, resolution)


def star(resolution: int = 96) -> Meshes:
    """A closed surface of genus 0: a ball with twelve rounded spikes and rings around them."""
    return surface(_star_distance, resolution)


SHAPES = {
    "animal": animal,
    "hand": hand,
    "links": links,
    "mug": mug,
    "pot": pot,
    "pretzel": pretzel,
    "star": star,
}


def _animal_distance(points: Tensor) -> Tensor:
    distance = torch.full(points.shape[:-1], 10.0)
    for start, end, start_radius, end_radius, softness in _PARTS:
        part = capsule(points, torch.tensor(start), torch.tensor(end), start_radius, end_radius)
        distance = smooth_union(distance, part, softness)
    on_back = torch.sigmoid((points[..., 1] - 0.12) * 25) * torch.sigmoid((0.3 - points[..., 0]) * 25)
    waves = torch.cos(22 * points[..., 0]) * torch.cos(22 * points[..., 2])
    return distance - 0.018 * waves * on_back


def _hand_distance(points: Tensor) -> Tensor:
    palm = (points - torch.tensor([0.0, -0.35, 0.0])) * torch.tensor([1.0, 0.85, 2.2])
    distance = (palm.norm(dim=-1) - 0.38) / 1.5  # a lower bound of the distance
    wrist = capsule(points, torch.tensor([0.0, -0.5, 0.0]), torch.tensor([0.02, -0.85, 0.0]), 0.17, 0.16)
    distance = smooth_union(distance, wrist, 0.15)
    for across, length, depth in ((-0.28, 0.52, 0.06), (-0.1, 0.68, 0.1), (0.09, 0.72, 0.08), (0.27, 0.58, 0.0)):
        knuckle = torch.tensor([0.9 * across, -0.08, 0.0])
        tip = torch.tensor([1.5 * across, -0.08 + length, depth])
        distance = smooth_union(distance, capsule(points, knuckle, tip, 0.09, 0.065), 0.05)
    thumb = capsule(points, torch.tensor([0.25, -0.45, 0.05]), torch.tensor([0.66, -0.12, 0.22]), 0.11, 0.075)
    return smooth_union(distance, thumb, 0.08)


def _star_distance(points: Tensor) -> Tensor:
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    tips = torch.tensor([corner[-shift:] + corner[:-shift] for corner in corners for shift in range(3)])
    tips = torch.nn.functional.normalize(tips, dim=1)  # of an icosahedron
    radius = points.norm(dim=-1).clamp_min(1e-9)
    cosine = (points / radius[..., None] @ tips.T).amax(dim=-1)
    height = 0.55 + 0.35 * torch.exp(-9 * (1 - cosine)) + 0.015 * torch.cos(60 * cosine)
    return 0.4 * (radius - height)  # steep flanks: a lower bound of the distance


def _pot_distance(points: Tensor) -> Tensor:
    belly = (points * torch.tensor([1.0, 1.25, 1.0])).norm(dim=-1) - 0.55
    handle = stadium(points[..., [1, 0, 2]] - torch.tensor([0.0, 0.55, 0.0]), 0.14, 0.24, 0.055)
    distance = smooth_union(belly, handle, 0.05)
    spout = ((-0.45, -0.12, 0.0), (-0.70, 0.08, 0.0), 0.13, 0.09), ((-0.70, 0.08, 0.0), (-0.86, 0.42, 0.0), 0.09, 0.055)
    knob = (((0.0, 0.40, 0.0), (0.0, 0.55, 0.0), 0.05, 0.05), ((0.0, 0.56, 0.0), (0.0, 0.57, 0.0), 0.08, 0.08))
    for start, end, start_radius, end_radius in (*spout, *knob):
        part = capsule(points, torch.tensor(start), torch.tensor(end), start_radius, end_radius)
        distance = smooth_union(distance, part, 0.06)
    return distance


def _mug_distance(points: Tensor) -> Tensor:
    height = points[..., 1]
    belly = points / torch.stack([width := 0.92 + 0.14 * torch.cos(2 * height + 0.4), torch.ones_like(width), width], dim=-1)
    handle = stadium(points[..., [1, 0, 2]] - torch.tensor([0.02, 0.58, 0.0]), 0.22, 0.25, 0.075)
    solid = smooth_union(cylinder(belly, 0.55, -0.65, 0.65, 0.1), handle, 0.06)
    return torch.maximum(solid, -cylinder(belly, 0.45, -0.53, 0.95, 0.12))


def _pretzel_distance(points: Tensor) -> Tensor:
    distance = torch.full(points.shape[:-1], 10.0)
    rope = _smooth_curve(torch.tensor(_ROPE), 2)
    for index, (start, end) in enumerate(itertools.pairwise(rope)):
        radii = [0.09 + 0.05 * math.sin(math.pi * at / (len(rope) - 1)) for at in (index, index + 1)]  # thickest in the middle
        distance = torch.minimum(distance, capsule(points, start, end, *radii))
    return distance


def _smooth_curve(corners: Tensor, times: int) -> Tensor:
    """Chaikin's corner cutting, which keeps the ends."""
    for _ in range(times):
        start, end = corners[:-1], corners[1:]
        cut = torch.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], dim=1).view(-1, 3)
        corners = torch.cat([corners[:1], cut[1:-1], corners[-1:]])
    return corners


def _links_distance(points: Tensor) -> Tensor:
    first = stadium(points - torch.tensor([-0.33, 0.0, 0.0]), 0.30, 0.32, 0.09)
    second = stadium(points[..., [0, 2, 1]] - torch.tensor([0.33, 0.0, 0.0]), 0.30, 0.32, 0.09)
    return torch.minimum(first, second)
