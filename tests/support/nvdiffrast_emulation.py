"""nvdiffrast in plain torch on the CPU, as much of it as the renderer calls, for tests where there is no GPU.

After nvdiffrast's documentation and Laine et al. 2020, with their conventions, not their code: row 0 at y = -w; (u, v, z / w,
triangle + 1) at each pixel, u and v the perspective-correct weights of corners 0 and 1; (0, 0) of a texture at the outer
corner of texel (0, 0). Arguments that nvdiffrast refuses are refused. Left out: image-space derivatives, mipmaps, cube maps,
depth peeling; where a pixel centre lies exactly on an edge, both triangles contain it here.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from pt3d_largesteps.renderers import nvdiffrast as renderer_module

_FACES_AT_ONCE = 128


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """``import nvdiffrast.torch`` finds this file, and the renderer takes tensors on the CPU."""
    package = ModuleType("nvdiffrast")
    package.torch = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", package.torch)
    monkeypatch.setattr(renderer_module, "_device_types", lambda: ("cpu",))


class RasterizeCudaContext:
    def __init__(self, device: Any = None) -> None:
        self.device = torch.device(device)

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle a context")


def rasterize(
    glctx: RasterizeCudaContext, pos: Tensor, tri: Tensor, resolution: Any, ranges: Tensor | None = None, grad_db: bool = True
) -> tuple[Tensor, Tensor]:
    """(N, H, W, 4), differentiable in ``pos`` through u and v, and derivatives that are all zero."""
    assert isinstance(glctx, RasterizeCudaContext)
    assert glctx.device == pos.device
    _check(pos, torch.float32)
    _check_triangles(tri)
    instanced = pos.dim() == 3
    if instanced:
        assert ranges is None
        images = [(pos[image], range(tri.shape[0])) for image in range(pos.shape[0])]
    else:
        _check(ranges, torch.int32)
        assert ranges.dim() == 2
        assert ranges.device.type == "cpu"
        images = [(pos, range(start, start + count)) for start, count in ranges.tolist()]
    rast = torch.stack([_rasterize_one(verts, tri.long(), part, tuple(resolution)) for verts, part in images])
    return rast, torch.zeros_like(rast)


def _rasterize_one(pos: Tensor, tri: Tensor, part: range, resolution: tuple[int, int]) -> Tensor:
    height, width = resolution
    y, x = torch.meshgrid(_centers(height), _centers(width), indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(-1, 3)  # (H * W, 3)
    best_depth = torch.full((height * width,), torch.inf)
    best = torch.full((height * width,), -1)
    with torch.no_grad():
        for start in range(part.start, part.stop, _FACES_AT_ONCE):
            corners = pos[tri[start : min(start + _FACES_AT_ONCE, part.stop)]]  # (F, 3, 4)
            areas = (points @ _planes(corners).view(-1, 3).T).view(points.shape[0], -1, 3)  # (H * W, F, 3)
            weights = (areas / areas.sum(-1, keepdim=True)).unbind(-1)
            z, w = (sum(weights[k] * corners[:, k, axis] for k in range(3)) for axis in (2, 3))
            inside = torch.stack([*weights, w, w - z, w + z]).amin(0) >= 0  # NaN is not inside
            depth, face = torch.where(inside, z / w, torch.inf).min(1)
            nearer = depth < best_depth
            best_depth, best = torch.where(nearer, depth, best_depth), torch.where(nearer, face + start, best)
    hit = (best >= 0).nonzero().squeeze(1)
    areas = (_planes(pos[tri[best[hit]]]) * points[hit, None]).sum(-1)
    weights = areas / areas.sum(-1, keepdim=True)
    found = torch.stack([weights[:, 0], weights[:, 1], best_depth[hit], (best[hit] + 1).float()], dim=1)
    return torch.zeros(height * width, 4).index_copy(0, hit, found).view(height, width, 4)


def _centers(size: int) -> Tensor:
    return (2 * torch.arange(size) + 1) / size - 1


def _planes(corners: Tensor) -> Tensor:
    """(F, 3, 3) of triangles (F, 3, 4): times (x, y, 1), what is proportional to the weight of each corner where it is seen.

    In the space of x, y and w the camera is the origin; a point is seen beyond an edge's plane through it, or on this side.
    """
    corners = corners[..., [0, 1, 3]]
    return torch.linalg.cross(corners.roll(-1, 1), corners.roll(1, 1))


def interpolate(attr: Tensor, rast: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W, K), 0 where no triangle is, and no derivatives."""
    _check(attr, torch.float32)
    _check(rast, torch.float32)
    _check_triangles(tri)
    image, row, col = (rast[..., 3] > 0).nonzero().unbind(1)
    found = rast[image, row, col]
    corners = tri.long()[found[:, 3].long() - 1]  # (P, 3)
    if attr.dim() == 3:
        assert attr.shape[0] in (1, rast.shape[0])
        values = attr[image[:, None] if attr.shape[0] > 1 else 0, corners]
    else:
        values = attr[corners]
    weights = torch.stack([found[:, 0], found[:, 1], 1 - found[:, 0] - found[:, 1]], dim=1)
    out = attr.new_zeros(*rast.shape[:3], attr.shape[-1])
    return out.index_put((image, row, col), (weights[..., None] * values).sum(1)), rast.new_zeros(*rast.shape[:3], 0)


