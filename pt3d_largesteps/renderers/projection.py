"""From world space to the pixels of PyTorch3D's images.

PyTorch3D's normalised device coordinates (NDC) have +x to the left and +y up; the shorter side of the image spans
[-1, 1] and the longer one proportionally more. Beside x and y the rasteriser keeps the depth z of view space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe

_LEAST_DEPTH = 1e-10  # for a vertex in the plane of the camera: no face shows it, but infinity times a zero gradient is NaN


def check_image_size(image_size: Any) -> tuple[int, int]:
    """(H, W) from ``image_size``: (H, W) or one number for both; otherwise raises ``ValueError``."""
    size = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(pixels, int) and pixels > 0 for pixels in size):
        raise ValueError(f"image_size: expected a positive int or (H, W), got {describe(image_size)}")
    return size


def project_to_ndc(verts: Tensor, cameras: Any) -> Tensor:
    """NDC x and y, and view-space z, of world-space vertices (N, V, 3), for N cameras or one, or N = 1 and any cameras.

    The projection is applied after the view transform, not composed with it, as in ``MeshRasterizer.transform``. So the results
    are bit-identical to PyTorch3D's, and the same faces are visible.
    """
    verts = verts.expand(max(verts.shape[0], len(cameras)), -1, -1)
    verts_view = cameras.get_world_to_view_transform().transform_points(verts)
    to_ndc = cameras.get_ndc_camera_transform()
    try:
        projection = cameras.get_projection_transform()
    except NotImplementedError:  # what PyTorch3D's cameras without a projection matrix raise, the fisheye ones
        verts_ndc = to_ndc.transform_points(cameras.transform_points(verts))
    else:
        verts_ndc = projection.compose(to_ndc).transform_points(verts_view, eps=_LEAST_DEPTH)
    return torch.cat([verts_ndc[..., :2], verts_view[..., 2:]], dim=-1)


def ndc_half_ranges(image_size: tuple[int, int]) -> tuple[float, float]:
    """Half the extent of the image in NDC, along x and y."""
    height, width = image_size
    shorter = min(height, width)
    return width / shorter, height / shorter


def ndc_to_pixels(ndc: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Columns and rows (..., 2) of NDC points (..., 2 or more); whole numbers are the centres of pixels."""
    height, width = image_size
    half_x, half_y = ndc_half_ranges(image_size)
    col = (width - 1) / 2 - ndc[..., 0] * (width / (2 * half_x))
    row = (height - 1) / 2 - ndc[..., 1] * (height / (2 * half_y))
    return torch.stack([col, row], dim=-1)
