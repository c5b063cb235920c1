"""Clip space: points land where PyTorch3D's own screen transform puts them, between planes that cut away nothing."""

import math

import pytest
import torch
from pytorch3d.renderer import (
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    OrthographicCameras,
    PerspectiveCameras,
    look_at_view_transform,
)
from pytorch3d.renderer.fisheyecameras import FishEyeCameras

from pt3d_largesteps.renderers.clip_space import clip_from_world, depth_range, to_clip_space

VIEWS = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 75.0]), torch.tensor([0.0, 100.0, 215.0]))
SIZES = [(64, 64), (48, 80), (75, 40)]
KINDS = {
    "fov": (FoVPerspectiveCameras, False),
    "fov_orthographic": (FoVOrthographicCameras, False),
    "perspective_ndc": (PerspectiveCameras, False),
    "perspective_screen": (PerspectiveCameras, True),
    "orthographic_ndc": (OrthographicCameras, False),
    "orthographic_screen": (OrthographicCameras, True),
}


def make_cameras(kind, size, rotation=VIEWS[0], translation=VIEWS[1], dtype=torch.float32):
    """Three cameras that differ in everything, with focal lengths that differ between the axes."""
    camera_class, on_screen = KINDS[kind]
    views = {"R": rotation.to(dtype), "T": translation.to(dtype)}
    if kind == "fov":
        return camera_class(**views, fov=torch.tensor([40.0, 50.0, 70.0]), aspect_ratio=1.2)
    if kind == "fov_orthographic":
        return camera_class(**views, max_x=1.5, min_x=torch.tensor([-1.0, -1.2, -1.5]), scale_xyz=((0.9, 1.1, 1.0),))
    focal = torch.tensor([[1.9, 2.1], [1.0, 1.5], [1.2, 0.8]])
    center = torch.tensor([[0.1, -0.1], [0.0, 0.2], [-0.3, 0.0]])
    if not on_screen:
        return camera_class(**views, focal_length=focal, principal_point=center)
    height, width = size
    half = min(size) / 2
    center = torch.tensor([[width / 2, height / 2]]) + half * center
    image_size = torch.tensor([[height, width]]).expand(3, 2)
    return camera_class(**views, focal_length=half * focal, principal_point=center, in_ndc=False, image_size=image_size)


def points(dtype=torch.float32):
    return (torch.rand(3, 50, 3, dtype=torch.float64) * 1.6 - 0.8).to(dtype)


def on_screen(clip, size):
    """Columns and rows (..., 2) in PyTorch3D's screen space, where whole numbers are the borders of pixels."""
    height, width = size
    return (clip[..., :2] / clip[..., 3:] + 1) * torch.tensor([width, height]) / 2


def screen_by_pytorch3d(cameras, verts, size):
    """``cameras.transform_points_screen``, step by step in float64: PyTorch3D's own cannot do this."""
    height, width = size
    verts = verts @ cameras.R.double() + cameras.T.double()[:, None]
    for step in (cameras.get_projection_transform(), cameras.get_ndc_camera_transform()):
        verts = torch.cat([verts, torch.ones_like(verts[..., :1])], dim=-1) @ step.get_matrix().double()
        verts = verts[..., :3] / verts[..., 3:]
    return torch.tensor([width, height]) / 2 - min(size) / 2 * verts[..., :2]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
