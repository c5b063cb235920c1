"""Collects the data of a run for its page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.report.packing import PRECISIONS, pack_faces, pack_positions, verts_and_faces
from pt3d_largesteps.report.page import make_page
from pt3d_largesteps.report.three import Three, find_three


class Report:
    """A page about an optimisation, in one HTML file that needs no network: its shapes on a slider, beside or over a target,
    its losses with the stages, and tables.

    Args:
        title: headline of the page.
        subtitle: one line below it.
        target: the target of the shapes, if there is one: ``Meshes``, or a tuple (verts, faces). Batches are shown together.
        precision: of the vertices, "uint16" (of their bounding box, 6 bytes for a vertex of a frame) or "float32" (12 bytes).
        three: npm's package three.js, as file or folder; default: the one that PT3D_LARGESTEPS_THREE names, or a download by
            :meth:`fetch_viewer`, which is checked and kept in ~/.cache. The page contains it, with its licence.

    Example:
        >>> report = Report("A sphere becomes an ellipsoid", target=target)
        >>> report.fetch_viewer()                     # to fail early; else save() does it
        >>> result = optimize(start, loss, config, callbacks=[report.every(10)])
        >>> report.add_history(result.history)
        >>> report.save("run.html")
    """

    def __init__(
        self,
        title: str,
        subtitle: str = "",
        *,
        target: Any = None,
        precision: str = "uint16",
        three: str | Path | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.title, self.subtitle = str(title), str(subtitle)
        self._precision = precision
        self._topologies: list[dict[str, Any]] = []
        self._last_faces: Tensor | None = None
        self._origin: Tensor | None = None
        self._frames: list[dict[str, Any]] = []
        self._curves: list[dict[str, Any]] = []
        self._stages: list[dict[str, Any]] = []
        self._tables: list[tuple[str, str, dict[str, Any]]] = []
        self._target = None if target is None else self._pack("target", target)
        self._given_three = three
        self._three: Three | None = None

    def fetch_viewer(self) -> None:
        """Finds or fetches three.js, which the page needs: before a long run, so that it does not end without its report.

        Raises:
            ThreeError: it is not on this machine and cannot be fetched, or is not what it should be.
        """
        self._viewer()

    def add_frame(self, step: int, meshes: Any, label: str = "") -> None:
        """Adds a shape of the run.

        Args:
            step: steps done; at least those of the previous frame.
            meshes: ``Meshes``, or a tuple (verts, faces).
            label: shown next to the step, such as "repaired".

        Raises:
            TypeError, ValueError: a bad argument.
        """
        last = self._frames[-1]["step"] if self._frames else 0
        if isinstance(step, bool) or not isinstance(step, int) or step < last:
            raise ValueError(f"step: expected an integer of at least {last}, got {describe(step)}")
        self._frames.append({"step": step, "label": str(label), **self._pack("meshes", meshes)})

    def every(self, steps: int) -> Callable[[Any], None]:
        """A callback for ``optimize``: a frame after the first step, every ``steps`` steps and at the end of each stage."""
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps: expected an integer of at least 1, got {describe(steps)}")

        def keep_frame(run: Any) -> None:
            if not self._frames or run.step % steps == 0 or run.stage_ends:
                self.add_frame(run.step, run.meshes())

        return keep_frame

    def add_history(self, history: Any) -> None:
        """Adds losses and stages of a ``History`` of ``optimize``, recognised by its attributes."""
        self.add_curve("loss", range(1, len(history.losses) + 1), history.mean_losses)
        if history.held_out:
            self.add_curve("held-out loss", *zip(*history.held_out, strict=True))
        for step, num_verts in history.stages:
            self.add_stage(step, f"{num_verts:,} vertices")

    def add_curve(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Adds a curve: numbers over the steps.

        Raises:
            ValueError: different numbers of steps and values. Values that are not finite leave a gap in the line.
        """
        steps, values = [int(step) for step in steps], [float(value) for value in values]
        if len(steps) != len(values):
            raise ValueError(f"values: expected {len(steps)}, as many as steps, got {len(values)}")
        self._curves.append({"name": str(name), "steps": steps, "values": [v if math.isfinite(v) else None for v in values]})

    def add_stage(self, step: int, label: str) -> None:
        """Marks a step in the curves, such as that of a remeshing."""
        self._stages.append({"step": int(step), "label": str(label)})

    def add_table(self, name: str, rows: Mapping[str, Any], note: str = "") -> None:
        """Adds a table of names and values below the pictures, with a note beside its name, such as on units. A row name that
        begins with blanks belongs to the row above."""
        self._tables.append((str(name), str(note), dict(rows)))

    def save(self, path: str | Path) -> None:
        """Writes the file, with the viewer of :meth:`fetch_viewer`.

        Raises:
            ValueError: there is no frame.
            ThreeError: there is no three.js.
            OSError: it cannot be written.
        """
        if not self._frames or self._origin is None:
            raise ValueError("frames: expected at least one, got none; add_frame adds one")
        data = {
            "frames": self._frames,
            "topologies": self._topologies,
            "origin": self._origin.tolist(),
            "target": self._target,
            "curves": self._curves,
            "stages": self._stages,
        }
        page = make_page(self.title, self.subtitle, data, self._tables, self._viewer())
        Path(path).write_text(page, encoding="utf-8")

    def _viewer(self) -> Three:
        if self._three is None:
            self._three = find_three(self._given_three)
        return self._three

    def _pack(self, name: str, meshes: Any) -> dict[str, Any]:
        verts, faces = verts_and_faces(name, meshes)
        last = self._last_faces
        if last is None or not torch.equal(faces, last) or self._topologies[-1]["vertices"] != len(verts):
            self._topologies.append(pack_faces(faces, len(verts)))
            self._last_faces = faces.clone()
        if self._origin is None:
            # Browsers draw in float32, which far from the origin would hold few digits of the shape.
            self._origin = (verts.amin(0) + verts.amax(0)) / 2
        return {"topology": len(self._topologies) - 1, "positions": pack_positions(verts - self._origin, self._precision)}
