"""The names of the ``largesteps`` package, version 0.2.2, implemented by this package: only the imports change.

    from largesteps.geometry import compute_matrix                         # before
    from largesteps.parameterize import from_differential, to_differential
    from largesteps.optimize import AdamUniform

    from pt3d_largesteps.compat.geometry import compute_matrix             # after
    from pt3d_largesteps.compat.parameterize import from_differential, to_differential
    from pt3d_largesteps.compat.optimize import AdamUniform

Names, signatures, defaults and scales are those of the original; matrices are sparse tensors. It runs on every device and in
float32 and float64, and errors name the bad argument. docs/migrating.md lists the differences.

Source of the interface: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, and its
released code, https://github.com/rgl-epfl/large-steps-pytorch.
"""

from pt3d_largesteps.compat.geometry import compute_matrix, laplacian_cot, laplacian_uniform
from pt3d_largesteps.compat.optimize import AdamUniform
from pt3d_largesteps.compat.parameterize import from_differential, to_differential
from pt3d_largesteps.compat.solvers import CholeskySolver, ConjugateGradientSolver, DifferentiableSolve, Solver, solve

__all__ = [
    "AdamUniform",
    "CholeskySolver",
    "ConjugateGradientSolver",
    "DifferentiableSolve",
    "Solver",
    "compute_matrix",
    "from_differential",
    "laplacian_cot",
    "laplacian_uniform",
    "solve",
    "to_differential",
]
