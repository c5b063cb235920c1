"""The recorded numbers of an optimisation, and their plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class History:
    """Numbers of every step.

    Attributes:
        losses: for each step the loss of each mesh, or one number if the loss is one for all.
        lrs: step sizes, in the units of the vertices; of each mesh.
        seconds: time of each step, without the work between steps.
        held_out: (steps done, loss).
        stages: (steps done when the stage began, vertices of all meshes together).
        remesh_seconds: time of all remeshings.
    """

    losses: list[list[float]] = field(default_factory=list)
    lrs: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    stages: list[tuple[int, int]] = field(default_factory=list)
    remesh_seconds: float = 0.0

    @property
    def mean_losses(self) -> list[float]:
        """For each step, the mean over the meshes."""
        return [sum(losses) / max(len(losses), 1) for losses in self.losses]

    def plot(self, path: str | Path | None = None) -> Any:
        """The loss of every step, with the stages marked: a matplotlib figure, also saved if a path is given.

        Example:
            >>> result.history.plot("loss.png")
        """
        from matplotlib.figure import Figure  # without pyplot: no window, and nothing to close

        figure = Figure(figsize=(7, 4), layout="constrained")
        axis = figure.add_subplot()
        axis.semilogy(range(1, len(self.losses) + 1), self.mean_losses, linewidth=0.8, label="loss")
        if self.held_out:
            axis.semilogy(*zip(*self.held_out, strict=True), linewidth=1.2, label="held-out loss")
            axis.legend(loc="lower left", frameon=False)
        for index, (step, num_verts) in enumerate(self.stages):
            if index:
                axis.axvline(step, color="0.7", linewidth=0.8, zorder=0)
            label = axis.annotate(f"{num_verts:,}", (step, 0.99), xycoords=("data", "axes fraction"), fontsize=8, va="top")
            label.set_in_layout(False)  # of a run of few steps it may be wider than the plot
        axis.set_xlabel("step; above, the vertices of each stage")
        axis.set_ylabel("loss")
        if path is not None:
            figure.savefig(path, dpi=110)
        return figure

    def state_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)
