"""The edge graph of triangles. It is found once per topology; its weights are computed again whenever the surface moves.

Everything here takes one mesh (or one packed batch), or several copies of one topology with different positions:
positions (..., V, 3) give weights (..., E), and those give values (..., nnz).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite


class FaceGraph:
    """The edges of packed faces (F, 3). Each edge counts once, even if many faces share it. Self-edges are left out.

    Attributes:
        edges: (E, 2) int64, i < j, in lexicographic order.
        faces: (F, 3) int64.
    """

    def __init__(self, faces: Tensor, num_verts: int) -> None:
        self.faces = faces
        opposite = torch.stack([faces.roll(-1, 1), faces.roll(1, 1)], dim=2).reshape(-1, 2)  # (3F, 2), of each corner
        self._has_edge = opposite[:, 0] != opposite[:, 1]
        low, high = opposite[self._has_edge].aminmax(dim=1)
        keys, self._edge_of_corner = torch.unique(low * num_verts + high, return_inverse=True)
        divisor = max(num_verts, 1)
        self.edges = torch.stack([keys // divisor, keys % divisor], dim=1)

    def to(self, device: torch.device) -> FaceGraph:
        """The same graph on another device."""
        graph = copy.copy(self)
        for name in ("faces", "edges", "_has_edge", "_edge_of_corner"):
            setattr(graph, name, getattr(self, name).to(device))
        return graph

    def combinatorial_weights(self, verts: Tensor) -> Tensor:
        """(E,) ones, of the dtype of the positions. The positions themselves do not matter."""
        return verts.new_ones(self.edges.shape[0])

    def cotangent_weights(self, verts: Tensor) -> Tensor:
        """(..., E) weights (cot a + cot b) / 2 at the positions (..., V, 3); differentiable in the positions."""
        check_finite("verts", verts.detach())
        half_cot = half_cotangents(verts, self.faces).flatten(-2)[..., self._has_edge]
        weights = half_cot.new_zeros(*half_cot.shape[:-1], self.edges.shape[0])
        return weights.index_add(-1, self._edge_of_corner, half_cot).to(verts.dtype)


def half_cotangents(verts: Tensor, faces: Tensor) -> Tensor:
    """(..., F, 3), half the cotangent of the angle at each corner; bounded where the area of a face vanishes."""
    work_dtype = torch.promote_types(verts.dtype, torch.float32)  # half precision has too few digits for the angles
    corners = verts.to(work_dtype)[..., faces, :]  # (..., F, 3, 3)
    to_next = corners.roll(-1, -2) - corners  # from corner k to corner k + 1
    to_previous = corners.roll(1, -2) - corners
    # Cotangents do not depend on scale, so each face is divided by its extent: coordinates of 1e30 or 1e-30 are safe.
    extent = to_next.detach().abs().amax((-2, -1), keepdim=True)
    extent = torch.where(extent > 0, extent, 1)
    to_next, to_previous = to_next / extent, to_previous / extent
    dot = (to_next * to_previous).sum(-1)  # (..., F, 3)
    cross = torch.linalg.cross(to_next[..., 0, :], to_previous[..., 0, :])
    squared_area = (cross**2).sum(-1, keepdim=True)  # (..., F, 1), of the doubled area
    has_area = squared_area > 0  # the square root has no derivative at zero
    double_area = torch.where(has_area, squared_area, 1).sqrt() * has_area
    longest = (to_next**2).sum(-1).amax(-1, keepdim=True)
    floor = torch.where(longest > 0, torch.finfo(work_dtype).eps ** 0.5 * longest, 1)
    return 0.5 * dot / torch.maximum(double_area, floor)
