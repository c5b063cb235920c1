"""Loss functions of users, and the check of what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pt3d_largesteps._checks import describe

Loss = Callable[..., Tensor]  # of meshes; or of meshes and a list of views, if it has an attribute num_views


def evaluate(name: str, loss: Loss, meshes: Any, views: list[int], step: int) -> Tensor:
    """The loss of these meshes: one number, or (N,).

    Raises:
        TypeError, ValueError: another shape or type, or NaN or infinite; the message has the name, the step and the mesh.
    """
    losses = loss(meshes, views) if hasattr(loss, "num_views") else loss(meshes)
    if not isinstance(losses, Tensor) or losses.shape not in ((), (1,), (len(meshes),)):
        raise TypeError(f"{name}: expected a tensor of one number, or of {len(meshes)}, got {describe(losses)}")
    finite = losses.detach().isfinite().reshape(-1).tolist()
    if not all(finite):
        mesh = f" of mesh {finite.index(False)}" if len(finite) > 1 else ""
        raise ValueError(f"{name}: expected finite numbers, got {losses.tolist()} at step {step}{mesh}")
    return losses
