"""Cameras around the unit ball."""

from __future__ import annotations

import math

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform

DISTANCE = 2.7  # the unit ball fits into a field of view of 45 degrees
FIELD_OF_VIEW = 45.0


def fibonacci_cameras(num_views: int, device: str | torch.device = "cpu", turn: float = 0.0) -> FoVPerspectiveCameras:
    """``num_views`` cameras spread evenly over the sphere, all looking at the origin.

    Args:
        num_views: at least 1.
        device: of the cameras.
        turn: rotation of all cameras about the vertical axis, in radians; gives views that differ from the given ones.
    """
    index = torch.arange(num_views, dtype=torch.float64) + 0.5
    height = 1 - 2 * index / num_views
    azimuth = index * math.pi * (3 - math.sqrt(5)) + turn
    radius = (1 - height**2).sqrt()
    eye = DISTANCE * torch.stack([radius * azimuth.sin(), height, radius * azimuth.cos()], dim=1).float()
    rotation, translation = look_at_view_transform(eye=eye)
    return _cameras(rotation, translation, device)


def turntable_cameras(num_views: int, device: str | torch.device = "cpu", elevation: float = 20.0) -> FoVPerspectiveCameras:
    """Cameras on a circle, a full turn."""
    azimuth = torch.arange(num_views) * (360.0 / num_views) + 30.0
    rotation, translation = look_at_view_transform(DISTANCE, elevation, azimuth)
    return _cameras(rotation, translation, device)


def _cameras(rotation: torch.Tensor, translation: torch.Tensor, device: str | torch.device) -> FoVPerspectiveCameras:
    return FoVPerspectiveCameras(R=rotation, T=translation, fov=FIELD_OF_VIEW, znear=0.1, device=device)
