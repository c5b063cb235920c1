"""The optimiser, under the name of ``largesteps.optimize``.

Source of the interface: https://github.com/rgl-epfl/large-steps-pytorch, version 0.2.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pt3d_largesteps.optim.uniform_adam import UniformAdam

_MOMENTS = {"g1": "exp_avg", "g2": "exp_avg_sq"}  # in the states of the original
_EPS = 1e-8  # fixed in the original, and so not in its states


class AdamUniform(UniformAdam):
    """Adam whose second moment is one number per tensor, the maximum: :class:`~pt3d_largesteps.UniformAdam`.

    The steps equal those of the original up to rounding. Parameters without a gradient do not change, gradients that are NaN or
    infinite are refused on the CPU, and schedulers, closures and parameter groups work as with any torch optimiser.

    Args:
        params: tensors, or dicts of parameter groups.
        lr: step size.
        betas: decay of the first and of the second moment, each in [0, 1).

    Raises:
        TypeError, ValueError: as :class:`~pt3d_largesteps.UniformAdam`.

    Example:
        >>> optimizer = AdamUniform([u], 3e-2)
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.1, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=_EPS)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As for every optimiser; also accepts a state saved by the original."""
        groups = [{"eps": _EPS, **group} for group in state_dict["param_groups"]]
        states = {
            key: {_MOMENTS.get(name, name): value for name, value in state.items()}
            for key, state in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": states, "param_groups": groups})
