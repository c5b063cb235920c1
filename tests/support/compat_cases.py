"""Matrices as the ``largesteps`` package builds them, of small meshes."""

import pytest
import torch
from pytorch3d.utils import torus

from pt3d_largesteps.compat.geometry import compute_matrix

METHODS = pytest.mark.parametrize("method", ["Cholesky", "CG"])
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])


def packed(meshes, dtype=torch.float64, device="cpu"):
    return meshes.verts_packed().to(device, dtype), meshes.faces_packed().to(device)


def matrix_and_verts(device="cpu", dtype=torch.float64, **options):
    verts, faces = packed(torus(0.3, 1.0, 6, 9), dtype, device)
    return compute_matrix(verts, faces, **{"lambda_": 7.0, **options}), verts