def texture(tex: Tensor, uv: Tensor, *, filter_mode: str, boundary_mode: str) -> Tensor:
    """(N, H, W, C): texel (0, 0) covers 0 to 1 / width and 0 to 1 / height."""
    _check(tex, torch.float32)
    _check(uv, torch.float32)
    assert tex.dim() == uv.dim() == 4
    assert tex.shape[0] in (1, uv.shape[0])
    size = torch.tensor([tex.shape[2], tex.shape[1]])
    image = torch.arange(uv.shape[0]).view(-1, 1, 1) if tex.shape[0] > 1 else torch.zeros(1, 1, 1, dtype=torch.int64)

    def texel(place: Tensor) -> Tensor:
        col, row = place.unbind(-1)
        inside = ((place >= 0) & (place < size)).all(-1, keepdim=True)
        if boundary_mode == "wrap":
            return tex[image, row % size[1], col % size[0]]
        found = tex[image, row.clamp(0, size[1] - 1), col.clamp(0, size[0] - 1)]
        return torch.where(inside, found, 0.0) if boundary_mode == "zero" else found

    assert boundary_mode in ("wrap", "clamp", "zero")
    if filter_mode == "nearest":
        return texel((uv * size).floor().long())
    assert filter_mode == "linear"
    place = uv * size - 0.5
    first = place.detach().floor()
    fx, fy = (place - first).split(1, dim=-1)
    corner = first.long()
    upper, lower = (
        texel(corner + torch.tensor([0, down])) * (1 - fx) + texel(corner + torch.tensor([1, down])) * fx for down in (0, 1)
    )
    return upper * (1 - fy) + lower * fy


def antialias(
    color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, topology_hash: None = None, pos_gradient_boost: float = 1.0
) -> Tensor:
    """Pairs of neighbouring pixels that see different triangles are blended across a silhouette edge of the nearer one."""
    for tensor in (color, rast, pos):
        _check(tensor, torch.float32)
    _check_triangles(tri)
    num_images, height, width, _ = color.shape
    assert rast.shape == (num_images, height, width, 4)
    pixels = (pos[..., :2] / pos[..., 3:] + 1) * torch.tensor([width, height]) / 2 - 0.5  # (..., 2), column and row
    pixels = pixels * pos_gradient_boost - (pixels * (pos_gradient_boost - 1)).detach()
    index = torch.arange(num_images * height * width).view(num_images, height, width)
    in_rows, in_columns = (index[:, :, :-1], index[:, :, 1:]), (index[:, :-1], index[:, 1:])
    out = color.flatten(0, 2)
    for axis, (first, second) in enumerate((in_rows, in_columns)):
        out = out.index_add(0, *_blended(color, rast.detach(), pixels, tri.long(), first.flatten(), second.flatten(), axis))
    return out.view_as(color)


