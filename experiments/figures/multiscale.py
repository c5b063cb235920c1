"""Fig. 3: from an icosahedron to a detailed shape, with a remeshing wherever the detail asks for more triangles.

    python experiments/figures/multiscale.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021): lambda stays 19; each remeshing halves the mean
edge, and the coarse meshes find the large forms in few steps.
"""

from __future__ import annotations

import sys

from pytorch3d.utils import ico_sphere

from paper.descent import Recipe
from paper.measures import measures
from paper.panels import loss_curves, shapes_figure
from paper.scene import scene
from paper.setup import Scale, Setup, main
from pt3d_largesteps.reconstruction.optimization import START_RADIUS

TARGET = "armadillo"
SCALES = {
    "small": Scale(views=16, resolution=96, level=0, steps=900),
    "paper": Scale(views=25, resolution=512, level=0, steps=16000),
}
# As parts of all steps
REMESH_AT = {
    "small": (0.05, 0.1, 0.2, 0.35, 0.6),
    "paper": (500 / 16000, 1500 / 16000, 3000 / 16000, 4500 / 16000, 7000 / 16000, 10000 / 16000, 12000 / 16000, 14000 / 16000),
}


def experiment(setup: Setup) -> None:
    steps = setup.scale.steps
    remesh_at = tuple(round(part * steps) for part in REMESH_AT["paper" if setup.paper else "small"])
    start = ico_sphere(setup.scale.level).scale_verts(START_RADIUS)
    (descent,) = setup.descend(
        [Recipe("large steps, lambda 19", steps, lr=0.1, lambda_=19.0, remesh_at=remesh_at)], start=start
    )
    target = scene(setup.spec).target
    columns = [
        (f"step {step}, {len(shape.verts_packed()):,} vertices", shape) for step, shape in sorted(descent.shapes.items())
    ]
    columns.append((f"target, {len(target.verts_packed()):,} vertices", target))
    figure, (axis,) = shapes_figure(
        [columns, [("", shape) for _, shape in columns]], cameras=setup.cameras, wireframe=[False, True], curves=1
    )
    loss_curves(axis, [descent])
    for step in remesh_at:
        axis.axvline(step, color="0.7", linewidth=0.8, zorder=0)
    setup.write(figure, [measures(descent, target, step) for step in sorted(descent.shapes)])


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
