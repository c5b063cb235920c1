"""The sparse Cholesky solver on a CUDA device against SciPy on the host, on small cases: for compute-sanitizer, and by itself.

    python benchmarks/gpu_check.py
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python benchmarks/gpu_check.py --eager

An icosphere of 642 vertices and a ragged batch: factorise, solve, refactorise, a batch of values, gradients, a matrix that is
not positive definite, and the same bits from a CUDA graph. The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus
from scipy.sparse.linalg import splu
from torch import Tensor

from common.peers import LAMBDA, as_scipy, system
from on_cuda.timing import captured, cuda_device
from pt3d_largesteps import LargeSteps, SystemMatrix
from pt3d_largesteps.solvers import NotPositiveDefiniteError, analyze, factorize

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}  # of the largest entry; float32 rounds the right-hand side
COLUMNS = (1, 3, 24, 130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--eager", action="store_true", help="no CUDA graph, which needs torch to cache memory")
    options = parser.parse_args()
    wrong = run(cuda_device(), graphs=not options.eager)
    print(f"{len(wrong)} wrong: {', '.join(wrong)}" if wrong else "all right", flush=True)
    raise SystemExit(bool(wrong))


def run(device: torch.device, graphs: bool) -> list[str]:
    """The names of the failed cases."""
    wrong = []
    for name, error, tolerance in _cases(device, graphs):
        is_right = error <= tolerance  # not so for NaN
        print(f"{'right' if is_right else 'WRONG'}  {name}: {error:.1e}", flush=True)
        wrong += [] if is_right else [name]
    return wrong


def _cases(device: torch.device, graphs: bool) -> Iterator[tuple[str, float, float]]:
    for dtype in ("float32", "float64"):
        matrix, verts = system("sphere3", dtype, device=device)
        symbolic = analyze(matrix, verts)
        stored = factorize(symbolic, matrix.values, matrix.dtype)  # small matrices are stored in float64 unless asked for
        without_positions = factorize(analyze(matrix, reuse=False), matrix)
        for what, factor in ((dtype, stored), (f"{dtype} stored as float64, without positions", without_positions)):
            for columns in COLUMNS:
                rhs = _random(matrix, columns)
                yield _compared(f"{what}, {columns} columns", factor.solve(rhs), matrix, rhs)
            rhs = _random(matrix, 1)[:, 0]
            yield _compared(f"{what}, a vector", factor.solve(rhs), matrix, rhs)
            yield _compared(f"{what}, refined", factor.solve(rhs, refine=1), matrix, rhs)
        twice = SystemMatrix(matrix.crow_indices, matrix.col_indices, 2 * matrix.values)
        yield _compared(f"{dtype}, refactorised", stored.refactorize(twice.values).solve(rhs), twice, rhs)
        both = torch.stack([matrix.values, twice.values])
        solved = factorize(symbolic, both).solve(torch.stack([_random(matrix, 3)] * 2))
        yield _compared(f"{dtype}, first of a batch of values", solved[0], matrix, _random(matrix, 3))
        yield _compared(f"{dtype}, second of it", solved[1], twice, _random(matrix, 3))
        yield f"{dtype}, not positive definite", float(_breakdown(symbolic, matrix) != 300), 0.0
        if graphs:
            yield f"{dtype}, from a graph", _graph_difference(stored, matrix), 0.0
    yield from _ragged(device)


def _random(matrix: SystemMatrix, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(columns)
    return torch.randn(matrix.shape[0], columns, generator=generator, dtype=matrix.dtype).to(matrix.device)


def _compared(name: str, solution: Tensor, matrix: SystemMatrix, rhs: Tensor) -> tuple[str, float, float]:
    exact = splu(as_scipy(matrix.detach().to("cpu", torch.float64)).tocsc()).solve(rhs.detach().cpu().double().numpy())
    exact = torch.from_numpy(exact)
    error = (solution.detach().cpu().double() - exact).abs().max() / exact.abs().max()
    return name, float(error), TOLERANCES[rhs.dtype]


def _breakdown(symbolic: Any, matrix: SystemMatrix) -> int:
    """The vertex that the error names, for a matrix with a wrong sign at vertex 300."""
    values = matrix.values.clone()
    values[(matrix.row_indices == 300) & (matrix.col_indices == 300)] *= -1
    try:
        factorize(symbolic, values)
    except NotPositiveDefiniteError as error:
        return error.vertex
    return -1


def _graph_difference(factor: Any, matrix: SystemMatrix) -> float:
    """The difference between a replay with another right-hand side in the same memory, and a call with it."""
    rhs = _random(matrix, 3)
    replay = captured(lambda: factor.solve(rhs), rhs.device)
    rhs.neg_().add_(1)
    return float((replay() - factor.solve(rhs)).abs().max())


def _ragged(device: torch.device) -> Iterator[tuple[str, float, float]]:
    """Five meshes of four topologies: back to the vertices, and the gradient, which is a solve too."""
    kinds = [ico_sphere(2), torus(0.3, 1.0, 12, 17), ico_sphere(0), ico_sphere(2), ico_sphere(3)]
    meshes = join_meshes_as_batch([mesh.to(device) for mesh in kinds])
    steps = LargeSteps(meshes, LAMBDA, solver="cholesky")
    verts = steps.verts_packed()
    difference = (verts - meshes.verts_packed()).detach().abs().max()
    yield "a ragged batch, vertices", float(difference / meshes.verts_packed().abs().max()), TOLERANCES[torch.float32]
    gradient = torch.randn_like(verts)
    verts.backward(gradient)
    yield _compared("a ragged batch, gradient", steps.u.grad, steps.matrix, gradient)


if __name__ == "__main__":
    main()
