"""Large steps in inverse rendering of geometry, for PyTorch3D.

    from pt3d_largesteps import LargeSteps, UniformAdam

    steps = LargeSteps(meshes, lambda_=19.0)
    optimizer = UniformAdam(steps.parameters(), lr=3e-2)
    loss = any_loss(steps())            # steps() is a Meshes

The renderers are in ``pt3d_largesteps.renderers``, the solvers in ``pt3d_largesteps.solvers``, and the measures of a
result in ``pt3d_largesteps.metrics``.
"""

import importlib
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._version import __version__

__all__ = [
    "BatchSystem",
    "GridMatrix",
    "LargeSteps",
    "LargeStepsAdam",
    "LargeStepsGrid",
    "LargeStepsTexture",
    "OptimizationConfig",
    "PackedParameter",
    "Remeshed",
    "Stage",
    "SystemMatrix",
    "UniformAdam",
    "Untangled",
    "__version__",
    "available_solvers",
    "combinatorial_laplacian",
    "compute_matrix",
    "cotangent_laplacian",
    "from_differential",
    "grid_laplacian",
    "grid_system_matrix",
    "lambda_from_alpha",
    "optimize",
    "precondition",
    "remesh",
    "replace_parameter",
    "to_differential",
    "untangle",
    "visual_hull",
]


def _is_command() -> bool:
    """Whether Python imports this on its way to ``python -m pt3d_largesteps``; its first argument is "-m" until it is there."""
    if sys.argv[:1] != ["-m"]:
        return False
    modules = (name for option, name in pairwise(sys.orig_argv) if option.startswith("-") and option.endswith("m"))
    return next(modules, None) == __name__


if TYPE_CHECKING or not _is_command():
    _pytorch3d.check()
    from pt3d_largesteps.batch import BatchSystem
    from pt3d_largesteps.differential import from_differential, precondition, to_differential
    from pt3d_largesteps.grid import GridMatrix
    from pt3d_largesteps.grid_sparse import grid_laplacian, grid_system_matrix
    from pt3d_largesteps.laplacian import combinatorial_laplacian, cotangent_laplacian
    from pt3d_largesteps.large_steps_adam import LargeStepsAdam
    from pt3d_largesteps.mesh_system import compute_matrix
    from pt3d_largesteps.optim import UniformAdam
    from pt3d_largesteps.optimization import OptimizationConfig, Stage, optimize
    from pt3d_largesteps.packed import PackedParameter
    from pt3d_largesteps.parameterization import LargeSteps
    from pt3d_largesteps.remesh import Remeshed, remesh
    from pt3d_largesteps.replacing import replace_parameter
    from pt3d_largesteps.solvers import available_solvers
    from pt3d_largesteps.strength import lambda_from_alpha
    from pt3d_largesteps.system import SystemMatrix
    from pt3d_largesteps.texture import LargeStepsGrid
    from pt3d_largesteps.texture_parameterization import LargeStepsTexture
    from pt3d_largesteps.untangling import Untangled, untangle
    from pt3d_largesteps.visual_hull import visual_hull
else:
    # The command line says what is missing, and helps, without any of it; what it runs asks for these names.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        importlib.reload(sys.modules[__name__])  # now with all names
        return globals()[name]