class TestProjection:
    def test_float64(self, kind, size):
        cameras, verts = make_cameras(kind, size, dtype=torch.float64), points(torch.float64)
        matrices = clip_from_world(cameras, size, 0.1, 10.0)
        assert (matrices.shape, matrices.dtype) == ((3, 4, 4), torch.float64)
        found = on_screen(to_clip_space(verts, matrices), size)
        torch.testing.assert_close(found, screen_by_pytorch3d(cameras, verts, size), atol=1e-5, rtol=0)

    def test_float32(self, kind, size):
        cameras, verts = make_cameras(kind, size), points()
        found = on_screen(to_clip_space(verts, clip_from_world(cameras, size, 0.1, 10.0)), size)
        expected = cameras.transform_points_screen(verts, image_size=(size,))[..., :2]
        assert found.dtype == torch.float32
        ulp = torch.finfo(torch.float32).eps * max(size)
        torch.testing.assert_close(found, expected, atol=16 * ulp, rtol=0)  # PyTorch3D's own rounding is among it

    def test_depth_grows_from_minus_w_at_near_to_w_at_far(self, kind, size):
        cameras = make_cameras(kind, size, dtype=torch.float64)
        depths = torch.tensor([0.5, 0.6, 2.0, 3.9, 4.0], dtype=torch.float64)
        in_view = torch.stack([torch.zeros_like(depths), torch.zeros_like(depths), depths], dim=1)
        world = (in_view - cameras.T[:, None]) @ torch.linalg.inv(cameras.R)
        clip = to_clip_space(world, clip_from_world(cameras, size, 0.5, 4.0))
        ratio = clip[..., 2] / clip[..., 3]
        assert (clip[..., 3] > 0).all()
        torch.testing.assert_close(ratio[:, [0, -1]], torch.tensor([[-1.0, 1.0]]).double().expand(3, 2), atol=1e-9, rtol=0)
        assert (ratio.diff(dim=1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_cameras_are_pytorch3ds(kind):
    size, gradients = (48, 80), []
    weights = torch.randn(3, 50, 2)
    verts = points()
    for project in (
        lambda cameras: on_screen(to_clip_space(verts, clip_from_world(cameras, size, 0.1, 10.0)), size),
        lambda cameras: cameras.transform_points_screen(verts, image_size=(size,))[..., :2],
    ):
        rotation, translation = (view.clone().requires_grad_() for view in VIEWS)
        cameras = make_cameras(kind, size, rotation, translation)
        inputs = [rotation, translation]
        if hasattr(cameras, "focal_length"):
            inputs += [cameras.focal_length.requires_grad_(), cameras.principal_point.requires_grad_()]
        gradients.append(torch.autograd.grad((project(cameras) * weights).sum(), inputs))
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.norm() > 0
        torch.testing.assert_close(ours, theirs, atol=1e-3 * theirs.abs().max().item(), rtol=0)


def test_gradients_by_finite_differences():
    verts = points(torch.float64)

    def projected(rotation, translation):
        cameras = PerspectiveCameras(R=rotation, T=translation)
        return to_clip_space(verts, clip_from_world(cameras, (4, 6), 0.1, 10.0))

    torch.autograd.gradcheck(projected, [view.double().requires_grad_() for view in VIEWS])


def test_the_plane_of_the_camera_and_what_is_behind_it_stay_finite():
    cameras = FoVPerspectiveCameras()
    clip = to_clip_space(torch.tensor([[[1.0, 2.0, 0.0], [1.0, 2.0, -3.0]]]), clip_from_world(cameras, 8, 0.1, 10.0))
    assert clip.isfinite().all()
    assert clip[0, :, 3].tolist() == [0.0, -3.0]


class TestPlanes:
    def test_defaults_are_the_cameras(self):
        cameras = FoVPerspectiveCameras(znear=torch.tensor([2.0, 1.0]), zfar=torch.tensor([50.0, 60.0]))
        assert torch.equal(clip_from_world(cameras, 8), clip_from_world(cameras, 8, 0.5, torch.tensor([50.0, 60.0])))
        cameras = FoVOrthographicCameras(znear=1.0, zfar=30.0)
        assert torch.equal(clip_from_world(cameras, 8), clip_from_world(cameras, 8, 0.0, 30.0))

    @pytest.mark.parametrize("distance", [0.8, 2.7, 500.0])
    @pytest.mark.parametrize("kind", KINDS)
    def test_all_vertices_in_front_are_between_them(self, kind, distance):
        rotation, translation = look_at_view_transform(distance, torch.tensor([10.0, -20.0, 75.0]), torch.zeros(3))
        cameras, verts = make_cameras(kind, (64, 64), rotation, translation), points()
        near, far = depth_range(cameras, verts)
        clip = to_clip_space(verts, clip_from_world(cameras, 64, near, far))
        depth = cameras.get_world_to_view_transform().transform_points(verts)[..., 2]
        least = 0.5 if kind == "fov" else 0.01
        in_front = depth > least
        assert in_front.any()
        assert (clip[..., 2].abs() < clip[..., 3])[in_front].all()
        if kind.startswith(("fov_", "ortho")):
            assert (near >= 0).all()
        else:
            assert (far / near).max() < 1100

    def test_each_camera_has_its_own(self):
        cameras = PerspectiveCameras(T=torch.tensor([[0.0, 0, 3], [0, 0, 3000]]))
        near, far = depth_range(cameras, points()[:1])
        assert near[0] < 3 < far[0] < 5
        assert 1000 < near[1] < 2999 < far[1] < 3100

    def test_one_camera_before_several_meshes(self):
        verts = torch.stack([points()[0], points()[0] * 100 + 300])
        camera = PerspectiveCameras(T=torch.tensor([[0.0, 0, 3]]))
        near, far = depth_range(camera, verts)
        matrices = clip_from_world(camera, 8, near, far)
        assert matrices.shape == (2, 4, 4)
        clip = to_clip_space(verts, matrices)
        assert (clip[..., 2].abs() < clip[..., 3]).all()

    def test_what_does_not_count(self):
        verts = torch.tensor([[[0.0, 0, 2], [0, 0, 4], [0, 0, math.nan], [0, 0, math.inf], [0, 0, 90]]])
        near, far = depth_range(PerspectiveCameras(), verts, torch.tensor([[True, True, True, True, False]]))
        assert near.tolist() == [1.0]
        assert 4 < far.item() < 4.1

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("depth", [-3.0, 0.0, math.nan])
    def test_nothing_in_sight(self, kind, depth):
        cameras = make_cameras(kind, (8, 8), torch.eye(3).expand(3, 3, 3), torch.zeros(3, 3))
        near, far = depth_range(cameras, torch.tensor([[[0.0, 0.0, depth]]]))
        assert clip_from_world(cameras, 8, near, far).isfinite().all()
        assert (far > near).all()

    def test_the_near_plane_is_where_pytorch3d_clips(self):
        cameras = FoVPerspectiveCameras(znear=torch.tensor([2.0, 1.0]))
        near, _ = depth_range(cameras, torch.tensor([[[0.0, 0, -1], [0, 0, 5]]]))
        assert near.tolist() == [0.5, 0.5]


class TestErrors:
    def test_fisheye_cameras(self):
        cameras = FishEyeCameras(R=VIEWS[0], T=VIEWS[1], focal_length=torch.ones(3, 1))
        with pytest.raises(TypeError, match="cameras: expected cameras with a projection matrix, got FishEyeCameras"):
            clip_from_world(cameras, 8, 0.1, 1.0)

    def test_planes(self):
        with pytest.raises(ValueError, match="near: expected a depth, as PerspectiveCameras has no znear, got None"):
            clip_from_world(PerspectiveCameras(), 8)
        with pytest.raises(ValueError, match="far: expected a depth, as OrthographicCameras has no zfar, got None"):
            clip_from_world(OrthographicCameras(), 8)
        with pytest.raises(ValueError, match=r"near: expected a finite number in \(0, infinity\), got 0"):
            clip_from_world(PerspectiveCameras(), 8, 0.0, 1.0)
        with pytest.raises(ValueError, match="far: expected more than near, 2, got 1"):
            clip_from_world(PerspectiveCameras(), 8, 2.0, 1.0)
        with pytest.raises(
            ValueError, match=r"far: expected a number or a tensor of shape \(3,\), got a tensor of shape \(2,\)"
        ):
            clip_from_world(make_cameras("fov", (8, 8)), 8, 1.0, torch.tensor([3.0, 4.0]))

    @pytest.mark.parametrize("size", [0, (4, 0), (4, 4, 4), "large", 2.5])
    def test_image_size(self, size):
        with pytest.raises(ValueError, match=r"image_size: expected a positive int or \(H, W\), got"):
            clip_from_world(FoVPerspectiveCameras(), size)
