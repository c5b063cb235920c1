"""The pictures of the experiments: shapes in rows and columns, and curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pytorch3d.renderer.cameras import CamerasBase
from pytorch3d.structures import Meshes

from paper.descent import Descent
from pt3d_largesteps.reconstruction.drawing import draw_mesh

INCHES = 2.2  # of a panel


def shapes_figure(
    rows: Sequence[Sequence[tuple[str, Meshes | None]]],
    labels: Sequence[str] = (),
    *,
    wireframe: bool | Sequence[bool] = False,
    cameras: Sequence[CamerasBase],
    curves: int = 0,
) -> tuple[Figure, np.ndarray]:
    """A figure of shapes, each with a title above it, and on request rows of empty axes below for curves.

    Args:
        rows: titled shapes, None for an empty place.
        labels: of the rows.
        wireframe: whether the triangles are drawn, in all rows or in each.
        cameras: that look at the rows; one for all, or one for each.
        curves: how many axes there are to be below, side by side.
    """
    num_columns = max(map(len, rows))
    height = INCHES * 1.12 * len(rows)
    figure = Figure(
        figsize=(INCHES * num_columns + (0.3 if labels else 0), height + (2.6 if curves else 0)), layout="constrained"
    )
    parts = figure.subfigures(2, 1, height_ratios=(height, 2.6)) if curves else (figure,)
    axes = parts[0].subplots(len(rows), num_columns, squeeze=False)
    for row, shapes in enumerate(rows):
        for column in range(num_columns):
            axis = axes[row, column]
            axis.set_axis_off()
            title, meshes = shapes[column] if column < len(shapes) else ("", None)
            axis.set_title(title, fontsize=8)
            if meshes is not None:
                draw_mesh(
                    axis,
                    meshes.cpu(),
                    cameras[row % len(cameras)],
                    wireframe if isinstance(wireframe, bool) else wireframe[row],
                )
        if labels:
            axes[row, 0].text(
                -0.04, 0.5, labels[row], rotation=90, va="center", ha="right", transform=axes[row, 0].transAxes, fontsize=9
            )
    return figure, parts[1].subplots(1, curves, squeeze=False)[0] if curves else np.array([])


def loss_curves(axis: Axes, descents: Sequence[Descent], against: str = "step", ylabel: str = "image loss") -> None:
    """The image loss of each against its steps or its seconds, logarithmic."""
    for descent in descents:
        numbers = range(len(descent.losses)) if against == "step" else descent.seconds
        axis.semilogy(numbers, descent.losses, linewidth=1.0, label=descent.recipe.label)
    axis.set_xlabel({"step": "step", "seconds": "seconds"}[against])
    axis.set_ylabel(ylabel)
    axis.legend(fontsize=7, frameon=False, loc="upper right")
    axis.spines[["top", "right"]].set_visible(False)
