"""The meshes of the benchmarks of the sparse Cholesky solver, and the other solvers to compare with, each at its best.

cholespy 2.2 uses one thread on the CPU, whatever torch.set_num_threads says: its wheel imports neither pthread_create
nor OpenMP and carries the reference BLAS, and over its constructor and solves the CPU time of the process is the wall
time. It factorises in double precision also behind CholeskySolverF, with CHOLMOD's simplicial method and nested
dissection. scikit-sparse (before 0.5) knows double precision alone. SuperLU, under scipy's splu, uses one thread.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from pytorch3d.io import load_obj
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from pt3d_largesteps import SystemMatrix, compute_matrix

# The threads of OpenBLAS wait for more work in a loop, by default for 2^26 cycles, and would disturb the next function.
# OpenBLAS reads this variable when it is loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")

LAMBDA = 19.0
DTYPES = {"float32": torch.float32, "float64": torch.float64}
MAX_SPLU_VERTS = 50_000  # above it splu takes most of the time of a benchmark
_FOLDER = Path(os.environ.get("PT3D_LARGESTEPS_MESHES", Path(__file__).resolve().parents[3] / "shared" / "meshes"))


def mesh_names(quick: bool = False) -> list[str]:
    """Icospheres of 642 to 163,842 vertices (to 10,242 if quick), and the real meshes that lie beside the project."""
    spheres = [f"sphere{level}" for level in range(3, 6 if quick else 8)]
    return spheres if quick else spheres + sorted(path.stem for path in _FOLDER.glob("*.obj"))


def load_mesh(name: str) -> Meshes:
    """``sphere5``: an icosphere of that level; ``square1000``: a flat grid of that side; or a real mesh by its name."""
    if match := re.fullmatch(r"(sphere|square)(\d+)", name):
        return (ico_sphere if match[1] == "sphere" else _square)(int(match[2]))
    path = _FOLDER / f"{name}.obj"
    if not path.is_file():
        raise SystemExit(f"--meshes: expected some of {', '.join(mesh_names())}, got {name}")
    verts, faces, _ = load_obj(path, load_textures=False)
    return Meshes([verts], [faces.verts_idx])


def _square(side: int) -> Meshes:
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.cat([torch.stack([a, c, b], -1).view(-1, 3), torch.stack([b, c, d], -1).view(-1, 3)])
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return Meshes([torch.stack([x, y, torch.zeros_like(x)], dim=-1).view(-1, 3) / side], [faces])


def system(mesh: str, dtype: str, copies: int = 1, device: Any = "cpu") -> tuple[SystemMatrix, Tensor]:
    """The matrix of a mesh, or of several copies as one block-diagonal system, and its vertices."""
    meshes = load_mesh(mesh).extend(copies).to(device)
    verts = meshes.verts_packed().to(DTYPES[dtype])
    return compute_matrix(verts, meshes.faces_packed(), lambda_=LAMBDA), verts


def right_hand_side(matrix: SystemMatrix, columns: int) -> Tensor:
    """M times a random solution."""
    generator = torch.Generator().manual_seed(0)
    solution = torch.randn(matrix.shape[0], columns, generator=generator, dtype=matrix.dtype)
    return torch.from_numpy(as_scipy(matrix) @ solution.numpy())  # torch's way would need gigabytes for 192 columns


def backward_error(matrix: SystemMatrix, solution: Tensor, rhs: Tensor) -> float:
    """The largest over the columns of |b - M x| / (|M| |x| + |b|), in the maximum norm."""
    exact, solution, rhs = as_scipy(matrix.to(torch.float64)), solution.double().numpy(), rhs.double().numpy()
    residual = abs(rhs - exact @ solution).max(axis=0)
    return float((residual / (abs(exact).sum(axis=1).max() * abs(solution).max(axis=0) + abs(rhs).max(axis=0))).max())


class Peer(Protocol):
    """Another solver; made with a matrix, whose conversion to the solver's format is not timed."""

    name: str
    package: str
    max_verts: float

    def __init__(self, matrix: SystemMatrix, many_solves: bool) -> None: ...

    def factorize(self) -> Any:
        """What is timed as the set-up."""
        ...

    def solver(self, factor: Any, rhs: Tensor) -> Callable[[], Any]:
        """The timed solve, with the right-hand side in the best layout for this solver."""
        ...


class Cholespy:
    name = package = "cholespy"
    max_verts = float("inf")

    def __init__(self, matrix: SystemMatrix, many_solves: bool) -> None:
        import cholespy

        self._solver_class = {torch.float32: cholespy.CholeskySolverF, torch.float64: cholespy.CholeskySolverD}[matrix.dtype]
        indices = matrix.crow_indices.to(torch.int32), matrix.col_indices.to(torch.int32)
        self._arguments = (matrix.shape[0], *indices, matrix.values.double(), cholespy.MatrixType.CSR)

    def factorize(self) -> Any:
        return self._solver_class(*self._arguments)

    def solver(self, factor: Any, rhs: Tensor) -> Callable[[], Tensor]:
        def solve() -> Tensor:
            solution = torch.empty_like(rhs)  # it fills it all, so the zeros of CholespySolver need not be paid for
            factor.solve(rhs, solution)
            return solution

        return solve


