"""The visual hull: the space inside all silhouettes, a start with the right parts and handles for mesh optimisation.

Sources: Laurentini, "The visual hull concept for silhouette-based image understanding", IEEE PAMI 16(2), 1994; Lorensen, Cline,
"Marching cubes: A high resolution 3D surface construction algorithm", SIGGRAPH 1987.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._checks import check_finite, check_number, describe
from pt3d_largesteps.renderers.projection import ndc_half_ranges, ndc_to_pixels, project_to_ndc
from pt3d_largesteps.surfaces.remeshing import check_target, remesh

with _pytorch3d.required():
    from pytorch3d.structures import Meshes

_COARSE = 24  # samples along each side of the box while it shrinks to the hull
_CHUNK = 1 << 19  # points at once
_FAR = 1e4  # pixels
_LEAST = 0.02  # pixels: a surface that passes through samples has triangles without area there
_NOTHING_LEFT = "masks: expected silhouettes of one scene, but the hull is empty; do the cameras belong to the masks?"


@torch.no_grad()
def visual_hull(
    masks: Tensor,
    cameras: Any,
    *,
    resolution: int = 96,
    num_verts: int | None = None,
    smallest_part: float = 0.01,
    center: Sequence[float] | Tensor | None = None,
    radius: float | None = None,
) -> Meshes:
    """The closed surface of the largest shape with these silhouettes.

    It has separate parts and the holes that some view looks through, which an optimisation of positions cannot make from a
    sphere. Concavities that no outline shows are filled.

    If a silhouette does not touch the border of its image, that view shows the whole object: nothing is outside the image or
    behind the camera. If it touches the border, the view gives no information about the space that it does not see. Space that
    no view sees is empty.

    Args:
        masks: (N, H, W) or (N, H, W, 1), silhouettes of N views: booleans, or numbers in [0, 1], more than 1/2 inside;
            antialiased ones give a smoother surface.
        cameras: N cameras of PyTorch3D.
        resolution: samples along the longest side of the hull's box, in [8, 512]. Parts thinner than one cell may be lost:
            use about as many samples as the object has pixels across; more are of little use.
        num_verts: approximate number of vertices, by :func:`~pt3d_largesteps.remesh`; default: those of marching cubes, 1 to 3
            resolution^2.
        smallest_part: parts below this fraction of the largest one's volume are left out, in [0, 1).
        center: (3,), center of the search cube; default: the point nearest to the optical axes.
        radius: half the side of that cube; default: large enough for what the cameras see around the center.

    Returns:
        ``Meshes`` of one mesh in float32 on the masks' device; its faces point outward, every edge has two faces.

    Raises:
        ImportError: scikit-image is not installed (or gpytoolbox, for num_verts).
        TypeError, ValueError: an argument of a wrong type, shape or range; an empty view; parallel axes and no center.

    Example:
        >>> hull = visual_hull(silhouettes, cameras, num_verts=5000)    # (32, 128, 128, 1), 32 cameras
        >>> steps = LargeSteps(hull, lambda_=9.0)
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError:
        raise ImportError("visual_hull needs scikit-image: pip install 'pt3d_largesteps[hull]'") from None
    silhouettes = _checked_masks(masks, cameras)
    if isinstance(resolution, bool) or not isinstance(resolution, int) or not 8 <= resolution <= 512:
        raise ValueError(f"resolution: expected an integer in [8, 512], got {describe(resolution)}")
    check_number("smallest_part", smallest_part, low=0.0, high=1.0)
    if num_verts is not None:
        check_target(num_verts, None, None)
    middle = _checked_center(center) if center is not None else _nearest_to_axes(cameras)
    if radius is None:
        radius = _visible_radius(middle, cameras, silhouettes.shape[1:])
    check_number("radius", radius, low=0.0, low_open=True)
    views = _views(silhouettes, cameras, resolution)

    low, high, pixels_per_length = _bounding_box(views, middle - radius, middle + radius)
    cell = float((high - low).max()) / (resolution - 1)
    counts = [math.ceil(length / cell - 1e-6) + 1 for length in (high - low).tolist()]
    axes = [low[axis] + cell * torch.arange(count) for axis, count in enumerate(counts)]
    # Samples farther outside than one cell do not move the surface, so the other views need not check them.
    outside = -1.0 - 2.0 * cell * pixels_per_length
    slabs = axes[0].split(max(_CHUNK // (counts[1] * counts[2]), 1))
    values = torch.cat([_values(views, torch.cartesian_prod(slab, *axes[1:]), outside) for slab in slabs]).view(counts)
    values = torch.where(values > 0, values.clamp_min(_LEAST), values.clamp_max(-_LEAST))
    values = F.pad(values, (1,) * 6, value=-_FAR)  # closed where the box cuts the hull
    if not bool((values > 0).any()):
        raise ValueError(_NOTHING_LEFT)
    verts, faces, _, _ = marching_cubes(values.numpy(), 0.0, gradient_direction="ascent")  # outward
    verts, faces = _large_parts(verts.astype(np.float64), faces.astype(np.int64), smallest_part)
    verts = (torch.from_numpy(verts) - 1) * cell + low
    hull = Meshes(verts=[verts.float()], faces=[torch.from_numpy(faces)])
    return (hull if num_verts is None else remesh(hull, num_verts=num_verts).meshes).to(masks.device)


class _View:
    """One silhouette as a signed distance to its outline, in pixels, positive inside."""

    def __init__(self, silhouette: Tensor, camera: Any) -> None:
        mask = silhouette.numpy()
        inside = mask > 0.5
        away = distance_transform_edt(~inside)
        if not inside.all():
            away += distance_transform_edt(inside)
        # Next to the outline the mask itself is used, which locates the outline to a fraction of a pixel; farther away the mask
        # does not tell the distance.
        distance = (mask - 0.5) + np.where(inside, 1.0, -1.0) * np.maximum(away - 1.0, 0.0)
        self.device = camera.device
        self.distance = torch.from_numpy(distance).float().to(self.device)[None, None]
        self.camera, self.size = camera, (silhouette.shape[0], silhouette.shape[1])
        self.shows_all = not (inside[[0, -1]].any() or inside[:, [0, -1]].any())
        # The position of an orthographic camera along its axis is arbitrary.
        self.behind = -_FAR if self.shows_all and camera.is_perspective() else math.inf

    def pixels(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(P, 2) columns and rows of points (P, 3), and (P,) whether they are in front of the camera."""
        ndc = project_to_ndc(points.to(self.device)[None], self.camera)[0]
        return ndc_to_pixels(ndc, self.size).nan_to_num().clamp(-_FAR, _FAR), ndc[:, 2] > 1e-6

    def values(self, pixels: Tensor, in_front: Tensor, slack: Tensor | float = 0.0) -> Tensor:
        """(P,) upper bound of the distance inside the silhouette, for points uncertain by ``slack``; infinity where the view
        has no information."""
        scale = 2.0 / torch.tensor(self.size[::-1], device=self.device)
        at = ((pixels + 0.5) * scale - 1)[None, None]
        sampled = F.grid_sample(self.distance, at, mode="bilinear", padding_mode="border", align_corners=False)
        # The edge of the image is half a pixel beyond the outermost pixel centres.
        beyond = ((at[0, 0].abs() - 1) / scale).amax(1)
        values = sampled.view(-1) - beyond.clamp_min(0.0) + slack
        if not self.shows_all:
            values = torch.where(beyond > slack, math.inf, torch.where(beyond > -slack, _FAR, values))
        return torch.where(in_front, values, self.behind).cpu()


def _values(views: list[_View], points: Tensor, outside: float) -> Tensor:
    """(P,) the minimum over the views; points below ``outside`` are not checked further."""
    values = points.new_full(points.shape[:1], math.inf)
    left = torch.arange(len(points))
    for view in views:
        values[left] = torch.minimum(values[left], view.values(*view.pixels(points)))
        stay = values[left] > outside
        left, points = left[stay], points[stay]
    return torch.where(values == math.inf, -1.0, values)  # seen by no view


def _bounding_box(views: list[_View], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, float]:
    """A box around the hull inside the given one, and the largest number of pixels per unit of length in it."""
    while True:  # coarse samples represent the cells around them, so that no thin part is missed
        cell = (high - low) / (_COARSE - 1)
        axes = [torch.linspace(*ends, _COARSE) for ends in zip(low.tolist(), high.tolist(), strict=True)]
        points = torch.cartesian_prod(*axes)
        values, most = points.new_full(points.shape[:1], math.inf), points.new_zeros(len(points))
        for view in views:
            pixels, in_front = view.pixels(points)
            steps = torch.gradient(pixels.view(_COARSE, _COARSE, _COARSE, 2), dim=(0, 1, 2))
            slack = 0.5 * sum(step.norm(dim=-1) for step in steps).flatten()  # the extent of the cell in the image
            values = torch.minimum(values, view.values(pixels, in_front, slack))
            most = torch.maximum(most, torch.where(in_front.cpu(), slack.cpu(), 0.0))
        maybe = (values > 0) & (values < math.inf)
        if not bool(maybe.any()):
            raise ValueError(_NOTHING_LEFT)
        before = (high - low).prod()
        low = torch.maximum(points[maybe].amin(0) - 0.5 * cell, low)
        high = torch.minimum(points[maybe].amax(0) + 0.5 * cell, high)
        if (high - low).prod() > 0.9 * before:
            return low, high, float(most[maybe].max() / cell.max())


def _large_parts(verts: np.ndarray, faces: np.ndarray, smallest_part: float) -> tuple[np.ndarray, np.ndarray]:
    """The parts of a surface with at least this fraction of the largest part's volume; invisible inner bubbles are removed."""
    a, b, c = verts[faces].transpose(1, 0, 2)
    edges = (faces.ravel(), np.roll(faces, -1, axis=1).ravel())
    graph = coo_matrix((np.ones(faces.size, dtype=bool), edges), shape=(len(verts), len(verts)))
    part = connected_components(graph, directed=False)[1]
    volumes = np.bincount(part[faces[:, 0]], weights=np.einsum("ij,ij->i", a, np.cross(b, c)))
    kept = (volumes >= smallest_part * volumes.max()) & (volumes > 0)
    faces = faces[kept[part[faces[:, 0]]]]
    used, faces = np.unique(faces, return_inverse=True)
    return verts[used], faces.reshape(-1, 3)


def _views(silhouettes: Tensor, cameras: Any, resolution: int) -> list[_View]:
    """The views in an order in which successive ones look from different sides, so that most of space is excluded early."""
    rows, cols = (int((silhouettes > 0.5).any(axis).sum(1).max()) for axis in (2, 1))
    coarser = max(rows, cols) // (2 * resolution)
    if coarser > 1:  # samples two pixels apart or more would pick up noise
        size = [max(pixels // coarser, 1) for pixels in silhouettes.shape[1:]]
        silhouettes = F.interpolate(silhouettes[:, None], size, mode="area")[:, 0]
    order = sorted(range(len(silhouettes)), key=lambda view: view * (math.sqrt(5) - 1) / 2 % 1)
    return [_View(silhouettes[view], cameras[[view]]) for view in order]


def _nearest_to_axes(cameras: Any) -> Tensor:
    """(3,) the point with the least sum of squared distances to the optical axes."""
    centers = cameras.get_camera_center().double().cpu()
    axes = F.normalize(cameras.get_world_to_view_transform().get_matrix()[:, :3, 2].double().cpu(), dim=1)
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]  # (N, 3, 3)
    system = across.mean(0)
    if torch.linalg.eigvalsh(system)[0] < 1e-4:  # sin^2 of the angles between the axes, about
        raise ValueError(f"center: expected one, and a radius, as all optical axes ({len(axes)}) are parallel, got None")
    return torch.linalg.solve(system, (across @ centers[:, :, None]).mean(0))[:, 0].float()


def _visible_radius(middle: Tensor, cameras: Any, image_size: Sequence[int]) -> float:
    """Twice the largest extent of an image at the center, and at least the distance to the farthest perspective camera."""
    to_view = cameras.get_world_to_view_transform().get_matrix()  # (N, 4, 4), of rows
    middle = middle.to(to_view)
    away = float((cameras.get_camera_center() - middle).norm(dim=1).max())
    step = 1e-2 * away or 1.0
    aside = step * F.normalize(to_view[:, :3, :2], dim=1).transpose(1, 2)  # (N, 2, 3), to the left and up
    ndc = project_to_ndc(torch.cat([middle.expand(len(aside), 1, 3), middle + aside], dim=1), cameras)[..., :2]
    per_length = (ndc[:, 1:] - ndc[:, :1]).norm(dim=-1).amin(1) / step
    reach = float((2 * math.hypot(*ndc_half_ranges((image_size[0], image_size[1]))) / per_length).nan_to_num().max())
    return max(reach, away) if cameras.is_perspective() else reach


def _checked_masks(masks: Tensor, cameras: Any) -> Tensor:
    """(N, H, W) in float32 on the CPU."""
    if not hasattr(cameras, "get_world_to_view_transform"):
        raise TypeError(f"cameras: expected cameras of PyTorch3D, got {describe(cameras)}")
    if not isinstance(masks, Tensor) or not (masks.dtype == torch.bool or masks.is_floating_point()):
        raise TypeError(f"masks: expected a tensor of booleans or floating-point numbers, got {describe(masks)}")
    if not (masks.dim() == 3 or (masks.dim() == 4 and masks.shape[3] == 1)) or masks.numel() == 0:
        raise ValueError(f"masks: expected the shape (N, H, W) or (N, H, W, 1), got {describe(masks)}")
    if len(masks) != len(cameras):
        raise ValueError(f"cameras: expected one for each of the {len(masks)} masks, got {len(cameras)}")
    silhouettes = masks.detach().reshape(masks.shape[:3]).float().cpu()
    check_finite("masks", silhouettes)
    low, high = silhouettes.aminmax()
    if low < -0.5 or high > 1.5:  # antialiasing may overshoot where outlines are close
        raise ValueError(f"masks: expected numbers in [0, 1], got some from {low:g} to {high:g}")
    empty = (silhouettes <= 0.5).flatten(1).all(1).nonzero().flatten().tolist()
    if empty:
        count = f"{len(empty)} of {len(masks)} are empty"
        raise ValueError(f"masks: expected a silhouette in every view, got none in view {empty[0]} ({count})")
    return silhouettes.clamp(0.0, 1.0)


def _checked_center(center: Sequence[float] | Tensor) -> Tensor:
    if not isinstance(center, (Tensor, Sequence)) or np.shape(center) != (3,):
        raise ValueError(f"center: expected three numbers, got {describe(center)}")
    return torch.tensor([check_number("center", number, low=-math.inf, low_open=True) for number in center])
