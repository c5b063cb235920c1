"""bm_batch.py --device cuda: a step of optimisation of many meshes on a CUDA device, beside other solvers.

A step is x = M^-1 u, the backward pass of a given gradient of x, and the optimiser: no loss, no renderer. "At once" is one
LargeSteps of the whole batch with UniformAdam, called from Python and replayed from a CUDA graph. "cholespy" is a loop over
the meshes, a factor and a call for each; "cuDSS" is one call for the whole batch through nvmath-python; its work on the host
counts, as for all others. The peers' steps use one packed parameter, one autograd function and the same UniformAdam: they
differ only in the solves. "limit" is twice that of cuda_timing.Limits, for the two solves: for each group of meshes that are
solved together the steps of its tree, and each byte of its factor and of its share of the rows. A ragged batch has meshes of
162 to 10,242 vertices. lambda 19, float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from torch import Tensor

from common.batches import make_batch, ragged_batch
from common.machine import gpu_heading, heading
from common.peers import LAMBDA
from common.report import Report
from common.timing import MS, pair, single
from on_cuda.batch_peers import BATCH_PEERS, Differentiable, Solve, is_installed
from on_cuda.timing import Limits, captured, clock_of, cuda_device, interleave, measured_limits
from pt3d_largesteps import LargeSteps, PackedParameter, UniformAdam, compute_matrix
from pt3d_largesteps.solvers import solver_for

LR = 1e-3
TURN = 10
NUMBERS, VERTICES = [64], [2562]


def main(options: argparse.Namespace) -> None:
    device = cuda_device()
    report = Report(options.out_dir / "batch_cuda", f"{heading()}\n{gpu_heading(device)}")
    limits = measured_limits(device)
    report.line(str(limits))
    run(options, report, device, limits)


def run(options: argparse.Namespace, report: Report, device: torch.device, limits: Limits) -> None:
    """The table, on any device."""
    for name in BATCH_PEERS:
        if not is_installed(name):
            report.note(f"{name} is left out: the package {BATCH_PEERS[name][0]} is not installed")
    names = [name for name in BATCH_PEERS if is_installed(name)]
    head = ["meshes", "vertices", "topologies", "at once, ms", "in a graph, ms", *[f"{name}, ms" for name in names]]
    head += [f"{name} / {ours}" for name in names for ours in ("at once", "graph")]
    report.table([*head, "limit, ms", "graph / limit", "at once, us per mesh"])
    for number in options.numbers or NUMBERS:
        for num_verts in options.vertices or VERTICES:
            _row(make_batch(num_verts, number, mixed=False), "one", options.seconds, report, device, limits, names)
            if number >= 8:
                _row(make_batch(num_verts, number, mixed=True), "8 mixed", options.seconds, report, device, limits, names)
        _row(ragged_batch(number), "ragged", options.seconds, report, device, limits, names)
    report.close()


def _row(batch: list[Meshes], topologies: str, seconds, report: Report, device: torch.device, limits, names) -> None:
    torch.manual_seed(0)
    batch = [mesh.to(device) for mesh in batch]
    sizes = [int(mesh.num_verts_per_mesh()[0]) for mesh in batch]
    gradient = torch.randn(sum(sizes), 3, device=device)
    steps = LargeSteps(join_meshes_as_batch(batch), LAMBDA, solver="cholesky")
    functions = {"at once": our_step(steps, gradient, capturable=False)}
    case = f"{len(batch)} meshes, {topologies}"
    try:
        other = LargeSteps(join_meshes_as_batch(batch), LAMBDA, solver="cholesky")
        functions["graph"] = captured(our_step(other, gradient, capturable=device.type == "cuda"), device)
    except Exception as error:
        report.left_out("the graph", case, error)
    matrices = [compute_matrix(mesh, lambda_=LAMBDA) for mesh in batch]
    differences = {}  # of the positions, compared with ours: a fast but wrong result does not count
    for name in names:
        try:
            solve = BATCH_PEERS[name][1](matrices)
            differences[name] = float((solve(steps.u.detach()) - steps.verts_packed().detach()).abs().max())
            functions[name] = peer_step(solve, steps.u.detach(), sizes, gradient)
            functions[name]()
        except Exception as error:  # of a library that is not ours: whatever it is, the others are measured
            functions.pop(name, None)
            report.left_out(name, case, error)
    times = interleave(functions, seconds, clock_of(device), turn=TURN)
    ours, graph = times["at once"], times.get("graph")
    limit = two_solves(steps, limits)

    def ratio(name: str, to: str) -> float | None:
        return times[name].min / times[to].min if name in times and to in times else None

    over_limit = graph.min / limit if graph else None
    numbers = {"meshes": len(batch), "vertices": sum(sizes), "topologies": topologies, "rounds": ours.rounds}
    numbers |= {f"{name} {kind} ms": getattr(time, kind) / MS for name, time in times.items() for kind in ("min", "median")}
    numbers |= {f"{name} / {to}": ratio(name, to) for name in names for to in ("at once", "graph")}
    numbers |= {f"{name} largest difference": difference for name, difference in differences.items()}
    numbers |= {"limit ms": limit / MS, "graph / limit": over_limit}
    cells = [len(batch), f"{sum(sizes):,}", topologies, pair(ours, MS), pair(graph, MS)]
    cells += [pair(times.get(name), MS) for name in names]
    cells += [single(ratio(name, to)) for name in names for to in ("at once", "graph")]
    report.row([*cells, single(limit / MS), single(over_limit), single(ours.min / len(batch) * 1e6)], numbers)


def our_step(steps: LargeSteps, gradient: Tensor, *, capturable: bool) -> Callable[[], Any]:
    optimizer = UniformAdam(steps.parameters(), lr=LR, capturable=capturable)

    def step() -> None:
        optimizer.zero_grad()
        steps.verts_packed().backward(gradient)
        optimizer.step()

    return step


def peer_step(solve: Solve, u: Tensor, sizes: list[int], gradient: Tensor) -> Callable[[], Any]:
    parameter = PackedParameter(u.clone(), sizes)
    optimizer = UniformAdam([parameter], lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        Differentiable.apply(parameter, solve).backward(gradient)
        optimizer.step()

    return step


def two_solves(steps: LargeSteps, limits: Limits) -> float:
    """Seconds, after a first solve: the groups hold their factors from then on."""
    seconds = 0.0
    for part in steps.system._parts:  # of no public name: which meshes share a factor is nobody else's business
        factor = solver_for(part.pinned_matrix, "cholesky").factor
        seconds += limits.solve(factor.levels, factor.nbytes + 2 * part.group.rows.numel() * 3 * steps.u.element_size())
    return 2 * seconds
