"""cuDSS, NVIDIA's sparse direct solver, through nvmath-python: one system, or a batch of systems of any sizes.

The lower triangle is given, as that of a symmetric positive definite matrix, with 32-bit indices; right-hand sides and
solutions are column-major, the only layout that it knows. A batch is a sequence of matrices beside a sequence of right-hand
sides ("explicit batching"). Matrices and right-hand sides are read in place, so new numbers are written there. The options are
cuDSS's defaults, except for the threading library of the ordering on the host, which must be named.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pt3d_largesteps import SystemMatrix

_SILENT = logging.getLogger("cudss_benchmark")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class CuDSS:
    """``plan`` orders and analyses, ``factorize`` takes the numbers, ``solve`` a new tuple of solutions; in this order.

    Args:
        triangles: of :func:`lower_triangle`, one or several.
        rhs: as many, each (V, k) and column-major; see :func:`column_major`.
    """

    def __init__(self, triangles: Sequence[Tensor], rhs: Sequence[Tensor]) -> None:
        from nvmath.bindings import cudss
        from nvmath.sparse import advanced

        options = advanced.DirectSolverOptions(
            sparse_system_type=advanced.DirectSolverMatrixType.SPD,
            sparse_system_view=advanced.DirectSolverMatrixViewType.LOWER,
            multithreading_lib=_wheel_file(r"libcudss_mtlayer_gomp\.so.*"),
            logger=_SILENT,
            handle=_handle(cudss),
        )
        self._is_one = len(triangles) == 1
        operands = (triangles[0], rhs[0]) if self._is_one else (list(triangles), list(rhs))
        self._solver = advanced.DirectSolver(*operands, options=options)

    def plan(self) -> CuDSS:
        self._solver.plan()
        return self

    def factorize(self) -> CuDSS:
        self._solver.factorize()
        return self

    def solve(self) -> tuple[Tensor, ...]:
        result = self._solver.solve()
        return (result,) if self._is_one else result

    def __del__(self) -> None:
        """nvmath requires an explicit release; it also frees memory of a timed set-up after the timing."""
        with contextlib.suppress(Exception):  # of a constructor that failed, or at the end of the interpreter
            self._solver.free()


_handles: list[int] = []


def _handle(cudss) -> int:
    """One for the whole process: it takes long to make, and should not count as the set-up of a matrix."""
    if not _handles:
        if library := _wheel_file(r"libcudss\.so.*"):
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)  # nvmath looks in site-packages alone, and takes what is loaded
        _handles.append(cudss.create())
    return _handles[0]


def lower_triangle(matrix: SystemMatrix) -> Tensor:
    """The lower triangle, diagonal included, in torch's CSR; its ``values()`` may be written."""
    kept = matrix.row_indices >= matrix.col_indices
    counts = torch.bincount(matrix.row_indices[kept], minlength=matrix.shape[0])
    crow_indices = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that CSR tensors are in beta
        return torch.sparse_csr_tensor(
            crow_indices,
            matrix.col_indices[kept].int(),
            matrix.values.detach()[kept],
            size=matrix.shape,
            check_invariants=False,
        )


def column_major(rhs: Tensor) -> Tensor:
    """A copy (V, k) whose columns are contiguous."""
    return rhs.t().clone(memory_format=torch.contiguous_format).t()


def _wheel_file(name: str) -> str | None:
    """The path of a file whose name matches, in the wheel of cuDSS, wherever that is; None where there is none."""
    for wheel in ("nvidia-cudss-cu13", "nvidia-cudss-cu12"):
        try:
            files = importlib.metadata.files(wheel) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if re.fullmatch(name, file.name) and Path(file.locate()).is_file():
                return str(file.locate())
    return None
