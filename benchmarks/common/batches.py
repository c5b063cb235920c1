"""Batches of meshes to measure with: of one topology, of eight in turn, or of many sizes."""

from __future__ import annotations

from itertools import cycle, islice

from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere, torus

# Of about as many vertices as the icosphere of that level: the level, and the sides and rings of the tori.
SIZES = {
    642: (3, [(20, 32), (32, 20), (25, 26), (26, 25), (16, 40), (40, 16), (30, 21)]),
    2562: (4, [(40, 64), (64, 40), (51, 50), (50, 51), (32, 80), (80, 32), (60, 43)]),
}


def make_batch(num_verts: int, number: int, *, mixed: bool) -> list[Meshes]:
    """So many meshes of one topology, or of eight in turn."""
    level, tori = SIZES[num_verts]
    kinds = [ico_sphere(level)]
    if mixed:
        kinds += [torus(0.3, 1.0, sides, rings) for sides, rings in tori]
    return list(islice(cycle(kinds), number))


def ragged_batch(number: int) -> list[Meshes]:
    """So many meshes of 162 to 10,242 vertices, in turn; no two neighbours are of one size."""
    spheres = [ico_sphere(level) for level in (4, 2, 5, 3)]
    tori = [torus(0.3, 1.0, sides, rings) for sides, rings in ((30, 40), (12, 20), (50, 80), (20, 30))]
    kinds = [mesh for both in zip(spheres, tori, strict=True) for mesh in both]
    return list(islice(cycle(kinds), number))
