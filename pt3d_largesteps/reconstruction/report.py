"""The report of a run as an HTML page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pytorch3d.structures import Meshes

from pt3d_largesteps.reconstruction.measures import labelled
from pt3d_largesteps.reconstruction.optimization import Run
from pt3d_largesteps.reconstruction.settings import Settings
from pt3d_largesteps.report import Report

_LABELS = {
    "method": "method",
    "start": "start",
    "steps": "steps",
    "views": "views",
    "resolution": "pixels of a view, to each side",
    "lambda_": "λ of the first stage, if given",
    "lr": "step size in mean edge lengths, if given",
    "reg": "weight of the regulariser (laplacian only)",
    "seed": "seed",
    "device": "device",
    "remesh": "remeshing",
    "solver": "solver",
}


def begin_report(target: Meshes, name: str) -> Report:
    """A report without a run, but with its viewer.

    Raises:
        ThreeError: there is no three.js.
    """
    report = Report(f"Reconstruction of {name}", target=target)
    report.fetch_viewer()
    return report


def finish_report(report: Report, run: Run, settings: Settings, measures: dict[str, Any]) -> None:
    """Adds the run, complete or interrupted."""
    for step, meshes in run.frames:
        report.add_frame(step, meshes)
    if run.repaired or run.interrupted:
        report.add_frame(len(run.history.losses), run.meshes, "repaired" if run.repaired else "interrupted")
    report.add_history(run.history)
    report.subtitle = (
        f"{measures['method']}, {measures['steps']:,} steps on {settings.views} views of {settings.resolution} ×"
        f" {settings.resolution} pixels: chamfer distance {measures['chamfer_over_noise']:.2f} × sampling noise,"
        f" normal consistency {measures['normal_consistency']:.3f}, IoU of silhouettes {measures['iou']:.3f}"
    )
    report.add_table("Measures", labelled(measures), "distances squared, in units of the target's bounding sphere")
    report.add_table("Settings", {_LABELS[name]: value for name, value in asdict(settings).items()})
