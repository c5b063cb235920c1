"""How long the parts of a step take, measured on the very path that users get: nothing is put in the place of a part."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps.steps.meshes import LargeSteps


def now(device: torch.device) -> float:
    """Seconds of a clock, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def time_solves(steps: LargeSteps, seconds: dict[str, float]) -> None:
    """Adds to ``seconds["solve"]`` what u to vertices takes and the gradient of the vertices to that of u: the solves, and the
    factorisation with the first of them. Calls without gradients, which are no steps, do not count.
    """
    device, solve, begin = steps.u.device, steps.verts_packed, 0.0

    def verts_packed() -> Tensor:
        if not torch.is_grad_enabled():
            return solve()
        start = now(device)
        verts = solve()
        seconds["solve"] += now(device) - start
        verts.register_hook(before)
        return verts

    def before(_: Tensor) -> None:
        nonlocal begin
        begin = now(device)

    def after(_: Tensor) -> None:
        seconds["solve"] += now(device) - begin

    steps.u.register_hook(after)
    steps.verts_packed = verts_packed  # type: ignore[method-assign]


def time_steps(optimizer: torch.optim.Optimizer, device: torch.device, seconds: dict[str, float]) -> None:
    """Adds to ``seconds["optimizer"]`` what its steps take."""
    begin = 0.0

    def before(*_: Any) -> None:
        nonlocal begin
        begin = now(device)

    def after(*_: Any) -> None:
        seconds["optimizer"] += now(device) - begin

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
