"""The common base of the modules. u has no meaning without its matrix, so the two are saved and loaded together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import check_solvable_dtype, describe
from pt3d_largesteps.optim.packed import PackedParameter

MATRIX_KEYS = ("crow_indices", "col_indices", "values")


class PackedModule(nn.Module):
    """A module with the parameter ``u`` (:class:`~pt3d_largesteps.PackedParameter`). Everything else follows u.

    When ``to()``, ``double()`` and similar methods convert u, or when u is loaded, the module calls ``_follow_parameter``. A
    rejected state changes nothing.
    """

    u: PackedParameter

    def _follow_parameter(self) -> None:
        """Moves everything else to the device and dtype of u."""
        raise NotImplementedError

    def _keep_packed(self, sizes: Sequence[int]) -> None:
        """Makes u a packed parameter of these meshes again: torch may replace a parameter when it moves it."""
        u = self.u
        if not isinstance(u, PackedParameter):
            self.u = PackedParameter(u.data, sizes, u.requires_grad)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Like ``nn.Module.load_state_dict``. A rejected state changes nothing, whatever the reason."""
        with self._unchanged_if_refused([]):  # torch checks the keys only after it has copied values
            return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        with self._unchanged_if_refused(error_msgs):
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
            self._follow_parameter()

    @contextmanager
    def _unchanged_if_refused(self, error_msgs: list[str]) -> Iterator[None]:
        """Restores the old state if an error is raised, or is added to the list, from which torch raises later."""
        count = len(error_msgs)
        parameters = [(name, one, one.detach().clone()) for name, one in self._parameters.items() if one is not None]
        extra_state = self.get_extra_state()
        try:
            yield
        except (RuntimeError, TypeError, ValueError):
            self._put_back(parameters, extra_state)
            raise
        if len(error_msgs) > count:
            self._put_back(parameters, extra_state)

    @torch.no_grad()
    def _put_back(self, parameters: list[tuple[str, nn.Parameter, Tensor]], extra_state: Any) -> None:
        for name, parameter, values in parameters:
            setattr(self, name, parameter)  # load_state_dict(assign=True) may have replaced it
            parameter.copy_(values)
        self._follow_parameter()
        self.set_extra_state(extra_state)

    def _apply(self, fn: Any, recurse: bool = True) -> PackedModule:
        check_solvable_dtype("u", fn(self.u.detach().new_empty(0)))  # before anything is converted
        module = super()._apply(fn, recurse)
        self._follow_parameter()
        return module


def checked_state(state: Any, keys: Sequence[str], device: torch.device, matrix: str) -> dict[str, Any]:
    """The tensors of an extra state, on the device. Raises unless it has exactly these keys."""
    check_keys(state, keys, matrix)
    return {name: None if tensor is None else tensor.to(device) for name, tensor in state.items()}


def check_keys(state: Any, keys: Collection[str], matrix: str) -> None:
    """Raises unless an extra state has exactly these keys."""
    if not isinstance(state, dict):
        raise ValueError(f"state_dict: expected the {matrix} beside u, got {describe(state)}")
    missing, unknown = sorted(set(keys) - set(state)), sorted(map(str, set(state) - set(keys)))
    if missing or unknown:
        got = " and ".join([f"no {', '.join(missing)}"] * bool(missing) + [f"an unknown {', '.join(unknown)}"] * bool(unknown))
        raise ValueError(
            f"state_dict: expected the {matrix} beside u, got {got}; another version has saved it: load it with that version,"
            " and transfer what the module returns"
        )


def state_of_matrix(matrix: Any) -> dict[str, Tensor]:
    """The tensors of a :class:`~pt3d_largesteps.SystemMatrix` that are saved."""
    return {name: getattr(matrix, name).detach() for name in MATRIX_KEYS}


def check_same_matrix(saved: dict[str, Any], matrix: Any, *, learned: bool, pattern: str, remedy: str) -> None:
    """Raises unless the tensors of :func:`state_of_matrix` are those of this matrix. Learned values may differ.

    Args:
        pattern: error text for another pattern: what was expected and what came.
        remedy: error text for other values: what to do.
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
