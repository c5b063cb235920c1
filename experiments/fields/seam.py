"""A texture seen in small pictures of a mesh: single texels, large steps on the grid of the map, and across its seams."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from fields.descent import Descent, Recipe, descend
from fields.globe import MAPS, Globe, pictures
from fields.report import best_of_each, curves, progress, rows, show, table, write_table

STEPS = 100
LEAST_SIZE = 32  # of which islands of the atlas have two rows
LEVELS = (14, 16, 18, 20, 22)  # decibels
LAMBDAS = (1.0, 4.0)
PLAIN = (0.3, 1.0)
FACING_THE_SEAM, CLOSE_BY = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.25, 0.97]])
PIXELS = 240
CLOSE_FIELD_OF_VIEW = 16.0
SHOWN_AT = 0.3  # of the steps: while the shape of the texture is found


def fit(options: argparse.Namespace) -> list[str]:
    """All methods on the same pictures of both maps; returns the names of the files."""
    steps = options.steps or STEPS
    if options.size < LEAST_SIZE:
        raise ValueError(f"size: expected at least {LEAST_SIZE} texels in a row of a mesh's map, got {options.size}")
    moments = sorted({max(1, round(steps * share)) for share in (SHOWN_AT, 1)})
    globes = {name: Globe(name, options.size, options.device) for name in MAPS}
    descents = {}
    with progress(len(globes) * len(_recipes(options, None)) * steps) as bar:
        for name, globe in globes.items():
            where = globe.graph.mask[0]
            descents[name] = []
            for recipe in _recipes(options, globe.meshes):
                loss = pictures(globe, options.views, options.resolution, options.seed)
                descents[name].append(descend(globe.target, recipe, steps, loss, moments, where, bar.update))
    lines = {name: _rows(name, globes[name], descents[name], moments) for name in globes}
    write_table(options.out / "mesh.csv", [line for name in globes for line in lines[name]])
    _save(options.out / "mesh.png", globes, descents, moments[0])
    chosen = [line for name in globes for line in _rows(name, globes[name], best_of_each(descents[name]), moments)]
    print(table(chosen))
    print("\nseam: the jump across it, in those between neighbours elsewhere")
    print("; ".join(f"in the target of the {name} {globe.jump(globe.target):.2f}" for name, globe in globes.items()))
    return ["mesh.png", "mesh.csv"]


def _recipes(options: argparse.Namespace, surface: Any) -> list[Recipe]:
    """Without a solve, on the grid of the map, and on the surface."""
    recipes = [Recipe("UniformAdam", lr) for lr in PLAIN]
    lambdas = LAMBDAS if options.lambdas is None else options.lambdas
    for where in (None, surface):
        recipes += [Recipe("UniformAdam", lr, lambda_, surface=where) for lambda_ in lambdas for lr in options.step_sizes]
    return recipes


def _rows(name: str, globe: Globe, descents: Sequence[Descent], moments: Sequence[int]) -> list[dict[str, Any]]:
    """The table with the map before it and a column for the seam at some steps."""
    lines = [{"map": name, **line} for line in rows(descents, LEVELS)]
    for line, descent in zip(lines, descents, strict=True):
        for step in moments:
            line[f"seam at {step}"] = globe.jump(descent.fields[step].to(globe.target))
    return lines


@torch.no_grad()
def _save(path: Path, globes: dict[str, Globe], descents: dict[str, list[Descent]], step: int) -> None:
    """A block for each map: the map, the target and the three ways, from afar and near by; and the PSNR."""
    figure = Figure(figsize=(13.5, 7.9 * len(globes)), layout="constrained")
    for part, (name, globe) in zip(figure.subfigures(len(globes), 1), globes.items(), strict=True):
        part.suptitle(
            f"{name}: {len(globe.graph.positions)} texels, {globe.graph.num_seam_edges} edges across seams", fontsize=11
        )
        above, below = part.subfigures(2, 1, height_ratios=(5, 2.4))
        _show(above, globe, _three_ways(descents[name]), step)
        curves(below.subplots(), best_of_each(descents[name]))
    figure.savefig(path, dpi=75)


def _three_ways(descents: Sequence[Descent]) -> dict[str, Descent]:
    """The best without a solve, and of one lambda and step size the grid and the surface: the best of the surface."""
    on_surface = max((one for one in descents if one.recipe.surface is not None), key=lambda one: one.score)
    alike = (on_surface.recipe.lambda_, on_surface.recipe.lr)
    plain = max((one for one in descents if one.recipe.lambda_ is None), key=lambda one: one.score)
    on_grid = next(one for one in descents if one.recipe.surface is None and (one.recipe.lambda_, one.recipe.lr) == alike)
    lambda_ = f"lambda {on_surface.recipe.lambda_:g}"
    return {
        "texels one by one": plain,
        f"grid of the map, {lambda_}": on_grid,
        f"LargeStepsTexture, {lambda_}": on_surface,
    }


def _show(figure: SubFigure, globe: Globe, ways: dict[str, Descent], step: int) -> None:
    axes = figure.subplots(2, 2 + len(ways), squeeze=False)
    show(axes[0, 0], globe.target[0], "the map")
    axes[1, 0].set_axis_off()
    _show_both(axes[:, 1], globe, globe.target, f"target\nseam {globe.jump(globe.target):.1f}")
    for column, (title, descent) in enumerate(ways.items(), start=2):
        field = descent.fields[step].to(globe.target)
        text = f"{title}\nstep {step}, {descent.decibels[step]:.1f} dB, seam {globe.jump(field):.1f}"
        _show_both(axes[:, column], globe, field, text)


def _show_both(axes: Sequence[Any], globe: Globe, values: Tensor, title: str) -> None:
    """The seam of the globe runs down the middle of both pictures."""
    cameras = (globe.cameras(FACING_THE_SEAM), globe.cameras(CLOSE_BY, CLOSE_FIELD_OF_VIEW))
    for axis, camera in zip(axes, cameras, strict=True):
        large = globe(values, camera, 2 * PIXELS, background=1.0)
        show(axis, torch.nn.functional.avg_pool2d(large, 2)[0])  # smooth where lines become finer than pixels
        axis.set_axis_off()
    axes[0].set_title(title, fontsize=9)
