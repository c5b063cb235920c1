"""Set-up of the sparse Cholesky solver, lambda 19: order, analyse, factorise, refactorise, beside other solvers.

    python benchmarks/bm_factorize.py --quick
    python benchmarks/bm_factorize.py --million
    python benchmarks/bm_factorize.py --device cuda   # see cuda_factorize.py

"total" is what cholespy's constructor does: analyze with the positions of the vertices, nothing reused, and factorize.
Runs interleaved; cholespy and splu always use one thread. Peak memory is the growth of a fresh process. Our nnz(L) counts
everything stored of L, with zeros; METIS's (pymetis) and CHOLMOD's (nested dissection, the order of cholespy) are exact counts
for their orders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.machine import heading
from common.memory import peak_memory, restart_peak_memory
from common.peers import (
    DTYPES,
    Cholespy,
    available_peers,
    backward_error,
    cholmod_order,
    factor_nnz,
    mesh_names,
    metis_order,
    missing_peers,
    right_hand_side,
    set_threads,
    system,
)
from common.timing import (
    MS,
    PAUSE,
    US,
    interleave,
    load_line,
    pair,
    plot_sizes,
    single,
    table_head,
    threads_text,
    timed,
    write_csv,
)
from on_cuda import factorize as cuda_factorize
from pt3d_largesteps.solvers.cholesky import analyze, factorize

MILLION = "square1000"
_SIZES = ("mesh", "vertices", "nnz(L)", "with zeros in blocks", "nnz(L) without positions", "METIS", "CHOLMOD")
_SIZES += ("ours / METIS", "without positions / METIS")
_SIZES += ("bytes per vertex", "peak, MB", "peak of cholespy, MB")  # the order of the cells in _size_row
_OURS = ("total", "analyze", "analyze_without_positions", "factorize", "refactorize")


def main() -> None:
    load = load_line()
    options = _options()
    if options.device == "cuda":
        cuda_factorize.main(options)
        return
    if options.child:
        print(json.dumps(_measure_alone(options.child, options.solver, options.dtype, options.threads[0])))
        return
    print(f"{heading()}\n{load}\n{missing_peers()}".rstrip())
    if options.million:
        _million(options)
        print("\n" + load)
        return
    others = [peer.name for peer in available_peers()]
    head = ["mesh", "vertices", "threads", *[f"{name.replace('_', ' ')}, ms" for name in _OURS]]
    head += [f"{name}, ms" for name in others] + ["total ratio", "refactorize ratio"]
    print("\nTimes are min / median; ratios are cholespy's minimum over ours." + table_head(head))
    rows = [row for name in options.meshes for row in _time_rows(name, options, others)]
    print("\nSizes, and peak memory of a factorisation in a process of its own." + table_head(_SIZES))
    for name in options.meshes:
        sizes = _size_row(name, options)
        for row in rows:
            row.update(sizes if row["mesh"] == name else {})
    write_csv(options.out_dir / "factorize.csv", rows)
    _plot(options.out_dir / "factorize.png", rows, options)
    print("\n" + "\n".join([*_summary(rows, options.threads), load]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="642 to 10,242 vertices")
    parser.add_argument(
        "--million", action="store_true", help="only a square of 1,000 x 1,000 vertices, in processes of its own"
    )
    parser.add_argument("--meshes", nargs="+", metavar="NAME", help=f"of {', '.join(mesh_names())}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="on the CPU")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--seconds", type=float, default=1.0, help="per row, but at least five rounds")
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "results")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--solver", choices=("ours", "cholespy"), default="ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.meshes = options.meshes or mesh_names(options.quick)
    return options


def _time_rows(mesh: str, options: argparse.Namespace, peer_names: list[str]) -> list[dict[str, Any]]:
    matrix, verts = system(mesh, options.dtype)
    symbolic = analyze(matrix, verts, reuse=False)
    factor = factorize(symbolic, matrix.values)
    functions = {
        "total": lambda: factorize(analyze(matrix, verts, reuse=False), matrix.values),
        "analyze": lambda: analyze(matrix, verts, reuse=False),
        "analyze_without_positions": lambda: analyze(matrix, reuse=False),
        "factorize": lambda: factorize(symbolic, matrix.values),
        "refactorize": lambda: factor.refactorize(matrix.values),
    }
    made = [peer(matrix, many_solves=False) for peer in available_peers() if matrix.shape[0] <= peer.max_verts]
    functions |= {peer.name: peer.factorize for peer in made}
    rows = []
    for threads in options.threads:
        set_threads(threads)
        times = interleave(functions, options.seconds, pause=PAUSE if threads > 1 else 0)
        row = {"mesh": mesh, "vertices": matrix.shape[0], "dtype": options.dtype, "threads": threads}
        row["rounds"] = times["total"].rounds
        for name, time in times.items():
            row |= {f"{name}_min_ms": time.min / MS, f"{name}_median_ms": time.median / MS}
        for name in ("total", "refactorize") if "cholespy" in times else ():
            row[f"{name}_ratio"] = times["cholespy"].min / times[name].min
        rows.append(row)
        cells = [mesh, f"{matrix.shape[0]:,}", threads, *[pair(times.get(name), MS) for name in [*_OURS, *peer_names]]]
        cells += [single(row.get("total_ratio")), single(row.get("refactorize_ratio"))]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return rows


def _size_row(mesh: str, options: argparse.Namespace) -> dict[str, Any]:
    matrix, verts = system(mesh, options.dtype)
    symbolic = analyze(matrix, verts, reuse=False)
    factor = factorize(symbolic, matrix.values)
    row = {
        "mesh": mesh,
        "vertices": matrix.shape[0],
        "nnz": symbolic.nnz,
        "nnz_with_zeros": symbolic.stored_entries,
        "nnz_without_positions": analyze(matrix, reuse=False).nnz,
        "nnz_metis": factor_nnz(matrix, metis_order(matrix)),
        "nnz_cholmod": factor_nnz(matrix, cholmod_order(matrix)),
    }
    for key in ("nnz", "nnz_without_positions"):
        row[f"{key}_over_metis"] = row[key] / row["nnz_metis"] if row["nnz_metis"] else None
    row["bytes_per_vertex"] = (factor.nbytes + symbolic.nbytes) / matrix.shape[0]
    for key, solver in (("peak_MB", "ours"), ("cholespy_peak_MB", "cholespy")):
        alone = _in_child(mesh, solver, options.dtype, max(options.threads))
        row[key] = alone["peak_MB"] if alone else None
    print(f"| {mesh} | {' | '.join(single(value) for value in list(row.values())[1:])} |", flush=True)
    return row | {"levels": symbolic.levels, "supernodes": symbolic.num_supernodes}


def _million(options: argparse.Namespace) -> None:
    keys = ("analyze_ms", "factorize_ms", "solve_us", "peak_MB", "bytes_per_vertex", "backward_error")
    print(table_head(["solver", "vertices", "threads", *[key.replace("_", " ") for key in keys]]))
    rows = []
    for solver, threads in [*[("ours", number) for number in options.threads], ("cholespy", 1)]:
        if found := _in_child(MILLION, solver, options.dtype, threads):
            rows.append({"solver": solver, "threads": threads, "dtype": options.dtype} | found)
            cells = [f"{found[key]:.1e}" if key == "backward_error" else single(found[key]) for key in keys]
            print(f"| {solver} | {found['vertices']:,} | {threads} | {' | '.join(cells)} |", flush=True)
    write_csv(options.out_dir / "factorize_million.csv", rows)


def _in_child(mesh: str, solver: str, dtype: str, threads: int) -> dict[str, Any] | None:
    """:func:`_measure_alone` in a process of its own, whose peak memory is then that of one factorisation."""
    arguments = ["--child", mesh, "--solver", solver, "--dtype", dtype, "--threads", str(threads)]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(f"{mesh}, {solver}, not measured: {' '.join(done.stderr.splitlines()[-1:])}", file=sys.stderr)
    return None


def _measure_alone(mesh: str, solver: str, dtype: str, threads: int) -> dict[str, Any]:
    set_threads(threads)
    matrix, verts = system(mesh, dtype)
    rhs = right_hand_side(matrix, 3)
    result: dict[str, Any] = {"vertices": matrix.shape[0], "analyze_ms": None, "bytes_per_vertex": None}
    tiny = system("sphere1", dtype)[0]  # what a first call loads, once for all, is not counted
    peer = Cholespy(matrix, many_solves=True) if solver == "cholespy" else None
    if peer:
        Cholespy(tiny, many_solves=True).factorize()
    else:
        factorize(analyze(tiny, reuse=False), tiny.values)
    baseline = restart_peak_memory()
    if peer:
        made: list[Any] = []
        result["factorize_ms"] = timed(lambda: made.append(peer.factorize())) / MS
        result["peak_MB"] = (peak_memory() - baseline) / 1e6
        solve = peer.solver(made[0], rhs)
    else:
        symbolic, factor = [], []
        result["analyze_ms"] = timed(lambda: symbolic.append(analyze(matrix, verts, reuse=False))) / MS
        result["factorize_ms"] = timed(lambda: factor.append(factorize(symbolic[0], matrix.values))) / MS
        result["peak_MB"] = (peak_memory() - baseline) / 1e6
        result["bytes_per_vertex"] = (factor[0].nbytes + symbolic[0].nbytes) / matrix.shape[0]
        solve = lambda: factor[0].solve(rhs)  # noqa: E731
    result["solve_us"] = interleave({"solve": solve}, 0.0)["solve"].min / US
    return result | {"backward_error": backward_error(matrix, solve(), rhs)}


def _plot(path: Path, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    def series(key: str, threads: int):
        return lambda row: row.get(f"{key}_min_ms") if row["threads"] == threads else None

    first = options.threads[0]
    lines = {"cholespy (1 thread)": series("cholespy", first)}
    lines |= {f"ours, {threads_text(number)}": series("total", number) for number in options.threads[:2]}
    lines[f"ours, known topology, {threads_text(first)}"] = series("refactorize", first)
    plot_sizes(
        path, rows, lines, "time, ms", f"Order, analyse, factorise, {options.dtype} (lines: icospheres, points: real meshes)"
    )


def _summary(rows: list[dict[str, Any]], threads: list[int]) -> list[str]:
    lines = []
    for number in threads:
        here = [row for row in rows if row["threads"] == number and row["vertices"] >= 2562]
        for key in ("total_ratio", "refactorize_ratio"):
            if found := [row for row in here if row.get(key)]:
                row = min(found, key=lambda row: row[key])
                what = f"smallest {key.replace('_', ' ')} to cholespy from 2,562 vertices up"
                lines.append(f"{threads_text(number)}: {what} {row[key]:.2f} ({row['mesh']})")
    return lines


if __name__ == "__main__":
    main()
