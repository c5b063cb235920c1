"""Fig. 6: a sphere grows to a larger one, given one silhouette of it: large steps against a regulariser of three weights.

    python experiments/figures/regularization.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021): the gradient of a silhouette is nonzero only at
the outline. A weak regulariser lets the outline move away from the rest, a strong one holds it back; with large steps the
sphere grows as a whole and stays smooth.
"""

from __future__ import annotations

import sys

from paper.descent import Recipe
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import scene
from paper.setup import Scale, Setup, main
from pt3d_largesteps.reconstruction.views import turntable_cameras

TARGET = "sphere"
SCENE = {"silhouettes": True, "loss": "l2"}
SCALES = {
    "small": Scale(views=1, resolution=96, level=4, steps=4000),
    "paper": Scale(views=1, resolution=512, level=5, steps=25000),
}
MOMENTS = (0.02, 0.1, 0.3, 0.6, 1.0)  # parts of all steps, as in the paper
WEIGHTS = (1.0, 400.0, 10000.0)


def experiment(setup: Setup) -> None:
    steps = setup.scale.steps
    recipes = [Recipe("large steps, lambda 99", steps, lr=5e-3, lambda_=99.0, translation=False)]
    recipes += [Recipe(f"bi-Laplacian, {weight:g}", steps, lr=5e-3, weight=weight, translation=False) for weight in WEIGHTS]
    moments = sorted({round(part * steps) for part in MOMENTS})
    descents = setup.descend(recipes, moments)
    target = scene(setup.spec).target
    # From the side: the outline that the camera sees is the rim of this view.
    from_the_side = turntable_cameras(12, elevation=15.0)[[3]]
    rows = [
        [(f"step {step}", shape) for step, shape in sorted(descent.shapes.items())] + [("target", target)]
        for descent in descents
    ]
    labels = [recipe.label for recipe in recipes]
    figure, (axis,) = shapes_figure(rows, labels, wireframe=True, cameras=[from_the_side], curves=1)
    loss_curves(axis, descents, ylabel="image loss (L2)")
    setup.write(figure, [measures(descent, target) for descent in descents])


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET, **SCENE))
