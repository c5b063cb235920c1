"""Moves the parameterisation and its optimiser to other triangles of the same surface.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 4.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import describe
from pt3d_largesteps.optim.replacing import replace_parameter
from pt3d_largesteps.surfaces.remeshing import Remeshed, remesh


@torch.no_grad()
def remeshed_steps(steps: Any, optimizer: torch.optim.Optimizer | None, moments: str, options: dict[str, Any]) -> Any:
    """See :meth:`pt3d_largesteps.LargeSteps.remeshed`."""
    if steps.laplacian == "given":
        raise ValueError("laplacian: expected one by name; your own matrix belongs to the old faces")
    if moments not in ("reset", "interpolate"):
        raise ValueError(f"moments: expected 'reset' or 'interpolate', got {describe(moments)}")
    if "keep" in options:
        raise TypeError("keep: expected no mask here; pinned vertices are kept instead")
    remeshing = remesh(steps().detach(), keep=steps.pinned, **options)
    result = type(steps)(
        remeshing.meshes,
        _on_new_verts(steps.lambda_, steps, remeshing),
        alpha=_on_new_verts(steps.alpha, steps, remeshing),
        laplacian=steps.laplacian,
        solver=steps.system.solver,
        pinned=None if steps.pinned is None else remeshing.kept,
    )
    result.remeshing = remeshing
    if optimizer is not None:
        transfer = remeshing.transfer if moments == "interpolate" else None
        for name in ("u", "lambda_", "alpha"):
            old, new = getattr(steps, name), getattr(result, name)
            if isinstance(new, nn.Parameter) and new is not old:
                replace_parameter(optimizer, old, new, transfer)
    return result


def _on_new_verts(strength: Any, steps: Any, remeshing: Remeshed) -> Any:
    """lambda or alpha for the new mesh; interpolated if it is one per vertex."""
    if not isinstance(strength, Tensor) or strength.numel() in (1, len(steps.system.num_verts_per_mesh)):
        return strength
    values = remeshing.transfer(strength.detach())
    return nn.Parameter(values) if isinstance(strength, nn.Parameter) else values
