"""The structure of a Cholesky factor. It is found once per pattern, and the pattern keeps it.

Source: George, "Nested Dissection of a Regular Finite Element Mesh", SIAM J. Numer. Anal. 10(2), 1973. See docs/solver.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, describe
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.native import operators, reference
from pt3d_largesteps.native.library import HOW_TO_BUILD_CUDA, WHY_NO_CUDA, has_cuda, is_compiled

LEAF_SIZE = 16  # measured: the best for solves of three columns
LEAF_SIZE_BY_LEVELS = 32  # whole levels are merged, the leaves first
# The magic number of the level buffer (csrc/structure/level_index.h), and its sections for the host.
_MAGIC_BY_LEVELS, _SOLVE_PLAN, _FACTOR_PLAN = 0x4C534C31, 22, 23


@dataclass(frozen=True, eq=False, repr=False)
class SymbolicFactor:
    """The structure of the Cholesky factor of all matrices with one pattern; made by :func:`analyze`.

    Attributes:
        index: int32, everything the solver knows about the pattern; internal. It is on the device of the solves.
        num_verts: V.
        num_entries: of the matrix, both triangles and the diagonal.
        solve_plan, factor_plan: on CUDA, the numbers of the index that the host needs to launch kernels; else empty.

    Example:
        >>> symbolic = analyze(compute_matrix(meshes), meshes.verts_packed())
        >>> symbolic.nnz, symbolic.levels
    """

    index: Tensor
    num_verts: int = field(init=False)
    num_entries: int = field(init=False)
    solve_plan: tuple[int, ...] = field(init=False)
    factor_plan: tuple[int, ...] = field(init=False)
    _header: list[int] = field(init=False)  # on the host

    def __post_init__(self) -> None:
        header = self.index[: operators.HEADER_SIZE].tolist()
        plans = ((), ())
        if header[reference.MAGIC] == _MAGIC_BY_LEVELS:
            solve_start, factor_start = (header[reference.SECTION_OFFSETS + section] for section in (_SOLVE_PLAN, _FACTOR_PLAN))
            numbers = self.index[solve_start:].tolist()
            plans = (tuple(numbers[: factor_start - solve_start]), tuple(numbers[factor_start - solve_start :]))
        known = {
            "num_verts": header[reference.NUM_VERTS],
            "num_entries": header[reference.NUM_ENTRIES],
            "solve_plan": plans[0],
            "factor_plan": plans[1],
            "_header": header,
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)

    @cached_property
    def nnz(self) -> int:
        """Entries of the triangular factor L, including the diagonal; counted at the first access."""
        return operators.count_entries(self.index.cpu())

    @property
    def stored_entries(self) -> int:
        """Like ``nnz``, plus the zeros inside dense blocks; without explicit inverses and padding."""
        low, high = self._header[reference.FACTOR_ENTRIES_LOW : reference.FACTOR_ENTRIES_HIGH + 1]
        return low + 2**31 * high

    @property
    def levels(self) -> int:
        """Height of the tree of dense blocks: the number of sequential steps of a sweep."""
        return self._header[reference.NUM_LEVELS]

    @property
    def num_supernodes(self) -> int:
        """Number of dense blocks."""
        return self._header[reference.NUM_SUPERNODES]

    @property
    def nbytes(self) -> int:
        return self.index.nbytes

    @property
    def device(self) -> torch.device:
        return self.index.device

    def pattern(self) -> tuple[Tensor, Tensor]:
        """crow_indices (V + 1,) and col_indices (nnz,), int64, of the analysed matrix."""
        columns, crow, end = self._header[reference.SECTION_OFFSETS + reference.ENTRY_COLUMNS :][:3]
        return self.index[crow:end].long(), self.index[columns:crow].long()

    def check_pattern(self, matrix: SystemMatrix) -> None:
        """Raises ``ValueError`` unless the matrix has the pattern that was analysed."""
        crow_indices, col_indices = self.pattern()
        if not (torch.equal(crow_indices, matrix.crow_indices) and torch.equal(col_indices, matrix.col_indices)):
            raise ValueError(
                f"matrix: expected the pattern that was analysed, {self.num_verts} rows and {self.num_entries} entries,"
                f" got another one of {matrix.shape[0]} rows and {matrix.nnz} entries; call analyze on it"
            )

    def __repr__(self) -> str:
        return (
            f"SymbolicFactor(num_verts={self.num_verts}, nnz={self.nnz}, levels={self.levels},"
            f" num_supernodes={self.num_supernodes})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        index = state["index"]
        object.__setattr__(self, "index", index)
        self.__post_init__()
        if self._header[reference.MAGIC] != _magic_on(index.device):  # saved for another device, or by another solver
            crow_indices, col_indices = (tensor.cpu() for tensor in self.pattern())
            object.__setattr__(self, "index", _analyze_on(index.device, crow_indices, col_indices, None))
            self.__post_init__()


def _is_by_levels(device: torch.device) -> bool:
    """Whether systems on this device are solved level by level."""
    return device.type == "cuda"


def _magic_on(device: torch.device) -> int:
    if _is_by_levels(device):
        return _MAGIC_BY_LEVELS
    return reference.MAGIC_COMPILED if is_compiled() else reference.MAGIC_REFERENCE


def _analyze_on(device: torch.device, crow_indices: Tensor, col_indices: Tensor, positions: Tensor | None) -> Tensor:
    """The index for a device, from a pattern on the CPU."""
    by_levels = _is_by_levels(device)
    leaf_size = LEAF_SIZE_BY_LEVELS if by_levels else LEAF_SIZE
    return operators.analyze(crow_indices, col_indices, positions, leaf_size, by_levels).to(device)


def analyze(matrix: SystemMatrix, positions: Tensor | None = None, *, reuse: bool = True) -> SymbolicFactor:
    """Finds the elimination order and the structure of the factor. It does not read the values of the matrix.

    Args:
        matrix: on the device of the solves, the CPU or CUDA. The analysis itself runs on the CPU and reads only the
            pattern.
        positions: (V, 3), finite. With them the graph is cut in space, several times faster than without. Any positions
            work; those of the mesh give the best order.
        reuse: use the analysis that the matrix's ``pattern`` already has, whatever its positions were. If it has none, keep
            this one there.

    Raises:
        TypeError, ValueError: a matrix whose pattern is not symmetric or not sorted, or on a device without a compiled
            solver; positions of a wrong shape or not finite; 2^31 entries or more.

    Example:
        >>> symbolic = analyze(matrix, meshes.verts_packed())
    """
    if not isinstance(matrix, SystemMatrix):
        raise TypeError(f"matrix: expected a SystemMatrix, got {describe(matrix)}")
    if matrix.device.type == "cuda" and not has_cuda():
        raise ValueError(
            f"matrix: expected it on the CPU, got it on {matrix.device}; the solver for CUDA is not here ({WHY_NO_CUDA})."
            f" To build it, {HOW_TO_BUILD_CUDA}"
        )
    if matrix.device.type not in ("cpu", "cuda"):
        raise ValueError(f"matrix: expected it on the CPU or on CUDA, got it on {matrix.device}")
    for name in ("crow_indices", "col_indices"):
        if getattr(matrix, name).dtype != torch.int64:
            raise TypeError(f"matrix: expected {name} of int64, got {describe(getattr(matrix, name))}")
    if matrix.nnz >= 2**31:
        raise ValueError(f"matrix: expected fewer than 2^31 entries, got {matrix.nnz}")
    if positions is not None:
        if not isinstance(positions, Tensor) or tuple(positions.shape) != (matrix.shape[0], 3):
            raise ValueError(f"positions: expected a tensor of shape ({matrix.shape[0]}, 3), got {describe(positions)}")
        positions = positions.detach().to("cpu", torch.float64).contiguous()
        check_finite("positions", positions)
    pattern = matrix.pattern
    if reuse and pattern.analysis is not None:
        return pattern.analysis
    crow_indices, col_indices = pattern.crow_indices.cpu().contiguous(), pattern.col_indices.cpu().contiguous()
    with torch.inference_mode(False):  # it is kept, and gradients may need it later
        symbolic = SymbolicFactor(_analyze_on(matrix.device, crow_indices, col_indices, positions))
    if reuse:
        pattern.analysis = symbolic
    return symbolic
