"""A target with its cameras and its pictures, the input of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, TexturesVertex, look_at_view_transform
from pytorch3d.structures import Meshes
from torch import Tensor

from paper.targets import load
from pt3d_largesteps.reconstruction.views import DISTANCE, FIELD_OF_VIEW, fibonacci_cameras
from pt3d_largesteps.renderers import PyTorch3DRenderer, Renderer, SphericalHarmonicsLight

RENDERERS = ("pytorch3d", "nvdiffrast")
GRADIENT_BOOST = 3.0  # of nvdiffrast's antialiasing, as the paper's scripts have it


@dataclass(frozen=True)
class SceneSpec:
    """The specification of a scene; small enough to be sent to another process.

    Attributes:
        target: a name or a file, see :func:`experiments.targets.load`.
        views: cameras spread evenly over a sphere; a single one looks from the front, slightly from above.
        resolution: pixels of each side.
        silhouettes: whether the images are silhouettes, not shaded.
        loss: "l1" or "l2".
        renderer: one of ``RENDERERS``.
        device: of everything.
        painted: whether the target has colours, by :func:`pattern`.
    """

    target: str
    views: int = 16
    resolution: int = 96
    silhouettes: bool = False
    loss: str = "l1"
    renderer: str = "pytorch3d"
    device: str = "cpu"
    painted: bool = False


class Scene:
    """The loss of an experiment: the difference of all images of a mesh from those of the target.

    Attributes:
        target: ``Meshes`` of one mesh in the unit ball.
        cameras: of all views.
        images: (views, resolution, resolution, C).
    """

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        self.target = load(spec.target).to(spec.device)
        if spec.painted:
            self.target.textures = TexturesVertex([pattern(self.target.verts_packed())])
        self.cameras = cameras(spec.views, spec.device)
        self.renderer = make_renderer(spec)
        with torch.no_grad():
            self.images = self.renderer(self.target, self.cameras)

    def loss(self, meshes: Meshes) -> Tensor:
        """Mean over views, pixels and channels."""
        difference = self.renderer(meshes, self.cameras) - self.images
        return difference.abs().mean() if self.spec.loss == "l1" else difference.square().mean()


def pattern(positions: Tensor) -> Tensor:
    """Colours (V, 3) in [0, 1] of positions (V, 3): soft blotches and sharp stripes."""
    blotches = 0.5 + 0.35 * torch.sin(positions.roll(1, dims=1) * 6 + positions * 4)
    stripes = torch.sigmoid(40 * torch.sin(14 * positions[:, 1:2] + 3 * positions[:, :1]))
    return blotches * (0.35 + 0.65 * stripes)


@lru_cache(maxsize=4)
def scene(spec: SceneSpec) -> Scene:
    """Made once in each process."""
    return Scene(spec)


def cameras(num_views: int, device: str) -> FoVPerspectiveCameras:
    if num_views > 1:
        return fibonacci_cameras(num_views, device)
    rotation, translation = look_at_view_transform(DISTANCE, elev=15.0, azim=30.0)
    return FoVPerspectiveCameras(R=rotation, T=translation, fov=FIELD_OF_VIEW, znear=0.1, device=device)


def make_renderer(spec: SceneSpec) -> Renderer:
    light = None if spec.silhouettes else SphericalHarmonicsLight.default()
    options: dict[str, Any] = {}
    if spec.renderer == "nvdiffrast":
        from pt3d_largesteps.renderers import NvdiffrastRenderer as Chosen

        options["pos_gradient_boost"] = GRADIENT_BOOST
    else:
        Chosen = PyTorch3DRenderer
    return Chosen(spec.resolution, light, **options)
