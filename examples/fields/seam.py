"""A texture seen in small pictures of a mesh, with and without large steps, and what becomes of its seam."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from fields.descent import Descent, Recipe, descend
from fields.globe import Globe, jump, pictures
from fields.report import best, best_of_each, curves, is_large, progress, ratios, rows, show, table, write_table
from fields.targets import texture

STEPS = 100
LEVELS = (14, 16, 18, 20, 22)  # decibels
BOUNDARIES = ("natural", ("natural", "periodic"))  # the second closes the rows of the texture to rings
PLAIN = (0.1, 0.3, 1.0)
FACING_THE_SEAM, CLOSE_BY = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.25, 0.97]])
PIXELS = 240
CLOSE_FIELD_OF_VIEW = 16.0


def fit(options: argparse.Namespace) -> list[str]:
    """All methods on the same pictures; returns the names of the files."""
    steps = options.steps or STEPS
    globe = Globe(options.device)
    target = texture(max(1, options.size // 2), options.size).to(options.device)
    recipes = [Recipe("UniformAdam", lr) for lr in PLAIN]
    for lambda_ in options.lambdas:
        recipes += [Recipe("UniformAdam", lr, lambda_, boundary) for lr in options.step_sizes for boundary in BOUNDARIES]
    moments = sorted({max(1, round(steps * share)) for share in (0.2, 0.4, 1)})
    descents = []
    with progress(len(recipes) * steps) as bar:
        for recipe in recipes:
            loss = pictures(globe, target, options.views, options.resolution, options.seed)
            descents.append(descend(target, recipe, steps, loss, moments, bar.update))
    write_table(options.out / "mesh.csv", _rows(descents, moments))
    chosen = best_of_each(descents)
    _save(options.out / "mesh.png", globe, target, descents, moments)
    print(table(_rows(chosen, moments)))
    print(f"\nseam: the jump across it, in those between other columns; in the target {jump(target):.2f}")
    seen = f"{options.views} pictures of {options.resolution} x {options.resolution} pixels"
    print(f"\nfewest steps of all runs, {seen} at each:\n{table(ratios(descents, levels=LEVELS))}")
    return ["mesh.png", "mesh.csv"]


def _rows(descents: Sequence[Descent], moments: Sequence[int]) -> list[dict[str, Any]]:
    """The table with a column for the seam at some steps."""
    lines = rows(descents, LEVELS)
    for line, descent in zip(lines, descents, strict=True):
        for step in moments:
            line[f"seam at {step}"] = jump(descent.fields[step])
    return lines


@torch.no_grad()
def _save(path: Path, globe: Globe, target: Tensor, descents: Sequence[Descent], moments: Sequence[int]) -> None:
    """A row for each moment; pairs of columns, from afar and near by, without solves, and with both boundaries."""
    closed = best([one for one in descents if one.recipe.boundary != "natural"], large=True)
    open_ = next(
        one
        for one in descents
        if one.recipe.boundary == "natural" and (one.recipe.lambda_, one.recipe.lr) == (closed.recipe.lambda_, closed.recipe.lr)
    )
    columns = {
        "UniformAdam, no solve": best(descents, large=False),
        f"large steps, lambda {closed.recipe.lambda_:g}, natural boundary: a seam": open_,
        f"large steps, lambda {closed.recipe.lambda_:g}, periodic boundary: no seam": closed,
    }
    figure = Figure(figsize=(12.6, 2.2 * len(moments) + 3.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.2 * len(moments), 3.0))
    for part, (title, descent) in zip(above.subfigures(1, 3), columns.items(), strict=True):
        part.suptitle(title, fontsize=10)
        axes = part.subplots(len(moments), 2, squeeze=False)
        for row, step in enumerate(moments):
            _show_both(axes[row], globe, descent.fields[step].to(target), f"step {step}, {descent.decibels[step]:.1f} dB")
    left, right = below.subfigures(1, 2, width_ratios=(1, 2))
    _show_both(left.subplots(1, 2), globe, target, "target")
    shown = [one for one in best_of_each(descents) if not is_large(one) or one.recipe.boundary != "natural"]
    curves(right.subplots(), shown)
    figure.savefig(path, dpi=110)


def _show_both(axes: Sequence[Any], globe: Globe, values: Tensor, title: str) -> None:
    """The seam runs down the middle of both pictures."""
    cameras = (globe.cameras(FACING_THE_SEAM), globe.cameras(CLOSE_BY, CLOSE_FIELD_OF_VIEW))
    for axis, camera in zip(axes, cameras, strict=True):
        large = globe(values, camera, 2 * PIXELS, background=1.0)
        show(axis, torch.nn.functional.avg_pool2d(large, 2)[0])  # smooth where lines become finer than pixels
        axis.set_axis_off()
    axes[0].set_title(title, fontsize=9)
