"""Meshes as stored in the page: numbers in base64, triangles once for all frames that share them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pt3d_largesteps._checks import describe

PRECISIONS = ("uint16", "float32")


def verts_and_faces(name: str, meshes: Any) -> tuple[Tensor, Tensor]:
    """Packed vertices (float64) and faces of ``Meshes``, recognised by their methods, or of a pair (verts, faces), on the CPU.

    Raises:
        TypeError, ValueError: it is neither, or not finite, or a face index is out of range.
    """
    if hasattr(meshes, "verts_packed") and hasattr(meshes, "faces_packed"):
        verts, faces = meshes.verts_packed(), meshes.faces_packed()
    elif isinstance(meshes, tuple) and len(meshes) == 2 and all(isinstance(part, Tensor) for part in meshes):
        verts, faces = meshes
    else:
        raise TypeError(f"{name}: expected Meshes or a tuple (verts, faces) of tensors, got {describe(meshes)}")
    verts, faces = verts.detach().cpu(), faces.detach().cpu()
    if verts.dim() != 2 or verts.shape[1] != 3 or not verts.is_floating_point() or len(verts) == 0:
        raise ValueError(f"{name}: expected vertices (V, 3) of floating point, at least one, got {describe(verts)}")
    if faces.dim() != 2 or faces.shape[1] != 3 or faces.is_floating_point() or len(faces) == 0:
        raise ValueError(f"{name}: expected faces (F, 3) of integers, at least one, got {describe(faces)}")
    if not torch.isfinite(verts).all():
        raise ValueError(f"{name}: expected finite vertices, got NaN or infinity")
    if faces.min() < 0 or faces.max() >= len(verts):
        raise ValueError(
            f"{name}: expected faces of vertices 0 to {len(verts) - 1}, got {int(faces.min())} to {int(faces.max())}"
        )
    return verts.double(), faces


def pack_positions(verts: Tensor, precision: str) -> dict[str, Any]:
    """Vertices in float32, or in 65,536 steps along each side of their bounding box: an error of at most 8e-6 of it."""
    if precision == "float32":
        return {"data": _base64(verts.numpy().astype("<f4"))}
    low = verts.amin(0)
    size = (verts.amax(0) - low).clamp(min=torch.finfo(torch.float32).tiny)
    steps = ((verts - low) / size * 65535).round().numpy().astype("<u2")
    return {"data": _base64(steps), "low": low.tolist(), "size": size.tolist()}


def pack_faces(faces: Tensor, num_verts: int) -> dict[str, Any]:
    """Faces in the smallest integers that browsers have."""
    wide = num_verts > 65535
    return {
        "data": _base64(faces.numpy().astype("<u4" if wide else "<u2")),
        "wide": wide,
        "vertices": num_verts,
        "faces": len(faces),
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
