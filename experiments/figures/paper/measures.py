"""The measures of each run in the tables of the experiments."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from pytorch3d.structures import Meshes

from paper.descent import Descent
from pt3d_largesteps.metrics import flipped_faces, hausdorff_distance, self_intersecting_faces, surface_distance


def measures(descent: Descent, target: Meshes, step: int | None = None) -> dict[str, Any]:
    """Of a recorded shape, the last one unless a step is given; distances in units of the target's bounding sphere.

    Measures that need libigl are NaN without it.
    """
    step = descent.last_step(step)
    shape, target = descent.shapes[step], target.cpu()
    distance, noise = surface_distance(shape, target), surface_distance(target, target)
    to_target = from_target = intersecting = flipped = math.nan
    if importlib.util.find_spec("igl") is not None:
        hausdorff = hausdorff_distance(shape, target)
        to_target, from_target = hausdorff.forward, hausdorff.backward
        intersecting, flipped = float(self_intersecting_faces(shape)[0]), float(flipped_faces(shape, target)[0])
    return {
        "method": descent.recipe.label,
        "steps": step,
        "seconds": round(descent.seconds[step], 1),
        "vertices": len(shape.verts_packed()),
        "image loss": descent.losses[step],
        "chamfer / noise": distance.chamfer / noise.chamfer,
        "Hausdorff to target": to_target,
        "Hausdorff from target": from_target,
        "normals": distance.normal_consistency,
        "self-intersecting %": 100 * intersecting,
        "flipped %": 100 * flipped,
    }
