"""All available solvers: set-up, first solve and later solves of three columns.

    python benchmarks/bm_solvers.py

A later solve is one of a slowly moving right-hand side, as in an optimisation, where conjugate gradients start from the
last solution. Runs interleaved; minimum and median.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from pytorch3d.utils import ico_sphere

from common.machine import heading
from pt3d_largesteps import available_solvers, compute_matrix
from pt3d_largesteps.solvers import solver_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    print(heading())
    print(f"threads: {torch.get_num_threads()}\n")
    print("| vertices | solver | set-up, ms | first solve, ms | later solves min / median, ms |\n|---|---|---|---|---|")
    for level in (2, 3, 4, 5, 6):
        sphere = ico_sphere(level)
        matrix = compute_matrix(sphere, lambda_=19.0)
        rhs = matrix @ sphere.verts_packed()
        setup, first, later, solvers = {}, {}, {}, {}
        for name in available_solvers():
            setup[name] = _timed(lambda name=name: solvers.__setitem__(name, solver_for(matrix, name)))
            first[name] = _timed(lambda name=name: solvers[name].solve(rhs))
            later[name] = []
        for _ in range(options.repeat):
            rhs = rhs + 1e-3 * torch.randn_like(rhs)
            for name, solver in solvers.items():
                later[name].append(_timed(lambda solver=solver: solver.solve(rhs)))
        for name in solvers:
            print(
                f"| {len(rhs):,} | {name} | {1e3 * setup[name]:.2f} | {1e3 * first[name]:.2f}"
                f" | {1e3 * min(later[name]):.3f} / {1e3 * statistics.median(later[name]):.3f} |",
                flush=True,
            )


def _timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
