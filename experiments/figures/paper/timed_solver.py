"""A solver by the clock, to compare solvers with each other on one matrix."""

from __future__ import annotations

from torch import Tensor

from pt3d_largesteps.reconstruction.timing import now
from pt3d_largesteps.solvers import Solver


class TimedSolver:
    """A solver that adds the time it takes to ``seconds["solve"]``."""

    def __init__(self, solver: Solver, seconds: dict[str, float]) -> None:
        self.solver, self.seconds = solver, seconds

    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        start = now(rhs.device)
        solution = self.solver.solve(rhs, direction)
        self.seconds["solve"] += now(rhs.device) - start
        return solution
