"""Reconstruction from pictures: large steps beside plain Adam and Adam with a Laplacian regulariser of three weights.

    python benchmarks/bm_reconstruct.py                        # the shape made in code
    python benchmarks/bm_reconstruct.py spot.obj bunny.obj     # your own
    python benchmarks/bm_reconstruct.py --no-remesh            # 2,562 vertices from beginning to end

All methods get the same views, steps, remeshings and rule for the step size (in mean edge lengths, falling to a tenth).
Prints a table per target, in the measures of examples/reconstruct.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from machine import heading

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from tqdm import tqdm

from reconstruction.loading import into_unit_ball, load_target
from reconstruction.measures import measure
from reconstruction.optimization import Settings, reconstruct
from reconstruction.shapes import animal

COLUMNS = (
    "method | chamfer / noise | normals (best) | IoU | self-int. % | flipped % | loss | s / step | solve | render | optimiser"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("targets", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--no-remesh", dest="remesh", action="store_false")
    options = parser.parse_args()
    settings = Settings(steps=options.steps, remesh=options.remesh)
    print(heading())
    for path in options.targets or [None]:
        target = load_target(path) if path else into_unit_ball(animal())
        name = path.name if path else "a shape made in code"
        print(f"\n{name}, {settings.steps} steps, {'remeshed to 9,000' if settings.remesh else '2,562'} vertices\n")
        print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
        runs = [settings, replace(settings, method="adam")]
        runs += [replace(settings, method="laplacian", reg=reg) for reg in (0.1, 1.0, 10.0)]
        for current in tqdm(runs, leave=False, mininterval=5):
            print(_row(measure(reconstruct(target, current), target, current)), flush=True)


def _row(m: dict) -> str:
    cells = [
        m["method"],
        f"{m['chamfer_over_noise']:.3f}",
        f"{m['normal_consistency']:.3f} ({m['normal_consistency_noise']:.3f})",
        f"{m['iou']:.4f}",
        f"{m['self_intersecting_percent']:.2f}",
        f"{m['flipped_percent']:.2f}",
        f"{m['final_loss']:.5f}",
        *(f"{1e3 * m[f'seconds_per_step{part}']:.1f} ms" for part in ("", "_solve", "_render", "_optimizer")),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
