"""Small analytic shapes, and the real ones where they lie beside the project."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from pytorch3d.io import load_obj
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "meshes"


def real_mesh(name: str) -> Meshes:
    """A mesh of the folder ``PT3D_LARGESTEPS_MESHES``, or of ../shared/meshes; skips the test where it is absent."""
    path = Path(os.environ.get("PT3D_LARGESTEPS_MESHES", _BESIDE)) / f"{name}.obj"
    if not path.is_file():
        pytest.skip(f"{name}.obj is not here")
    verts, faces, _ = load_obj(path, load_textures=False)
    return Meshes([verts], [faces.verts_idx])


def grid(rows: int = 5, cols: int = 4) -> Meshes:
    """A flat open patch of right triangles with legs of length 1; it has a boundary."""
    index = torch.arange(rows * cols).view(rows, cols)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.cat([torch.stack([a, c, b], -1).view(-1, 3), torch.stack([b, c, d], -1).view(-1, 3)])
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    verts = torch.stack([x, y, torch.zeros_like(x)], dim=-1).view(-1, 3).float()
    return Meshes([verts], [faces])


def book() -> Meshes:
    """Three triangles that share one edge: not manifold."""
    angles = torch.tensor([0.0, 2.0, 4.0])
    pages = torch.stack([angles.cos(), angles.sin(), torch.full((3,), 0.5)], dim=1)
    verts = torch.cat([torch.tensor([[0.0, 0, 0], [0.0, 0, 1]]), pages])
    return Meshes([verts], [torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]])])


def with_isolated_vertices() -> Meshes:
    """A tetrahedron between two vertices that no face uses."""
    verts = torch.tensor([[9.0, 9, 9], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [8, 8, 8]])
    return Meshes([verts], [torch.tensor([[1, 2, 3], [1, 3, 4], [1, 4, 2], [2, 4, 3]])])


def with_degenerate_faces() -> Meshes:
    """A square of two triangles, and one face each that repeats a vertex, is a line, and is a point."""
    verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [0, 0, 0], [0, 0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [1, 1, 4], [0, 1, 4], [0, 5, 6]])
    return Meshes([verts], [faces])


def empty() -> Meshes:
    return Meshes([torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.int64)])


def shapes() -> dict[str, Meshes]:
    """Every kind of mesh that the Laplacians must take."""
    return {
        "sphere": ico_sphere(2),
        "torus": torus(0.3, 1.0, 12, 20),
        "boundary": grid(),
        "not_manifold": book(),
        "isolated": with_isolated_vertices(),
        "degenerate": with_degenerate_faces(),
        "two_components": join([ico_sphere(0), torus(0.3, 1.0, 5, 7)]),
        "ragged": ragged(),
        "ragged_with_empty": join_meshes_as_batch([ico_sphere(1), empty(), grid()]),
        "empty": empty(),
    }


def ragged() -> Meshes:
    return join_meshes_as_batch([ico_sphere(1), torus(0.3, 1.0, 6, 9), grid()])


def join(parts: list[Meshes]) -> Meshes:
    """One mesh of several components."""
    verts, faces, offset = [], [], 0
    for part in parts:
        verts.append(part.verts_packed())
        faces.append(part.faces_packed() + offset)
        offset += len(verts[-1])
    return Meshes([torch.cat(verts)], [torch.cat(faces)])


def equilateral_triangle() -> Meshes:
    verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, math.sqrt(3) / 2, 0]])
    return Meshes([verts], [torch.tensor([[0, 1, 2]])])
