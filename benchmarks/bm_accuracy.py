"""Accuracy of the sparse Cholesky solver: real meshes, lambda 1, 19 and 1,000, both Laplacians, float32 and float64.

    python benchmarks/bm_accuracy.py

The right-hand side is that of an optimisation, u = M x for the vertices x. The backward error is the largest over the
columns of |M x - b| / (|M| |x| + |b|) in the maximum norm; the forward error, for the combinatorial Laplacian, is that
against SuperLU in float64 on the same numbers, relative to the largest coordinate. "refined": after one step of iterative
refinement. The numbers depend on the machine only by the order in which its vector instructions add.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from scipy.sparse.linalg import splu

from common.machine import heading
from common.peers import DTYPES, as_scipy, backward_error, load_mesh, mesh_names
from common.timing import table_head, write_csv
from pt3d_largesteps import compute_matrix
from pt3d_largesteps.solvers import analyze, factorize

LAMBDAS = (1.0, 19.0, 1000.0)
LAPLACIANS = ("combinatorial", "cotangent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--meshes", nargs="+", default=mesh_names(), metavar="NAME")
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "results")
    options = parser.parse_args()
    print(heading())
    errors = ["backward error", "refined", "forward error", "refined"]
    print(table_head(["mesh", "vertices", "Laplacian", "lambda", "dtype", *errors]))
    rows = [_row(*case) for name in options.meshes for case in _cases(name)]
    write_csv(options.out_dir / "accuracy.csv", rows)
    print()
    for dtype, what in itertools.product(DTYPES, ("backward_error", "forward_error")):
        worst = max((row for row in rows if row["dtype"] == dtype and row[what] is not None), key=lambda row: row[what])
        case = f"{worst['mesh']}, {worst['laplacian']}, lambda {worst['lambda']:g}"
        print(f"{dtype}: largest {what.replace('_', ' ')} {worst[what]:.1e} ({case})")


def _cases(name: str):
    meshes = load_mesh(name)
    for laplacian, lambda_ in itertools.product(LAPLACIANS, LAMBDAS):
        for dtype in DTYPES:
            yield name, meshes, laplacian, lambda_, dtype


def _row(name, meshes, laplacian: str, lambda_: float, dtype: str) -> dict[str, Any]:
    verts = meshes.verts_packed().to(DTYPES[dtype])
    matrix = compute_matrix(verts, meshes.faces_packed(), lambda_=lambda_, laplacian=laplacian)
    factor = factorize(analyze(matrix, verts), matrix)
    rhs = matrix @ verts
    solutions = [factor.solve(rhs, refine=steps) for steps in (0, 1)]
    backward = [backward_error(matrix, solution, rhs) for solution in solutions]
    forward: list[float | None] = [None, None]
    if laplacian == "combinatorial":
        exact = torch.from_numpy(splu(as_scipy(matrix.to(torch.float64)).tocsc()).solve(rhs.double().numpy()))
        forward = [float((solution - exact).abs().max() / exact.abs().max()) for solution in solutions]
    cells = [name, f"{len(verts):,}", laplacian, f"{lambda_:g}", dtype]
    cells += ["-" if error is None else f"{error:.1e}" for error in (*backward, *forward)]
    print(f"| {' | '.join(cells)} |", flush=True)
    return {
        "mesh": name,
        "vertices": len(verts),
        "laplacian": laplacian,
        "lambda": lambda_,
        "dtype": dtype,
        "backward_error": backward[0],
        "backward_error_refined": backward[1],
        "forward_error": forward[0],
        "forward_error_refined": forward[1],
    }


if __name__ == "__main__":
    main()