def _blended(color, rast, pixels, tri, first, second, axis) -> tuple[Tensor, Tensor]:
    """Which pixels change and by how much; ``axis`` is along the line that joins two pixels: 0 for a row, 1 for a column."""
    _, height, width, _ = color.shape
    colors, rast, opposite = color.flatten(0, 2), rast.flatten(0, 2), _opposite_corners(tri)
    triangle, depth = rast[:, 3].long() - 1, torch.where(rast[:, 3] > 0, rast[:, 2], torch.inf)
    different = (triangle[first] != triangle[second]).nonzero().squeeze(1)
    first, second = first[different], second[different]
    swap = depth[second] < depth[first]
    inside, outside = torch.where(swap, second, first), torch.where(swap, first, second)
    face, image = triangle[inside], inside // (height * width)
    center = torch.stack([inside % width, inside // width % height], dim=1)[:, None]  # (K, 1, 2)

    def corners(vertices: Tensor) -> Tensor:  # (K, 3, 2), seen from the centre of the inside pixel
        return (pixels[image[:, None], vertices] if pixels.dim() == 3 else pixels[vertices]) - center

    ends = torch.stack([corners(tri[face].roll(-1, 1)), corners(tri[face].roll(1, 1))], dim=2)
    along, across = ends[..., axis], ends[..., 1 - axis]  # (K, 3, 2): of both ends of the edge opposite each corner
    with torch.no_grad():
        same_side = _side(ends, corners(tri[face])) * _side(ends, corners(opposite[face].clamp_min(0))) > 0
        steep = (across[..., 1] - across[..., 0]).abs() >= (along[..., 1] - along[..., 0]).abs()
        crosses = (across[..., 0] >= 0) != (across[..., 1] >= 0)
        usable = steep & crosses & (same_side | (opposite[face] < 0))
    length = torch.where(crosses, across[..., 1] - across[..., 0], 1.0)
    distance = (along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]) / length
    distance = torch.where(swap[:, None], -distance, distance)  # from the inside pixel towards the outside one
    row, edge = (usable & (distance >= 0) & (distance <= 1)).nonzero().unbind(1)
    distance, inside, outside = distance[row, edge], inside[row], outside[row]
    outwards = distance > 0.5
    target, source = torch.where(outwards, outside, inside), torch.where(outwards, inside, outside)
    return target, (distance - 0.5).abs()[:, None] * (colors[source] - colors[target])


def _side(ends: Tensor, point: Tensor) -> Tensor:
    """(K, 3): the sign tells on which side of the edges (K, 3, 2, 2) points (K, 3, 2) lie."""
    start, stop = ends.unbind(2)
    u, v = stop - start, point - start
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def _opposite_corners(tri: Tensor) -> Tensor:
    """(F, 3): beyond the edge opposite each corner, the third corner of the other triangle there, -1 without one."""
    edges = torch.stack([tri.roll(-1, 1), tri.roll(1, 1)], dim=-1).view(-1, 2).sort(dim=1).values  # (3 F, 2)
    edge = torch.unique(edges, dim=0, return_inverse=True)[1]
    corner = tri.flatten()
    order = edge.argsort(stable=True)
    same = edge[order[1:]] == edge[order[:-1]]
    result = torch.full_like(corner, -1)
    result[order[1:][same]] = corner[order[:-1][same]]
    result[order[:-1][same]] = corner[order[1:][same]]
    return result.view_as(tri)


def _check_triangles(tri: Tensor) -> None:
    _check(tri, torch.int32)
    assert tri.dim() == 2
    assert tri.shape[1] == 3


def _check(tensor: Tensor, dtype: torch.dtype) -> None:
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    assert min(tensor.shape) > 0
