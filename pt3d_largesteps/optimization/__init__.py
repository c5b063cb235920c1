"""The driver: minimises a loss according to a config."""

from pt3d_largesteps.optimization.config import COARSE_TO_FINE, FROM_HULL, OptimizationConfig, Stage
from pt3d_largesteps.optimization.driver import Optimization, OptimizationResult, mean_edge_lengths, optimize
from pt3d_largesteps.optimization.history import History
from pt3d_largesteps.optimization.parameterizations import Parameterization, large_steps

__all__ = [
    "COARSE_TO_FINE",
    "FROM_HULL",
    "History",
    "Optimization",
    "OptimizationConfig",
    "OptimizationResult",
    "Parameterization",
    "Stage",
    "large_steps",
    "mean_edge_lengths",
    "optimize",
]
