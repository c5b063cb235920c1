"""Manifold triangles for a remesher, and the repairs that make a mesh manifold without changing the surface."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def clean(faces: np.ndarray, num_verts: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces and vertices of a manifold with the same surface, if its edges permit one.

    Faces that repeat a vertex or another face are removed, and so are unused vertices; a vertex in which several fans of faces
    meet is split into one per fan.

    Args:
        faces: (F, 3) integers in [0, num_verts).

    Returns:
        faces (F', 3) of the new vertices, and (V',) int64, the old vertex of each new one.

    Raises:
        ValueError: an edge of three faces or more, or neighbours of opposite orientation.
    """
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[distinct].astype(np.int64)
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[np.sort(first)]
    if not len(faces):
        return faces, np.empty(0, dtype=np.int64)
    tails, heads = faces.ravel(), np.roll(faces, -1, axis=1).ravel()  # half-edge 3 f + k leaves corner k of face f
    undirected = np.minimum(tails, heads) * num_verts + np.maximum(tails, heads)
    order = np.argsort(undirected, kind="stable")
    _, starts, counts = np.unique(undirected[order], return_index=True, return_counts=True)
    if (counts > 2).any():
        edge = order[starts[np.argmax(counts)]]
        raise ValueError(
            f"{int((counts > 2).sum())} of its edges belong to more than two faces, such as that of the vertices"
            f" {tails[edge]} and {heads[edge]}"
        )
    one, two = (order[starts[counts == 2] + side] for side in (0, 1))
    if (tails[one] == tails[two]).any():
        raise ValueError(f"{int((tails[one] == tails[two]).sum())} of its edges have faces of opposite orientation")
    # Faces on both sides of an edge share its two vertices; faces not joined that way belong to another fan.
    corners, opposite = np.concatenate([one, _next(one)]), np.concatenate([_next(two), two])
    joined = coo_matrix((np.ones(len(corners), dtype=bool), (corners, opposite)), shape=(faces.size, faces.size))
    fan = connected_components(joined, directed=False)[1]
    old_verts = np.empty(fan.max() + 1, dtype=np.int64)
    old_verts[fan] = tails
    by_old = np.argsort(old_verts, kind="stable")  # in the order in which they were given
    new_from_fan = np.empty_like(by_old)
    new_from_fan[by_old] = np.arange(len(by_old))
    return new_from_fan[fan].reshape(-1, 3), old_verts[by_old]


def _next(corners: np.ndarray) -> np.ndarray:
    """The following corner of the same face."""
    return corners - corners % 3 + (corners + 1) % 3
