"""What the modules of differential coordinates have in common: u means nothing without the matrix that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import check_solvable_dtype, describe
from pt3d_largesteps.optim.packed import PackedParameter

MATRIX_KEYS = ("crow_indices", "col_indices", "values")


class PackedModule(nn.Module):
    """A module with the parameter ``u`` (:class:`~pt3d_largesteps.PackedParameter`), which everything else follows.

    Where u goes by ``to()``, ``double()`` and the like, or is loaded, ``_follow_parameter`` is called; a state that
    ``set_extra_state`` refuses changes nothing.
    """

    u: PackedParameter

    def _follow_parameter(self) -> None:
        """Takes everything else to the device and dtype of u."""
        raise NotImplementedError

    def _keep_packed(self, sizes: Sequence[int]) -> None:
        """u as a parameter of these meshes: torch may put another parameter in the place of one that moves."""
        u = self.u
        if not isinstance(u, PackedParameter):
            self.u = PackedParameter(u.data, sizes, u.requires_grad)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:  # before u is touched
            self.set_extra_state(state_dict[prefix + "_extra_state"])
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._follow_parameter()

    def _apply(self, fn: Any, recurse: bool = True) -> PackedModule:
        check_solvable_dtype("u", fn(self.u.detach().new_empty(0)))  # before anything is converted
        module = super()._apply(fn, recurse)
        self._follow_parameter()
        return module


def checked_state(state: Any, keys: Sequence[str], device: torch.device, matrix: str) -> dict[str, Any]:
    """The tensors of an extra state with exactly these keys, on the device."""
    if not isinstance(state, dict) or set(state) != set(keys):
        raise ValueError(f"state_dict: expected the {matrix} beside u, got {describe(state)}")
    return {name: None if tensor is None else tensor.to(device) for name, tensor in state.items()}


def state_of_matrix(matrix: Any) -> dict[str, Tensor]:
    """What is saved of a :class:`~pt3d_largesteps.SystemMatrix`."""
    return {name: getattr(matrix, name).detach() for name in MATRIX_KEYS}


def check_same_matrix(saved: dict[str, Any], matrix: Any, *, learned: bool, pattern: str, remedy: str) -> None:
    """Raises unless the tensors of :func:`state_of_matrix` are those of this matrix; values that are learned may differ.

    Args:
        pattern: what it says of another pattern: what is expected, and what came.
        remedy: what it says to do about other values.
    """
    same = all(torch.equal(saved[name], getattr(matrix, name)) for name in MATRIX_KEYS[:2])
    if not same:
        raise ValueError(f"state_dict: expected the state of {pattern}")
    values, expected = saved["values"].to(matrix.dtype), matrix.values.detach()
    tolerance = 1e-5 * float(expected.abs().max()) if matrix.nnz else 0.0
    if not learned and not torch.allclose(values, expected, rtol=0.0, atol=tolerance):
        raise ValueError(
            f"state_dict: expected the state of the same system matrix, got another lambda or another Laplacian; {remedy}"
        )
