"""Measures of a reconstruction: distances, normals, silhouettes, images, self-intersections, flipped faces.

Each takes ``Meshes`` or images and returns plain numbers or tensors on the CPU; none is differentiable. Distances are in the
units of the vertices: scale shapes into the unit ball before comparing numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._checks import check_finite, check_number, describe


@dataclass(frozen=True)
class SurfaceDistance:
    """The distance between two surfaces, measured at points sampled on both.

    Attributes:
        forward: mean squared distance from the points of the first surface to the nearest ones of the second.
        backward: the same from the second to the first.
        normal_consistency: mean of the cosine between the normals of nearest points, of both directions; 1 is best.
    """

    forward: float
    backward: float
    normal_consistency: float

    @property
    def chamfer(self) -> float:
        """The sum of both directions, as in ``pytorch3d.loss.chamfer_distance``."""
        return self.forward + self.backward


def surface_distance(meshes: Any, reference: Any, num_samples: int = 10_000, seed: int = 0) -> SurfaceDistance:
    """Chamfer distance and normal consistency of two meshes.

    Points are sampled uniformly by area, independently on the two meshes. So the distance of a surface to itself is not 0 but
    its sampling noise, about 2 area / (pi num_samples).

    Args:
        meshes, reference: ``Meshes`` of one mesh each.
        num_samples: points on each surface.
        seed: of the sampling; the global random state is left alone.

    Raises:
        ValueError: more than one mesh, or no faces.

    Example:
        >>> surface_distance(result, target).chamfer / surface_distance(target, target).chamfer
    """
    clouds = _sampled(meshes, reference, num_samples, seed)
    directions = [_nearest(*clouds[0], *clouds[1]), _nearest(*clouds[1], *clouds[0])]
    return SurfaceDistance(directions[0][0], directions[1][0], (directions[0][1] + directions[1][1]) / 2)


def _sampled(meshes: Any, reference: Any, num_samples: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points (num_samples, 3) and normals of both surfaces."""
    with _pytorch3d.required():
        from pytorch3d.ops import sample_points_from_meshes
    clouds = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, mesh in (("meshes", meshes), ("reference", reference)):
            _check_single(name, mesh)
            verts = mesh.verts_list()[0].detach().cpu().double()
            # PyTorch3D samples in float32, which far from the origin would hold few digits of the shape.
            center = (verts.amin(0) + verts.amax(0)) / 2
            single = mesh.__class__([(verts - center).float()], [mesh.faces_list()[0].cpu()])
            points, normals = sample_points_from_meshes(single, num_samples, return_normals=True)
            clouds.append(((points[0].double() + center).numpy(), normals[0].double().numpy()))
    return clouds


def _nearest(points: np.ndarray, normals: np.ndarray, others: np.ndarray, other_normals: np.ndarray) -> tuple[float, float]:
    distance, index = cKDTree(others).query(points)
    return float(np.mean(distance**2)), float(np.mean(np.sum(normals * other_normals[index], axis=1)))


@dataclass(frozen=True)
class HausdorffDistance:
    """The largest distance from points of one surface to another surface.

    Attributes:
        forward: the largest distance from a point of the first surface to the second one.
        backward: the same from the second to the first.
    """

    forward: float
    backward: float

    @property
    def symmetric(self) -> float:
        """The larger of both, a metric of closed sets."""
        return max(self.forward, self.backward)


def hausdorff_distance(meshes: Any, reference: Any, num_samples: int = 10_000, seed: int = 0) -> HausdorffDistance:
    """One-sided Hausdorff distances of two meshes, both ways.

    The largest distance over all vertices and over points sampled uniformly by area. Each distance, to the nearest point of the
    other surface, is exact, so the result is a lower bound of the true distance, and close to it for surfaces that are nearly
    flat over each triangle. Needs libigl (``pip install libigl``).

    Args:
        meshes, reference: ``Meshes`` of one mesh each.
        num_samples: points on each surface in addition to its vertices.
        seed: of the sampling; the global random state is left alone.

    Raises:
        ValueError: more than one mesh, or no faces; positions that are NaN or infinite.

    Example:
        >>> hausdorff_distance(ico_sphere(4), ico_sphere(4).scale_verts(1.5)).forward
        0.5
    """
    igl = _import_igl("igl")
    clouds = _sampled(meshes, reference, num_samples, seed)
    surfaces = [_numpy_meshes(mesh)[0] for mesh in (meshes, reference)]
    largest = []
    for (points, _), (verts, faces), other in zip(clouds, surfaces, reversed(surfaces), strict=True):
        points = np.concatenate([points, verts[np.unique(faces)]])
        largest.append(float(np.sqrt(igl.point_mesh_squared_distance(points, *other)[0].max())))
    return HausdorffDistance(*largest)


