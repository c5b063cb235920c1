"""Solves on regular grids, lambda 19: this package's transforms beside sparse factors, conjugate gradients and SciPy.

    python benchmarks/bm_grid.py --quick
    python benchmarks/bm_grid.py --grids 1024x1024 128x128x128 --threads 2

A row is a grid and a boundary; images have three channels, volumes one, float32. "ours" is the whole solve, I + lambda L, and
"SciPy" its two transforms alone, dctn and idctn with as many workers, without the division between them. The sparse solvers get
the same matrix, assembled; their times are of solves with an existing factor, next to the time of the factorisation. All run in
turns of up to four calls; minimum / median of all calls. Conjugate gradients (sparse, Jacobi) start from zero at each call. The
second table has a disc of invalid texels in the middle, for which transforms alone are not enough: our Cholesky over the valid
texels, and conjugate gradients preconditioned by the transforms.

Memory is the peak growth of the process during the first call (or the factorisation), without the given field, as a multiple of
the field; each is measured in a separate process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.fft
import torch
from torch import Tensor

from common.machine import heading
from common.peers import set_threads
from common.timing import MS, PAUSE, interleave, load_line, pair, single, table_head, write_csv
from pt3d_largesteps import GridMatrix, grid_system_matrix
from pt3d_largesteps.solvers import ConjugateGradientSolver, GridConjugateGradientSolver, solve, solve_grid, solver_for

LAMBDA = 19.0
TURN = 4  # calls: the first finds the threads of the one before still waiting for work, in the way of its own
GRIDS = ["512x512", "1024x1024", "2048x2048", "4096x4096", "8192x8192", "64x64x64", "128x128x128", "256x256x256"]
QUICK = ["256x256", "512x512", "32x32x32", "64x64x64"]
# Above these numbers of texels a method is not run; why, is printed.
MAX_TEXELS = {
    ("cholesky", 2): (2**20, "the factor takes gigabytes"),
    ("cholesky", 3): (2**17, "the factor takes 20 s at 64x64x64"),
    ("cholespy", 2): (2**20, "the factor takes gigabytes and minutes"),
    ("cholespy", 3): (2**15, "the factor takes minutes"),
    ("sparse CG", 2): (2**18, "seconds a solve"),
    ("sparse CG", 3): (2**17, "seconds a solve"),
}
METHODS = ["ours", "SciPy", "cholesky", "cholespy", "sparse CG"]
MASKED_METHODS = ["cholesky", "grid CG", "sparse CG"]


def main() -> None:
    load = load_line()
    options = _options()
    if options.memory_of:
        print(_memory(*options.memory_of, options.boundary, options.threads))
        return
    print(f"{heading()}\n{load}")
    set_threads(options.threads)
    rows = []
    for masked, methods in ((False, METHODS), (True, MASKED_METHODS)):
        print("\nwith a mask" if masked else "\nwhole grids")
        head = [
            "grid",
            "boundary",
            *[f"{name} min / median, ms" for name in methods],
            "SciPy / ours" if not masked else "iterations",
        ]
        head += ["factors: cholesky, cholespy, s", "memory / field"] if not masked else ["factor, s"]
        print(table_head(head))
        for grid in options.grids:
            rows.append(_row(grid, masked, methods, options))
    write_csv(options.out_dir / "grid.csv", rows)
    print("\nnot run:")
    for (name, ndim), (limit, reason) in MAX_TEXELS.items():
        print(f"  {name} above {limit:,} texels in {ndim}D: {reason}")
    print(load)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help=", ".join(QUICK))
    parser.add_argument("--grids", nargs="+", metavar="HxW")
    parser.add_argument("--boundary", choices=("natural", "periodic", "fixed"), default="natural")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="per row, but at least five rounds")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory-of", nargs=2, metavar=("METHOD", "HxW"), help=argparse.SUPPRESS)
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "results")
    options = parser.parse_args()
    options.grids = options.grids or (QUICK if options.quick else GRIDS)
    return options


def _row(grid: str, masked: bool, methods: list[str], options: argparse.Namespace) -> dict[str, Any]:
    shape = tuple(map(int, grid.split("x")))
    functions, factors, iterations = {}, {}, None
    for name in methods:
        limit, _ = MAX_TEXELS.get((name, len(shape)), (2**62, ""))
        if torch.Size(shape).numel() <= limit:
            start = time.perf_counter()
            functions[name], solver = _prepared(name, shape, options.boundary, masked)
            if solver is not None:
                factors[name] = time.perf_counter() - start
            if name == "grid CG":
                functions[name]()
                iterations = solver.iterations
    least = 5 if torch.Size(shape).numel() <= 2**24 else 2
    times = interleave(functions, options.seconds, least=least, turn=TURN, pause=PAUSE)
    row = {"grid": grid, "boundary": options.boundary, "masked": masked, "threads": options.threads, "iterations": iterations}
    memory = {}
    for name, one in times.items():
        row |= {f"{name}_min_ms": one.min / MS, f"{name}_median_ms": one.median / MS, f"{name}_setup_s": factors.get(name)}
        if not masked and not options.no_memory:
            memory[name] = row[f"{name}_memory_over_field"] = _memory_elsewhere(name, grid, options)
    cells = [grid, options.boundary, *[pair(times.get(name), MS) for name in methods]]
    if masked:
        cells += [iterations, single(factors.get("cholesky"))]
    else:
        cells.append(single(times["SciPy"].min / times["ours"].min))
        cells.append(", ".join(single(factors.get(name)) for name in ("cholesky", "cholespy")))
        cells.append(", ".join(f"{name} {value:.1f}" for name, value in memory.items()) or "-")
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return row


def _prepared(name: str, shape: tuple[int, ...], boundary: str, masked: bool = False) -> tuple[Callable[[], Any], Any]:
    """A function that solves, and what was made for it."""
    field = _field(shape)
    if name == "SciPy":
        return _transforms(field, boundary), None
    matrix = GridMatrix(shape, LAMBDA, boundary=boundary, mask=_without_a_disc(shape) if masked else None)
    if name == "ours":
        return (lambda: solve_grid(matrix, field)), None
    if name == "grid CG":
        solver = GridConjugateGradientSolver(matrix, field)

        def iterate() -> Tensor:
            solver._guesses.clear()
            return solver.solve(field)

        return iterate, solver
    system = grid_system_matrix(matrix, valid_only=True)
    columns = field.flatten(2).flatten(0, 1)
    columns = (columns[:, matrix.mask.flatten()] if masked else columns).T.contiguous()
    if name == "sparse CG":
        solver = ConjugateGradientSolver(system)

        def iterate_sparse() -> Tensor:
            solver._guesses.clear()
            return solver.solve(columns)

        return iterate_sparse, None
    return (lambda: solve(system, columns, name)), solver_for(system, name)


def _field(shape: tuple[int, ...]) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(1, 3 if len(shape) == 2 else 1, *shape)


def _without_a_disc(shape: tuple[int, ...]) -> Tensor:
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size) for size in shape], indexing="ij")
    return sum(axis**2 for axis in axes) > 0.25


def _transforms(field: Tensor, boundary: str) -> Callable[[], Any]:
    array, workers = field.numpy(), torch.get_num_threads()
    axes = tuple(range(2, array.ndim))

    def transforms() -> Any:
        if boundary == "periodic":
            spectrum = scipy.fft.rfftn(array, axes=axes, workers=workers)
            return scipy.fft.irfftn(spectrum, s=array.shape[2:], axes=axes, workers=workers, overwrite_x=True)
        forth, back = (scipy.fft.dctn, scipy.fft.idctn) if boundary == "natural" else (scipy.fft.dstn, scipy.fft.idstn)
        kind = 2 if boundary == "natural" else 1
        return back(forth(array, kind, axes=axes, workers=workers), kind, axes=axes, workers=workers, overwrite_x=True)

    return transforms


def _memory_elsewhere(name: str, grid: str, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--memory-of", name, grid, "--boundary", options.boundary]
    printed = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, text=True, check=True)
    return float(printed.stdout.split()[-1])


def _memory(name: str, grid: str, boundary: str, threads: int) -> float:
    set_threads(threads)
    shape = tuple(map(int, grid.split("x")))
    _prepared(name, (8,) * len(shape), boundary)[0]()  # what is loaded at the first call
    before = _peak()
    result = _prepared(name, shape, boundary)[0]()
    nbytes = _field(shape).nbytes
    del result
    return (_peak() - before) / nbytes - 1  # without the field, which is made in between


def _peak() -> int:
    """Bytes that this process has had in memory at most; getrusage would know its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
