"""The choice of views for each step."""

from __future__ import annotations

from typing import Any

import torch

from pt3d_largesteps._checks import describe
from pt3d_largesteps.optimization.config import OptimizationConfig


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
