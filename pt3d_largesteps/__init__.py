"""Large steps in inverse rendering of geometry, for PyTorch3D.

    from pt3d_largesteps import LargeSteps, UniformAdam

    steps = LargeSteps(meshes, lambda_=19.0)
    optimizer = UniformAdam(steps.parameters(), lr=3e-2)
    loss = any_loss(steps())            # steps() is a Meshes

The renderers are in ``pt3d_largesteps.renderers``, the solvers in ``pt3d_largesteps.solvers``, and the measures of a
result in ``pt3d_largesteps.metrics``.
"""

try:
    import pytorch3d as _pytorch3d  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pt3d_largesteps needs PyTorch3D, which is not installed here: see"
        " https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md, or take a prebuilt wheel that fits your torch,"
        ' such as "pip install torch==2.11.0 easypytorch3d==0.7.9.post1"'
    ) from error

from pt3d_largesteps._version import __version__
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
from pt3d_largesteps.untangling import Untangled, untangle
from pt3d_largesteps.visual_hull import visual_hull

__all__ = [
    "BatchSystem",
    "GridMatrix",
    "LargeSteps",
    "LargeStepsAdam",
    "LargeStepsGrid",
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
