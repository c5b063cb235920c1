"""The mean edge length, the unit of step sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def mean_edge_lengths(meshes: Any) -> Tensor:
    """(N,), the mean edge length of each mesh, each edge counted once; 0 for a mesh without edges.

    Example:
        >>> optimizer.param_groups[0]["lr"] = 0.5 * mean_edge_lengths(meshes)
    """
    verts = meshes.verts_packed().detach()
    sums = counts = verts.new_zeros(len(meshes))
    if not meshes.isempty():
        edges = meshes.edges_packed()
        lengths = (verts[edges[:, 0]] - verts[edges[:, 1]]).norm(dim=1)
        mesh = meshes.edges_packed_to_mesh_idx()
        sums, counts = sums.index_add(0, mesh, lengths), counts.index_add(0, mesh, torch.ones_like(lengths))
    return sums / counts.clamp_min(1)
