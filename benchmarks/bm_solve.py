"""Solves with a factorised matrix, lambda 19: this package's sparse Cholesky beside other solvers, in turns.

    python benchmarks/bm_solve.py --quick
    python benchmarks/bm_solve.py --meshes sphere5 spot --columns 3 --threads 1
    python benchmarks/bm_solve.py --device cuda       # see cuda_solve.py

A row is a mesh, a dtype, a number of columns and of threads. cholespy and splu always use one thread (peers.py explains how we
know); scikit-sparse computes in float64 in every row. A turn is up to ten calls of one solver; minimum, median and ratio are
those of all calls, and "first calls" is the ratio of the medians of the first calls of the turns, when the caches hold the data
of the other solvers. A batch is one block-diagonal system, compared with as many calls of each peer, one factor per mesh.
"bound" is the time of reading the factor twice, 2 nnz(L) entries, at the machine's read bandwidth. The backward error is the
largest over the columns of |b - M x| / (|M| |x| + |b|) in the maximum norm.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from scipy.sparse.linalg import splu

from common.machine import heading
from common.peers import (
    DTYPES,
    MAX_SPLU_VERTS,
    as_scipy,
    available_peers,
    backward_error,
    mesh_names,
    missing_peers,
    right_hand_side,
    set_threads,
    system,
)
from common.timing import (
    PAUSE,
    US,
    Bandwidth,
    interleave,
    load_line,
    pair,
    plot_sizes,
    single,
    table_head,
    threads_text,
    write_csv,
)
from on_cuda import solve as cuda_solve
from pt3d_largesteps.solvers.cholesky import analyze, factorize

BATCH, BATCH_MESH, BATCH_COLUMNS = 16, "sphere4", 3
TURN = 10


def main() -> None:
    load = load_line()
    options = _options()
    if options.device == "cuda":
        cuda_solve.main(options)
        return
    peers = [peer.name for peer in available_peers()]
    bandwidth = Bandwidth(options.threads)
    print(f"{heading()}\n{load}\n{missing_peers()}\n{bandwidth}".replace("\n\n", "\n"))
    others = [f"{name} min, us" for name in peers if name != "cholespy"]
    head = ["mesh", "vertices", "dtype", "columns", "threads", "ours min / median, us", "cholespy min / median, us"]
    head += ["ratio", "first calls"]
    print(table_head([*head, *others, "bound, us", "bound / ours, %", "backward error", "bytes per vertex"]))
    rows: list[dict[str, Any]] = []
    for name in options.meshes:
        for dtype in options.dtype:
            rows += _solve_rows(name, 1, dtype, options.columns, options, bandwidth, peers)
    for dtype in options.dtype if BATCH_COLUMNS in options.columns else ():
        rows += _solve_rows(BATCH_MESH, BATCH, dtype, [BATCH_COLUMNS], options, bandwidth, peers)

    print(
        f"\nOne step of iterative refinement, {BATCH_COLUMNS} columns, {threads_text(options.threads[0])}; errors against splu."
    )
    steps = [f"{what}, refine={n}" for n in (0, 1) for what in ("min / median, us", "forward error", "backward error")]
    print(table_head(["mesh", "vertices", "dtype", *steps]))
    refined = [_refine_row(name, dtype, options) for name in options.meshes for dtype in options.dtype]

    write_csv(options.out_dir / "solve.csv", rows + [row for row in refined if row])
    _plot(options.out_dir / "solve.png", rows, options.threads)
    print("\n" + "\n".join([*_summary(rows, options.threads), load]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="642 to 10,242 vertices and 3 columns")
    parser.add_argument("--meshes", nargs="+", metavar="NAME", help=f"of {', '.join(mesh_names())}")
    parser.add_argument("--columns", nargs="+", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="on the CPU")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=0.6, help="per row, but at least five rounds")
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "results")
    options = parser.parse_args()
    options.meshes = options.meshes or mesh_names(options.quick)
    options.columns = options.columns or ([3] if options.quick else [1, 3, 24, 192])
    return options


def _solve_rows(mesh, copies, dtype, all_columns, options, bandwidth, peer_names) -> list[dict[str, Any]]:
    """Prints and returns the rows of a mesh; of several copies as one system, beside that many calls of each peer."""
    matrix, verts = system(mesh, dtype, copies)
    small = system(mesh, dtype)[0]
    size, num_verts = small.shape[0], matrix.shape[0]
    symbolic = analyze(matrix, verts)
    factor = factorize(symbolic, matrix.values)
    others = {}
    for peer in available_peers():
        if size <= peer.max_verts:
            made = peer(small, many_solves=True)
            others[peer.name] = made, [made.factorize() for _ in range(copies)]  # each mesh of a batch has its own
    rows = []
    for columns in all_columns:
        rhs = right_hand_side(matrix, columns)
        functions = {"ours": lambda rhs=rhs: factor.solve(rhs)}
        for name, (made, factors) in others.items():
            calls = [made.solver(one, part) for one, part in zip(factors, rhs.split(size), strict=True)]
            functions[name] = calls[0] if copies == 1 else lambda calls=calls: [call() for call in calls]
        for threads in options.threads:
            set_threads(threads)
            times = interleave(functions, options.seconds, turn=TURN, pause=PAUSE if threads > 1 else 0)
            ours, cholespy = times["ours"], times.get("cholespy")
            itemsize = rhs.element_size()
            bound = 2 * symbolic.nnz * itemsize / bandwidth.of(symbolic.nnz * itemsize, threads)
            row = {
                "kind": "solve" if copies == 1 else "batch",
                "mesh": mesh if copies == 1 else f"{copies} x {mesh}",
                "vertices": num_verts,
                "dtype": dtype,
                "columns": columns,
                "threads": threads,
                "rounds": ours.rounds,
                "ratio": cholespy.min / ours.min if cholespy else None,
                "ratio_of_medians": cholespy.median / ours.median if cholespy else None,
                "ratio_of_first_calls": cholespy.first / ours.first if cholespy else None,
                "bound_us": bound / US,
                "bound_over_ours": bound / ours.min,
                "traffic_GB_per_s": 2e-9 * symbolic.nnz * itemsize / ours.min,
                "memory_GB_per_s": 1e-9 * bandwidth.memory[threads],
                "cache_GB_per_s": 1e-9 * bandwidth.cache[threads],
                "backward_error": backward_error(matrix, factor.solve(rhs), rhs),
                "bytes_per_vertex": (factor.nbytes + symbolic.nbytes) / num_verts,
                "factor_bytes": factor.nbytes,
                "index_bytes": symbolic.nbytes,
                "nnz": symbolic.nnz,
                "levels": symbolic.levels,
                "supernodes": symbolic.num_supernodes,
            }
            for name, time in times.items():
                row |= {f"{name}_min_us": time.min / US, f"{name}_median_us": time.median / US}
                row[f"{name}_first_us"] = time.first / US
            rows.append(row)
            cells = [row["mesh"], f"{num_verts:,}", dtype, columns, threads, pair(ours, US), pair(cholespy, US)]
            cells += [single(row["ratio"]), single(row["ratio_of_first_calls"])]
            cells += [single(row.get(f"{name}_min_us")) for name in peer_names if name != "cholespy"]
            cells += [single(row["bound_us"]), f"{100 * row['bound_over_ours']:.0f}"]
            cells += [f"{row['backward_error']:.1e}", f"{row['bytes_per_vertex']:,.0f}"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return rows


def _refine_row(mesh: str, dtype: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Time and errors with and without a step of refinement; None where the reference would take too long."""
    matrix, verts = system(mesh, dtype)
    if matrix.shape[0] > MAX_SPLU_VERTS:
        return None
    set_threads(options.threads[0])
    factor = factorize(analyze(matrix, verts), matrix.values)
    rhs = right_hand_side(matrix, BATCH_COLUMNS)
    # Of the matrix and right-hand side as the dtype holds them: their rounding is no error of the solver.
    reference = torch.from_numpy(splu(as_scipy(matrix.to(torch.float64)).tocsc()).solve(rhs.double().numpy()))
    times = interleave({str(n): lambda n=n: factor.solve(rhs, refine=n) for n in (0, 1)}, options.seconds / 2, turn=TURN)
    row = {"kind": "refine", "mesh": mesh, "vertices": len(rhs), "dtype": dtype, "columns": BATCH_COLUMNS}
    row["threads"] = options.threads[0]
    cells = [mesh, f"{len(rhs):,}", dtype]
    for n in (0, 1):
        solution = factor.solve(rhs, refine=n)
        forward = float((solution - reference).abs().max() / reference.abs().max())
        backward = backward_error(matrix, solution, rhs)
        row |= {f"refine{n}_min_us": times[str(n)].min / US, f"refine{n}_median_us": times[str(n)].median / US}
        row |= {f"refine{n}_forward_error": forward, f"refine{n}_backward_error": backward}
        cells += [pair(times[str(n)], US), f"{forward:.1e}", f"{backward:.1e}"]
    print(f"| {' | '.join(cells)} |", flush=True)
    return row


