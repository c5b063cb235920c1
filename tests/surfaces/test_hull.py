"""The visual hull: where its surface lies, its parts and handles, every kind of camera, and what is refused."""

import sys
from functools import cache

import numpy as np
import pytest
import torch
from pytorch3d.renderer import (
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    OrthographicCameras,
    PerspectiveCameras,
    look_at_view_transform,
)
from pytorch3d.structures import Meshes, join_meshes_as_scene
from pytorch3d.utils import ico_sphere
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pt3d_largesteps.reconstruction.loading import into_unit_ball
from pt3d_largesteps.reconstruction.shapes import SHAPES
from pt3d_largesteps.reconstruction.views import DISTANCE, FIELD_OF_VIEW, fibonacci_cameras
from pt3d_largesteps.renderers import PyTorch3DRenderer
from pt3d_largesteps.surfaces.hull import visual_hull

GENUS = {"animal": [0], "pot": [1], "mug": [1], "pretzel": [3], "links": [1, 1], "hand": [0], "star": [0]}  # of each part
PIXEL = DISTANCE * np.tan(np.radians(FIELD_OF_VIEW / 2)) / 64  # at the origin, of 128


def genus_of_parts(meshes) -> list[int]:
    """From V - E + F = 2 - 2 genus of each part; fails unless every edge has two faces, in opposite directions."""
    faces = meshes.faces_packed().cpu().numpy()
    tails, heads = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    num_verts = len(meshes.verts_packed())
    directed, counts = np.unique(tails * num_verts + heads, return_counts=True)
    assert (counts == 1).all()
    assert np.array_equal(directed, np.unique(heads * num_verts + tails))
    graph = coo_matrix((np.ones(len(tails)), (tails, heads)), shape=(num_verts, num_verts))
    num_parts, part = connected_components(graph, directed=False)
    verts, half_edges, triangles = (
        np.bincount(part[i], minlength=num_parts) for i in (np.arange(num_verts), tails, faces[:, 0])
    )
    euler = verts - half_edges // 2 + triangles
    assert (euler % 2 == 0).all()
    return sorted((1 - euler // 2).tolist())


def volume(meshes) -> float:
    a, b, c = meshes.verts_packed().double()[meshes.faces_packed()].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def silhouettes(meshes, cameras, size=128) -> torch.Tensor:
    with torch.no_grad():
        return PyTorch3DRenderer(size)(meshes, cameras)


def sphere(radius=0.7, center=(0.0, 0.0, 0.0)) -> Meshes:
    return ico_sphere(4).scale_verts(radius).offset_verts(torch.tensor(center))


def check_sphere(hull, radius=0.7, center=(0.0, 0.0, 0.0), tolerance=0.01, excess=1.12) -> None:
    """No part of the sphere is missing, and there is little else; oriented outward, closed, in one piece."""
    away = (hull.verts_packed() - torch.tensor(center)).norm(dim=1) / radius
    assert genus_of_parts(hull) == [0]
    assert 1 - tolerance < float(away.min())
    assert float(away.max()) < excess
    assert 1 - 2 * tolerance < volume(hull) / (4 / 3 * np.pi * radius**3) < 1 + 0.5 * (excess**3 - 1)


@cache
def sphere_views(num_views=32, size=128):
    cameras = fibonacci_cameras(num_views)
    return silhouettes(sphere(), cameras, size), cameras


class TestSurface:
    def test_sphere(self):
        hull = visual_hull(*sphere_views(), resolution=64)
        check_sphere(hull, tolerance=0.5 * PIXEL / 0.7, excess=1.05)
        assert volume(hull) < 1.03 * 4 / 3 * np.pi * 0.7**3
        assert len(hull) == 1
        assert hull.verts_packed().dtype == torch.float32

    def test_silhouettes_of_the_hull_are_those_given(self):
        cameras = fibonacci_cameras(12)
        masks = silhouettes(into_unit_ball(SHAPES["animal"](64)), cameras)
        again = silhouettes(visual_hull(masks, cameras, resolution=128), cameras)
        assert float((again - masks).abs().sum() / masks.sum()) < 0.02

    def test_antialiased_masks_say_more_than_booleans(self):
        masks, cameras = sphere_views(24, 48)
        soft, hard = visual_hull(masks, cameras, resolution=48), visual_hull(masks[..., 0] > 0.5, cameras, resolution=48)
        check_sphere(soft, tolerance=0.015)
        check_sphere(hard, tolerance=0.06)
        nearest = [float(hull.verts_packed().norm(dim=1).min()) for hull in (soft, hard)]
        assert 0.7 - nearest[0] < 0.5 * (0.7 - nearest[1])

    def test_shapes_and_dtypes_of_masks(self):
        masks, cameras = sphere_views(8, 64)
        hull = visual_hull(masks, cameras, resolution=32)
        for other in (masks[..., 0], masks.double(), masks.clone().requires_grad_()):
            same = visual_hull(other, cameras, resolution=32)
            assert torch.equal(same.verts_packed(), hull.verts_packed())
            assert same.verts_packed().dtype == torch.float32
            assert not same.verts_packed().requires_grad

    def test_devices(self, device):
        masks, cameras = sphere_views(8, 64)
        hull = visual_hull(masks.to(device), cameras.clone().to(device), resolution=32)
        assert hull.device == device
        torch.testing.assert_close(volume(hull), volume(visual_hull(masks, cameras, resolution=32)), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("size", [(72, 128), (128, 72)])
    def test_images_that_are_not_square(self, size):
        center = (0.4, 0.2, -0.1)
        cameras = fibonacci_cameras(16)
        hull = visual_hull(silhouettes(sphere(0.4, center), cameras, size), cameras, resolution=48)
        check_sphere(hull, 0.4, center, tolerance=0.05)

    def test_images_finer_than_the_grid(self):
        check_sphere(visual_hull(*sphere_views(16, 320), resolution=24), tolerance=0.015, excess=1.06)

    def test_any_unit_and_place(self):
        center = (300.0, -200.0, 100.0)
        R, T = look_at_view_transform(
            dist=270.0, elev=torch.arange(-80.0, 81.0, 9.0), azim=137.5 * torch.arange(18), at=(center,)
        )
        cameras = FoVPerspectiveCameras(R=R, T=T, fov=45.0, zfar=1e4)
        check_sphere(visual_hull(silhouettes(sphere(70.0, center), cameras), cameras, resolution=48), 70.0, center, 0.015, 1.06)

    def test_a_limb_two_pixels_wide(self):
        limb = sphere(1.0)
        limb = limb.update_padded(limb.verts_padded() * torch.tensor([0.8, PIXEL, PIXEL]))
        cameras = fibonacci_cameras(32)
        hull = visual_hull(silhouettes(limb, cameras), cameras)
        assert genus_of_parts(hull) == [0]
        wider = 0.8 * (1 - 0.75**2) ** 0.5  # where it is wider than a pixel and a half
        assert float(hull.verts_packed()[:, 0].min()) < -wider
        assert float(hull.verts_packed()[:, 0].max()) > wider


class TestTopology:
    @pytest.mark.parametrize("name", SHAPES)
    def test_parts_and_handles_are_those_of_the_shape(self, name):
        shape = into_unit_ball(SHAPES[name](64))
        assert genus_of_parts(shape) == GENUS[name]
        assert volume(shape) > 0
        cameras = fibonacci_cameras(32)
        hull = visual_hull(silhouettes(shape, cameras), cameras)
        assert genus_of_parts(hull) == GENUS[name]
        inside = 2.5 if name == "mug" else 1.0  # no outline shows the mug's inside
        assert 0.95 * inside < volume(hull) / volume(shape) < 1.05 * inside

    def test_remeshed(self):
        cameras = fibonacci_cameras(32)
        hull = visual_hull(silhouettes(into_unit_ball(SHAPES["links"](64)), cameras), cameras, resolution=64, num_verts=3000)
        assert genus_of_parts(hull) == GENUS["links"]
        assert 0.85 * 3000 < len(hull.verts_packed()) < 1.15 * 3000

    def test_small_parts(self):
        cameras = fibonacci_cameras(32)
        masks = silhouettes(join_meshes_as_scene([sphere(0.4, (-0.3, 0.0, 0.0)), sphere(0.07, (0.6, 0.0, 0.0))]), cameras)
        assert genus_of_parts(visual_hull(masks, cameras, smallest_part=0.0, resolution=48)) == [0, 0]
        check_sphere(visual_hull(masks, cameras, resolution=48), 0.4, (-0.3, 0.0, 0.0), tolerance=0.03)


class TestCameras:
    def test_views_that_do_not_see_all(self):
        cameras = fibonacci_cameras(32)
        R, T = look_at_view_transform(dist=2.7, azim=torch.arange(0.0, 360.0, 60.0), at=((0.6, 0.3, 0.0),))
        close = FoVPerspectiveCameras(R=R, T=T, fov=30.0)
        masks = silhouettes(sphere(), close)
        border = torch.cat([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], dim=1)
        assert bool((border > 0.5).any(1).all())  # they cut the sphere
        both = FoVPerspectiveCameras(
            R=torch.cat([cameras.R, R]), T=torch.cat([cameras.T, T]), fov=torch.tensor([FIELD_OF_VIEW] * 32 + [30.0] * 6)
        )
        hull = visual_hull(torch.cat([sphere_views()[0], masks]), both, resolution=64)
        check_sphere(hull, tolerance=0.5 * PIXEL / 0.7, excess=1.05)

    def test_what_a_view_of_the_whole_does_not_see_is_empty(self):
        """Near each of the cameras there is space that the others do not see."""
        R, T = look_at_view_transform(eye=2.7 * torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1], [0.1, 1, 0]]))
        cameras = FoVPerspectiveCameras(R=R, T=T, fov=45.0)
        hull = visual_hull(silhouettes(sphere(0.8), cameras), cameras)
        assert genus_of_parts(hull) == [0]
        assert float(hull.verts_packed().norm(dim=1).max()) < 0.8 * 3**0.5 * 1.1

    @pytest.mark.parametrize("kind", ["fov_orthographic", "orthographic", "perspective", "screen"])
    def test_kinds(self, kind):
        views = fibonacci_cameras(16)
        pose = {"R": views.R, "T": views.T}
        size = torch.tensor([[96, 128]]).expand(16, 2)
        cameras = {
            "fov_orthographic": lambda: FoVOrthographicCameras(**pose, scale_xyz=((0.9, 0.9, 1.0),)),
            "orthographic": lambda: OrthographicCameras(**pose, focal_length=0.8),
            "perspective": lambda: PerspectiveCameras(**pose, focal_length=2.2, principal_point=((0.1, -0.05),)),
            "screen": lambda: PerspectiveCameras(
                **pose, focal_length=105.0, principal_point=((60.0, 50.0),), in_ndc=False, image_size=size
            ),
        }[kind]()
        center = (0.15, -0.1, 0.2)
        hull = visual_hull(silhouettes(sphere(0.6, center), cameras, (96, 128)), cameras, resolution=48)
        check_sphere(hull, 0.6, center, tolerance=0.03)

    def test_one_view_wants_a_place(self):
        masks, cameras = sphere_views(8, 64)
        with pytest.raises(ValueError, match=r"center: expected one, and a radius, as all optical axes \(1\) are parallel"):
            visual_hull(masks[:1], cameras[[0]])
        hull = visual_hull(masks[:1], cameras[[0]], center=(0.0, 0.0, 0.0), radius=0.5, resolution=32)
        assert genus_of_parts(hull) == [0]
        torch.testing.assert_close(volume(hull), 1.0, rtol=0.05, atol=0)  # the silhouette's cone fills the cube

    def test_nothing_is_behind_a_camera(self):
        R, T = look_at_view_transform(eye=torch.tensor([[2.7, 0.0, 0.0], [-2.7, 0.0, 0.0]]))
        cameras = FoVPerspectiveCameras(R=R, T=T, fov=45.0)
        hull = visual_hull(silhouettes(sphere(), cameras, 64), cameras, center=(0.0, 0.0, 0.0), radius=4.0, resolution=32)
        assert genus_of_parts(hull) == [0]
        assert 2.0 < float(hull.verts_packed()[:, 0].abs().max()) < 2.7 + 4.0 / 15

    def test_what_no_view_sees_is_empty(self):
        cameras = fibonacci_cameras(8)[[3]]
        hull = visual_hull(torch.ones(1, 16, 16), cameras, center=(0.0, 0.0, 0.0), radius=1.5, resolution=32)
        ndc = cameras.transform_points_ndc(hull.verts_packed())[:, :2].abs()
        assert 0.9 < float(ndc.max()) < 1.0 + 0.15  # less than a sample farther than the image
        assert volume(hull) < 0.75 * 3**3

    def test_the_box_cuts_the_hull(self):
        hull = visual_hull(*sphere_views(8, 64), center=torch.tensor([0.7, 0.0, 0.0]), radius=0.5, resolution=48)
        assert genus_of_parts(hull) == [0]
        assert volume(hull) > 0
        assert 0.15 < float(hull.verts_packed()[:, 0].min()) <= 0.2 + 1e-6


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"resolution": 7}, r"resolution: expected an integer in \[8, 512\], got int 7"),
            ({"resolution": 513}, "resolution: expected an integer"),
            ({"resolution": 64.0}, "resolution: expected an integer"),
            ({"smallest_part": 1.0}, r"smallest_part: expected a finite number in \[0, 1\), got 1.0"),
            ({"center": (0.0, 1.0)}, "center: expected three numbers, got tuple"),
            ({"center": (0.0, 1.0, float("nan"))}, "center: expected a finite number"),
            ({"center": torch.tensor(0.0)}, "center: expected three numbers, got a tensor"),
            ({"center": 3.0}, "center: expected three numbers, got float"),
            ({"radius": 0.0}, r"radius: expected a finite number in \(0, infinity\), got 0.0"),
            ({"num_verts": 3}, "num_verts: expected an integer"),
            ({"center": (50.0, 0.0, 0.0), "radius": 1.0}, "masks: .* the hull is empty"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            visual_hull(*sphere_views(8, 64), **{"resolution": 16, **options})

    def test_masks(self):
        masks, cameras = sphere_views(8, 64)
        nan, empty, white = masks.clone(), masks.clone(), masks * 255
        nan[3, 2, 1] = float("nan")
        empty[5] = 0.0
        for wrong, error, message in [
            (masks.numpy(), TypeError, "masks: expected a tensor of booleans or floating-point numbers, got ndarray"),
            (masks.byte(), TypeError, "masks: expected a tensor of booleans or floating-point numbers, got a tensor"),
            (masks[0, ..., 0], ValueError, r"masks: expected the shape \(N, H, W\) or \(N, H, W, 1\), got a tensor of shape"),
            (masks.expand(-1, -1, -1, 4), ValueError, "masks: expected the shape"),
            (masks[:0], ValueError, "masks: expected the shape"),
            (masks[:7], ValueError, "cameras: expected one for each of the 7 masks, got 8"),
            (nan, ValueError, r"masks: expected finite numbers, got nan at index \(3, 2, 1\)"),
            (empty, ValueError, r"masks: expected a silhouette in every view, got none in view 5 \(1 of 8 are empty\)"),
            (white, ValueError, r"masks: expected numbers in \[0, 1\], got some from 0 to 255"),
        ]:
            with pytest.raises(error, match=message):
                visual_hull(wrong, cameras)

    def test_cameras(self):
        masks, cameras = sphere_views(8, 64)
        with pytest.raises(ValueError, match="cameras: expected one for each of the 8 masks, got 1"):
            visual_hull(masks, cameras[[0]])
        with pytest.raises(TypeError, match="cameras: expected cameras of PyTorch3D, got NoneType None"):
            visual_hull(masks, None)

    def test_cameras_of_other_masks(self):
        cameras = fibonacci_cameras(8)
        masks = silhouettes(sphere(0.1, (0.8, 0.0, 0.0)), cameras, 64)
        with pytest.raises(ValueError, match="the hull is empty; do the cameras belong to the masks"):
            visual_hull(masks.flip(0), cameras, resolution=32)

    def test_without_scikit_image(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage.measure", None)
        with pytest.raises(ImportError, match=r"pip install 'pt3d_largesteps\[hull\]'"):
            visual_hull(*sphere_views(8, 64))
