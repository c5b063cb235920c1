"""Target meshes from files, checked and scaled into the unit ball."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch3d.io import load_obj, load_ply
from pytorch3d.structures import Meshes


class TargetError(ValueError):
    """A file that cannot be used as a target; the message is one sentence."""


def load_target(path: str | Path) -> Meshes:
    """The mesh of an OBJ or PLY file, or of any other format that trimesh reads; polygons become triangles.

    Raises:
        TargetError: the file is missing, unreadable, has no faces, or coordinates that are NaN or infinite.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is not a regular file" if path.exists() else "does not exist"
        raise TargetError(f"target: expected a mesh file, got {path}, which {reason}")
    readers = {".obj": (_read_obj, _read_trimesh), ".ply": (_read_ply, _read_trimesh)}
    reasons = []
    for reader in readers.get(path.suffix.lower(), (_read_trimesh,)):
        try:
            verts, faces = reader(path)
            break
        except Exception as error:  # every reader has its own exceptions; all mean that the file cannot be read
            reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
    else:
        raise TargetError(f"target: expected a mesh file, got {path}, which cannot be read ({'; '.join(reasons)})")
    return checked_target(verts, faces, str(path))


def checked_target(verts: torch.Tensor, faces: torch.Tensor, name: str) -> Meshes:
    """One ``Meshes`` with only the vertices that faces use."""
    if len(faces) == 0 or len(verts) == 0:
        raise TargetError(f"target: expected a surface, got {name}, which has no faces ({len(verts)} vertices)")
    if int(faces.min()) < 0 or int(faces.max()) >= len(verts):
        raise TargetError(f"target: expected face indices in [0, {len(verts)}), got others in {name}")
    used, faces = torch.unique(faces, return_inverse=True)
    verts = verts[used].double()
    if not bool(torch.isfinite(verts).all()):
        raise TargetError(f"target: expected finite coordinates, got NaN or infinity in {name}")
    if float((verts.amax(0) - verts.amin(0)).max()) == 0:
        raise TargetError(f"target: expected a surface, got {name}, all of whose vertices coincide")
    meshes = Meshes(verts=[_in_unit_ball(verts).float()], faces=[faces.view(-1, 3)])
    if float(meshes.faces_areas_packed().sum()) < 1e-6:
        raise TargetError(f"target: expected a surface, got {name}, whose faces have no area")
    return meshes


def into_unit_ball(meshes: Meshes) -> Meshes:
    """One mesh, centred on its bounding box and scaled so that the farthest vertex has distance 1."""
    return Meshes(verts=[_in_unit_ball(meshes.verts_packed().double()).float()], faces=[meshes.faces_packed()])


def _in_unit_ball(verts: torch.Tensor) -> torch.Tensor:
    """In float64, and scaled before squaring, so that coordinates of 1e30 do not overflow."""
    verts = verts / verts.abs().max()
    verts = verts - (verts.amax(0) + verts.amin(0)) / 2
    return verts / verts.norm(dim=1).max()


def _read_obj(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    verts, faces, _ = load_obj(path, load_textures=False)
    return verts, faces.verts_idx


def _read_ply(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with path.open("rb") as file:
        if b"end_header" not in file.read(1 << 20):  # PyTorch3D's reader would search for it forever
            raise ValueError("its header has no end")
    verts, faces = load_ply(path)
    return verts, faces


def _read_trimesh(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    import trimesh

    mesh: Any = trimesh.load(path, force="mesh", process=False)
    return torch.as_tensor(mesh.vertices.copy()), torch.as_tensor(mesh.faces.copy()).to(torch.int64)
