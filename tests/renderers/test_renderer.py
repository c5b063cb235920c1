"""The renderer as a whole: what it takes, what it refuses, what its images hold."""

import math

import pytest
import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.renderer.fisheyecameras import FishEyeCameras
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight, vertex_normals
from pt3d_largesteps.renderers.shading import spherical_harmonics
from support.comparing import assert_equal_to_rounding
from support.shapes import empty, grid

LOOK = look_at_view_transform(2.7, torch.tensor([10.0, 60.0]), torch.tensor([0.0, 215.0]))
WHITE = SphericalHarmonicsLight.from_directions(torch.zeros(0, 3), torch.zeros(0, 3), ambient=1.0)


def cameras_on(device) -> FoVPerspectiveCameras:
    return FoVPerspectiveCameras(R=LOOK[0], T=LOOK[1], fov=45.0, device=device)


class TestImages:
    def test_a_white_world_shines_equally_from_everywhere(self, device):
        images = PyTorch3DRenderer(48, WHITE)(ico_sphere(3).to(device), cameras_on(device))
        assert images.shape == (2, 48, 48, 4)
        assert_equal_to_rounding(images[..., :3], images[..., 3:].expand(-1, -1, -1, 3), roundings=20)

    def test_background(self, device):
        images = PyTorch3DRenderer(16, WHITE, background=(0.2, 0.4, 0.6))(ico_sphere(1).to(device), cameras_on(device))
        torch.testing.assert_close(images[0, 0, 0], torch.tensor([0.2, 0.4, 0.6, 0.0], device=device))

    def test_without_antialiasing_alpha_is_zero_or_one(self, device):
        images = PyTorch3DRenderer(32, antialiased=False)(ico_sphere(2).to(device), cameras_on(device))
        assert set(images.unique().tolist()) == {0.0, 1.0}
        assert not images.requires_grad

    def test_rows_go_down_and_columns_to_the_right(self, device):
        up_left = Meshes([torch.tensor([[0.5, 0.5, 2.0], [1.0, 0.5, 2.0], [0.5, 1.0, 2.0]])], [torch.tensor([[0, 1, 2]])])
        cameras = FoVPerspectiveCameras(fov=90.0, device=device)
        rows, cols = PyTorch3DRenderer(32, antialiased=False)(up_left.to(device), cameras)[0, ..., 0].nonzero().T
        assert rows.max() < 16
        assert cols.max() < 16  # +x is to the left in PyTorch3D

    def test_empty_meshes_are_background(self, device):
        batch = join_meshes_as_batch([empty(), ico_sphere(1)]).to(device)
        images = PyTorch3DRenderer(16, WHITE)(batch, cameras_on(device))
        assert images[0].abs().max() == 0
        assert images[1, ..., 3].max() == 1
        images = PyTorch3DRenderer(16, WHITE)(empty().to(device), cameras_on(device))
        assert (images.shape, images.device) == ((2, 16, 16, 4), device)

    def test_meshes_out_of_sight(self, device):
        sphere = ico_sphere(1).to(device)
        verts = (sphere.verts_packed() + 100.0).requires_grad_()
        images = PyTorch3DRenderer(16)(Meshes([verts], sphere.faces_list()), cameras_on(device))
        assert images.abs().max() == 0
        images.sum().backward()  # a loop that has lost sight of its mesh goes on
        assert verts.grad.abs().max() == 0

    def test_a_mesh_that_fills_the_image(self, device):
        sphere = ico_sphere(1).to(device)
        verts = (sphere.verts_packed() * 2.6).requires_grad_()
        PyTorch3DRenderer(16)(Meshes([verts], sphere.faces_list()), cameras_on(device)).sum().backward()
        assert torch.isfinite(verts.grad).all()

    def test_fisheye_cameras(self):
        cameras = FishEyeCameras(R=LOOK[0], T=LOOK[1], focal_length=torch.ones(2, 1), world_coordinates=True)
        assert 0 < PyTorch3DRenderer(24, WHITE)(ico_sphere(2), cameras)[..., 3].mean() < 1

    def test_float64_meshes(self, device):
        sphere, cameras = ico_sphere(2).to(device), cameras_on(device)
        double = Meshes([sphere.verts_packed().double().requires_grad_()], sphere.faces_list())
        images = PyTorch3DRenderer(24, WHITE)(double, cameras)
        # What is blended at an outline is measured in pixels, of which the coordinates are up to 24.
        assert_equal_to_rounding(images, PyTorch3DRenderer(24, WHITE)(sphere, cameras), roundings=10, scale=24.0)
        (gradient,) = torch.autograd.grad(images[..., 3].sum(), double.verts_packed())
        assert gradient.dtype == torch.float64

    def test_the_same_meshes_twice(self, device):
        sphere = ico_sphere(2).to(device)
        verts = sphere.verts_packed().clone().requires_grad_()
        meshes = Meshes([verts], sphere.faces_list())
        renderer = PyTorch3DRenderer(24, SphericalHarmonicsLight.default())
        for _ in range(2):
            renderer(meshes, cameras_on(device)).sum().backward()

    def test_every_device_sees_the_same(self, device):
        light = SphericalHarmonicsLight.default()
        images, gradients = [], []
        for place in (torch.device("cpu"), device):
            sphere = ico_sphere(3).to(place)
            verts = sphere.verts_packed().clone().requires_grad_()
            images.append(PyTorch3DRenderer(48, light)(Meshes([verts], sphere.faces_list()), cameras_on(place)))
            images[-1].square().sum().backward()
            gradients.append(verts.grad.cpu())
        assert images[1].device == device
        differs = (images[0] - images[1].cpu()).abs().amax(-1) > 1e-3
        assert differs.float().mean() < 2e-3  # where rounding decides which face a pixel sees
        assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm()

    def test_the_closest_faces_across_the_near_plane_are_clipped(self, device):
        # a long floor from behind the camera to far before it: half of the image
        floor = Meshes([torch.tensor([[-50.0, -1, -50], [50, -1, -50], [0, -1, 100]])], [torch.tensor([[0, 1, 2]])]).to(device)
        cameras = FoVPerspectiveCameras(fov=90.0, znear=0.1, device=device)
        image = PyTorch3DRenderer(32, antialiased=False)(floor, cameras)[0, ..., 0]
        assert image[:16].sum() == 0
        assert image[20:].min() == 1

    def test_a_vertex_in_the_plane_of_the_camera_has_a_finite_gradient(self, device):
        camera = FoVPerspectiveCameras(R=torch.eye(3)[None], T=torch.zeros(1, 3), fov=45.0, znear=0.1, device=device)
        # One triangle in sight, and one with a corner in the plane, beside the camera.
        verts = [[-0.2, -0.2, 1.0], [0.3, -0.2, 1.0], [0.0, 0.3, 1.0], [1.0, 0.5, 0.0], [0.5, 0.0, 1.0], [0.5, 0.5, 1.0]]
        verts = torch.tensor(verts, device=device, requires_grad=True)
        mesh = Meshes([verts], [torch.tensor([[0, 1, 2], [3, 4, 5]], device=device)])
        images = PyTorch3DRenderer(32, WHITE)(mesh, camera)
        images.square().sum().backward()
        assert images.isfinite().all()
        assert verts.grad.isfinite().all()
        assert verts.grad[:3].abs().sum() > 0


