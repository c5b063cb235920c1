"""Large steps in inverse rendering of geometry, for PyTorch3D.

    from pt3d_largesteps import LargeSteps, UniformAdam

    steps = LargeSteps(meshes, lambda_=19.0)
    optimizer = UniformAdam(steps.parameters(), lr=3e-2)
    loss = any_loss(steps())            # steps() is a Meshes

The renderers are in ``pt3d_largesteps.renderers``, the solvers in ``pt3d_largesteps.solvers``, and the measures of a
result in ``pt3d_largesteps.metrics``.

A name is imported when it is first asked for. So ``import pt3d_largesteps`` needs neither torch nor PyTorch3D, and each part
needs only what it uses.
"""

import importlib
from typing import TYPE_CHECKING

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._version import __version__

if TYPE_CHECKING:
    from pt3d_largesteps.grids.matrix import GridMatrix
    from pt3d_largesteps.grids.sparse import grid_laplacian, grid_system_matrix
    from pt3d_largesteps.matrices.lambda_alpha import lambda_from_alpha
    from pt3d_largesteps.matrices.laplacian import combinatorial_laplacian, cotangent_laplacian
    from pt3d_largesteps.matrices.of_meshes import compute_matrix
    from pt3d_largesteps.matrices.system import SystemMatrix
    from pt3d_largesteps.optim.large_steps_adam import LargeStepsAdam
    from pt3d_largesteps.optim.packed import PackedParameter
    from pt3d_largesteps.optim.replacing import replace_parameter
    from pt3d_largesteps.optim.uniform_adam import UniformAdam
    from pt3d_largesteps.optimization import OptimizationConfig, Stage, optimize
    from pt3d_largesteps.solvers.base import available_solvers
    from pt3d_largesteps.steps.grids import LargeStepsGrid
    from pt3d_largesteps.steps.meshes import LargeSteps
    from pt3d_largesteps.steps.textures import LargeStepsTexture
    from pt3d_largesteps.surfaces.hull import visual_hull
    from pt3d_largesteps.surfaces.remeshing import Remeshed, remesh
    from pt3d_largesteps.surfaces.untangling import Untangled, untangle
    from pt3d_largesteps.systems.batch import BatchSystem
    from pt3d_largesteps.systems.functions import from_differential, precondition, to_differential

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

_PLACES = {
    "BatchSystem": "systems.batch",
    "GridMatrix": "grids.matrix",
    "LargeSteps": "steps.meshes",
    "LargeStepsAdam": "optim.large_steps_adam",
    "LargeStepsGrid": "steps.grids",
    "LargeStepsTexture": "steps.textures",
    "OptimizationConfig": "optimization",
    "PackedParameter": "optim.packed",
    "Remeshed": "surfaces.remeshing",
    "Stage": "optimization",
    "SystemMatrix": "matrices.system",
    "UniformAdam": "optim.uniform_adam",
    "Untangled": "surfaces.untangling",
    "available_solvers": "solvers.base",
    "combinatorial_laplacian": "matrices.laplacian",
    "compute_matrix": "matrices.of_meshes",
    "cotangent_laplacian": "matrices.laplacian",
    "from_differential": "systems.functions",
    "grid_laplacian": "grids.sparse",
    "grid_system_matrix": "grids.sparse",
    "lambda_from_alpha": "matrices.lambda_alpha",
    "optimize": "optimization",
    "precondition": "systems.functions",
    "remesh": "surfaces.remeshing",
    "replace_parameter": "optim.replacing",
    "to_differential": "systems.functions",
    "untangle": "surfaces.untangling",
    "visual_hull": "surfaces.hull",
}
_SUBPACKAGES = ("compat", "metrics", "optimization", "renderers", "report", "solvers", "uv")


def __getattr__(name: str) -> object:
    if name in _SUBPACKAGES:
        return _imported(name)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(_imported(_PLACES[name]), name)
    return value


def _imported(place: str) -> object:
    with _pytorch3d.required():
        return importlib.import_module(f"{__name__}.{place}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
