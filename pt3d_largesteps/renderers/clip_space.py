"""From world space to the clip space of OpenGL, which GPU rasterisers and nvdiffrast use.

Clip coordinates (x, y, z, w) represent the point (x, y, z) / w; visible points have w > 0 and x, y and z in [-w, w]. Row i of
an image of H rows has its pixel centres at y / w = (2 i + 1) / H - 1, so the first row is at y = -w; columns work the same way
in x. Two conventions differ:

* In PyTorch3D's normalised device coordinates (NDC) +x points to the left and +y up, and the shorter side of the image
  spans [-1, 1], the longer one proportionally more. Clip space has +x to the right and spans [-1, 1] along both.
* In OpenGL the first row of an image is its lowest, in PyTorch3D its highest. Here **y of clip space points down**, so images
  have row 0 on top and need no flip. Two axes are mirrored, so triangles keep their winding.

PyTorch3D keeps the depth of view space and clips only in front of half the cameras' ``znear``, nowhere at ``zfar``. Clip space
needs both ends; :func:`depth_range` chooses them so that the same surfaces are visible.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_number, describe
from pt3d_largesteps.renderers.projection import check_image_size, ndc_half_ranges

_LEAST_NEAR = 1e-3  # of the far depth, for cameras without znear: float32 then still separates surfaces 1e-4 apart
_MARGIN = 1e-2  # of the depth range, behind the deepest vertex: rounding must not clip it


def clip_from_world(
    cameras: Any,
    image_size: int | tuple[int, int],
    near: float | Tensor | None = None,
    far: float | Tensor | None = None,
) -> Tensor:
    """Matrices that map world space to clip space: clip = matrix @ (x, y, z, 1).

    Differentiable in the same quantities as the cameras' own transforms: rotation, translation, focal length, principal point.
    Matrices are multiplied in float64; PyTorch3D computes projection matrices in float32 for any dtype of the cameras.

    Args:
        cameras: N PyTorch3D cameras: FoVPerspective, FoVOrthographic, Perspective or Orthographic, in NDC or screen space.
        image_size: pixels, (H, W) or one number for both.
        near: view-space depth of the near plane, a number or (N,). By default half of the smallest ``znear`` of perspective
            cameras, where PyTorch3D's renderer clips, and 0 for orthographic cameras, where it does not clip.
        far: view-space depth of the far plane, a number or (N,); by default the cameras' ``zfar``. A single camera may have
            several near and far planes, one pair for each mesh.

    Returns:
        (N, 4, 4), of the dtype of the cameras' ``R``; as many as planes before a single camera.

    Raises:
        TypeError: cameras without a projection matrix (fisheye).
        ValueError: no near or far for cameras that have no ``znear`` or ``zfar``; a near plane that is not in front of the far
            one (numbers only; tensors are not checked).

    Example:
        >>> matrices = clip_from_world(cameras, (480, 640))
        >>> clip = to_clip_space(verts, matrices)           # (N, V, 4)
    """
    half_x, half_y = ndc_half_ranges(check_image_size(image_size))
    perspective = bool(cameras.is_perspective())
    try:
        projection = cameras.get_projection_transform().get_matrix()
    except NotImplementedError as error:  # what PyTorch3D's fisheye cameras raise
        raise TypeError(
            f"cameras: expected cameras with a projection matrix, got {type(cameras).__name__}, which has none"
        ) from error
    near, far = _planes(cameras, perspective, near, far)
    view = _view_from_world(cameras)
    # PyTorch3D multiplies rows of coordinates from the left: its matrices are transposed here.
    to_ndc = cameras.get_ndc_camera_transform().get_matrix().double().mT @ projection.double().mT
    x, y, _, w = (to_ndc @ view).unbind(1)  # (N, 4) each
    depth, one = view[:, 2], torch.zeros_like(w)
    one[:, 3] = 1
    if perspective:  # w is the depth: z = -w at near, z = w at far
        z = ((far + near) / (far - near))[:, None] * depth - (2 * far * near / (far - near))[:, None] * one
    else:  # w is 1
        z = (2 / (far - near))[:, None] * depth - ((far + near) / (far - near))[:, None] * one
    rows = torch.broadcast_tensors(-x / half_x, -y / half_y, z, w)
    return torch.stack(rows, dim=1).to(cameras.R.dtype)


def to_clip_space(verts: Tensor, matrices: Tensor) -> Tensor:
    """Clip coordinates (N, V, 4) of vertices (N, V, 3) by matrices (N, 4, 4); either N may be 1.

    Computed by products and sums of columns, because torch may round a matrix product to TF32's ten bits.
    """
    x, y, z = verts.to(matrices.dtype).split(1, dim=-1)
    columns = matrices[:, None].unbind(-1)  # 4 x (N, 1, 4)
    return x * columns[0] + y * columns[1] + z * columns[2] + columns[3]


@torch.no_grad()
def depth_range(cameras: Any, verts: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Near and far depths (N,) for :func:`clip_from_world`, between which lies everything that PyTorch3D's renderer shows.

    The far plane lies just behind the deepest vertex, because PyTorch3D does not clip at ``zfar``. The near plane lies at half
    the depth of the nearest vertex, but not nearer than PyTorch3D's clipping plane: half the smallest ``znear``. Perspective
    cameras without ``znear`` are clipped at 1/1000 of the far depth instead, orthographic ones at 0. (PyTorch3D skips a whole
    face if it reaches behind such a camera.)

    Args:
        cameras: as for :func:`clip_from_world`; N, or 1.
        verts: world space, (N, V, 3), or (1, V, 3); V at least 1.
        valid: (N, V) bool, which vertices count; vertices that are NaN or infinite never do.

    Example:
        >>> near, far = depth_range(cameras, meshes.verts_padded())
        >>> matrices = clip_from_world(cameras, 256, near, far)
    """
    depth_row = _view_from_world(cameras)[:, None, 2]  # (N, 1, 4)
    depths = (verts.double() * depth_row[..., :3]).sum(-1) + depth_row[..., 3]
    usable = depths.isfinite() if valid is None else depths.isfinite() & valid
    nearest = torch.where(usable, depths, torch.inf).amin(1)
    deepest = torch.where(usable, depths, -torch.inf).amax(1)
    perspective = bool(cameras.is_perspective())
    znear = _znear_clip(cameras) if perspective else 0.0
    least = torch.full_like(deepest, znear) if znear is not None else _LEAST_NEAR * deepest
    near = torch.maximum(nearest / 2, least)
    near = torch.where(deepest > near, near, torch.where(least > 0, least, 1.0 if perspective else 0.0))  # nothing is visible
    far = deepest + _MARGIN * (deepest - near)
    return near, torch.where(far > near, far, near + 1)


