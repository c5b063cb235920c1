"""Isotropic remeshing between steps of an optimisation: makes the triangles of a changing shape even again.

Source: Botsch, Kobbelt, "A Remeshing Approach to Multiresolution Modeling", SGP 2004, in the implementation of gpytoolbox;
remeshing inside the optimisation: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6),
2021, Sec. 4.2.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_number, describe
from pt3d_largesteps.surfaces.manifold import clean

_MOST_VERTS = 5_000_000  # per mesh: a larger number is probably a mistake in the edge length


@dataclass(frozen=True)
class Remeshed:
    """A batch after :func:`remesh`, and the transfer of data from the old vertices to the new ones.

    Attributes:
        meshes: ``Meshes``, as many as before.
        kept: (V',) bool, the vertices of ``keep``.
        passed_over: for each mesh that was returned unchanged, the reason.
    """

    meshes: Any
    kept: Tensor
    passed_over: dict[int, str]
    _old_verts: list[np.ndarray] = field(repr=False)
    _old_faces: list[np.ndarray] = field(repr=False)

    def transfer(self, values: Tensor) -> Tensor:
        """Transfers numbers (V, ...) of the old packed vertices to the new ones (V', ...). They are interpolated in the old
        face nearest to each new vertex; masks and integers are copied from the nearest corner of that face.

        Example:
            >>> colors = remeshed.transfer(colors)
        """
        num_verts = sum(map(len, self._old_verts))
        if not isinstance(values, Tensor) or values.dim() == 0 or values.shape[0] != num_verts:
            raise ValueError(f"values: expected one row for each of the {num_verts} old vertices, got {describe(values)}")
        corners, weights = (tensor.to(values.device) for tensor in self._nearest)
        if not values.is_floating_point():
            return values[corners.gather(1, weights.argmax(1, keepdim=True))[:, 0]]
        weights = weights.to(values.dtype).view(*weights.shape, *[1] * (values.dim() - 1))
        return (weights * values[corners]).sum(1)

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        """(V', 3) old packed vertices, and their weights."""
        corners, weights, offset = [np.empty((0, 3), dtype=np.int64)], [np.empty((0, 3))], 0
        for mesh, new in enumerate(self.meshes.verts_list()):
            old, faces = self._old_verts[mesh], self._old_faces[mesh]
            if mesh in self.passed_over or not len(faces):  # the same vertices
                corners.append(np.arange(len(new))[:, None].repeat(3, axis=1) + offset)
                weights.append(np.array([[1.0, 0.0, 0.0]]).repeat(len(new), axis=0))
            else:
                _, face, barycentric = _gpytoolbox().squared_distance(_numpy(new), old, faces.astype(np.int32), use_cpp=True)
                corners.append(faces[face] + offset)
                weights.append(barycentric)
            offset += len(old)
        return torch.from_numpy(np.concatenate(corners)), torch.from_numpy(np.concatenate(weights))


def remesh(
    meshes: Any,
    *,
    num_verts: int | None = None,
    edge_length: float | None = None,
    edge_scale: float | None = None,
    iterations: int = 5,
    project: bool = True,
    keep: Tensor | None = None,
    feature_angle: float | None = None,
) -> Remeshed:
    """Makes meshes with even triangles on the same surfaces.

    Vertices on a boundary do not move, nor do those of ``keep``. Non-manifold meshes are repaired if that does not change the
    surface: faces that repeat a vertex or another face, unused vertices, fans that meet in one vertex. Otherwise (edges of
    three faces or more, neighbours of opposite orientation) the mesh is returned unchanged, with a warning.

    Args:
        meshes: ``Meshes``, any batch; empty ones may be among them.
        num_verts: approximate number of vertices of each mesh, by its present area: edges between 3/4 and 4/3 of the length for
            this number are not changed; or
        edge_length: in the units of the positions; or
        edge_scale: as a multiple of the mesh's mean edge length, 0.5 for four times the vertices.
        iterations: rounds of splitting, collapsing, flipping and smoothing.
        project: whether vertices are projected back onto the given surface after smoothing.
        keep: (V,) bool, packed vertices that do not change.
        feature_angle: edges whose faces meet at more than this many degrees stay creases; default: none.

    Returns:
        :class:`Remeshed`, on the device and in the dtype of the meshes. Vertex colours (``TexturesVertex``) are transferred,
        other textures are dropped with a warning.

    Raises:
        ImportError: gpytoolbox is not installed.
        TypeError, ValueError: not exactly one target, a target out of range, positions that are NaN or infinite, a mask of a
            wrong shape.

    Example:
        >>> meshes = remesh(meshes, num_verts=5000).meshes
    """
    target = check_target(num_verts, edge_length, edge_scale)
    if not hasattr(meshes, "verts_list"):
        raise TypeError(f"meshes: expected pytorch3d.structures.Meshes, got {describe(meshes)}")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations: expected an integer of at least 1, got {describe(iterations)}")
    if feature_angle is not None:
        check_number("feature_angle", feature_angle, low=0.0, high=180.0)
    packed = meshes.verts_packed().detach()
    check_finite("meshes", packed)
    sizes = [len(verts) for verts in meshes.verts_list()]
    kept = _kept_of_meshes(keep, sizes)
    old_verts = [_numpy(verts) for verts in meshes.verts_list()]
    old_faces = [faces.cpu().numpy() for faces in meshes.faces_list()]
    new_verts, new_faces, new_kept, passed_over = [], [], [], {}
    for mesh, (verts, faces) in enumerate(zip(old_verts, old_faces, strict=True)):
        made, stays = [verts, faces], kept[mesh]
        try:
            if len(faces):
                old_faces[mesh], num_kept, *made = _remesh_one(verts, faces, stays, target, iterations, project, feature_angle)
                stays = np.arange(len(made[0])) < num_kept
        except _PassedOverError as reason:
            passed_over[mesh] = str(reason)
        new_kept.append(torch.from_numpy(stays).to(packed.device))
        new_verts.append(torch.from_numpy(made[0]).to(packed))
        new_faces.append(torch.from_numpy(np.ascontiguousarray(made[1], dtype=np.int64)).to(packed.device))
    if passed_over:
        reasons = "; ".join(f"mesh {mesh}: {reason}" for mesh, reason in passed_over.items())
        warnings.warn(f"remesh: {len(passed_over)} of {len(sizes)} meshes were returned unchanged: {reasons}", stacklevel=2)
    all_kept = torch.cat([*new_kept, packed.new_zeros(0, dtype=torch.bool)])
    remeshed = Remeshed(meshes.__class__(verts=new_verts, faces=new_faces), all_kept, passed_over, old_verts, old_faces)
    remeshed.meshes.textures = _carried_textures(meshes, remeshed)
    return remeshed


class _PassedOverError(Exception):
    """The reason why a mesh is returned unchanged."""


def _remesh_one(
    verts: np.ndarray,
    faces: np.ndarray,
    kept: np.ndarray,
    target: tuple[str, float],
    iterations: int,
    project: bool,
    feature_angle: float | None,
) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """The repaired old faces, the number of kept vertices (they come first), the new vertices and faces."""
    try:
        clean_faces, old = clean(faces, len(verts))
    except ValueError as error:
        raise _PassedOverError(str(error)) from None
    lost = np.setdiff1d(np.flatnonzero(kept), old)  # of no face, but to be kept
    if len(lost):
        raise _PassedOverError(f"vertex {lost[0]} must be kept, but belongs to no face")
    positions = verts[old]
    edge_length = _edge_length(positions, clean_faces, target)
    feature = np.flatnonzero(kept[old])
    options = {} if feature_angle is None else {"detect_feature_edges": True, "feature_dihedral_threshold": feature_angle}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All vertices in the input mesh are")  # there is nothing to do then
        new_verts, new_faces = _gpytoolbox().remesh_botsch(
            positions, clean_faces, i=iterations, h=edge_length, project=project, feature=feature, **options
        )
    if not len(new_faces) or not np.isfinite(new_verts).all():
        raise _PassedOverError("the remesher returned an empty mesh")
    return old[clean_faces], len(feature), new_verts, new_faces


def _edge_length(positions: np.ndarray, faces: np.ndarray, target: tuple[str, float]) -> float:
    a, b, c = positions[faces].transpose(1, 0, 2)
    area = 0.5 * float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())
    if not area > 0:
        raise _PassedOverError("its area is 0")
    per_vertex = 2 / math.sqrt(3) * area  # of equilateral triangles, two for each vertex: edge length squared
    name, value = target
    if name == "num_verts":
        return math.sqrt(per_vertex / value)
    edge_length = value
    if name == "edge_scale":
        edge_length *= float(np.mean([np.linalg.norm(p - q, axis=1).mean() for p, q in ((a, b), (b, c), (c, a))]))
    if per_vertex > _MOST_VERTS * edge_length**2:
        raise ValueError(
            f"{name}: expected one that leaves at most {_MOST_VERTS:,} vertices, got {value:g} for a mesh of area {area:g}"
        )
    return edge_length


def check_target(num_verts: int | None, edge_length: float | None, edge_scale: float | None) -> tuple[str, float]:
    """The target that is given, with its name; see :func:`remesh`."""
    targets = {"num_verts": num_verts, "edge_length": edge_length, "edge_scale": edge_scale}
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"num_verts: expected one of num_verts, edge_length and edge_scale, got {given or 'none'}")
    name, value = next(iter(given.items()))
    if name == "num_verts" and (isinstance(value, bool) or not isinstance(value, int) or not 4 <= value <= _MOST_VERTS):
        raise ValueError(f"num_verts: expected an integer in [4, {_MOST_VERTS}], got {describe(value)}")
    return name, check_number(name, value, low=0.0, low_open=True)


def _kept_of_meshes(keep: Tensor | None, sizes: list[int]) -> list[np.ndarray]:
    if keep is None:
        return [np.zeros(size, dtype=bool) for size in sizes]
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool or tuple(keep.shape) != (sum(sizes),):
        raise ValueError(f"keep: expected a mask (bool) of shape ({sum(sizes)},), got {describe(keep)}")
    return [part.cpu().numpy() for part in keep.split(sizes)]


def _carried_textures(meshes: Any, remeshed: Remeshed) -> Any:
    textures = meshes.textures
    if textures is None:
        return None
    if not hasattr(textures, "verts_features_packed"):
        warnings.warn(
            f"remesh: {type(textures).__name__} belong to the old faces and are dropped; only vertex colours are kept",
            stacklevel=3,
        )
        return None
    features = remeshed.transfer(textures.verts_features_packed())
    return textures.__class__(verts_features=list(features.split(remeshed.meshes.num_verts_per_mesh().tolist())))


def _numpy(verts: Tensor) -> np.ndarray:
    return verts.detach().cpu().double().numpy()


def _gpytoolbox() -> Any:
    try:
        import gpytoolbox
    except ImportError:
        raise ImportError("remesh needs gpytoolbox: pip install 'pt3d_largesteps[remesh]'") from None
    return gpytoolbox
