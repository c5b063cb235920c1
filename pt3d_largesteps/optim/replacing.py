"""Replaces a parameter of an optimiser by another one."""

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
    """Replaces ``old`` by ``new`` in its group, with its hyperparameters; learning rates, schedulers and closures still work.

    Args:
        optimizer: any torch optimiser.
        old: one of its parameters.
        new: of any shape.
        transfer: maps the optimiser's state in the shape of ``old``, its moments, to the state of ``new``; step counts and
            similar state are kept. Default: ``new`` starts without state.

    Raises:
        ValueError: ``old`` is not a parameter of the optimiser.

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
    raise ValueError("optimizer: expected one with the parameter u of the module, got one without it")


def _transferred(value: object, old: nn.Parameter, transfer: Callable[[Tensor], Tensor]) -> object:
    return transfer(value) if isinstance(value, Tensor) and value.shape == old.shape else value