def _view_from_world(cameras: Any) -> Tensor:
    """(N, 4, 4) float64, from the cameras' R and T: PyTorch3D computes this matrix in float32 for any dtype of them."""
    top = torch.cat([cameras.R.double().mT, cameras.T.double()[:, :, None]], dim=2)  # (N, 3, 4)
    return torch.cat([top, top.new_tensor([[[0.0, 0.0, 0.0, 1.0]]]).expand(top.shape[0], 1, 4)], dim=1)


def _znear_clip(cameras: Any) -> float | None:
    """Where PyTorch3D's renderer clips for perspective cameras: half of their smallest ``znear``."""
    znear = cameras.get_znear()
    if znear is None:
        return None
    return (znear.min().item() if isinstance(znear, Tensor) else float(znear)) / 2


def _planes(cameras: Any, perspective: bool, near: Any, far: Any) -> tuple[Tensor, Tensor]:
    """Near and far as float64 tensors of N or 1 numbers."""
    if near is None:
        near = _znear_clip(cameras) if perspective else 0.0
    if far is None:
        far = getattr(cameras, "zfar", None)
    for name, value in (("near", near), ("far", far)):
        if value is None:
            raise ValueError(f"{name}: expected a depth, as {type(cameras).__name__} has no z{name}, got None")
        if isinstance(value, Tensor) and (value.dim() > 1 or (value.numel() != 1 and len(cameras) not in (1, value.numel()))):
            raise ValueError(f"{name}: expected a number or a tensor of shape ({len(cameras)},), got {describe(value)}")
        if not isinstance(value, Tensor):
            check_number(name, value, low=0.0, low_open=perspective)
    if not isinstance(near, Tensor) and not isinstance(far, Tensor) and not near < far:
        raise ValueError(f"far: expected more than near, {near:g}, got {far:g}")
    planes = [torch.as_tensor(value, dtype=torch.float64, device=cameras.device).reshape(-1) for value in (near, far)]
    return planes[0].detach(), planes[1].detach()
