"""Solves once with the installed wheel, where there need be no PyTorch3D: prints a line, or fails.

    python tools/check_wheel.py

With torch 2.11 or newer the solve is to be that of the compiled operators; with an older one, which cannot load them, that of
plain torch, after a warning.

Run it from a folder without a checkout of the sources.
"""

import importlib.metadata
import platform
import sys
import warnings

import torch

from pt3d_largesteps import compute_matrix, from_differential, to_differential
from pt3d_largesteps.native import library


def main() -> None:
    wanted = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 11)
    if wanted and not library.is_compiled():
        sys.exit(f"the compiled operators are not loaded: {library.WHY_NOT}")
    solver = "compiled" if library.is_compiled() else "plain"
    rows, columns = 100, 50  # a sheet of triangles
    corners = (columns * torch.arange(rows - 1)[:, None] + torch.arange(columns - 1)).reshape(-1, 1)
    faces = torch.cat([corners + torch.tensor([0, 1, columns]), corners + torch.tensor([1, columns + 1, columns])])
    verts = torch.rand(rows * columns, 3, dtype=torch.float64, requires_grad=True)
    matrix = compute_matrix(verts.detach(), faces, lambda_=19.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = from_differential(matrix, to_differential(matrix, verts), solver="cholesky")
    warned = any("the compiled code is not here" in str(warning.message) for warning in caught)
    if warned == library.is_compiled():
        sys.exit(f"the solver is {solver}, and there is {'a' if warned else 'no'} warning that it is not compiled")
    error = float((back - verts).detach().abs().max())
    (gradient,) = torch.autograd.grad(back.square().sum(), verts)
    gradient_error = float((gradient - 2 * verts).detach().abs().max())
    if not max(error, gradient_error) < 1e-9:
        sys.exit(f"the solve is off by {error:.1e}, its gradient by {gradient_error:.1e}")
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"pt3d_largesteps {importlib.metadata.version('pt3d_largesteps')}: "
        f"{solver} solve of {len(verts):,} vertices off by {error:.1e}, its gradient by {gradient_error:.1e}"
    )


if __name__ == "__main__":
    main()
