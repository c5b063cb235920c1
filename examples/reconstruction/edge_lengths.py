"""The length that a run measures its steps by."""

from __future__ import annotations

from pytorch3d.structures import Meshes


def mean_edge_length(meshes: Meshes) -> float:
    """Over all edges of the batch."""
    verts, edges = meshes.verts_packed().detach(), meshes.edges_packed()
    return float((verts[edges[:, 0]] - verts[edges[:, 1]]).norm(dim=1).mean())
