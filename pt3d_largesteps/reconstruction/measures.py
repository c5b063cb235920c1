"""The measures of a reconstruction, as a flat dictionary and as a table."""

from __future__ import annotations

from typing import Any

import torch
from pytorch3d.structures import Meshes

from pt3d_largesteps.metrics import (
    SurfaceDistance,
    flipped_faces,
    intersection_over_union,
    self_intersecting_faces,
    surface_distance,
)
from pt3d_largesteps.reconstruction.optimization import Run
from pt3d_largesteps.reconstruction.settings import Settings
from pt3d_largesteps.reconstruction.views import fibonacci_cameras
from pt3d_largesteps.renderers import PyTorch3DRenderer

SAMPLINGS = 8
HELD_OUT_VIEWS = 16
HELD_OUT_RESOLUTION = 256
HELD_OUT_TURN = 1.0  # radians; so no held-out camera equals a given one

_LABELS = {
    "method": "method",
    "steps": "steps",
    "vertices": "vertices",
    "faces": "faces",
    "chamfer": "chamfer distance (both ways)",
    "chamfer_result_to_target": "  result to target",
    "chamfer_target_to_result": "  target to result",
    "chamfer_noise": "  target to itself (sampling noise)",
    "chamfer_over_noise": "  chamfer / noise",
    "normal_consistency": "normal consistency",
    "normal_consistency_noise": "  target to itself",
    "iou": f"IoU of silhouettes, {HELD_OUT_VIEWS} held-out views",
    "self_intersecting_percent": "self-intersecting faces (%)",
    "repaired_faces": "  faces repaired",
    "flipped_percent": "flipped faces (%)",
    "final_loss": "loss, all given views",
    "seconds_total": "seconds, all of it",
    "seconds_per_step": "seconds per step",
    "seconds_per_step_solve": "  solve",
    "seconds_per_step_render": "  render and loss",
    "seconds_per_step_optimizer": "  optimiser",
    "seconds_remesh": "seconds, remeshing",
    "seconds_start": "seconds, pictures and start",
}


@torch.no_grad()
def measure(run: Run, target: Meshes, settings: Settings) -> dict[str, Any]:
    """Distances are squared, in units of the target's bounding sphere; means over ``SAMPLINGS`` of 10,000 points on each.

    A single sampling has a noise of 1 %.
    """
    result = run.meshes
    distance, noise = _mean_distance(result, target), _mean_distance(target, target)
    cameras = fibonacci_cameras(HELD_OUT_VIEWS, settings.device, turn=HELD_OUT_TURN)
    silhouettes = PyTorch3DRenderer(HELD_OUT_RESOLUTION)
    iou = intersection_over_union(silhouettes(result, cameras), silhouettes(target, cameras)).mean()
    steps = len(run.history.losses)
    seconds = run.seconds
    in_steps = seconds["solve"] + seconds["render"] + seconds["optimizer"]
    return {
        "method": settings.method + (f", reg {settings.reg:g}" if settings.method == "laplacian" else ""),
        "steps": steps,
        "vertices": int(result.num_verts_per_mesh()[0]),
        "faces": int(result.num_faces_per_mesh()[0]),
        "chamfer": distance.chamfer,
        "chamfer_result_to_target": distance.forward,
        "chamfer_target_to_result": distance.backward,
        "chamfer_noise": noise.chamfer,
        "chamfer_over_noise": distance.chamfer / noise.chamfer,
        "normal_consistency": distance.normal_consistency,
        "normal_consistency_noise": noise.normal_consistency,
        "iou": float(iou),
        "self_intersecting_percent": 100 * float(self_intersecting_faces(result)[0]),
        "repaired_faces": run.repaired,
        "flipped_percent": 100 * float(flipped_faces(result, target)[0]),
        "final_loss": run.loss,
        "seconds_total": in_steps + seconds["remesh"] + seconds["start"],
        "seconds_per_step": in_steps / max(run.timed_steps, 1),
        "seconds_per_step_solve": seconds["solve"] / max(run.timed_steps, 1),
        "seconds_per_step_render": seconds["render"] / max(run.timed_steps, 1),
        "seconds_per_step_optimizer": seconds["optimizer"] / max(run.timed_steps, 1),
        "seconds_remesh": seconds["remesh"],
        "seconds_start": seconds["start"],
        "interrupted": run.interrupted,
    }


def _mean_distance(meshes: Meshes, reference: Meshes) -> SurfaceDistance:
    samplings = [surface_distance(meshes, reference, seed=seed) for seed in range(SAMPLINGS)]
    names = ("forward", "backward", "normal_consistency")
    return SurfaceDistance(*(sum(getattr(one, name) for one in samplings) / SAMPLINGS for name in names))


def labelled(measures: dict[str, Any]) -> dict[str, Any]:
    """The numbers, by their names in words."""
    return {label: measures[key] for key, label in _LABELS.items()}


def table(measures: dict[str, Any]) -> str:
    """One line per number."""
    rows = labelled(measures).items()
    return "\n".join(f"{label:<40} {f'{value:.4g}' if isinstance(value, float) else value}" for label, value in rows)
