"""Fig. 5: no remeshing, remeshing at the start, and remeshing in the middle, regularised and in large steps.

    python experiments/figures/remeshing.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021): remeshing in the middle, on the shape at that
time, gives the best result; at the start it is not known yet where triangles are needed.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from paper.descent import Recipe
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import scene
from paper.setup import Scale, Setup, main

TARGET = "suzanne"
SCALES = {
    "small": Scale(views=9, resolution=96, level=4, steps=360),
    "paper": Scale(views=25, resolution=512, level=5, steps=1630),
}


def experiment(setup: Setup) -> None:
    steps = setup.scale.steps
    methods = [
        # The paper's weight is 0.16; the energy is not the same on meshes of other sizes.
        Recipe("bi-Laplacian", round(1.15 * steps), lr=1e-2, weight=0.16 if setup.paper else 1.0),
        Recipe("large steps", round(1.1 * steps), lr=1e-2, alpha=setup.alpha(0.95)),
    ]
    remeshings = {"not remeshed": (None, 1.0), "at the start": (0.0, 0.92), "in the middle": (0.46, 1.0)}
    recipes = []
    for method in methods:
        for name, (at, length) in remeshings.items():
            remesh_at = () if at is None else (round(at * steps),)
            num_steps = method.steps if at is None else round(length * steps)
            recipes.append(replace(method, label=f"{method.label}, {name}", steps=num_steps, remesh_at=remesh_at))
    descents = setup.descend(recipes)
    target = scene(setup.spec).target
    rows = []
    for begin in (0, 3):
        results = [(descent.recipe.label.split(", ")[1], descent.result) for descent in descents[begin : begin + 3]]
        shapes = [("start", setup.sphere()), *results, ("target", target)]
        rows += [shapes, [("", shape) for _, shape in shapes]]
    labels = [method.label for method in methods for _ in range(2)]
    figure, axes = shapes_figure(rows, labels, cameras=setup.cameras, wireframe=[False, True, False, True], curves=2)
    for axis, begin in zip(axes, (0, 3), strict=True):
        loss_curves(axis, descents[begin : begin + 3])
    axes[1].sharey(axes[0])
    setup.write(figure, [measures(descent, target) for descent in descents])


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
