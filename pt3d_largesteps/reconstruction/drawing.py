"""Draws a mesh into a plot: shaded, or with its triangles."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from pytorch3d.renderer.cameras import CamerasBase
from pytorch3d.structures import Meshes

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.renderers.projection import ndc_to_pixels, project_to_ndc

WHITE = (1.0, 1.0, 1.0)


@torch.no_grad()
def draw_mesh(axis: Axes, meshes: Meshes, camera: CamerasBase, wireframe: bool, resolution: int = 384) -> None:
    """A shaded picture with the edges of the visible faces drawn over it."""
    renderer = PyTorch3DRenderer(resolution, SphericalHarmonicsLight.default(), background=WHITE)
    image = renderer(meshes, camera)[0, ..., :3].clamp(0, 1)
    axis.imshow((0.5 + 0.5 * image if wireframe else image).numpy(), interpolation="bilinear")
    axis.set_axis_off()
    if not wireframe:
        return
    ndc = project_to_ndc(meshes.verts_packed()[None], camera)[0]
    pixels = ndc_to_pixels(ndc, (resolution, resolution))
    seen = renderer.visible_faces(meshes, camera).pix_to_face.unique()
    edges = meshes.faces_packed_to_edges_packed()[seen[seen >= 0]].unique()
    segments = pixels[meshes.edges_packed()[edges]]
    axis.add_collection(LineCollection(list(segments.numpy()), colors="0.15", linewidths=0.25))
    axis.set_xlim(-0.5, resolution - 0.5)
    axis.set_ylim(resolution - 0.5, -0.5)
