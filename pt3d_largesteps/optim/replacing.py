"""Another parameter in the place of one that an optimiser has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def replace_parameter(
    optimizer: torch.optim.Optimizer,
    old: nn.Parameter,
    new: nn.Parameter,
    transfer: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Puts ``new`` into the group of ``old``, with its hyperparameters; learning rates, schedulers and closures go on.

    Args:
        optimizer: any of torch's kind.
        old: one of its parameters.
        new: of any shape.
        transfer: makes of what the optimiser keeps in the shape of ``old``, its moments, what it is to keep of ``new``; counts
            of steps and the like go along. Unless given, ``new`` starts with nothing.

    Raises:
        ValueError: ``old`` is none of the optimiser's.

    Example:
        >>> replace_parameter(optimizer, steps.u, new_steps.u)
    """
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if parameter is old:
                group["params"][place] = new
                state = optimizer.state.pop(old, None)
                if state and transfer is not None:
                    optimizer.state[new] = {name: _transferred(value, old, transfer) for name, value in state.items()}
                return
    raise ValueError("optimizer: expected one that has the parameter u of the module, got one that has not")


def _transferred(value: object, old: nn.Parameter, transfer: Callable[[Tensor], Tensor]) -> object:
    return transfer(value) if isinstance(value, Tensor) and value.shape == old.shape else value