class TestShading:
    def test_spherical_harmonics_are_orthonormal(self):
        count = 20_000
        k = torch.arange(count, dtype=torch.float64) + 0.5
        z, azimuth = 1 - 2 * k / count, k * math.pi * (3 - math.sqrt(5))
        r = (1 - z**2).sqrt()
        basis = spherical_harmonics(torch.stack([r * azimuth.cos(), r * azimuth.sin(), z], dim=1))
        torch.testing.assert_close(basis.T @ basis * (4 * math.pi / count), torch.eye(9).double(), atol=1e-3, rtol=0)

    def test_irradiance_equals_the_integral_over_the_hemisphere(self):
        # For radiance of order 2 the formula is exact: E(n) / pi = 1 / pi integral of L(w) max(n . w, 0).
        torch.manual_seed(3)
        light = SphericalHarmonicsLight(torch.randn(9, 3).double())
        count = 200_000
        k = torch.arange(count, dtype=torch.float64) + 0.5
        z, azimuth = 1 - 2 * k / count, k * math.pi * (3 - math.sqrt(5))
        r = (1 - z**2).sqrt()
        world = torch.stack([r * azimuth.cos(), r * azimuth.sin(), z], dim=1)
        radiance = spherical_harmonics(world) @ light.coefficients
        normals = torch.nn.functional.normalize(torch.randn(5, 3).double(), dim=1)
        integral = (normals @ world.T).clamp_min(0) @ radiance * (4 * math.pi / count) / math.pi
        torch.testing.assert_close(light(normals), integral, atol=1e-3, rtol=1e-3)

    def test_environment_map_of_one_colour(self):
        light = SphericalHarmonicsLight.from_environment_map(torch.ones(64, 128, 3).double() * torch.tensor([1.0, 2.0, 3.0]))
        normals = torch.nn.functional.normalize(torch.randn(5, 3).double(), dim=1)
        torch.testing.assert_close(light(normals), torch.tensor([1.0, 2.0, 3.0]).double().expand(5, 3), rtol=1e-3, atol=1e-3)

    def test_environment_map_directions(self):
        # bright above; then bright ahead (+z), in the middle column
        sky = torch.zeros(64, 128, 3)
        sky[:32] = 1
        up, down = SphericalHarmonicsLight.from_environment_map(sky)(torch.tensor([[0.0, 1, 0], [0.0, -1, 0]]))
        assert up.min() > 0.9
        assert down.max() < 0.1
        ahead = torch.zeros(64, 128, 3)
        ahead[:, 32:96] = 1
        front, back = SphericalHarmonicsLight.from_environment_map(ahead)(torch.tensor([[0.0, 0, 1], [0.0, 0, -1]]))
        assert front.min() > 0.9
        assert back.max() < 0.1

    def test_a_light_from_one_side(self):
        light = SphericalHarmonicsLight.from_directions(torch.tensor([[0.0, 2.0, 0.0]]), torch.full((1, 3), math.pi))
        shades = light(torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, -1, 0]]))[:, 0]
        assert shades[0] > 0.9
        assert shades[1] < 0.3
        assert shades[2].abs() < 0.15

    def test_the_default_light_is_bounded(self, device):
        shades = SphericalHarmonicsLight.default().to(device)(ico_sphere(4).to(device).verts_packed())
        assert shades.min() > 0.1
        assert shades.max() <= 1.0

    @pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e6])
    def test_vertex_normals_know_no_scale(self, scale, device):
        sphere = ico_sphere(3).to(device)
        normals = vertex_normals(sphere.verts_packed() * scale, sphere.faces_packed())
        torch.testing.assert_close(normals, sphere.verts_normals_packed(), atol=1e-5, rtol=0)

    def test_vertex_normals_of_unused_vertices_are_zero_with_finite_gradients(self, device):
        verts = torch.cat([grid().verts_packed(), torch.ones(2, 3)]).to(device).requires_grad_()
        normals = vertex_normals(verts, grid().faces_packed().to(device))
        assert (normals[-2:] == 0).all()
        normals.sum().backward()
        assert torch.isfinite(verts.grad).all()


