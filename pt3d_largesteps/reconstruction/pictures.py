"""The pictures of a run: comparison with wireframes, turntable."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import matplotlib
import numpy as np
import torch
from pytorch3d.structures import Meshes

from pt3d_largesteps.reconstruction.drawing import WHITE, draw_mesh
from pt3d_largesteps.reconstruction.optimization import Run
from pt3d_largesteps.reconstruction.views import turntable_cameras
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def save_comparison(path: Path, target: Meshes, start: Meshes, result: Meshes, caption: str) -> None:
    """Target, start and result side by side, from two sides, shaded and with their wireframes."""
    columns = {"target": target.cpu(), "start": start.cpu(), "result": result.cpu()}
    cameras = turntable_cameras(2)
    figure, axes = plt.subplots(4, 3, figsize=(9.6, 12.9), layout="constrained")
    for column, (name, meshes) in enumerate(columns.items()):
        num_verts = int(meshes.num_verts_per_mesh()[0])
        axes[0, column].set_title(f"{name} ({num_verts:,} vertices)")
        for view in range(2):
            draw_mesh(axes[2 * view, column], meshes, cameras[[view]], wireframe=False)
            draw_mesh(axes[2 * view + 1, column], meshes, cameras[[view]], wireframe=True)
    figure.suptitle(caption, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def save_row(path: Path, shapes: dict[str, Meshes]) -> None:
    """Shapes side by side with their names: shaded, and below with their wireframes."""
    camera = turntable_cameras(8)[[0]]
    figure, axes = plt.subplots(2, len(shapes), figsize=(2.4 * len(shapes), 5.1), layout="constrained", squeeze=False)
    for column, (name, meshes) in enumerate(shapes.items()):
        axes[0, column].set_title(f"{name}\n{len(meshes.verts_packed()):,} vertices", fontsize=10)
        for row in range(2):
            draw_mesh(axes[row, column], meshes.cpu(), camera, wireframe=row == 1)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def save_turntable(path: Path, run: Run, target: Meshes, resolution: int = 192) -> None:
    """The target on the left; on the right the start becoming it, then the result, while both turn."""
    shapes = [meshes.cpu() for _, meshes in run.frames]
    shapes += [run.meshes.detach().cpu()] * 40
    cameras = turntable_cameras(40)
    renderer = PyTorch3DRenderer(resolution, SphericalHarmonicsLight.default(), background=WHITE)
    targets = [_to_uint8(renderer(target.cpu(), cameras[[view]])[0]) for view in range(40)]
    frames = []
    for index, meshes in enumerate(shapes):
        view = index % 40
        frames.append(np.concatenate([targets[view], _to_uint8(renderer(meshes, cameras[[view]])[0])], axis=1))
    iio.imwrite(path, np.stack(frames), duration=80, loop=0)


def _to_uint8(image: torch.Tensor) -> np.ndarray:
    return (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
