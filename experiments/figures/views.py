"""Fig. 8: the more views, the better: from 1 to 49, regularised and in large steps.

    python experiments/figures/views.py

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021). Each run has the steps that the
paper's scripts give it (or as many times fewer), which took about the same time there.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from paper.descent import Recipe
from paper.measures import measures
from paper.panels import shapes_figure
from paper.scene import scene
from paper.setup import DescentTask, Scale, Setup, main
from paper.targets import label

# Views: steps of large steps, and of the regularised run
STEPS = {1: (5240, 6620), 2: (4470, 5580), 4: (3350, 3900), 9: (2030, 2220), 16: (1370, 1440), 25: (930, 960), 49: (510, 510)}
TARGET = "bunny"
SCALES = {
    "small": Scale(views=max(STEPS), resolution=96, level=4, steps=100),
    "paper": Scale(views=max(STEPS), resolution=512, level=5, steps=510),
}


def experiment(setup: Setup) -> None:
    numbers = [number for number in STEPS if number <= setup.scale.views]
    methods = [
        Recipe("large steps", 0, lr=1e-2, alpha=setup.alpha(0.95)),
        Recipe("bi-Laplacian", 0, lr=1e-2, weight=2.1),
    ]
    tasks = [
        DescentTask(replace(setup.spec, views=number), replace(method, steps=_steps(setup, number, index)), setup.sphere())
        for index, method in enumerate(methods)
        for number in numbers
    ]
    descents = setup.run(tasks)
    target = scene(setup.spec).target
    rows = []
    for begin in range(0, len(tasks), len(numbers)):
        found = zip(numbers, descents[begin : begin + len(numbers)], strict=True)
        rows.append([(f"{number} view{'s' if number > 1 else ''}", descent.result) for number, descent in found])
        rows[-1].append(("target", target))
    lines = [{"views": task.spec.views, **measures(descent, target)} for task, descent in zip(tasks, descents, strict=True)]
    figure, axes = shapes_figure(rows, [method.label for method in methods], cameras=setup.cameras, curves=2)
    for axis, name in zip(axes, ("chamfer / noise", "normals"), strict=True):
        for method in methods:
            points = [(line["views"], line[name]) for line in lines if line["method"] == method.label]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=method.label)
        axis.set_xscale("log")
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.minorticks_off()
        axis.set_xlabel(f"views of {label(setup.target)}")
        axis.set_ylabel(name)
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_yscale("log")
    setup.write(figure, lines)


def _steps(setup: Setup, views: int, method: int) -> int:
    return round(setup.scale.steps * STEPS[views][method] / STEPS[max(STEPS)][method])


if __name__ == "__main__":
    sys.exit(main(experiment, __doc__, SCALES, target=TARGET))
