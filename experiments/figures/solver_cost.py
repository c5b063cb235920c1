"""The cost of the solves of an iteration: Cholesky factorisations against conjugate gradients.

    python experiments/figures/solver_cost.py
    python experiments/figures/solver_cost.py --scale paper --device cuda

Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021), Sec. 3.4: the matrix is the same throughout an
optimisation, so one factorisation pays off after a few iterations. A sphere becomes a knobbly ball, by the distance of its
vertices. The two solves of each iteration are timed, solvers in turn. Conjugate gradients start from the last solution.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch3d.utils import ico_sphere

from paper.output import write
from paper.setup import device, positive_int
from paper.timed_solver import TimedSolver
from pt3d_largesteps import LargeSteps, UniformAdam, available_solvers, compute_matrix
from pt3d_largesteps.reconstruction.timing import now
from pt3d_largesteps.solvers import solver_for

LEVELS = {"small": (3, 4, 5, 6), "paper": (3, 4, 5, 6, 7, 8)}
LAMBDAS = (1.0, 9.0, 49.0, 99.0, 999.0)
LAMBDA, LEVEL = 19.0, 5
TURN = 5  # iterations of one solver before the next one's
NAMES = {"cholesky": "Cholesky, ours", "cholespy": "Cholesky, cholespy", "conjugate_gradient": "conjugate gradients"}
COLORS = {"cholesky": "tab:red", "cholespy": "tab:orange", "conjugate_gradient": "tab:blue"}


class Fit:
    """A sphere on its way to the ball, with one solver."""

    def __init__(self, solver: str, level: int, lambda_: float, device: str) -> None:
        self.seconds = {"solve": 0.0}
        sphere = ico_sphere(level, device)
        matrix = compute_matrix(sphere, lambda_=lambda_)
        begin = now(sphere.device)
        made = solver_for(matrix, solver)
        self.set_up = now(sphere.device) - begin
        self.steps = LargeSteps(sphere, lambda_, solver=lambda matrix: TimedSolver(made, self.seconds))
        self.optimizer = UniformAdam(self.steps.parameters(), lr=0.02)
        directions = sphere.verts_packed()
        self.goal = directions * (0.8 + 0.1 * (9.0 * directions).sin().prod(dim=1, keepdim=True))
        self.iterate()  # with whatever is made once

    def iterate(self) -> float:
        """Seconds of the two solves of one iteration."""
        self.seconds["solve"] = 0.0
        self.optimizer.zero_grad()
        (self.steps.verts_packed() - self.goal).square().sum().backward()
        self.optimizer.step()
        return self.seconds["solve"]


def timed(level: int, lambda_: float, device: str, iterations: int) -> list[dict[str, Any]]:
    """A line for each solver; each takes a few iterations, then the next one."""
    solvers = [solver for solver in NAMES if solver in available_solvers()]
    fits = {solver: Fit(solver, level, lambda_, device) for solver in solvers}
    seconds: dict[str, list[float]] = {solver: [] for solver in solvers}
    for turn in range(0, iterations, TURN):
        for solver in solvers:
            seconds[solver] += [fits[solver].iterate() for _ in range(min(iterations - turn, TURN))]
    return [
        {
            "vertices": len(fits[solver].goal),
            "lambda": lambda_,
            "solver": NAMES[solver],
            "solves of an iteration, ms (minimum)": 1e3 * min(times),
            "median": 1e3 * statistics.median(times),
            "set-up, ms": 1e3 * fits[solver].set_up,
        }
        for solver, times in seconds.items()
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scale", choices=list(LEVELS), default="small", help="default: %(default)s")
    parser.add_argument("--level", type=positive_int, help="of subdivision of the largest sphere (default: that of the scale)")
    parser.add_argument("--iterations", type=positive_int, default=30, help="default: %(default)s")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/figures"), help="output folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    largest = LEVELS[options.scale][-1] if options.level is None else options.level
    levels = range(min(largest, LEVELS[options.scale][0]), largest + 1)
    timed(levels[0], LAMBDA, options.device, 1)  # what is made once in a process
    by_size = [line for level in levels for line in timed(level, LAMBDA, options.device, options.iterations)]
    middle = min(LEVEL, levels[-1])
    by_lambda = [line for lambda_ in LAMBDAS for line in timed(middle, lambda_, options.device, options.iterations)]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, lines, key in ((axes[0], by_size, "vertices"), (axes[1], by_lambda, "lambda")):
        for solver, name in NAMES.items():
            points = [(line[key], line["median"]) for line in lines if line["solver"] == name]
            if points:
                axis.loglog(*zip(*points, strict=True), marker="o", markersize=3, color=COLORS[solver], label=name)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlabel(f"vertices ($\\lambda$ = {LAMBDA:g})")
    axes[1].set_xlabel(f"$\\lambda$ ({by_lambda[0]['vertices']:,} vertices)")
    axes[0].set_ylabel("ms for the two solves of an iteration")
    axes[0].legend(fontsize=8, frameon=False)
    place = "a CPU" if torch.device(options.device).type == "cpu" else torch.cuda.get_device_name(options.device)
    about = f"spheres, {torch.get_num_threads()} threads, on {place}, torch {torch.__version__}"
    write(options.out, Path(__file__).stem, figure, by_size + by_lambda, about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
