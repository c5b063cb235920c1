"""Scenes for the compiled renderer: meshes, matrices and lights as its operators take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pytorch3d.renderer import FoVOrthographicCameras, FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus
from torch import Tensor

from pt3d_largesteps.native import rendering
from pt3d_largesteps.renderers.cameras import camera_matrices
from pt3d_largesteps.renderers.compiled import IndexCache


@dataclass
class Inputs:
    """What ``render_points`` takes; the images of each mesh are as many."""

    meshes: Meshes
    verts: Tensor
    view: Tensor
    projection: Tensor
    light: Tensor
    colors: Tensor
    index: Tensor
    perspective: bool

    def points(self, blocks: int = 2, **changed: Any) -> Tensor:
        """Points with 0, 1 or 2 blocks of attributes."""
        given = {"verts": self.verts, "view": self.view, "projection": self.projection, "light": self.light, **changed}
        light = given["light"] if blocks > 0 else None
        colors = given.get("colors", self.colors) if blocks > 1 else None
        arguments = (given["verts"], given["view"], given["projection"], light, colors, self.index, len(self.meshes))
        return rendering.render_points(*arguments)

    def visible(self, points: Tensor, image_size: tuple[int, int], outlined: bool = True) -> rendering.Visible:
        return rendering.rasterize(
            points, self.index, len(self.view), image_size, perspective=self.perspective, z_clip=None, cull_backfaces=False,
            outlined=outlined,
        )  # fmt: skip


def inputs(*, dtype: torch.dtype = torch.float64, perspective: bool = True, per_image: bool = False) -> Inputs:
    """Two meshes of different sizes, each seen by two cameras."""
    generator = torch.Generator().manual_seed(0)
    meshes = join_meshes_as_batch([ico_sphere(1), torus(0.3, 0.7, 5, 7)])
    verts = meshes.verts_packed()
    verts = verts + 0.05 * torch.randn(verts.shape, generator=generator)
    rotation, translation = look_at_view_transform(2.7, torch.tensor([10.0, -30, 55, 5]), torch.tensor([20.0, 200, 110, 300]))
    kind = FoVPerspectiveCameras if perspective else FoVOrthographicCameras
    matrices = camera_matrices(kind(R=rotation, T=translation))
    light = torch.randn((4 if per_image else 1, 9, 3), generator=generator)
    colors = torch.rand(verts.shape, generator=generator)
    assert matrices.projection is not None
    floats = (verts, matrices.view, matrices.projection, light, colors)
    return Inputs(meshes, *(one.to(dtype).contiguous() for one in floats), IndexCache().of(meshes), perspective)
