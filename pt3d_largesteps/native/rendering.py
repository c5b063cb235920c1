"""The operators of the compiled renderer on the CPU, ``torch.ops.pt3d_largesteps``, with all registrations for torch.

    mesh_index(faces, vert_first, face_first) -> index                            faces and their neighbours, one int32 buffer
    render_points(verts, view, projection, light, colors, index) -> points        what each image needs of its vertices
    rasterize(points, index, ...) -> (depth, faces, crossings)                    the visible faces, and the outlines
    draw(points, faces, crossings, index, ...) -> images                          their colours
    compare(points, faces, crossings, index, targets, ...) -> losses              only the difference from given pictures
    blend(images, points, crossings, index) -> images                             outlines of pictures that were drawn otherwise

The images of a batch of M meshes lie mesh after mesh, N / M for each. Points are (1 + b, P, 4), planes with a row for each
vertex of each image, in the order of the index: the first plane holds x and y of NDC, view-space depth and what the projection
divided by, each of the others four attributes. Buffers of pixels, ``depth`` and ``faces``, have padded rows: (N, H, pitch), of
which the first W columns count. Faces have the index's numbers; :func:`given_faces` turns them into those of the batch.

The numbers of a light are coefficients of 1, y, z, x, xy, yz, 3 zz - 1, xz and xx - yy of the unit normal of a vertex.

All are differentiable in the points, once; ``draw`` also works under ``torch.compile``, as one operator that it does not open.
They exist only if the package is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pt3d_largesteps.native.library import is_compiled

_HEADER_SIZE = 32  # csrc/renderer/mesh_index.h
_NUM_FACES, _FACE_ORDER, _VERT_ORDER, _NUM_VERTS = 4, 12, 11, 3  # places in the header
_ops = torch.ops.pt3d_largesteps


class Mode(IntEnum):
    """What a pixel shows: csrc/renderer/frame.h."""

    SILHOUETTE = 0  # (..., 1): 1 on the meshes, else 0
    SHADED = 1  # (..., 4): the first three attributes and 1; else the background and its alpha
    PRODUCT = 2  # the same, of the product of the first three attributes and the three from the fifth on
    ATTRIBUTES = 3  # all attributes; else 0
    WEIGHTS = 4  # (..., 3): the barycentric coordinates in the visible face; else 0


class Difference(IntEnum):
    """How pictures are compared, pixel by pixel and channel by channel."""

    L1 = 0
    L2 = 1
    SMOOTH_L1 = 2


class Visible(NamedTuple):
    """The result of :func:`rasterize`.

    depth: (N, H, pitch), of view space, infinite where nothing is.    faces: (N, H, pitch) int32, -1 there.
    crossings: (K, 6) int32, where outlines pass between two pixels; K = 0 if they were not asked for.
    """

    depth: Tensor
    faces: Tensor
    crossings: Tensor


def mesh_index(faces: Tensor, vert_first: Tensor, face_first: Tensor) -> Tensor:
    """The index (int32) of a batch of M meshes. It follows from the faces alone: it stays good while the meshes move.

    Args:
        faces: packed (F, 3) int64.
        vert_first, face_first: (M + 1,) int64, where the vertices and the faces of each mesh begin, and their number.

    Raises:
        RuntimeError: a face with a vertex of another mesh or of none, or too many of them for 32 bits.
    """
    return _ops.mesh_index(faces, vert_first, face_first)


def given_faces(index: Tensor, faces: Tensor) -> Tensor:
    """The packed faces, int64, of faces in the order of the index; -1 stays -1."""
    start, count = int(index[_FACE_ORDER]), int(index[_NUM_FACES])
    order = torch.cat([index[start : start + count], index.new_full((1,), -1)]).to(torch.int64)  # -1 takes the last
    return order[faces.to(torch.int64)]


def vert_order(index: Tensor) -> Tensor:
    """(V,) int64: the packed vertex at each place of the index."""
    start, count = int(index[_VERT_ORDER]), int(index[_NUM_VERTS])
    return index[start : start + count].to(torch.int64)


def render_points(
    verts: Tensor,
    view: Tensor,
    projection: Tensor,
    light: Tensor | None,
    colors: Tensor | None,
    index: Tensor,
    num_meshes: int,
) -> Tensor:
    """The points of N images, (1 + b, N V / M, 4), differentiable in all that is given.

    Args:
        verts: packed (V, 3).
        view, projection: (N, 4, 4), matrices for row vectors, as in PyTorch3D.
        light: (1, 9, 3) for all images or (N, 9, 3), or None, without attributes (b = 0).
        colors: packed (V, 3), a second block of attributes (b = 2), or None.
    """
    return _ops.render_points(verts, view, projection, light, colors, index, num_meshes)[0]


def rasterize(
    points: Tensor,
    index: Tensor,
    num_images: int,
    image_size: tuple[int, int],
    *,
    perspective: bool,
    z_clip: float | None,
    cull_backfaces: bool,
    outlined: bool,
) -> Visible:
    """The nearest face at each pixel centre, exactly PyTorch3D's for the same points, and of equally near ones the first.

    Args:
        points: their x, y and depth count.
        z_clip: faces are cut at this view-space depth; None cuts nothing.
        outlined: find the crossings of outlines too.
    """
    height, width = image_size
    clip = -1.0 if z_clip is None else z_clip
    return Visible(
        *_ops.rasterize(points.detach(), index, num_images, height, width, perspective, clip, cull_backfaces, outlined)
    )


def draw(
    points: Tensor,
    visible: Visible,
    index: Tensor,
    width: int,
    *,
    perspective: bool,
    mode: Mode,
    background: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
) -> Tensor:
    """Images (N, H, W, C), with C of the mode; outlines are blended if they were found."""
    return _ops.draw(points, visible.faces, visible.crossings, index, width, perspective, int(mode), background)


def blend(images: Tensor, points: Tensor, visible: Visible, index: Tensor) -> Tensor:
    """The images (N, H, W, C) blended across the outlines; differentiable in the images too."""
    return _ops.blend(images, points, visible.crossings, index)


def compare(
    points: Tensor,
    visible: Visible,
    index: Tensor,
    targets: Tensor,
    target_of_image: Sequence[int],
    *,
    channel_weights: Sequence[float],
    pixel_weights: Tensor | None,
    difference: Difference,
    beta: float,
    perspective: bool,
    mode: Mode,
    background: Sequence[float],
) -> Tensor:
    """(N,): for each image the mean over pixels and channels of the weighted difference from a target.

    The same as drawing and then comparing, but no picture is stored, and the derivative is found in the same pass.

    Args:
        targets: (T, H, W, C) of the dtype of the points, or uint8, of which 255 is 1.
        target_of_image: N numbers below T.
        channel_weights: C numbers.
        pixel_weights: (T, H, W) or None.
        beta: where ``SMOOTH_L1`` turns from a square to a straight line.
        mode: ``SILHOUETTE``, ``SHADED`` or ``PRODUCT``.
    """
    needs_gradient = points.requires_grad and torch.is_grad_enabled()
    return _ops.compare(
        points, visible.faces, visible.crossings, index, targets, target_of_image, pixel_weights, channel_weights,
        int(difference), beta, targets.shape[2], perspective, int(mode), background, needs_gradient,
    )[0]  # fmt: skip


def _pitch(width: int) -> int:
    return (width + 7) // 8 * 8 + 8


def _fake_mesh_index(faces: Tensor, vert_first: Tensor, face_first: Tensor) -> Tensor:
    return faces.new_empty(torch.library.get_ctx().new_dynamic_size(min=_HEADER_SIZE), dtype=torch.int32)


def _fake_points(
    verts: Tensor, view: Tensor, projection: Tensor, light: Tensor | None, colors: Tensor | None, index: Tensor, num_meshes: int
) -> tuple[Tensor, Tensor]:
    rows, planes = verts.shape[0] * (view.shape[0] // num_meshes), 1 + (light is not None) + (colors is not None)
    return verts.new_empty(planes, rows, 4), verts.new_empty(0 if light is None else verts.shape[0], 4)


def _fake_points_backward(
    gradient: Tensor, verts: Tensor, view: Tensor, projection: Tensor, light: Tensor | None, colors: Tensor | None,
    index: Tensor, points: Tensor, normals: Tensor, needed: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    inputs = (verts, view, projection, light, colors)
    return tuple(
        verts.new_empty(0) if tensor is None or not needed >> k & 1 else torch.empty_like(tensor)
        for k, tensor in enumerate(inputs)
    )


def _fake_rasterize(
    points: Tensor, index: Tensor, num_images: int, height: int, width: int, perspective: bool, z_clip: float, culls: bool,
    outlined: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    buffer = points.new_empty(num_images, height, _pitch(width))
    num_crossings = torch.library.get_ctx().new_dynamic_size()
    ints = points.new_empty(num_crossings, 6, dtype=torch.int32)
    return buffer, torch.empty_like(buffer, dtype=torch.int32), ints


def _fake_draw(
    points: Tensor, faces: Tensor, crossings: Tensor, index: Tensor, width: int, perspective: bool, mode: int,
    background: Sequence[float],
) -> Tensor:  # fmt: skip
    channels = {Mode.SILHOUETTE: 1, Mode.WEIGHTS: 3, Mode.ATTRIBUTES: 4 * (points.shape[0] - 1)}.get(Mode(mode), 4)
    return points.new_empty(faces.shape[0], faces.shape[1], width, channels)


def _fake_draw_backward(gradient: Tensor, points: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(points)


def _fake_blend(images: Tensor, points: Tensor, crossings: Tensor, index: Tensor) -> Tensor:
    return images.new_empty(images.shape)


def _fake_blend_backward(gradient: Tensor, images: Tensor, points: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return images.new_empty(images.shape), torch.empty_like(points)


def _fake_compare(points: Tensor, faces: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    with_gradient = others[-1]
    rows = points.shape[1] if with_gradient else 0
    return points.new_empty(faces.shape[0]), points.new_empty(points.shape[0], rows, 4)


def _fake_compare_backward(to_losses: Tensor, gradient: Tensor, index: Tensor) -> Tensor:
    return torch.empty_like(gradient)


_ONLY_FIRST = "the compiled renderer: expected to be differentiated once, got a second derivative"


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _no_second_derivative(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    raise RuntimeError(_ONLY_FIRST)


def _save_points(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.set_materialize_grads(False)


def _points_backward(ctx: Any, gradient: Tensor | None, to_normals: Tensor | None) -> tuple[Tensor | None, ...]:
    if to_normals is not None:
        raise RuntimeError("render_points: expected no gradient of the normals, which are only for the backward pass")
    if gradient is None:
        return (None,) * 7
    verts, view, projection, light, colors, index, points, normals = ctx.saved_tensors
    needed = sum(1 << k for k in range(5) if ctx.needs_input_grad[k])
    gradients = _ops.render_points_backward(gradient, verts, view, projection, light, colors, index, points, normals, needed)
    return *(value if ctx.needs_input_grad[k] else None for k, value in enumerate(gradients)), None, None


def _save_draw(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _draw_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    points, faces, crossings, index = ctx.saved_tensors
    return _ops.draw_backward(gradient, points, faces, crossings, index, *ctx.options), *(None,) * 7


def _save_blend(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _blend_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    images, points, crossings, index = ctx.saved_tensors
    return *_ops.blend_backward(gradient, images, points, crossings, index), None, None


def _save_compare(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], inputs[3])
    ctx.num_inputs, ctx.has_gradient = len(inputs), inputs[-1]
    ctx.set_materialize_grads(False)


def _compare_backward(ctx: Any, to_losses: Tensor | None, to_gradient: Tensor | None) -> tuple[Tensor | None, ...]:
    none = (None,) * (ctx.num_inputs - 1)
    if to_gradient is not None:
        raise RuntimeError(_ONLY_FIRST)
    if to_losses is None:
        return None, *none
    if not ctx.has_gradient:
        raise RuntimeError("compare: expected with_gradient for a backward pass")
    gradient, index = ctx.saved_tensors
    if not torch.compiler.is_compiling() and bool((to_losses == 1).all()):
        return gradient, *none  # of a sum of losses: there is nothing to scale
    return _ops.compare_backward(to_losses, gradient, index), *none


if is_compiled():
    for _name, _fake in {
        "mesh_index": _fake_mesh_index,
        "render_points": _fake_points,
        "render_points_backward": _fake_points_backward,
        "rasterize": _fake_rasterize,
        "draw": _fake_draw,
        "draw_backward": _fake_draw_backward,
        "blend": _fake_blend,
        "blend_backward": _fake_blend_backward,
        "compare": _fake_compare,
        "compare_backward": _fake_compare_backward,
    }.items():
        torch.library.register_fake(f"pt3d_largesteps::{_name}")(_fake)
    torch.library.register_autograd("pt3d_largesteps::render_points", _points_backward, setup_context=_save_points)
    torch.library.register_autograd("pt3d_largesteps::draw", _draw_backward, setup_context=_save_draw)
    torch.library.register_autograd("pt3d_largesteps::blend", _blend_backward, setup_context=_save_blend)
    torch.library.register_autograd("pt3d_largesteps::compare", _compare_backward, setup_context=_save_compare)
    for _name in ("render_points", "draw", "blend", "compare"):
        torch.library.register_autograd(
            f"pt3d_largesteps::{_name}_backward", _no_second_derivative, setup_context=_save_nothing
        )
