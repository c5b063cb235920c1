"""Meshes with uv maps whose texels can be counted by hand."""

from __future__ import annotations

import torch
from pytorch3d.renderer import TexturesUV
from pytorch3d.structures import Meshes


def strip(rectangles, size, device="cpu", shared=False):
    """Two squares side by side as a mesh, and in the map the rectangles (left, top, right, bottom), in texels."""
    verts = torch.tensor([[x, y, 0.0] for x in (0, 1, 2) for y in (0, 1)], device=device)
    faces = torch.tensor([[0, 2, 1], [2, 3, 1], [2, 4, 3], [4, 5, 3]], device=device)
    uvs, faces_uvs = [], []
    for first, (left, top, right, bottom) in zip((0, 2), rectangles, strict=True):
        corners = {first: (left, bottom), first + 1: (left, top), first + 2: (right, bottom), first + 3: (right, top)}
        start, names = len(uvs), list(corners)
        uvs += [(x / size, 1 - y / size) for x, y in corners.values()]
        faces_uvs += [[start + names.index(int(v)) for v in face] for face in faces[first : first + 2]]
    textures = TexturesUV(
        torch.zeros(1, size, size, 3, device=device),
        torch.tensor([faces_uvs], device=device),
        torch.tensor([uvs], device=device),
        align_corners=False,
    )
    return Meshes([verts], [faces], textures=textures)
