"""The views of each step, and the loss that is called with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.optimization.config import OptimizationConfig

Loss = Callable[..., Tensor]  # of meshes; or of meshes and a list of views, if it has an attribute num_views


class ShuffledViews:
    """Draws each view once, in random order, then all again in another order.

    Args:
        num_views: 0 for a loss without views.
        config: has the number of views per step, and the seed.

    Raises:
        TypeError: ``num_views`` is not an integer of at least 0.
    """

    def __init__(self, num_views: int, config: OptimizationConfig) -> None:
        if isinstance(num_views, bool) or not isinstance(num_views, int) or num_views < 0:
            raise TypeError(f"loss: expected a number of views in its num_views, got {describe(num_views)}")
        self.num_views, self._per_step = num_views, min(config.views_per_step, num_views)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._left: list[int] = []

    def draw(self) -> list[int]:
        """The views of the next step."""
        drawn: list[int] = []
        while len(drawn) < self._per_step:
            if not self._left:
                self._left = torch.randperm(self.num_views, generator=self._generator).tolist()
            drawn.append(self._left.pop(0))
        return drawn

    def state_dict(self) -> dict[str, Any]:
        return {"left": list(self._left), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._left = list(state["left"])
        self._generator.set_state(state["generator"].cpu())


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
