"""The effect of each part of the default: the command reconstruct with one part changed at a time.

    python benchmarks/bm_ablation.py cow.obj armadillo.obj --seeds 3

Prints a table per target, like bm_reconstruct.py: means over the seeds, and after a slash the worst.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bm_reconstruct import header, row, run
from common.machine import heading
from pt3d_largesteps.optimization import FROM_HULL, OptimizationConfig
from pt3d_largesteps.reconstruction.settings import Settings

EDGE = 0.023  # of a hull of 5,000 vertices in the unit ball, about


@dataclass(frozen=True)
class Variant(Settings):
    """Settings with a changed config of the driver.

    Attributes:
        changes: (name, value) of its config.
    """

    changes: tuple[tuple[str, Any], ...] = ()

    def config(self) -> OptimizationConfig:
        return replace(super().config(), **dict(self.changes))


def fixed_lambda(lambda_: float) -> tuple:
    return (("stages", tuple(replace(stage, lambda_=lambda_) for stage in FROM_HULL)),)


VARIANTS = {
    "default": Variant(),
    "moments reset": Variant(changes=(("moments", "reset"),)),
    "lambda 4 throughout": Variant(changes=fixed_lambda(4.0)),
    "lambda 1 throughout": Variant(changes=fixed_lambda(1.0)),
    "lambda 19 throughout": Variant(changes=fixed_lambda(19.0)),
    "steps of one absolute size": Variant(changes=(("lr_unit", "absolute"), ("lr", 1.3 * EDGE))),
    "steps that do not decay": Variant(changes=(("lr_decay", 1.0),)),
    "from a sphere": Variant(start="sphere"),
    "5,000 vertices throughout": Variant(changes=(("stages", FROM_HULL[:1]),)),
    "no repair at the end": Variant(changes=(("untangle", False),)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("targets", nargs="+", help="files, or names of shapes made in code")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, each on one thread")
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME", help="only these"
    )
    options = parser.parse_args()
    print(heading())
    with ProcessPoolExecutor(options.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for target in options.targets:
            runs = {
                (name, seed): pool.submit(run, target, replace(VARIANTS[name], seed=seed))
                for name in options.variants
                for seed in range(options.seeds)
            }
            for future in tqdm(runs.values(), desc=Path(target).name, leave=False, mininterval=5):
                future.result()
            print(f"\n{Path(target).name}, {Settings.steps} steps, {options.seeds} seed(s)\n\n{header('variant')}")
            for name in options.variants:
                print(row(name, [runs[name, seed].result() for seed in range(options.seeds)]), flush=True)


if __name__ == "__main__":
    main()
