"""Fig. 9: lambda from 0 to 999: too small and the mesh tangles, too large and detail comes late or not at all.

    python experiments/figures/influence_of_lambda.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021). As in the paper, all use the same step size in
the alpha form, lambda = alpha / (1 - alpha). The exception is lambda 999 in the small configuration: translations of the whole
are 1000 times as large there, so one such step would move the shape out of view.
"""

from __future__ import annotations

import sys

from paper.descent import Recipe
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import scene
from paper.setup import Scale, Setup, main
from pt3d_largesteps import lambda_from_alpha

ALPHAS = (0.0, 0.25, 0.5, 0.75, 0.95, 0.98, 0.99, 0.999)
TARGET = "suzanne"
SCALES = {
    "small": Scale(views=9, resolution=96, level=4, steps=700),
    "paper": Scale(views=25, resolution=512, level=5, steps=4300),
}


def experiment(setup: Setup) -> None:
    steps = {alpha: 1e-3 if setup.paper else (2e-3 if alpha < 0.999 else 2e-4) for alpha in ALPHAS}
    recipes = [
        Recipe(f"lambda {float(lambda_from_alpha(alpha)):.3g}", setup.scale.steps, lr=steps[alpha], alpha=alpha)
        for alpha in ALPHAS
    ]
    descents = setup.descend(recipes)
    target = scene(setup.spec).target
    cells = [(f"$\\lambda = {descent.recipe.label.split()[1]}$", descent.result) for descent in descents] + [("target", target)]
    figure, (axis,) = shapes_figure(
        [cells, [("", shape) for _, shape in cells]], cameras=setup.cameras, wireframe=[False, True], curves=1
    )
    loss_curves(axis, descents)
    setup.write(figure, [{"alpha": alpha, **measures(one, target)} for alpha, one in zip(ALPHAS, descents, strict=True)])


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
