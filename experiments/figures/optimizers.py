"""Six optimisers, on the vertices x and on u: which of them keep the smoothness that the parameterisation gives.

    python experiments/figures/optimizers.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021), Sec. 3.5: an optimiser that scales each
component of the gradient by itself, such as Adam, breaks the smoothness; a uniform scale keeps it. Each optimiser gets the best
of several step sizes, by its last loss.
"""

from __future__ import annotations

import math
import sys

from paper.descent import OPTIMIZERS, Descent, Recipe
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import scene
from paper.setup import Scale, Setup, main

TARGET = "suzanne"
SCALES = {
    "small": Scale(views=9, resolution=64, level=4, steps=150),
    "paper": Scale(views=25, resolution=512, level=5, steps=1000),
}
# Gradients of a mean over the pixels are small: those that do not scale them need large steps. The gradient in u is smooth, and
# so is what a step in u does to x: both together let smooth changes be some ten times as large.
STEP_SIZES = {
    "gradient descent": {"x": (3.0, 10.0, 30.0), "u": (0.3, 1.0, 3.0)},
    "momentum": {"x": (1.0, 3.0, 10.0), "u": (0.1, 0.3, 1.0)},
    "Nesterov": {"x": (1.0, 3.0, 10.0), "u": (0.1, 0.3, 1.0)},
    "RMSprop": {"x": (1e-3, 3e-3, 1e-2), "u": (3e-4, 1e-3, 3e-3)},
    "Adam": {"x": (1e-3, 3e-3, 1e-2), "u": (1e-3, 3e-3, 1e-2)},
    "UniformAdam": {"x": (3e-2, 1e-1, 3e-1), "u": (3e-3, 1e-2, 3e-2)},
}


def experiment(setup: Setup) -> None:
    parameters = {"x": None, "u": setup.alpha(0.95)}
    recipes = [
        Recipe(f"{optimizer} on {parameter}", setup.scale.steps, lr, alpha=alpha, optimizer=optimizer, translation=False)
        for parameter, alpha in parameters.items()
        for optimizer in OPTIMIZERS
        for lr in STEP_SIZES[optimizer][parameter]
    ]
    descents = setup.descend(recipes)
    target = scene(setup.spec).target
    best = {parameter: [_best(descents, f"{name} on {parameter}") for name in OPTIMIZERS] for parameter in parameters}
    rows = [
        [(f"{descent.recipe.optimizer_name}\nstep {descent.recipe.lr:.2g}", descent.result) for descent in row]
        + [("target", target)]
        for row in best.values()
    ]
    figure, axes = shapes_figure(rows, [f"on {parameter}" for parameter in parameters], cameras=setup.cameras, curves=2)
    for axis, row in zip(axes, best.values(), strict=True):
        loss_curves(axis, row)
    axes[1].sharey(axes[0])
    setup.write(figure, [{"lr": one.recipe.lr, **measures(one, target)} for row in best.values() for one in row])


def _best(descents: list[Descent], label: str) -> Descent:
    tried = [descent for descent in descents if descent.recipe.label == label]

    def last_loss(descent: Descent) -> float:
        failed = descent.failed is not None or not math.isfinite(descent.losses[-1])
        return math.inf if failed else descent.losses[-1]

    best = min(tried, key=last_loss)
    if best in (tried[0], tried[-1]) and len(tried) > 2:
        print(f"{label}: the best step size, {best.recipe.lr:g}, is at an end of those that were tried")
    return best


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