def peak_signal_to_noise_ratio(images: Tensor, references: Tensor, peak: float = 1.0) -> Tensor:
    """PSNR (N,) in decibels of pairs of images (N, ...): 10 log10(peak^2 / mean squared difference); infinite for equal ones.

    Example:
        >>> peak_signal_to_noise_ratio(torch.zeros(1, 8, 8, 3), torch.full((1, 8, 8, 3), 0.1))
        tensor([20.])
    """
    if images.shape != references.shape or images.dim() < 2 or images[0].numel() == 0:
        raise ValueError(f"images: expected two equal shapes (N, ...), got {describe(images)} and {describe(references)}")
    check_number("peak", peak, low=0.0, low_open=True)
    for name, values in (("images", images), ("references", references)):
        check_finite(name, values.detach())
    mean_squared = (images.detach().double() - references.detach().double()).square().flatten(1).mean(1)
    return (10 * torch.log10(peak**2 / mean_squared)).to(torch.get_default_dtype()).cpu()


def intersection_over_union(masks: Tensor, references: Tensor) -> Tensor:
    """Intersection over union (N,) of pairs of silhouettes (N, H, W) or (N, H, W, 1); inside is above 1/2.

    Two empty silhouettes agree: 1.

    Example:
        >>> intersection_over_union(renderer(result, cameras), renderer(target, cameras)).mean()
    """
    if masks.shape != references.shape or masks.dim() < 3:
        raise ValueError(
            f"masks: expected two equal shapes (N, H, W) or (N, H, W, 1), got {describe(masks)} and {describe(references)}"
        )
    a, b = (masks.detach() > 0.5).flatten(1), (references.detach() > 0.5).flatten(1)
    union = (a | b).sum(1)
    return torch.where(union > 0, (a & b).sum(1) / union.clamp_min(1), 1.0).cpu()


def self_intersecting_faces(meshes: Any) -> Tensor:
    """The fraction (N,) of the faces of each mesh that intersect another face of it, by exact predicates.

    Faces that share an edge or a vertex count only if they also meet elsewhere. Needs libigl (``pip install libigl``).

    Example:
        >>> self_intersecting_faces(ico_sphere(2))
        tensor([0.])
    """
    predicates = _import_igl("igl.predicates")
    fractions = []
    for verts, faces in _numpy_meshes(meshes):
        pairs = predicates.find_self_intersections(verts, faces)[1] if len(faces) else faces
        fractions.append(len(np.unique(pairs)) / max(len(faces), 1))
    return torch.tensor(fractions)


def flipped_faces(meshes: Any, reference: Any) -> Tensor:
    """The fraction (N,) of the faces of each mesh that point the wrong way.

    A face is flipped if its normal and that of the nearest face of the reference (nearest to its centroid) point into
    opposite half-spaces. Needs libigl (``pip install libigl``).

    Args:
        meshes: ``Meshes``.
        reference: ``Meshes`` of one mesh.
    """
    igl = _import_igl("igl")
    _check_single("reference", reference)
    (reference_verts, reference_faces), *_ = _numpy_meshes(reference)
    reference_normals = _face_normals(reference_verts, reference_faces)
    fractions = []
    for verts, faces in _numpy_meshes(meshes):
        if len(faces) == 0:
            fractions.append(0.0)
            continue
        centroids = np.ascontiguousarray(verts[faces].mean(axis=1))
        nearest = igl.point_mesh_squared_distance(centroids, reference_verts, reference_faces)[1]
        cosine = np.sum(_face_normals(verts, faces) * reference_normals[nearest], axis=1)
        fractions.append(float(np.mean(cosine < 0)))
    return torch.tensor(fractions)


def _face_normals(verts: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Not normalised: (F, 3)."""
    corners = verts[faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _numpy_meshes(meshes: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    for mesh, verts in enumerate(meshes.verts_list()):
        check_finite(f"vertices of mesh {mesh}", verts.detach())
    pairs = zip(meshes.verts_list(), meshes.faces_list(), strict=True)
    return [(np.ascontiguousarray(v.detach().cpu().double().numpy()), np.ascontiguousarray(f.cpu().numpy())) for v, f in pairs]


def _check_single(name: str, mesh: Any) -> None:
    if not hasattr(mesh, "faces_list") or len(mesh) != 1 or len(mesh.faces_list()[0]) == 0:
        raise ValueError(f"{name}: expected Meshes of one mesh with at least one face, got {describe(mesh)}")


def _import_igl(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("this measure needs libigl: pip install libigl") from error
