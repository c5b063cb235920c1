"""A knobbly ball with a texture in longitude and latitude, and pictures of it.

The texture has no column twice: its last one is the neighbour of its first. A map of PyTorch3D ends at its last column, so
that it gets the first one once more at its end: then look-ups across the seam are those of any two neighbours.
"""

from __future__ import annotations

import math

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, TexturesUV, look_at_view_transform
from pytorch3d.structures import Meshes
from torch import Tensor

from fields.descent import Loss
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from reconstruction.views import DISTANCE, FIELD_OF_VIEW

ROWS, COLUMNS = 48, 96  # of squares


class Globe:
    """The ball; it is called with a texture (1, 3, H, W) and cameras, and returns pictures (N, 3, height, width).

    Args:
        device: of everything.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        row, column = torch.meshgrid(torch.arange(ROWS + 1), torch.arange(COLUMNS + 1), indexing="ij")
        polar, azimuth = math.pi * row / ROWS, 2 * math.pi * column / COLUMNS
        radius = 0.92 + 0.05 * torch.sin(polar) ** 2 * torch.cos(4 * azimuth) + 0.04 * torch.cos(5 * polar)
        ring = radius * torch.sin(polar)
        places = torch.stack([ring * torch.sin(azimuth), radius * torch.cos(polar), ring * torch.cos(azimuth)], dim=-1)
        corners = torch.stack([column / COLUMNS, 1 - row / ROWS], dim=-1).view(-1, 2)
        index = torch.arange(corners.shape[0]).view(row.shape)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        # at a pole, one of the two triangles of a square is a line
        upper, lower = torch.stack([a, c, d], -1)[:-1], torch.stack([a, d, b], -1)[1:]
        self.faces_uvs = torch.cat([upper.reshape(-1, 3), lower.reshape(-1, 3)]).to(device)
        self.verts_uvs = corners.to(device)
        # The surface is closed: the vertices of the last column are those of the first, and each pole is one.
        vertex = row * COLUMNS + column % COLUMNS
        vertex[0], vertex[-1] = 0, ROWS * COLUMNS
        self.verts = places[:, :-1].reshape(-1, 3).to(device)
        self.faces = vertex.view(-1).to(device)[self.faces_uvs]

    def __call__(self, texture: Tensor, cameras: FoVPerspectiveCameras, resolution: int, background: float = 0.0) -> Tensor:
        maps = torch.cat([texture, texture[..., :1]], dim=-1).permute(0, 2, 3, 1)
        mesh = Meshes([self.verts], [self.faces], TexturesUV(maps, [self.faces_uvs], [self.verts_uvs]))
        light = SphericalHarmonicsLight.ambient()
        renderer = PyTorch3DRenderer(resolution, light, background=(background,) * 3, antialiased=False)
        return renderer(mesh, cameras)[..., :3].permute(0, 3, 1, 2)

    def cameras(self, eyes: Tensor, field_of_view: float = FIELD_OF_VIEW) -> FoVPerspectiveCameras:
        """That look at the middle from the directions (N, 3)."""
        rotation, translation = look_at_view_transform(eye=DISTANCE * eyes.cpu())
        device = self.verts.device
        return FoVPerspectiveCameras(R=rotation, T=translation, fov=field_of_view, znear=0.1, device=device)


def pictures(globe: Globe, target: Tensor, views: int, resolution: int, seed: int) -> Loss:
    """The mean squared difference of so many pictures from random directions, others at each call."""
    generator = torch.Generator().manual_seed(seed)

    def loss(values: Tensor) -> Tensor:
        eyes = torch.nn.functional.normalize(torch.randn(views, 3, generator=generator), dim=1)
        cameras = globe.cameras(eyes)
        return (globe(values, cameras, resolution) - globe(target, cameras, resolution)).square().mean()

    return loss


def jump(texture: Tensor) -> float:
    """The mean absolute difference of the columns on both sides of the seam, divided by that of neighbours elsewhere."""
    differences = (texture.roll(-1, -1) - texture).abs().mean((0, 1, 2))
    return float(differences[-1] / differences[:-1].mean())
