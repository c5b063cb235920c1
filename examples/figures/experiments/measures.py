"""The numbers that the tables of the experiments have of each run."""

from __future__ import annotations

from typing import Any

from pytorch3d.structures import Meshes

from experiments.descent import Descent
from pt3d_largesteps.metrics import flipped_faces, hausdorff_distance, self_intersecting_faces, surface_distance


def measures(descent: Descent, target: Meshes, step: int | None = None) -> dict[str, Any]:
    """Of a recorded shape, the last one unless a step is given; distances in units of the target's bounding sphere."""
    step = max(descent.shapes) if step is None else step
    shape, target = descent.shapes[step], target.cpu()
    distance, noise = surface_distance(shape, target), surface_distance(target, target)
    hausdorff = hausdorff_distance(shape, target)
    return {
        "method": descent.recipe.label,
        "steps": step,
        "seconds": round(descent.seconds[step], 1),
        "vertices": len(shape.verts_packed()),
        "image loss": descent.losses[step],
        "chamfer / noise": distance.chamfer / noise.chamfer,
        "Hausdorff to target": hausdorff.forward,
        "Hausdorff from target": hausdorff.backward,
        "normals": distance.normal_consistency,
        "self-intersecting %": 100 * float(self_intersecting_faces(shape)[0]),
        "flipped %": 100 * float(flipped_faces(shape, target)[0]),
    }
