"""A step of optimisation of many meshes: at once, in a loop over them, and in a loop with cholespy as the release does it.

    python benchmarks/bm_batch.py
    python benchmarks/bm_batch.py --numbers 64 --vertices 2562
    python benchmarks/bm_batch.py --pins 0.1          # with a tenth of the vertices pinned, beside none
    python benchmarks/bm_batch.py --device cuda       # see on_cuda/batch.py

A step is x = M^-1 u, the backward pass of a given gradient of x, and the optimiser: no loss, no renderer. "At once" is one
LargeSteps of the whole batch with UniformAdam. "Loop" is a LargeSteps of each mesh and one UniformAdam of all their
parameters. "cholespy" is the released code of the paper, largesteps: its differentiable solve of each mesh and its AdamUniform
of all the tensors (float32, always one thread). Mixed batches hold an icosphere and seven tori in turn. lambda 19, float32.
Calls in turns; minimum and median; ratios are of minima.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch

from common.batches import SIZES, make_batch
from common.machine import heading
from common.peers import set_threads
from common.timing import MS, interleave, load_line, pair, single, table_head, write_csv
from on_cuda import batch as cuda_batch
from pt3d_largesteps import LargeSteps, UniformAdam, compute_matrix

LR = 1e-3
NUMBERS = [1, 4, 16, 64, 256]


def main() -> None:
    load = load_line()
    options = _options()
    if options.device == "cuda":
        cuda_batch.main(options)
        return
    print(f"{heading()}\n{load}")
    if options.pins is not None:
        _compare_pins(options)
        return
    head = ["meshes", "vertices each", "topologies", "threads", "at once, ms", "loop, ms", "cholespy, ms"]
    print(table_head([*head, "loop / at once", "cholespy / at once", "at once, us per mesh"]))
    rows = []
    for num_verts in options.vertices or SIZES:
        for topologies in ("one", "8 mixed"):
            for number in options.numbers or NUMBERS:
                if topologies == "8 mixed" and number < 8:
                    continue
                batch = make_batch(num_verts, number, mixed=topologies != "one")
                for threads in options.threads:
                    rows.append(_row(batch, num_verts, topologies, threads, options.seconds))
    if options.csv:
        write_csv(options.csv, rows)


def _compare_pins(options: argparse.Namespace) -> None:
    """A table of steps with and without pins."""
    print(table_head(["meshes", "vertices each", "threads", "no pins, ms", "pins, ms", "pins / no pins", "of medians"]))
    for num_verts in options.vertices or SIZES:
        for number in options.numbers or [1, 16]:
            batch = make_batch(num_verts, number, mixed=False)
            gradients = [torch.randn_like(mesh.verts_packed()) for mesh in batch]
            num_pinned = int(options.pins * len(batch[0].verts_packed()))
            pinned = [torch.arange(num_pinned)] * number
            for threads in options.threads:
                set_threads(threads)
                functions = {"free": _at_once(batch, gradients), "pinned": _at_once(batch, gradients, pinned=pinned)}
                free, held = interleave(functions, options.seconds).values()
                cells = [str(number), f"{num_verts:,}", str(threads), pair(free, MS), pair(held, MS)]
                ratios = [single(held.min / free.min), single(held.median / free.median)]
                print(f"| {' | '.join([*cells, *ratios])} |", flush=True)


def _row(batch: list[Meshes], num_verts: int, topologies: str, threads: int, seconds: float) -> dict[str, Any]:
    set_threads(threads)
    torch.manual_seed(0)
    gradients = [torch.randn_like(mesh.verts_packed()) for mesh in batch]
    functions = {
        "at once": _at_once(batch, gradients),
        "loop": _loop(batch, gradients),
        "cholespy": _released(batch, gradients),
    }
    times = interleave(functions, seconds)
    ours = times["at once"].min
    loop, cholespy = times["loop"].min / ours, times["cholespy"].min / ours
    cells = [str(len(batch)), f"{num_verts:,}", topologies, str(threads), *(pair(one, MS) for one in times.values())]
    print(f"| {' | '.join([*cells, single(loop), single(cholespy), single(ours / len(batch) * 1e6)])} |", flush=True)
    return {
        "meshes": len(batch), "vertices": num_verts, "topologies": topologies, "threads": threads,
        **{f"{name} {kind} ms": getattr(one, kind) / MS for name, one in times.items() for kind in ("min", "median")},
        "loop ratio": loop, "cholespy ratio": cholespy,
    }  # fmt: skip


def _at_once(batch: list[Meshes], gradients: list[torch.Tensor], **options: Any) -> Callable[[], Any]:
    steps = LargeSteps(join_meshes_as_batch(batch), **options)
    optimizer = UniformAdam(steps.parameters(), lr=LR)
    gradient = torch.cat(gradients)

    def step() -> None:
        optimizer.zero_grad()
        steps.verts_packed().backward(gradient)
        optimizer.step()

    return step


def _loop(batch: list[Meshes], gradients: list[torch.Tensor]) -> Callable[[], Any]:
    steps = [LargeSteps(mesh) for mesh in batch]
    optimizer = UniformAdam([one.u for one in steps], lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        for one, gradient in zip(steps, gradients, strict=True):
            one.verts_packed().backward(gradient)
        optimizer.step()

    return step


def _released(batch: list[Meshes], gradients: list[torch.Tensor]) -> Callable[[], Any]:
    from largesteps.optimize import AdamUniform  # imported here: on cuda it is not needed
    from largesteps.solvers import CholeskySolver, solve

    matrices = [compute_matrix(mesh) for mesh in batch]
    solvers = [CholeskySolver(matrix.to_sparse_coo()) for matrix in matrices]
    parameters = [(matrix @ mesh.verts_packed()).requires_grad_() for matrix, mesh in zip(matrices, batch, strict=True)]
    optimizer = AdamUniform(parameters, lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        for solver, parameter, gradient in zip(solvers, parameters, gradients, strict=True):
            solve(solver, parameter).backward(gradient)
        optimizer.step()

    return step


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--numbers", type=int, nargs="+", help=f"of meshes; {NUMBERS}, or on cuda {cuda_batch.NUMBERS}")
    parser.add_argument("--vertices", type=int, nargs="+", choices=list(SIZES), help="of each mesh; all, or on cuda 2562")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="on the CPU")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row, at least (default: %(default)s)")
    parser.add_argument("--pins", type=float, help="the part of the vertices that is pinned, in [0, 1), beside none")
    parser.add_argument("--csv", type=Path, help="where to write the numbers too, on the CPU")
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "results", help="on cuda")
    return parser.parse_args()


if __name__ == "__main__":
    main()
