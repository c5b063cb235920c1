"""Repair of self-intersecting faces, if they are few.

Source: Botsch, Kobbelt, "An Intuitive Framework for Real-Time Freeform Modeling", ACM TOG 23(3), 2004, Sec. 3: membranes and
    thin plates over a part of a mesh while the rest is fixed. libigl detects intersections exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix, diags, identity
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, describe

_MOST_RINGS = 3  # around a tangle
_MOST_DEPTH = 6  # rings from a vertex to the fixed vertices: larger tangles would lose too much of the shape


@dataclass(frozen=True)
class Untangled:
    """A batch after :func:`untangle`.

    Attributes:
        meshes: ``Meshes`` with the same faces and textures; detached.
        before: (N,) int64, on the CPU, self-intersecting faces of each mesh before the repair.
        after: (N,) the same after the repair; never more.
    """

    meshes: Any
    before: Tensor
    after: Tensor


@torch.no_grad()
def untangle(meshes: Any, *, rounds: int = 10, keep: Tensor | None = None) -> Untangled:
    """Removes small tangles: folds, spikes and noise that make faces of a mesh intersect other faces of it.

    Each round moves the vertices of self-intersecting faces onto the smoothest surface that joins the rest: a thin plate, or a
    membrane if that leaves fewer such faces. A tangle that keeps half of its self-intersecting faces or more is restored. After
    a round without improvement the next one moves one more ring of vertices around them, up to three rings. No other vertex
    moves, and a border is smoothed along itself.

    Large tangles stay: two parts deep in each other, or a tangle of so many faces that smoothing it would destroy the shape.

    Args:
        meshes: ``Meshes``, any batch; empty ones may be among them.
        rounds: maximum number of rounds.
        keep: (V,) bool, packed vertices that never move.

    Returns:
        :class:`Untangled`, on the device and in the dtype of the meshes. It is not differentiable.

    Raises:
        ImportError: libigl is not installed.
        TypeError, ValueError: not ``Meshes``, ``rounds`` that is not a positive integer, positions that are NaN or infinite, a
            mask of a wrong shape.

    Example:
        >>> untangled = untangle(steps())
        >>> untangled.before.tolist(), untangled.after.tolist()
        ([12], [0])
    """
    if not hasattr(meshes, "verts_list"):
        raise TypeError(f"meshes: expected pytorch3d.structures.Meshes, got {describe(meshes)}")
    if isinstance(rounds, bool) or not isinstance(rounds, int):
        raise TypeError(f"rounds: expected an integer of at least 1, got {describe(rounds)}")
    if rounds < 1:
        raise ValueError(f"rounds: expected an integer of at least 1, got {rounds}")
    padded, sizes = meshes.verts_padded(), [len(verts) for verts in meshes.verts_list()]
    check_float_dtype("meshes", padded)
    check_finite("meshes", padded)
    if keep is None:
        keep = torch.zeros(sum(sizes), dtype=torch.bool)
    elif not isinstance(keep, Tensor) or keep.dtype != torch.bool or tuple(keep.shape) != (sum(sizes),):
        raise ValueError(f"keep: expected a mask (bool) of shape ({sum(sizes)},), got {describe(keep)}")
    padded, before, after = padded.detach().clone(), [], []
    for mesh, (faces, kept) in enumerate(zip(meshes.faces_list(), keep.cpu().split(sizes), strict=True)):
        verts = padded[mesh, : sizes[mesh]].cpu().numpy()
        tangles = _Tangles(np.ascontiguousarray(faces.cpu().numpy(), dtype=np.int64), kept.numpy())
        verts, num_before, num_after = tangles.untangle(verts, rounds)
        padded[mesh, : sizes[mesh]] = torch.from_numpy(verts).to(padded.device)
        before.append(num_before)
        after.append(num_after)
    counts = torch.tensor([before, after], dtype=torch.int64)
    return Untangled(meshes.update_padded(padded) if padded.numel() else meshes, *counts)


class _Tangles:
    """One mesh's topology. Positions are (V, 3) in the dtype of the mesh, because intersections are tested as stored."""

    def __init__(self, faces: np.ndarray, kept: np.ndarray) -> None:
        self.faces, self.kept = faces, kept

    def untangle(self, verts: np.ndarray, rounds: int) -> tuple[np.ndarray, int, int]:
        """Positions, and the number of self-intersecting faces before and after."""
        bad = self._intersecting(verts)
        before, rings = int(bad.sum()), 0
        if before:
            self._adjacency, self._umbrella, self._on_border, self._curve = _operators(self.faces, len(verts))
        while bad.any() and rounds and rings <= _MOST_RINGS:
            state = self._round(verts, bad, rings)
            verts, bad = state or (verts, bad)
            rings, rounds = rings + (state is None), rounds - 1
        return verts, before, int(bad.sum())

    def _round(self, verts: np.ndarray, bad: np.ndarray, rings: int) -> tuple[np.ndarray, np.ndarray] | None:
        """A state with fewer self-intersecting faces, if there is one."""
        free = self._free(bad, rings)
        if not len(free):
            return None
        num_tangles, tangle_of_free = connected_components(self._adjacency[free][:, free], directed=False)
        tangle = np.full(len(verts), num_tangles)  # that is: held
        tangle[free] = tangle_of_free
        # The free vertices of a face are neighbours, so they belong to one tangle.
        tangle_of_face = tangle[self.faces].min(axis=1)

        def count(bad: np.ndarray) -> np.ndarray:
            return np.bincount(tangle_of_face[bad], minlength=num_tangles + 1)

        # Each smoothing of two parts deep in each other removes a few such faces, but also their shape: hence the limit of
        # half.
        repaired, fewest = verts.copy(), (count(bad) + 1) // 2
        for fair in (_thin_plate, _membrane):
            candidate = verts.copy()
            candidate[free] = fair(self._umbrella, verts.astype(np.float64), free)
            if np.isfinite(candidate).all():
                counts = count(self._intersecting(candidate))
                better = np.append(counts[:-1] < fewest[:-1], False)[tangle]
                repaired[better] = candidate[better]
                fewest = np.minimum(fewest, counts)
        # Tangles may intersect each other: the best choice for each may not be the best for all.
        still_bad = self._intersecting(repaired)
        return (repaired, still_bad) if still_bad.sum() < bad.sum() else None

    def _free(self, bad: np.ndarray, rings: int) -> np.ndarray:
        """The vertices that may move: those of self-intersecting faces and this many rings around them."""
        chosen = np.zeros(len(self.kept), dtype=bool)
        chosen[self.faces[bad]] = True
        for _ in range(rings):
            chosen |= self._adjacency @ chosen
        chosen &= ~self.kept
        # A curve with few fixed vertices, such as the rim of a hole, would shrink to them.
        free_of_curve = np.bincount(self._curve[chosen], minlength=len(chosen))
        chosen &= ~(self._on_border & (2 * free_of_curve > np.bincount(self._curve, minlength=len(chosen)))[self._curve])
        free = np.flatnonzero(chosen)
        near = np.ones(len(self.kept), dtype=bool)
        near[free] = False
        for _ in range(_MOST_DEPTH):
            near |= self._adjacency @ near
        tangle = connected_components(self._adjacency[free][:, free], directed=False)[1]
        return free[~np.isin(tangle, tangle[~near[free]])]

    def _intersecting(self, verts: np.ndarray) -> np.ndarray:
        """(F,) bool."""
        try:
            from igl.predicates import find_self_intersections
        except ImportError:
            raise ImportError("untangle needs libigl: pip install 'pt3d_largesteps[metrics]'") from None
        bad = np.zeros(len(self.faces), dtype=bool)
        if len(self.faces):
            bad[find_self_intersections(np.ascontiguousarray(verts, dtype=np.float64), self.faces)[1]] = True
        return bad


