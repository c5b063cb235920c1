"""Remeshing between steps: as the shape takes form, its triangles become small and even again."""

from __future__ import annotations

import math

import gpytoolbox
import torch
from pytorch3d.structures import Meshes


def mean_edge_length(meshes: Meshes) -> float:
    """Over all edges of the batch."""
    verts, edges = meshes.verts_packed().detach(), meshes.edges_packed()
    return float((verts[edges[:, 0]] - verts[edges[:, 1]]).norm(dim=1).mean())


def remesh(meshes: Meshes, num_verts: int) -> Meshes:
    """Isotropic remeshing of one closed mesh to about ``num_verts`` vertices, projected onto the given surface.

    Reference: Botsch, Kobbelt, "A Remeshing Approach to Multiresolution Modeling", SGP 2004.
    """
    area = float(meshes.faces_areas_packed().detach().sum())
    edge_length = math.sqrt(2 * area / (math.sqrt(3) * num_verts))  # of equilateral triangles, two for each vertex
    verts, faces = gpytoolbox.remesh_botsch(
        meshes.verts_packed().detach().cpu().double().numpy(), meshes.faces_packed().cpu().numpy(), i=5, h=edge_length
    )
    device = meshes.device
    return Meshes(
        verts=[torch.as_tensor(verts, dtype=torch.float32, device=device)],
        faces=[torch.as_tensor(faces, dtype=torch.int64, device=device)],
    )
