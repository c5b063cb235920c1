"""The settings of an optimisation: the number and size of its steps, its stages, and the packages that these need."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pt3d_largesteps._checks import check_number, describe
from pt3d_largesteps.surfaces.remeshing import check_target


@dataclass(frozen=True)
class Stage:
    """A part of an optimisation on one set of triangles, with one lambda.

    Attributes:
        begin: the fraction of all steps after which the stage begins, in [0, 1).
        lambda_: of the parameterisation; at least 0.
        num_verts, edge_length, edge_scale: the remeshing target when the stage begins, as for :func:`~pt3d_largesteps.remesh`;
            at most one of them. Without one the triangles stay.
    """

    begin: float
    lambda_: float
    num_verts: int | None = None
    edge_length: float | None = None
    edge_scale: float | None = None

    def __post_init__(self) -> None:
        check_number("begin", self.begin, low=0.0, high=1.0)
        check_number("lambda_", self.lambda_, low=0.0)
        if self.remeshing:
            check_target(self.num_verts, self.edge_length, self.edge_scale)

    @property
    def remeshing(self) -> dict[str, Any]:
        """The target for the remesher, as its argument."""
        targets = {"num_verts": self.num_verts, "edge_length": self.edge_length, "edge_scale": self.edge_scale}
        return {name: value for name, value in targets.items() if value is not None}


# From a sphere of a few hundred vertices, which must find the large forms first
COARSE_TO_FINE = (
    Stage(0.0, lambda_=9.0),
    Stage(0.12, lambda_=7.0, num_verts=2000),
    Stage(0.3, lambda_=4.0, num_verts=5000),
    Stage(0.5, lambda_=2.0, num_verts=9000),
    Stage(0.7, lambda_=1.0, num_verts=18000),
)
# From a hull of some 5,000 vertices, which already has the large forms
FROM_HULL = (
    Stage(0.0, lambda_=4.0),
    Stage(0.4, lambda_=2.0, num_verts=9000),
    Stage(0.7, lambda_=1.0, num_verts=18000),
)


@dataclass(frozen=True)
class OptimizationConfig:
    """Settings of :func:`~pt3d_largesteps.optimize`; the defaults are for shapes of any size and kind.

    Attributes:
        steps: number of optimiser steps, unless the run ends early.
        stages: in the order of their beginnings, the first at 0.
        lr: step size at the beginning, in mean edge lengths of each mesh as its stage begins, or in the units of the vertices.
        lr_decay: the last step size divided by the first one; the decay between them is exponential.
        lr_unit: "edge" or "absolute".
        moments: what happens to the optimiser's moments when a stage begins: "reset", or "interpolate" for the new vertices.
            Interpolation helps a little if the stages change little, as from a hull, and slows the run if they change much.
        views_per_step: for a loss with views; each view is used once, in random order, before any is used again.
        patience: a stage ends early if the loss has not fallen by ``min_improvement`` (relative) in this many steps; after the
            last stage the optimisation ends. The held-out loss is used if there is one. None: all steps are done.
        min_improvement: in [0, 1).
        check_every: steps between two checks of the held-out loss, or of the mean loss since the last check.
        untangle: whether self-intersecting faces are repaired at the end (:func:`~pt3d_largesteps.untangle`).
        seed: of the order of the views.

    Raises:
        TypeError, ValueError: an attribute is out of range; the message names it.

    Example:
        >>> config = OptimizationConfig(steps=400, stages=(Stage(0.0, lambda_=19.0),))
    """

    steps: int = 1000
    stages: tuple[Stage, ...] = COARSE_TO_FINE
    lr: float = 1.3
    lr_decay: float = 0.1
    lr_unit: str = "edge"
    moments: str = "reset"
    views_per_step: int = 4
    patience: int | None = None
    min_improvement: float = 0.01
    check_every: int = 20
    untangle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "views_per_step", "check_every", "patience"):
            value = getattr(self, name)
            if not (name == "patience" and value is None):
                _check_int(name, value, low=1)
        _check_int("seed", self.seed, low=0)
        if self.seed >= 2**63:
            raise ValueError(f"seed: expected an integer below 2^63, got {self.seed}")
        check_number("lr", self.lr, low=0.0)
        check_number("lr_decay", self.lr_decay, low=0.0, low_open=True)
        check_number("min_improvement", self.min_improvement, low=0.0, high=1.0)
        for name, allowed in (("lr_unit", ("edge", "absolute")), ("moments", ("reset", "interpolate"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected '{allowed[0]}' or '{allowed[1]}', got {describe(getattr(self, name))}")
        if not isinstance(self.untangle, bool):
            raise TypeError(f"untangle: expected True or False, got {describe(self.untangle)}")
        stages = tuple(self.stages) if isinstance(self.stages, Sequence) else ()
        object.__setattr__(self, "stages", stages)
        if not stages or not all(isinstance(stage, Stage) for stage in stages):
            raise TypeError(f"stages: expected a sequence of Stage, at least one, got {describe(self.stages)}")
        if stages[0].begin != 0 or any(one.begin >= next_one.begin for one, next_one in pairwise(stages)):
            raise ValueError(
                "stages: expected the first to begin at 0 and each after the one before it, got beginnings"
                f" {[stage.begin for stage in stages]}"
            )


def _check_int(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name}: expected an integer of at least {low}, got {describe(value)}")


def check_installed(config: OptimizationConfig) -> None:
    """Checks before the run for packages that are needed in the middle or at the end."""
    needed = {"igl.predicates": config.untangle, "gpytoolbox": any(stage.remeshing for stage in config.stages)}
    missing = [name.partition(".")[0] for name, is_needed in needed.items() if is_needed and not _is_installed(name)]
    if missing:
        raise ImportError(
            f"optimize needs {' and '.join(missing)} for this config (untangle, stages that are remeshed):"
            " pip install 'pt3d_largesteps[optimize]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
