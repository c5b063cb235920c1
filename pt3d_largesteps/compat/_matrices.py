"""The factorised form of a matrix that is a plain tensor, kept while the tensor lives and its numbers do not change.

It is found by a weak reference to the tensor, not by ``id()``, which another tensor may get after this one is freed. It is made
again if the version counter of the tensor shows an edit in place. Nothing is stored on the tensor, so copies and saved files of
it do not change.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from pt3d_largesteps._checks import describe
from pt3d_largesteps.matrices.system import SystemMatrix

_kept = WeakTensorKeyDictionary()  # tensor: (version, SystemMatrix), and the SystemMatrix keeps its solvers


def keep(matrix: Tensor, system: SystemMatrix) -> None:
    """Records ``system`` as the form of ``matrix``; it must not hold the tensor or its memory, which may be edited."""
    if not matrix.is_inference():
        _kept[matrix] = (matrix._version, system)


def system_of(matrix: Any, name: str) -> SystemMatrix:
    """The :class:`~pt3d_largesteps.SystemMatrix` of a symmetric tensor (V, V), without gradients; read at the first call.

    A SystemMatrix is returned unchanged.

    Raises:
        TypeError, ValueError: no tensor, not square, not symmetric, or with an entry that is NaN or infinite.
    """
    if isinstance(matrix, SystemMatrix):
        return matrix
    if not isinstance(matrix, Tensor):
        raise TypeError(f"{name}: expected a sparse tensor (V, V), of compute_matrix, got {describe(matrix)}")
    if matrix.is_inference():  # these have no version counter
        return SystemMatrix.from_sparse(matrix)
    version, system = _kept.get(matrix, (None, None))
    if version != matrix._version:
        system = SystemMatrix.from_sparse(matrix.detach())
        keep(matrix, system)
    return system
