"""Fig. 7: large steps against tuned Laplacian and bi-Laplacian regularisers, at equal time and at equal steps.

    python experiments/figures/comparison.py
    python experiments/figures/comparison.py --target FILE.obj

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021). For each shape, each regulariser uses the tried
weight with the smallest chamfer distance at equal steps; large steps are not tuned.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from paper.descent import Descent, Recipe
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import scene
from paper.setup import DescentTask, Scale, Setup, main
from paper.targets import label, portrait_camera
from pt3d_largesteps.metrics import surface_distance

TARGET = "bunny"
SCALES = {
    "small": Scale(views=9, resolution=96, level=4, steps=250),
    "paper": Scale(views=25, resolution=512, level=5, steps=1000),
}
SHAPES = {"small": ("bunny", "armadillo", "suzanne"), "paper": ("bunny", "armadillo", "suzanne", "cow", "nefertiti", "spot")}
WEIGHTS = {"laplacian": (0.4, 1.6, 6.4, 25.6), "bilaplacian": (0.1, 0.4, 1.6, 6.4)}
NAMES = {"laplacian": "Laplacian", "bilaplacian": "bi-Laplacian"}
LONGEST = 1.25  # steps of the regularised runs beside those of large steps, so that there are enough for as much time


def experiment(setup: Setup) -> None:
    steps = setup.scale.steps
    moments = range(0, round(LONGEST * steps) + 1, max(steps // 25, 1))
    recipes = [Recipe("large steps", steps, lr=1e-2, alpha=setup.alpha(0.95))]
    recipes += [
        Recipe(f"{NAMES[kind]} {weight:g}", round(LONGEST * steps), lr=1e-2, regularizer=kind, weight=weight)
        for kind, weights in WEIGHTS.items()
        for weight in weights
    ]
    given = setup.target != TARGET
    specs = [replace(setup.spec, target=name) for name in ([setup.target] if given else _shapes(setup))]
    tasks = [DescentTask(spec, recipe, setup.sphere(), (*moments, steps)) for spec in specs for recipe in recipes]
    descents = setup.run(tasks)
    rows, lines, chosen = [], [], []
    for index, spec in enumerate(specs):
        of_shape = descents[index * len(recipes) : (index + 1) * len(recipes)]
        ours, others = of_shape[0], of_shape[1:]
        target = scene(spec).target
        best = [ours, *(_best([one for one in others if one.recipe.regularizer == kind], target, steps) for kind in WEIGHTS)]
        chosen.append(best)
        cells = [("target", target)]
        for descent in best:
            name = descent.recipe.label
            # a run that is cheaper still has less time
            as_long = "equal time" if descent.seconds[-1] >= ours.seconds[-1] else f"{LONGEST:g} x steps"
            looks = {"equal steps": descent.last_step(steps), as_long: descent.step_at(ours.seconds[-1])}
            looks = {"both": ours.last_step()} if descent is ours else looks
            for when, step in looks.items():
                lines.append({"target": label(spec.target), "at": when, **measures(descent, target, step)})
                title = f"{name}\n({step})" if descent is ours else f"{name}\n{when} ({step})"
                cells.append((title, descent.shapes[step]))
        rows.append([cells[0], *cells[2:], cells[1]])
    figure, axes = shapes_figure(
        rows,
        [label(spec.target) for spec in specs],
        cameras=[portrait_camera(spec.target) for spec in specs],
        curves=min(len(specs), 3),
    )
    for axis, best in zip(axes, chosen, strict=False):
        loss_curves(axis, best, "seconds")
    setup.write(figure, lines)


def _best(descents: list[Descent], target, steps: int) -> Descent:
    finished = [descent for descent in descents if not descent.failed] or descents
    best = min(finished, key=lambda descent: surface_distance(descent.shapes[descent.last_step(steps)], target).chamfer)
    if best in (descents[0], descents[-1]):
        print(f"{best.recipe.label}: the best weight is at an end of those that were tried")
    return best


def _shapes(setup: Setup) -> tuple[str, ...]:
    return SHAPES["paper" if setup.paper else "small"]


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
