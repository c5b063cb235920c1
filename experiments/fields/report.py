"""Tables and curves of the experiments with textures and volumes."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor
from tqdm import tqdm

from fields.descent import Descent

LEVELS = (18, 20, 22, 24, 26, 28, 30, 32)  # decibels


def best_of_each(descents: Sequence[Descent]) -> list[Descent]:
    """The run of the best step size of each method, in the order in which the methods come."""
    best: dict[str, Descent] = {}
    for descent in descents:
        other = best.get(descent.recipe.method)
        if other is None or descent.score > other.score:
            best[descent.recipe.method] = descent
    return list(best.values())


def progress(total: int) -> tqdm:
    """A bar for so many steps; without a terminal a line every ten seconds."""
    return tqdm(total=total, unit="step", mininterval=0.1 if sys.stderr.isatty() else 10.0)


def is_large(descent: Descent) -> bool:
    return descent.recipe.lambda_ is not None


def best(descents: Sequence[Descent], large: bool) -> Descent:
    """The run that was closest to the target during its steps, among those with or without a solve."""
    return max((one for one in descents if is_large(one) == large), key=lambda one: one.score)


def rows(descents: Sequence[Descent], levels: Sequence[int] = LEVELS) -> list[dict[str, Any]]:
    """A line for each run; a PSNR that was not reached is left empty."""
    return [
        {
            "method": descent.recipe.method,
            "step size": descent.recipe.lr,
            "steps": len(descent.decibels) - 1,
            "PSNR": descent.decibels[-1],
            "ms per step": 1e3 * descent.seconds / max(len(descent.decibels) - 1, 1),
            **{f"steps to {level} dB": _or_empty(descent.steps_to(level)) for level in levels},
        }
        for descent in descents
    ]


def ratios(descents: Sequence[Descent], on_sight: Sequence[float] = (), levels: Sequence[int] = LEVELS) -> list[dict[str, Any]]:
    """For each PSNR that was reached: the fewest steps of any run without solves, and of any with large steps.

    Args:
        on_sight: the PSNR of each step, for as many steps as one likes, of texels that are right when first seen.
    """
    lines = []
    for level in levels:
        fewest = {}
        for large in (False, True):
            found = [one.steps_to(level) for one in descents if is_large(one) == large]
            fewest[large] = min((steps for steps in found if steps is not None), default=None)
        plain, solved = fewest[False], fewest[True]
        if plain or solved:
            ratio = f"{solved / plain:.2f}" if plain and solved is not None else ""
            line = {"PSNR": level, "no solve": _or_empty(plain), "large steps": _or_empty(solved), "ratio": ratio}
            if on_sight:
                line["when first seen"] = next((step for step, value in enumerate(on_sight) if value >= level), "")
            lines.append(line)
    return lines


def write_table(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """As Markdown, in columns of even width."""
    if not lines:
        return ""
    cells = [list(lines[0]), *([_cell(value) for value in line.values()] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = ["| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def curves(axis: Axes, descents: Sequence[Descent], on_sight: Sequence[float] = (), *, beside: bool = True) -> None:
    """PSNR against steps; without solves dashed, and dotted what is best possible for texels one by one.

    Args:
        beside: whether the legend is.
    """
    for descent in descents:
        label = f"{descent.recipe.method} (step {descent.recipe.lr:g})"
        axis.plot(descent.decibels, label=label, linewidth=1.4, linestyle="-" if is_large(descent) else "--")
    if on_sight:
        axis.plot(on_sight, color="0.4", linewidth=1, linestyle=":", label="each right when first seen")
    limits = [value for descent in descents for value in descent.decibels if math.isfinite(value)]
    axis.set_ylim(min(limits) - 0.5, max(limits) + 1)
    axis.set(xlabel="step", ylabel="PSNR in dB")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if beside else {"loc": "lower right"}
    axis.legend(frameon=False, fontsize=8, **place)


def show(axis: Axes, image: Tensor, title: str = "", **options: Any) -> None:
    """An image (C, H, W) of one or three channels."""
    image = image.squeeze(0) if image.shape[0] == 1 else image.permute(1, 2, 0)
    axis.imshow(image.clamp(0, 1).to(torch.float32).cpu().numpy(), **options)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def _or_empty(steps: int | None) -> int | str:
    return "" if steps is None else steps


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
