"""bm_solve.py --device cuda: solves with a factorised matrix on a CUDA device, beside other solvers, in turns.

"Ours" is timed twice: called from Python, and replayed from a CUDA graph, which is how an optimisation that does not wait for
its host runs; so are the peers that are torch alone. A turn is up to ten calls by one pair of CUDA events; minimum and median
are those of the turns' means, and the csv file has the first calls too, which find the cache as the other solvers have left
it. Conjugate gradients start from zero, run as many iterations as that right-hand side needs, and are exact to 1e-6 (float64:
1e-10) in the residual alone. "limit" is that of cuda_timing.Limits: the steps of the factor's tree at the latency of an empty
kernel, and every byte of factor, right-hand side and solution once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.machine import gpu_heading, heading
from common.peers import right_hand_side, system
from common.report import Report
from common.timing import US, pair, single
from on_cuda.peers import CudaPeer, available_peers, backward_error, missing_peers
from on_cuda.timing import Limits, captured, clock_of, cuda_device, interleave, measured_limits
from pt3d_largesteps.solvers import CholeskyFactor, analyze, factorize

TURN = 10
GRAPH = " in a graph"
DIRECT = ("cholespy", "cuDSS")  # those of which the ratios stand in the table


def main(options: argparse.Namespace) -> None:
    device = cuda_device()
    report = Report(options.out_dir / "solve_cuda", f"{heading()}\n{gpu_heading(device)}")
    limits = measured_limits(device)
    report.line(str(limits))
    run(options, report, device, limits)


def run(options: argparse.Namespace, report: Report, device: torch.device, limits: Limits) -> None:
    """The table, on any device: what CUDA graphs and events do is done without them elsewhere."""
    for line in missing_peers():
        report.note(line)
    names = [name for peer in available_peers() for name in ([peer.name, peer.name + GRAPH] if peer.is_torch else [peer.name])]
    head = ["mesh", "vertices", "dtype", "columns", "ours min / median, us", "in a graph min / median, us"]
    head += [f"{name} min, us" for name in names]
    head += [f"{name} / graph" for name in DIRECT if name in names]
    report.table([*head, "levels", "limit, us", "graph / limit", "backward error"])
    for mesh in options.meshes:
        for dtype in options.dtype:
            _mesh_rows(mesh, dtype, options, report, device, limits, names)
    report.close(_summary(report.rows, names))


def _mesh_rows(mesh, dtype, options, report, device, limits, names) -> None:
    matrix, verts = system(mesh, dtype, device=device)
    factor = factorize(analyze(matrix, verts), matrix.values)
    peers = {}
    for peer in available_peers():
        if matrix.shape[0] <= peer.max_verts and (made := _attempt(peer.name, mesh, report, lambda peer=peer: peer(matrix))):
            peers[peer.name] = made
    on_host = matrix.to("cpu")
    for columns in options.columns:
        rhs = right_hand_side(on_host, columns).to(device)
        _row(mesh, dtype, factor, matrix, rhs, peers, options.seconds, report, limits, names)


def _row(
    mesh: str,
    dtype: str,
    factor: CholeskyFactor,
    matrix: Any,
    rhs: Tensor,
    peers: dict[str, CudaPeer],
    seconds: float,
    report: Report,
    limits: Limits,
    names: list[str],
) -> None:
    columns, device = rhs.shape[1], rhs.device
    functions: dict[str, Callable[[], Any]] = {"ours": lambda: factor.solve(rhs)}
    functions["graph"] = captured(functions["ours"], device)
    errors = {"ours": backward_error(matrix, functions["graph"](), rhs)}
    for name, peer in peers.items():
        case = f"{mesh}, {dtype}, {columns} columns"

        def add(name: str = name, peer: CudaPeer = peer) -> None:
            solve = peer.solver(rhs)
            errors[name] = backward_error(matrix, peer.solution(solve()), rhs)
            functions[name] = solve

        _attempt(name, case, report, add)
        if peer.is_torch and name in functions:
            in_graph = _attempt(name + GRAPH, case, report, lambda name=name: captured(functions[name], device))
            functions |= {name + GRAPH: in_graph} if in_graph else {}
    times = interleave(functions, seconds, clock_of(device), turn=TURN)
    graph = times["graph"].min
    limit = limits.solve(factor.levels, factor.nbytes + 2 * rhs.nbytes)
    ratios = {name: times[name].min / graph if name in times else None for name in DIRECT if name in names}
    numbers = {"mesh": mesh, "vertices": len(rhs), "dtype": dtype, "columns": columns, "rounds": times["ours"].rounds}
    for name, time in times.items():
        key = name.replace(" ", "_")
        numbers |= {f"{key}_min_us": time.min / US, f"{key}_median_us": time.median / US, f"{key}_first_us": time.first / US}
    numbers |= {f"{name.replace(' ', '_')}_backward_error": error for name, error in errors.items()}
    numbers |= {f"{name}_over_graph": ratio for name, ratio in ratios.items()}
    numbers |= {
        "limit_us": limit / US,
        "graph_over_limit": graph / limit,
        "levels": factor.levels,
        "factor_bytes": factor.nbytes,
    }
    cells = [mesh, f"{len(rhs):,}", dtype, columns, pair(times["ours"], US), pair(times["graph"], US)]
    cells += [single(times[name].min / US) if name in times else "-" for name in names]
    cells += [*map(single, ratios.values()), factor.levels, single(limit / US), single(graph / limit)]
    report.row([*cells, f"{errors['ours']:.1e}"], numbers)


def _attempt(name: str, case: str, report: Report, function: Callable[[], Any]) -> Any:
    """What the function returns, or None where this peer cannot do it, and a note that says why."""
    try:
        return function()
    except Exception as error:  # of a library that is not ours: whatever it is, the others are measured
        report.left_out(name, case, error)
        return None


def _summary(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    lines, what = [], "3 columns, float32, in a graph"
    here = [row for row in rows if row["columns"] == 3 and row["dtype"] == "float32"]
    for name in DIRECT:
        if found := [row for row in here if row.get(f"{name}_over_graph")]:
            row = min(found, key=lambda row: row[f"{name}_over_graph"])
            lines.append(f"{what}: smallest ratio of {name} to ours {row[f'{name}_over_graph']:.2f} ({row['mesh']})")
    if here:
        row = max(here, key=lambda row: row["graph_over_limit"])
        lines.append(f"{what}: largest ratio of ours to the limit {row['graph_over_limit']:.2f} ({row['mesh']})")
    for name in names:
        key = f"{name.replace(' ', '_')}_min_us"
        there = [row for row in rows if key in row]
        if faster := [row for row in there if row[key] < row["graph_min_us"]]:
            cases = ", ".join(f"{row['mesh']} {row['columns']} {row['dtype']}" for row in faster[:6])
            cases += ", ..." if len(faster) > 6 else ""
            lines.append(f"{name}: faster than ours in a graph in {len(faster)} of {len(there)} rows ({cases})")
    return lines
