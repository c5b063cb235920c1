"""Reconstruction from pictures: large steps beside plain Adam and Adam with a Laplacian regulariser of six weights.

    python benchmarks/bm_reconstruct.py                                  # the shapes made in code
    python benchmarks/bm_reconstruct.py spot.obj bunny.obj --seeds 3     # your own, the mean of three orders of the views
    python benchmarks/bm_reconstruct.py --start sphere --resolution 128
    python benchmarks/bm_reconstruct.py --no-remesh                      # 2,562 vertices from beginning to end

All methods get the same start, views, steps, remeshings, repair at the end and rule for the step size (in mean edge lengths,
falling to a tenth). Prints a table per target, in the measures of `reconstruct`: means over the seeds, and after a
slash the worst if there are several.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from common.machine import heading
from pt3d_largesteps.reconstruction.loading import into_unit_ball, load_target
from pt3d_largesteps.reconstruction.measures import measure
from pt3d_largesteps.reconstruction.optimization import reconstruct
from pt3d_largesteps.reconstruction.settings import STARTS, Settings
from pt3d_largesteps.reconstruction.shapes import SHAPES

WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
COLUMNS = {
    "chamfer / noise": ("chamfer_over_noise", max, "{:.3f}"),
    "normals": ("normal_consistency", min, "{:.4f}"),
    "IoU": ("iou", min, "{:.4f}"),
    "self-int. %": ("self_intersecting_percent", max, "{:.2f}"),
    "repaired": ("repaired_faces", max, "{:.0f}"),
    "flipped %": ("flipped_percent", max, "{:.2f}"),
    "loss": ("final_loss", max, "{:.5f}"),
    "s": ("seconds_total", max, "{:.0f}"),
    "ms / step": ("seconds_per_step", max, "{:.1f}"),
    "solve": ("seconds_per_step_solve", max, "{:.2f}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("targets", nargs="*", help="files, or names of shapes made in code (default: all of these)")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default: %(default)s)")
    parser.add_argument("--start", choices=STARTS, default=Settings.start)
    parser.add_argument("--resolution", type=int, default=Settings.resolution, help="pixels (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", help="large-steps, adam or weights of the regulariser (default: all)")
    parser.add_argument("--no-remesh", dest="remesh", action="store_false")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, each on one thread")
    options = parser.parse_args()
    settings = Settings(steps=options.steps, remesh=options.remesh, start=options.start, resolution=options.resolution)
    methods = options.methods or ["large-steps", "adam", *map(str, WEIGHTS)]
    print(heading())
    with ProcessPoolExecutor(options.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for target in options.targets or sorted(SHAPES):
            runs = {
                (method, seed): pool.submit(run, target, replace(settings, seed=seed, **_of_method(method)))
                for method in methods
                for seed in range(options.seeds)
            }
            for future in tqdm(runs.values(), desc=target, leave=False, mininterval=5):
                future.result()
            noise = next(iter(runs.values())).result()["normal_consistency_noise"]
            print(
                f"\n{Path(target).name}, {settings.steps} steps from the {settings.start},"
                f" {'remeshed' if settings.remesh else 'not remeshed'}, {options.seeds} seed(s);"
                f" normals of the target itself {noise:.4f}\n"
            )
            print(header("method"))
            for method in methods:
                results = [runs[method, seed].result() for seed in range(options.seeds)]
                print(row(results[0]["method"], results), flush=True)


def _of_method(method: str) -> dict:
    return {"method": method} if method in ("large-steps", "adam") else {"method": "laplacian", "reg": float(method)}


def run(target: str, settings: Settings) -> dict:
    """The measures of one reconstruction."""
    shape = into_unit_ball(SHAPES[target]()) if target in SHAPES else load_target(Path(target))
    return measure(reconstruct(shape, settings), shape, settings)


def header(first: str) -> str:
    """The heading of a table of measures, whose first column has that name."""
    return f"| {first} | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}"


def row(name: str, runs: list[dict]) -> str:
    """A line of the table: the means, and the worst if there are several."""
    cells = [name]
    for key, worst, form in COLUMNS.values():
        values = [(1e3 if key.startswith("seconds_per") else 1) * run[key] for run in runs]
        mean = form.format(sum(values) / len(values))
        cells.append(mean if len(runs) == 1 else f"{mean} / {form.format(worst(values))}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