def _plot(path: Path, rows: list[dict[str, Any]], threads: list[int]) -> None:
    def series(key: str, number: int):
        wanted = {"kind": "solve", "columns": 3, "dtype": "float32", "threads": number}
        return lambda row: row.get(key) if wanted.items() <= row.items() else None

    lines = {"cholespy (1 thread)": series("cholespy_min_us", threads[0])}
    lines |= {f"ours, {threads_text(n)}": series("ours_min_us", n) for n in threads[:3]}
    if not any(value_of(row) is not None for row in rows for value_of in lines.values()):
        print("\nsolve.png needs rows of 3 columns in float32: not drawn")
        return
    plot_sizes(path, rows, lines, "time of a solve, µs", "Solve of 3 columns, float32 (lines: icospheres, points: real meshes)")


def _summary(rows: list[dict[str, Any]], threads: list[int]) -> list[str]:
    lines = []
    for number in threads:
        wanted = {"columns": 3, "dtype": "float32", "threads": number}
        here = [row for row in rows if wanted.items() <= row.items() and row["ratio"] and row["vertices"] >= 2562]
        for kind, what in (("solve", "smallest ratio to cholespy from 2,562 vertices up"), ("batch", "ratio of the batch")):
            if found := [row for row in here if row["kind"] == kind]:
                row = min(found, key=lambda row: row["ratio"])
                lines.append(f"{threads_text(number)}, 3 columns, float32: {what} {row['ratio']:.2f} ({row['mesh']})")
    return lines


if __name__ == "__main__":
    main()
