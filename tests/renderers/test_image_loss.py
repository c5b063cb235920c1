"""ImageLoss: the numbers, one for each mesh, and bad input."""

import math

import pytest
import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight

ROTATION, TRANSLATION = look_at_view_transform(2.7, torch.zeros(3), torch.tensor([0.0, 120, 240]))
CAMERAS = FoVPerspectiveCameras(R=ROTATION, T=TRANSLATION, fov=45.0)
RENDERER = PyTorch3DRenderer((20, 24), SphericalHarmonicsLight.default())


def test_it_is_the_mean_absolute_difference():
    target, mesh = ico_sphere(2).scale_verts(0.8), torus(0.2, 0.7, 8, 12)
    loss = ImageLoss.of_meshes(target, RENDERER, CAMERAS)
    assert loss.num_views == 3
    assert loss.images.shape == (3, 20, 24, 4)
    expected = [(RENDERER(mesh, CAMERAS[[view]]) - RENDERER(target, CAMERAS[[view]])).abs().mean() for view in (2, 0)]
    torch.testing.assert_close(loss(mesh, [2, 0]), torch.stack(expected).mean().reshape(1))
    assert loss(target, range(3)).tolist() == [0.0]


@pytest.mark.parametrize("own_targets", [False, True])
def test_each_mesh_has_the_loss_that_it_has_alone(own_targets):
    meshes = [ico_sphere(1), torus(0.2, 0.7, 8, 12)]
    targets = [ico_sphere(2).scale_verts(0.8), ico_sphere(1).scale_verts(0.5)]
    given = join_meshes_as_batch(targets) if own_targets else targets[0]
    losses = ImageLoss.of_meshes(given, RENDERER, CAMERAS)(join_meshes_as_batch(meshes), [0, 2])
    for index, mesh in enumerate(meshes):
        alone = ImageLoss.of_meshes(targets[index if own_targets else 0], RENDERER, CAMERAS)(mesh, [0, 2])
        torch.testing.assert_close(losses[[index]], alone)


def test_images_of_one_mesh_with_an_axis_for_it():
    target = ico_sphere(2).scale_verts(0.8)
    loss = ImageLoss.of_meshes(target, RENDERER, CAMERAS)
    with_axis = ImageLoss(RENDERER, CAMERAS, loss.images[:, None])
    assert torch.equal(with_axis(ico_sphere(1), [1, 2]), loss(ico_sphere(1), [1, 2]))


def test_gradients_point_to_the_target():
    loss = ImageLoss.of_meshes(ico_sphere(2).scale_verts(0.8), RENDERER, CAMERAS)
    scale = torch.tensor(0.7, requires_grad=True)
    sphere = ico_sphere(2)
    loss(sphere.update_padded(scale * sphere.verts_padded()), range(3)).sum().backward()
    assert float(scale.grad) < 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 20, 24, 4), "images: expected .num_views, H, W, C. or .* for 3 cameras"),
        (torch.zeros(3, 20, 24), "images: expected"),
        (None, "images: expected"),
        (torch.full((3, 20, 24, 4), math.nan), "images: expected finite numbers"),
        (torch.zeros(3, 20, 24, 4, dtype=torch.int32), "images: expected a real floating-point dtype"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ImageLoss(RENDERER, CAMERAS, images)


@pytest.mark.parametrize("shape", [(3, 20, 24, 1), (3, 20, 24, 3), (3, 1, 1, 4), (3, 2, 24, 20, 4)])
@pytest.mark.parametrize("number", [1, 2])
def test_images_of_another_shape_than_the_renderers(shape, number):
    loss = ImageLoss(RENDERER, CAMERAS, torch.zeros(shape))
    with pytest.raises(ValueError, match="expected"):
        loss(ico_sphere(1).extend(number), [0])


def test_channel_weights():
    target, mesh = ico_sphere(2).scale_verts(0.8), ico_sphere(2).scale_verts(0.6)
    silhouettes = ImageLoss.of_meshes(target, RENDERER, CAMERAS, (0, 0, 0, 2))
    alone = ImageLoss.of_meshes(target, PyTorch3DRenderer((20, 24)), CAMERAS)
    torch.testing.assert_close(silhouettes(mesh, [0, 1]), alone(mesh, [0, 1]))
    colors = ImageLoss.of_meshes(target, RENDERER, CAMERAS, (1, 1, 1, 0))
    half = ImageLoss.of_meshes(target, RENDERER, CAMERAS, (1, 1, 1, 3))
    torch.testing.assert_close(half(mesh, [0]), (colors(mesh, [0]) + silhouettes(mesh, [0])) / 2)
    for weights, message in (((1, 1), "expected 4"), ((1, 1, 1, -1), "finite number"), ((0, 0, 0, 0), "above 0")):
        with pytest.raises(ValueError, match=f"channel_weights: .*{message}"):
            ImageLoss.of_meshes(target, RENDERER, CAMERAS, weights)


def test_no_views():
    loss = ImageLoss.of_meshes(ico_sphere(1), RENDERER, CAMERAS)
    with pytest.raises(ValueError, match="views: expected at least one"):
        loss(ico_sphere(1), [])
    with pytest.raises(ValueError, match="meshes: expected 2"):
        ImageLoss(RENDERER, CAMERAS, torch.zeros(3, 2, 20, 24, 4))(ico_sphere(1).extend(3), [0])


def test_what_is_no_mesh_and_other_cameras():
    loss = ImageLoss.of_meshes(ico_sphere(1), RENDERER, CAMERAS)
    with pytest.raises(TypeError, match="meshes: expected Meshes, got a tensor"):
        loss(ico_sphere(1).verts_padded(), [0])
    in_double = FoVPerspectiveCameras(R=ROTATION.double(), T=TRANSLATION.double())
    with pytest.raises(TypeError, match="cameras: expected float32 cameras"):
        ImageLoss(RENDERER, in_double, loss.images)(ico_sphere(1), [0])
