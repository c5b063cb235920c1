"""The settings of the command line. Imports no torch, so that ``--help`` and wrong arguments answer at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pt3d_largesteps import OptimizationConfig

STARTS = ("hull", "sphere")
SHAPES = ("animal", "hand", "links", "mug", "pot", "pretzel", "star")  # made in code, in shapes.py
METHODS = ("large-steps", "adam", "laplacian")
# In mean edge lengths; Adam's is the best of 0.03, 0.1 and 0.3 on the bunny with weight 1.
DEFAULT_LR = {"large-steps": 1.3, "adam": 0.03, "laplacian": 0.03}


@dataclass(frozen=True)
class Settings:
    """The settings of the command line; its options describe them."""

    method: str = "large-steps"
    start: str = "hull"
    steps: int = 1000
    views: int = 64
    resolution: int = 256
    lambda_: float | None = None
    lr: float | None = None
    reg: float = 1.0
    seed: int = 0
    device: str = "cpu"
    remesh: bool = True
    solver: str = "auto"

    def config(self) -> OptimizationConfig:
        """The config of the driver. A given lambda is that of the first stage; the others are scaled in proportion."""
        from pt3d_largesteps.optimization import COARSE_TO_FINE, FROM_HULL, OptimizationConfig, Stage

        plain = (Stage(0.0, lambda_=9.0),)
        stages = {"hull": FROM_HULL, "sphere": COARSE_TO_FINE}[self.start] if self.remesh else plain
        factor = 1.0 if self.lambda_ is None else self.lambda_ / stages[0].lambda_
        return OptimizationConfig(
            steps=self.steps,
            stages=tuple(replace(stage, lambda_=factor * stage.lambda_) for stage in stages),
            lr=DEFAULT_LR[self.method] if self.lr is None else self.lr,
            moments="interpolate" if self.start == "hull" else "reset",
            seed=self.seed,
        )
