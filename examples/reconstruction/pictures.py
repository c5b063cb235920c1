"""The pictures of a run: comparison with wireframes, turntable."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import matplotlib
import numpy as np
import torch
from pytorch3d.structures import Meshes

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.renderers.projection import ndc_to_pixels, project_to_ndc
from reconstruction.optimization import Run
from reconstruction.views import turntable_cameras

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

_WHITE = (1.0, 1.0, 1.0)


def save_comparison(path: Path, target: Meshes, start: Meshes, result: Meshes, caption: str) -> None:
    """Target, start and result side by side, from two sides, shaded and with their wireframes."""
    columns = {"target": target.cpu(), "start": start.cpu(), "result": result.cpu()}
    cameras = turntable_cameras(2)
    figure, axes = plt.subplots(4, 3, figsize=(9.6, 12.9), layout="constrained")
    for column, (name, meshes) in enumerate(columns.items()):
        num_verts = int(meshes.num_verts_per_mesh()[0])
        axes[0, column].set_title(f"{name} ({num_verts:,} vertices)")
        for view in range(2):
            _draw(axes[2 * view, column], meshes, cameras[[view]], wireframe=False)
            _draw(axes[2 * view + 1, column], meshes, cameras[[view]], wireframe=True)
    figure.suptitle(caption, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def save_row(path: Path, shapes: dict[str, Meshes]) -> None:
    """Shapes side by side, shaded, and below with their wireframes; under their names."""
    camera = turntable_cameras(8)[[0]]
    figure, axes = plt.subplots(2, len(shapes), figsize=(2.4 * len(shapes), 5.1), layout="constrained", squeeze=False)
    for column, (name, meshes) in enumerate(shapes.items()):
        axes[0, column].set_title(f"{name}\n{len(meshes.verts_packed()):,} vertices", fontsize=10)
        for row in range(2):
            _draw(axes[row, column], meshes.cpu(), camera, wireframe=row == 1)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def save_turntable(path: Path, run: Run, target: Meshes, resolution: int = 192) -> None:
    """The target on the left; on the right the start becoming it, then the result, while both turn."""
    shapes = [meshes.cpu() for _, meshes in run.frames]
    shapes += [run.meshes.detach().cpu()] * 40
    cameras = turntable_cameras(40)
    renderer = PyTorch3DRenderer(resolution, SphericalHarmonicsLight.default(), background=_WHITE)
    targets = [_to_uint8(renderer(target.cpu(), cameras[[view]])[0]) for view in range(40)]
    frames = []
    for index, meshes in enumerate(shapes):
        view = index % 40
        frames.append(np.concatenate([targets[view], _to_uint8(renderer(meshes, cameras[[view]])[0])], axis=1))
    iio.imwrite(path, np.stack(frames), duration=80, loop=0)


def _to_uint8(image: torch.Tensor) -> np.ndarray:
    return (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@torch.no_grad()
def _draw(axis: plt.Axes, meshes: Meshes, camera, wireframe: bool, resolution: int = 384) -> None:
    """A shaded picture, and over it the edges of the faces that look at the camera and are nearest to it."""
    renderer = PyTorch3DRenderer(resolution, SphericalHarmonicsLight.default(), background=_WHITE)
    image = renderer(meshes, camera)[0, ..., :3].clamp(0, 1)
    axis.imshow(0.5 + 0.5 * image if wireframe else image, interpolation="bilinear")
    axis.set_axis_off()
    if not wireframe:
        return
    ndc = project_to_ndc(meshes.verts_packed()[None], camera)[0]
    pixels = ndc_to_pixels(ndc, (resolution, resolution))
    seen = renderer.visible_faces(meshes, camera).pix_to_face.unique()
    edges = meshes.faces_packed_to_edges_packed()[seen[seen >= 0]].unique()
    segments = pixels[meshes.edges_packed()[edges]]
    axis.add_collection(LineCollection(segments.numpy(), colors="0.15", linewidths=0.25))
    axis.set_xlim(-0.5, resolution - 0.5)
    axis.set_ylim(resolution - 0.5, -0.5)
