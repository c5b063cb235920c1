"""The progress of an optimisation: its step, stage and step size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pt3d_largesteps.optimization.config import OptimizationConfig, Stage
from pt3d_largesteps.optimization.history import History


class Progress:
    """A clock of ``config.steps`` ticks. It advances by one with each step, and jumps to the next stage if one stalls.

    Attributes:
        tick: 0 at the beginning, ``config.steps`` at the end.
        index: of the current stage.
    """

    def __init__(self, config: OptimizationConfig) -> None:
        self.config, self.tick, self.index = config, 0, 0
        # With few steps each stage gets at least one, while steps remain.
        self._begins = [max(round(stage.begin * config.steps), index) for index, stage in enumerate(config.stages)]
        self._begin_looking()

    def _begin_looking(self) -> None:
        self._best, self._looks_since_best = math.inf, 0
        self._looks_from: int | None = None

    @property
    def stage(self) -> Stage:
        return self.config.stages[self.index]

    @property
    def lr(self) -> float:
        """The step size of this tick."""
        return self.config.lr * self.config.lr_decay ** (self.tick / self.config.steps)

    @property
    def stage_is_due(self) -> bool:
        return self.index + 1 < len(self._begins) and self.tick >= self._begins[self.index + 1]

    def begin_stage(self) -> None:
        """Begins the next stage."""
        self.index += 1
        self._begin_looking()

    def advance(self, step: int, history: History, held_out: Callable[[], float | None]) -> str | None:
        """Advances after a step; returns "steps" or "stalled" if it was the last one."""
        config = self.config
        self.tick += 1
        if step % config.check_every == 0 or self.tick >= config.steps:
            value = held_out()
            if value is not None:
                history.held_out.append((step, value))
            if self.tick < config.steps and self._has_stalled(value, step, history):
                if self.index + 1 == len(self._begins):
                    return "stalled"
                self.tick = self._begins[self.index + 1]
        return "steps" if self.tick >= config.steps else None

    def _has_stalled(self, value: float | None, step: int, history: History) -> bool:
        if self.config.patience is None:
            return False
        if value is None:
            begin = history.stages[-1][0] if self._looks_from is None else self._looks_from
            recent = history.mean_losses[begin:step]
            value, self._looks_from = sum(recent) / len(recent), step
        if self._best == math.inf or value < self._best - self.config.min_improvement * abs(self._best):
            self._best, self._looks_since_best = value, 0
        else:
            self._looks_since_best += 1
        return self._looks_since_best * self.config.check_every >= self.config.patience

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("config", "_begins")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
