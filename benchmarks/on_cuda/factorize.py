"""bm_factorize.py --device cuda: set-up of the sparse Cholesky solver with values on a CUDA device, beside other solvers.

"total" is what cholespy's constructor does: analyze with the positions of the vertices, nothing reused, and factorize. The
analysis runs on the host and sends its result to the device. Our factorize and refactorize wait for the device at their end,
because the host must read whether a pivot was not positive, which raises an error; no peer checks this. cholespy factorises on
the host, and has no refactorisation. cuDSS: order, analyse and factorise, and the second time the numbers alone. "limit" is
that of cuda_timing.Limits for a refactorisation: a step for each level, every byte of the values and of the factor once; it
excludes the arithmetic, which takes longer for large meshes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from common.machine import gpu_heading, heading
from common.peers import right_hand_side, system
from common.report import Report
from common.timing import MS, US, pair, single
from on_cuda.peers import DIRECT_PEERS, available_peers, backward_error, missing_peers
from on_cuda.timing import Limits, clock_of, cuda_device, interleave, measured_limits
from pt3d_largesteps.solvers import analyze, factorize

MILLION = "square1000"
_OURS = ("total", "analyze", "analyze_without_positions", "factorize", "refactorize")
AGAIN = " again"
RATIOS = (("cholespy", "total"), ("cuDSS", "total"), ("cuDSS" + AGAIN, "refactorize"))


def main(options: argparse.Namespace) -> None:
    device = cuda_device()
    stem = "factorize_million_cuda" if options.million else "factorize_cuda"
    report = Report(options.out_dir / stem, f"{heading()}\n{gpu_heading(device)}")
    limits = measured_limits(device)
    report.line(str(limits))
    (run_million if options.million else run)(options, report, device, limits)


def run(options: argparse.Namespace, report: Report, device: torch.device, limits: Limits) -> None:
    """The table, on any device."""
    for line in missing_peers():
        report.note(line)
    names = [name for peer in available_peers(DIRECT_PEERS) for name in (peer.name, peer.name + AGAIN)]
    names = [name for name in names if name != "cholespy" + AGAIN]  # of which there is none
    head = ["mesh", "vertices", *[f"{name.replace('_', ' ')}, ms" for name in _OURS], *[f"{name}, ms" for name in names]]
    head += [f"{name} / {ours}" for name, ours in RATIOS if name in names]
    head += ["limit, ms", "refactorize / limit"]
    report.line("\nTimes are min / median; ratios are of minima.")
    report.table(head)
    for mesh in options.meshes:
        _row(mesh, options, report, device, limits, names)
    report.close()


def _row(mesh, options, report, device, limits, names) -> None:
    matrix, verts = system(mesh, options.dtype, device=device)
    symbolic = analyze(matrix, verts, reuse=False)
    factor = factorize(symbolic, matrix.values)
    functions: dict[str, Callable[[], Any]] = {
        "total": lambda: factorize(analyze(matrix, verts, reuse=False), matrix.values),
        "analyze": lambda: analyze(matrix, verts, reuse=False),
        "analyze_without_positions": lambda: analyze(matrix, reuse=False),
        "factorize": lambda: factorize(symbolic, matrix.values),
        "refactorize": lambda: factor.refactorize(matrix.values),
    }
    for peer in available_peers(DIRECT_PEERS):
        if matrix.shape[0] > peer.max_verts:
            continue
        try:
            made = peer(matrix)
            made.factorize()
            again = made.refactorizer()
        except Exception as error:  # of a library that is not ours: whatever it is, the others are measured
            report.left_out(peer.name, mesh, error)
            continue
        functions[peer.name] = made.factorize
        if again:
            functions[peer.name + AGAIN] = again
    times = interleave(functions, options.seconds, clock_of(device))

    def ratio(name: str, ours: str) -> float | None:
        return times[name].min / times[ours].min if name in times else None

    limit = limits.factorization(factor.levels, factor.nbytes + matrix.values.nbytes)
    ratios = {f"{name} / {ours}": ratio(name, ours) for name, ours in RATIOS if name in names}
    over_limit = times["refactorize"].min / limit
    numbers = {"mesh": mesh, "vertices": matrix.shape[0], "dtype": options.dtype, "rounds": times["total"].rounds}
    for name, time in times.items():
        key = name.replace(" ", "_")
        numbers |= {f"{key}_min_ms": time.min / MS, f"{key}_median_ms": time.median / MS}
    numbers |= ratios | {"limit_ms": limit / MS, "refactorize_over_limit": over_limit}
    numbers |= {"levels": factor.levels, "factor_bytes": factor.nbytes, "nnz": symbolic.nnz}
    cells = [mesh, f"{matrix.shape[0]:,}", *[pair(times.get(name), MS) for name in (*_OURS, *names)]]
    report.row([*cells, *map(single, ratios.values()), single(limit / MS), single(over_limit)], numbers)


def run_million(options: argparse.Namespace, report: Report, device: torch.device, limits: Limits, mesh: str = MILLION) -> None:
    """A flat grid, one solver after the other; memory is what the device has less of after the set-up."""
    for line in missing_peers():
        report.note(line)
    keys = ("analyze_ms", "factorize_ms", "refactorize_ms", "solve_us", "limit_us", "device_MB", "backward_error")
    report.table(["solver", "vertices", *[key.replace("_", " ") for key in keys]])
    matrix, verts = system(mesh, options.dtype, device=device)
    rhs = right_hand_side(matrix.to("cpu"), 3).to(device)
    clock = clock_of(device)
    tiny = system("sphere1", options.dtype, device=device)[0]  # what a first call loads, once for all, is not counted

    def add(name: str, measure: Callable[[], dict[str, float]]) -> None:
        try:
            found = measure()
        except Exception as error:  # of any solver: the next one is measured
            report.left_out(name, mesh, error)
            return
        texts = [f"{found[key]:.1e}" if key == "backward_error" else single(found.get(key)) for key in keys]
        report.row([name, f"{len(rhs):,}", *texts], {"solver": name, "vertices": len(rhs), "dtype": options.dtype} | found)

    def solved(solve: Callable[[], Any], solution: Callable[[Any], Any]) -> dict[str, float]:
        seconds = interleave({"solve": solve}, 0.5, clock, turn=10)["solve"].min
        return {"solve_us": seconds / US, "backward_error": backward_error(matrix, solution(solve()), rhs)}

    def ours() -> dict[str, float]:
        factorize(analyze(tiny, reuse=False), tiny.values).solve(tiny.values.new_ones(len(tiny.crow_indices) - 1, 3))
        free, kept = _free_memory(device), []
        found = {"analyze_ms": clock(lambda: kept.append(analyze(matrix, verts, reuse=False)), 1) / MS}
        found["factorize_ms"] = clock(lambda: kept.append(factorize(kept[0], matrix.values)), 1) / MS
        found["device_MB"] = (free - _free_memory(device)) / 1e6
        factor = kept.pop()
        found["refactorize_ms"] = min(clock(lambda: factor.refactorize(matrix.values), 1) for _ in range(3)) / MS
        found["limit_us"] = limits.solve(factor.levels, factor.nbytes + 2 * rhs.nbytes) / US
        return found | solved(lambda: factor.solve(rhs), lambda result: result)

    def theirs(peer: type) -> dict[str, float]:
        peer(tiny).factorize()
        made, kept = peer(matrix), []
        free = _free_memory(device)
        found = {"factorize_ms": clock(lambda: kept.append(made.factorize()), 1) / MS}  # of all that is before a solve
        found["device_MB"] = (free - _free_memory(device)) / 1e6
        kept.clear()
        if again := made.refactorizer():
            found["refactorize_ms"] = min(clock(again, 1) for _ in range(3)) / MS
        del again
        return found | solved(made.solver(rhs), made.solution)

    add("ours", ours)
    for peer in available_peers(DIRECT_PEERS):
        if len(rhs) <= peer.max_verts:
            add(peer.name, lambda peer=peer: theirs(peer))
    report.close(["Of the peers, factorize ms holds the whole set-up."])


def _free_memory(device: torch.device) -> int:
    """Bytes, without what torch holds but does not use."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]
