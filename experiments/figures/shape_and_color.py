"""Shape and colour together: the vertices and their colours from the same pictures.

    python experiments/figures/shape_and_color.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021), Sec. 4: the method needs only gradients of
vertex positions, and other optimisers can handle other parameters. Colours are a function on the same mesh, so they can take
large steps too, with a small lambda.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pytorch3d.renderer import TexturesVertex
from pytorch3d.structures import Meshes

from paper.descent import Descent, Recipe, clock_of
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import Scene, SceneSpec, scene
from paper.setup import Scale, Setup, main
from pt3d_largesteps import LargeSteps, UniformAdam, compute_matrix, from_differential, to_differential
from pt3d_largesteps.metrics import peak_signal_to_noise_ratio
from pt3d_largesteps.reconstruction.measures import HELD_OUT_TURN, HELD_OUT_VIEWS
from pt3d_largesteps.reconstruction.views import fibonacci_cameras

TARGET = "bunny"
SCALES = {
    "small": Scale(views=16, resolution=96, level=5, steps=250),
    "paper": Scale(views=25, resolution=512, level=6, steps=1500),
}
GREY = 0.5


@dataclass(frozen=True)
class ColorTask:
    """A run that fits vertices and colours.

    Attributes:
        spec, recipe: of the shape.
        start: grey at the beginning.
        color_lr: step size of the colours.
        color_lambda: of the colours' parameterisation; None for Adam on the colours themselves.
    """

    spec: SceneSpec
    recipe: Recipe
    start: Meshes
    color_lr: float
    color_lambda: float | None

    @property
    def steps(self) -> int:
        return self.recipe.steps + 1

    def __call__(self, on_step: Callable[[int], None]) -> Descent:
        the_scene, descent, start = scene(self.spec), Descent(self.recipe), self.start.to(self.spec.device)
        colors = torch.full_like(start.verts_packed(), GREY)
        matrix = None if self.color_lambda is None else compute_matrix(start, lambda_=self.color_lambda)
        painted = (colors if matrix is None else to_differential(matrix, colors)).requires_grad_()
        if self.recipe.large_steps:
            shape = LargeSteps(start, alpha=self.recipe.alpha)
            optimizers = [UniformAdam(shape.parameters(), lr=self.recipe.lr)]
        else:
            offsets = torch.zeros_like(colors, requires_grad=True)
            optimizers = [torch.optim.Adam([offsets], lr=self.recipe.lr)]
        optimizers.append((torch.optim.Adam if matrix is None else UniformAdam)([painted], lr=self.color_lr))
        clock = clock_of(self.spec.device)
        begin = clock()
        for step in range(self.steps):
            meshes = shape() if self.recipe.large_steps else start.offset_verts(offsets)
            colors = painted if matrix is None else from_differential(matrix, painted)
            meshes.textures = TexturesVertex([colors])
            loss = the_scene.loss(meshes)
            descent.losses.append(float(loss.detach()))
            descent.seconds.append(clock() - begin)
            on_step(step)
            if step == self.recipe.steps:
                descent.shapes[step] = meshes.detach().cpu()
                break
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        return descent


def experiment(setup: Setup) -> None:
    steps, spec, start = setup.scale.steps, replace(setup.spec, painted=True), setup.sphere()
    few = steps if setup.paper else max(steps // 5, 1)  # a tangled mesh is many times as slow to render on a CPU
    tasks = [
        ColorTask(spec, Recipe("large steps; colours by Adam", steps, 5e-3, alpha=setup.alpha(0.95)), start, 0.02, None),
        ColorTask(spec, Recipe("large steps for both", steps, 5e-3, alpha=setup.alpha(0.95)), start, 0.02, 1.0),
        ColorTask(spec, Recipe(f"Adam for both, {few} steps", few, 3e-3), start, 0.02, None),
    ]
    descents = setup.run(tasks)
    the_scene = scene(spec)
    columns = [
        ("start", start),
        *((descent.recipe.label, descent.result) for descent in descents),
        ("target", the_scene.target),
    ]
    bare = [("", _without_colors(shape)) for _, shape in columns]
    figure, (axis,) = shapes_figure([columns, bare], cameras=setup.cameras, curves=1)
    loss_curves(axis, descents)
    setup.write(figure, [_line(descent, the_scene) for descent in descents])


def _without_colors(meshes: Meshes) -> Meshes:
    return Meshes(meshes.verts_list(), meshes.faces_list())


@torch.no_grad()
def _line(descent: Descent, the_scene: Scene) -> dict[str, Any]:
    cameras = fibonacci_cameras(HELD_OUT_VIEWS, the_scene.spec.device, turn=HELD_OUT_TURN)
    result = descent.result.to(the_scene.spec.device)
    found, given = the_scene.renderer(result, cameras), the_scene.renderer(the_scene.target, cameras)
    decibels = peak_signal_to_noise_ratio(found[..., :3], given[..., :3]).mean()
    return {**measures(descent, the_scene.target), "PSNR, held-out views": float(decibels)}


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
