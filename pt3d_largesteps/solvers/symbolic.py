"""The structure of a Cholesky factor: found once per topology, and kept for topologies that come again.

Source: George, "Nested Dissection of a Regular Finite Element Mesh", SIAM J. Numer. Anal. 10(2), 1973. See docs/solver.md.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps import ops, reference
from pt3d_largesteps._checks import check_finite, describe
from pt3d_largesteps._extension import is_compiled
from pt3d_largesteps.system import SystemMatrix

LEAF_SIZE = 16  # measured to be the best for solves of three columns


@dataclass(frozen=True, eq=False, repr=False)
class SymbolicFactor:
    """The structure of the Cholesky factor of every matrix with one pattern; of :func:`analyze`.

    Attributes:
        index: int32, everything the solver knows of the pattern; not for reading.
        num_verts: V.
        num_entries: of the matrix, both triangles and the diagonal.

    Example:
        >>> symbolic = analyze(compute_matrix(meshes), meshes.verts_packed())
        >>> symbolic.nnz, symbolic.levels
    """

    index: Tensor
    num_verts: int = field(init=False)
    num_entries: int = field(init=False)

    def __post_init__(self) -> None:
        num_verts, num_entries = self.index[reference.NUM_VERTS : reference.NUM_ENTRIES + 1].tolist()
        object.__setattr__(self, "num_verts", num_verts)
        object.__setattr__(self, "num_entries", num_entries)

    @cached_property
    def nnz(self) -> int:
        """Entries of the triangular factor L, diagonal included; counted when asked for."""
        return ops.count_entries(self.index)

    @property
    def stored_entries(self) -> int:
        """As ``nnz``, with the zeros that are kept inside dense blocks; explicit inverses and padding not counted."""
        low, high = self.index[reference.FACTOR_ENTRIES_LOW : reference.FACTOR_ENTRIES_HIGH + 1].tolist()
        return low + 2**31 * high

    @property
    def levels(self) -> int:
        """Height of the tree of dense blocks: how many steps a sweep takes one after the other."""
        return int(self.index[reference.NUM_LEVELS])

    @property
    def num_supernodes(self) -> int:
        """Number of dense blocks."""
        return int(self.index[reference.NUM_SUPERNODES])

    @property
    def nbytes(self) -> int:
        return self.index.nbytes

    def pattern(self) -> tuple[Tensor, Tensor]:
        """crow_indices (V + 1,) and col_indices (nnz,), int64, of the matrix that was analysed."""
        columns, crow, end = self.index[reference.SECTION_OFFSETS + reference.ENTRY_COLUMNS :][:3].tolist()
        return self.index[crow:end].long(), self.index[columns:crow].long()

    def check_pattern(self, matrix: SystemMatrix) -> None:
        """Raises ``ValueError`` unless the matrix has the pattern that was analysed."""
        crow_indices, col_indices = self.pattern()
        if not (torch.equal(crow_indices, matrix.crow_indices) and torch.equal(col_indices, matrix.col_indices)):
            raise ValueError(
                f"matrix: expected the pattern that was analysed, {self.num_verts} rows and {self.num_entries} entries,"
                f" got another one of {matrix.shape[0]} rows and {matrix.nnz} entries; analyze it"
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
        is_reference = int(index[reference.MAGIC]) == reference.MAGIC_REFERENCE
        object.__setattr__(self, "index", index)
        self.__post_init__()
        if is_reference == is_compiled():  # saved where the compiled solver was not here, or was: the buffers differ
            crow_indices, col_indices = self.pattern()
            object.__setattr__(self, "index", ops.analyze(crow_indices, col_indices, None, LEAF_SIZE))


class _Kept:
    """The last analyses by a hash of their pattern, for topologies that come again; bounded in number and in bytes."""

    MAX_NUMBER, MAX_BYTES = 64, 256 * 2**20

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, SymbolicFactor] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def key(matrix: SystemMatrix) -> bytes:
        digest = hashlib.blake2b(matrix.crow_indices.to(torch.int32).numpy(), digest_size=16)  # half as much to hash
        digest.update(matrix.col_indices.to(torch.int32).numpy())
        return digest.digest()

    def get(self, key: bytes) -> SymbolicFactor | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: bytes, symbolic: SymbolicFactor) -> None:
        with self._lock:
            self._kept[key] = symbolic
            while len(self._kept) > self.MAX_NUMBER or sum(kept.nbytes for kept in self._kept.values()) > self.MAX_BYTES:
                self._kept.popitem(last=False)


_kept = _Kept()


def analyze(matrix: SystemMatrix, positions: Tensor | None = None, *, reuse: bool = True) -> SymbolicFactor:
    """Finds the order of elimination and the structure of the factor; the numbers of the matrix are not looked at.

    Args:
        matrix: on the CPU; only its pattern is read.
        positions: (V, 3), finite: cuts the graph in space, several times faster than without. Any positions will do, those
            of the mesh give the best order.
        reuse: take the analysis of an equal pattern from before, if there is one (from other positions, perhaps), and keep
            this one for patterns to come.

    Raises:
        TypeError, ValueError: a matrix that is not on the CPU, or whose pattern is not symmetric or not sorted; positions of a
            wrong shape or not finite; 2^31 entries or more.

    Example:
        >>> symbolic = analyze(matrix, meshes.verts_packed())
    """
    if not isinstance(matrix, SystemMatrix):
        raise TypeError(f"matrix: expected a SystemMatrix, got {describe(matrix)}")
    if matrix.device.type != "cpu":
        raise ValueError(f"matrix: expected it on the CPU, got it on {matrix.device}")
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
    key = _kept.key(matrix) if reuse else None
    symbolic = _kept.get(key) if reuse else None
    if symbolic is None:
        with torch.inference_mode(False):  # it is kept, and may be needed for gradients later
            index = ops.analyze(matrix.crow_indices.contiguous(), matrix.col_indices.contiguous(), positions, LEAF_SIZE)
        symbolic = SymbolicFactor(index)
        if reuse:
            _kept.put(key, symbolic)
    return symbolic