def _operators(faces: np.ndarray, num_verts: int) -> tuple[csr_matrix, csr_matrix, np.ndarray, np.ndarray]:
    """The neighbours of the vertices, and the matrix I minus the mean of the neighbours; on a border only those along it.

    Also which vertices are on a border or another edge without exactly two faces, and (V,) the curve of each.
    """
    shape = (num_verts, num_verts)
    tails, heads = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    sides = coo_matrix((np.ones(len(tails)), (tails, heads)), shape=shape).tocsr()
    sides = sides + sides.T  # how many faces an edge belongs to
    sides.setdiag(0)  # of faces that repeat a vertex
    sides.eliminate_zeros()
    adjacency, border = sides.astype(bool), sides.copy()
    border.data = (border.data != 2).astype(float)
    border.eliminate_zeros()
    on_border = border.getnnz(axis=1) > 0
    neighbors = (border + diags((~on_border).astype(float)) @ adjacency).tocsr()  # no vertex has entries in both
    neighbors.eliminate_zeros()
    mean = diags(1 / np.maximum(neighbors.getnnz(axis=1), 1)) @ neighbors
    return adjacency, (identity(num_verts) - mean).tocsr(), on_border, connected_components(border, directed=False)[1]


def _membrane(umbrella: csr_matrix, verts: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The membrane: each free vertex at the mean of its neighbours."""
    return verts[free] - _solve(umbrella[free][:, free], umbrella[free] @ verts)


def _thin_plate(umbrella: csr_matrix, verts: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The thin plate: the least sum, over all vertices, of squared distances to the means of their neighbours."""
    columns = umbrella[:, free]
    return verts[free] - _solve(columns.T @ columns, columns.T @ (umbrella @ verts))


def _solve(matrix: csr_matrix, rhs: np.ndarray) -> np.ndarray:
    return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(rhs)
