"""The shapes of the experiments: files if there are any, else generated shapes."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from pt3d_largesteps.reconstruction.loading import TargetError, into_unit_ball, load_target
from pt3d_largesteps.reconstruction.shapes import SHAPES

MESHES = "PT3D_LARGESTEPS_MESHES"  # the variable that names a folder of OBJ files
SPHERE_RADIUS = 0.9

# The generated shape that replaces each missing file
_STAND_INS = {"armadillo": "animal", "bunny": "star", "cow": "animal", "nefertiti": "star", "spot": "hand", "suzanne": "hand"}


# Where they are looked at from in the figures, in degrees around the vertical axis; and what lies on its back in its file
_AZIMUTHS = {"animal": 25.0, "armadillo": 20.0, "bunny": 0.0, "cow": 30.0, "nefertiti": 40.0, "spot": 140.0, "suzanne": 25.0}
_Z_UP = ("nefertiti",)


@lru_cache(maxsize=8)
def load(name: str) -> Meshes:
    """A mesh in the unit ball.

    Args:
        name: a file; "sphere"; a shape made in code; or the name of an OBJ file in the folder that the environment variable
            PT3D_LARGESTEPS_MESHES names, which a generated shape replaces if it is absent.

    Raises:
        TargetError: no such shape, or a file that cannot be used.
    """
    found = resolved(name)
    if found == "sphere":
        return ico_sphere(5).scale_verts(SPHERE_RADIUS)
    meshes = into_unit_ball(SHAPES[found]()) if found in SHAPES else load_target(found)
    if label(name) in _Z_UP:
        x, y, z = meshes.verts_packed().unbind(1)
        meshes = Meshes([torch.stack([x, z, -y], dim=1)], meshes.faces_list())
    return meshes


def portrait_camera(name: str) -> FoVPerspectiveCameras:
    """That the figures look through; the unit ball fills its picture."""
    rotation, translation = look_at_view_transform(2.7, elev=15.0, azim=_AZIMUTHS.get(label(name), 30.0))
    return FoVPerspectiveCameras(R=rotation, T=translation, fov=43.0, znear=0.1)


def resolved(name: str) -> str:
    """The file or the shape made in code that :func:`load` takes."""
    if name == "sphere" or name in SHAPES or Path(name).suffix:
        return name
    folder = os.environ.get(MESHES)
    if folder and (path := Path(folder) / f"{name}.obj").is_file():
        return str(path)
    if name not in _STAND_INS:
        raise TargetError(f"target: expected a mesh file or one of {sorted([*SHAPES, *_STAND_INS, 'sphere'])}, got {name}")
    return _STAND_INS[name]


def label(name: str) -> str:
    """For pictures: without folders."""
    found = resolved(name)
    return Path(found).stem if Path(found).suffix else found
