"""The demo: reconstructs a target with a progress bar, and writes the result files."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch3d.io import save_obj
from pytorch3d.structures import Meshes
from tqdm import tqdm

from pt3d_largesteps.optimization import Optimization
from pt3d_largesteps.reconstruction.loading import into_unit_ball, load_target
from pt3d_largesteps.reconstruction.measures import measure, table
from pt3d_largesteps.reconstruction.optimization import Run, reconstruct
from pt3d_largesteps.reconstruction.pictures import save_comparison, save_turntable
from pt3d_largesteps.reconstruction.report import begin_report, finish_report
from pt3d_largesteps.reconstruction.settings import Settings
from pt3d_largesteps.reconstruction.shapes import SHAPES


def run_demo(options: argparse.Namespace, settings: Settings) -> int:
    """Reconstructs and writes; ``options`` are those of reconstruct.py. Returns the exit status.

    Raises:
        TargetError: the target file cannot be used.
        ThreeError: there is no three.js for the report.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    target = (load_target(options.target) if options.target else into_unit_ball(SHAPES[options.shape]())).to(settings.device)
    name = options.target.name if options.target else f"{options.shape}, made in code"
    print(f"target: {name}, {len(target.verts_packed()):,} vertices; method: {settings.method}")
    report = begin_report(target, name) if options.report else None  # before the run, to fail early
    run = _reconstruct(target, settings, options.checkpoint)
    measures = _write(run, target, name, settings, options)
    if report is not None:
        finish_report(report, run, settings, measures)
        options.report.parent.mkdir(parents=True, exist_ok=True)
        report.save(options.report)
        print(f"report, for a browser: {options.report}, {options.report.stat().st_size / 1e6:.1f} MB")
    return 130 if run.interrupted else 0


def _reconstruct(target: Meshes, settings: Settings, checkpoint: Path | None) -> Run:
    """Runs the optimisation behind a progress bar."""
    every = 0.1 if sys.stderr.isatty() else 5.0  # seconds between two updates; a log file needs fewer
    with tqdm(total=settings.steps, desc=settings.method, unit="step", mininterval=every, maxinterval=2 * every) as progress:

        def show(run: Optimization) -> None:
            history = run.history
            progress.set_postfix(loss=f"{history.mean_losses[-1]:.4f}", verts=history.stages[-1][1], refresh=False)
            progress.update(run.step - progress.n)  # a resumed run starts at the steps that are done

        run = reconstruct(target, settings, show, checkpoint)
    if run.interrupted:
        print(f"interrupted after {len(run.history.losses)} of {settings.steps} steps; writing the result so far")
    return run


def _write(run: Run, target: Meshes, name: str, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Writes the result first, then its pictures and measures; returns the measures."""
    out = options.out
    save_obj(out / "result.obj", run.meshes.verts_packed().cpu(), run.meshes.faces_packed().cpu())
    measures = measure(run, target, settings)
    written = {"target": str(options.target) if options.target else options.shape, **asdict(settings), **measures}
    (out / "metrics.json").write_text(json.dumps(written, indent=2) + "\n")
    caption = (
        f"{name}: {measures['method']}, {measures['steps']} steps, {settings.views} views"
        f" — chamfer {measures['chamfer_over_noise']:.2f} × noise, IoU {measures['iou']:.3f},"
        f" {measures['self_intersecting_percent']:.2f} % self-intersecting"
    )
    save_comparison(out / "comparison.png", target, run.start, run.meshes, caption)
    run.history.plot(out / "loss.png")
    save_turntable(out / "turntable.gif", run, target)
    print(table(measures))
    print(f"written to {out}: result.obj, comparison.png, turntable.gif, loss.png, metrics.json")
    return measures