class TestErrors:
    @pytest.mark.parametrize("size", [0, -3, (4, 0), (4, 4, 4), "large", 2.5])
    def test_image_size(self, size):
        with pytest.raises(ValueError, match=r"image_size: expected a positive int or \(H, W\), got"):
            PyTorch3DRenderer(size)

    def test_number_of_cameras(self):
        with pytest.raises(ValueError, match="cameras: expected 1 or 3 cameras for 3 meshes, got 2"):
            PyTorch3DRenderer(8)(ico_sphere(0).extend(3), cameras_on("cpu"))

    def test_double_cameras(self):
        cameras = FoVPerspectiveCameras(R=LOOK[0].double(), T=LOOK[1].double())
        with pytest.raises(TypeError, match="cameras: expected float32 cameras"):
            PyTorch3DRenderer(8)(ico_sphere(0), cameras)

    def test_what_is_no_camera_or_no_meshes(self):
        with pytest.raises(TypeError, match="cameras: expected PyTorch3D cameras"):
            PyTorch3DRenderer(8)(ico_sphere(0), None)
        with pytest.raises(TypeError, match="meshes: expected Meshes"):
            PyTorch3DRenderer(8)(ico_sphere(0).verts_packed(), cameras_on("cpu"))

    def test_light_coefficients(self):
        with pytest.raises(
            ValueError, match=r"coefficients: expected a tensor of shape \(9, 3\) or \(N, 9, 3\), got .*\(4, 3\)"
        ):
            SphericalHarmonicsLight(torch.zeros(4, 3))
        with pytest.raises(ValueError, match="coefficients: expected finite numbers, got nan"):
            SphericalHarmonicsLight(torch.full((9, 3), math.nan))
        with pytest.raises(ValueError, match=r"radiance: expected an equirectangular map"):
            SphericalHarmonicsLight.from_environment_map(torch.zeros(4, 4))