class ScikitSparse:
    """CHOLMOD's supernodal method; ordered by METIS where many solves follow, else by its own quicker choice."""

    name, package = "scikit-sparse", "sksparse"
    max_verts = float("inf")

    def __init__(self, matrix: SystemMatrix, many_solves: bool) -> None:
        self._matrix = as_scipy(matrix.to(torch.float64)).tocsc()
        self._ordering = "metis" if many_solves else "default"

    def factorize(self) -> Any:
        from sksparse.cholmod import cholesky

        return cholesky(self._matrix, mode="supernodal", ordering_method=self._ordering)

    def solver(self, factor: Any, rhs: Tensor) -> Callable[[], np.ndarray]:
        columns = np.asfortranarray(rhs.double().numpy())
        return lambda: factor(columns)


class SciPy:
    name, package = "splu", "scipy"
    max_verts = MAX_SPLU_VERTS

    def __init__(self, matrix: SystemMatrix, many_solves: bool) -> None:
        self._matrix = as_scipy(matrix).tocsc()

    def factorize(self) -> Any:
        # As SuperLU's guide has it for matrices that are symmetric and need no pivots.
        return splu(self._matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    def solver(self, factor: Any, rhs: Tensor) -> Callable[[], np.ndarray]:
        columns = np.asfortranarray(rhs.numpy())
        return lambda: factor.solve(columns)


_PEERS: tuple[type[Peer], ...] = (Cholespy, ScikitSparse, SciPy)


def available_peers() -> list[type[Peer]]:
    return [peer for peer in _PEERS if importlib.util.find_spec(peer.package)]


def missing_peers() -> str:
    """A line for the heading: what is left out, and the BLAS that CHOLMOD uses, which decides its speed."""
    missing = [peer.name for peer in _PEERS if not importlib.util.find_spec(peer.package)]
    missing += [name for name in ("pymetis",) if not importlib.util.find_spec(name)]
    lines = [f"not installed and left out: {', '.join(missing)}"] if missing else []
    if importlib.util.find_spec("sksparse"):
        lines.append(f"BLAS under scikit-sparse: {'OpenBLAS' if _openblas() else 'not OpenBLAS; its threads are not set'}")
    return "\n".join(lines)


def set_threads(number: int) -> None:
    """For torch, this package and the BLAS under CHOLMOD."""
    torch.set_num_threads(number)
    if library := _openblas():
        library.openblas_set_num_threads(number)


def _openblas() -> ctypes.CDLL | None:
    """The library that CHOLMOD of a Debian package calls, where it is OpenBLAS."""
    if not importlib.util.find_spec("sksparse"):
        return None
    try:
        library = ctypes.CDLL("libblas.so.3")
    except OSError:
        return None
    return library if hasattr(library, "openblas_set_num_threads") else None


def as_scipy(matrix: SystemMatrix) -> sparse.csr_matrix:
    """Without a copy: the arrays are the matrix's own."""
    arrays = [tensor.detach().numpy() for tensor in (matrix.values, matrix.col_indices, matrix.crow_indices)]
    return sparse.csr_matrix(tuple(arrays), shape=matrix.shape)


def metis_order(matrix: SystemMatrix) -> np.ndarray | None:
    """METIS's nested dissection, the vertices in the order of elimination; None without pymetis."""
    if not importlib.util.find_spec("pymetis"):
        return None
    import pymetis

    graph = as_scipy(matrix).copy()
    graph.setdiag(0)
    graph.eliminate_zeros()
    return np.asarray(pymetis.nested_dissection(pymetis.CSRAdjacency(graph.indptr, graph.indices))[0])


def cholmod_order(matrix: SystemMatrix) -> np.ndarray | None:
    """CHOLMOD's nested dissection, which is cholespy's order; None without scikit-sparse."""
    if not importlib.util.find_spec("sksparse"):
        return None
    from sksparse.cholmod import analyze

    return analyze(as_scipy(matrix.to(torch.float64)).tocsc(), ordering_method="nesdis").P()


def factor_nnz(matrix: SystemMatrix, old_from_new: np.ndarray | None) -> int | None:
    """Entries of L for this order of elimination, exactly: row by row along the elimination tree.

    Source: Davis, "Algorithm 849: a concise sparse Cholesky factorization package", ACM TOMS 31(4), 2005.
    """
    if old_from_new is None:
        return None
    permuted = sparse.tril(as_scipy(matrix)[old_from_new][:, old_from_new], -1, format="csr")
    starts, columns = permuted.indptr.tolist(), permuted.indices.tolist()
    count = size = len(old_from_new)
    parent, last_row = [-1] * size, [-1] * size
    for row in range(size):
        last_row[row] = row
        for column in columns[starts[row] : starts[row + 1]]:
            while last_row[column] != row:  # up the tree, to what this row has seen
                if parent[column] < 0:
                    parent[column] = row
                last_row[column] = row
                count += 1
                column = parent[column]
    return count
