"""Silhouettes: areas that can be computed by hand, and gradients against finite differences."""

import math

import pytest
import torch
from pytorch3d.renderer import FoVOrthographicCameras, FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from support.shapes import grid

LOOK = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 60.0]), torch.tensor([0.0, 100.0, 215.0]))


def perspective(device) -> FoVPerspectiveCameras:
    return FoVPerspectiveCameras(R=LOOK[0], T=LOOK[1], fov=45.0, device=device)


def front_view(device) -> FoVOrthographicCameras:
    """At the origin, looking along +z; NDC is x and y."""
    return FoVOrthographicCameras(device=device)


def pattern(size: int, channels: int) -> torch.Tensor:
    """Smooth weights for the pixels, (1, size, size, channels), so that no gradient vanishes by symmetry."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size), torch.linspace(0, 6, size), indexing="ij")
    return torch.stack([torch.sin(x + c) * torch.cos(1.3 * y) + 0.5 for c in range(channels)], dim=-1)[None]


def square(half_width: float, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), steps: int = 2) -> Meshes:
    """A square in front of ``front_view``, made of 2 (steps - 1)^2 triangles."""
    flat = grid(steps, steps)
    verts = flat.verts_packed() / (steps - 1) * 2 - torch.tensor([1.0, 1.0, 0.0])
    c, s = math.cos(angle), math.sin(angle)
    verts = verts @ torch.tensor([[c, s, 0.0], [-s, c, 0], [0, 0, 1]]) * torch.tensor([half_width, half_width, 1.0])
    return Meshes([verts + torch.tensor([*shift, 2.0])], flat.faces_list())


@pytest.mark.parametrize("steps", [2, 60], ids=["two triangles", "triangles smaller than pixels"])
@pytest.mark.parametrize("shift", [(0.003, -0.002), (0.013, -0.031)])  # (0, 0) puts pixel centres onto edges: no face's
@pytest.mark.parametrize("half_width", [0.5, 0.517])
def test_the_area_of_an_upright_square(half_width, shift, steps, device):
    size = 64
    silhouette = PyTorch3DRenderer(size)(square(half_width, 0.0, shift, steps).to(device), front_view(device))
    area = silhouette.sum().item() * (2 / size) ** 2
    # exact but for the four corner pixels
    assert area == pytest.approx((2 * half_width) ** 2, abs=4 * (2 / size) ** 2)


@pytest.mark.parametrize("angle", [0.1, 0.5, 0.7])
def test_the_area_of_a_turned_square(angle, device):
    size = 128
    silhouette = PyTorch3DRenderer(size)(square(0.5, angle).to(device), front_view(device))
    assert silhouette.sum().item() * (2 / size) ** 2 == pytest.approx(1.0, rel=3e-3)


def test_a_pixel_half_covered_is_half_bright(device):
    size = 32
    pixel = 2 / size
    for covered in (0.1, 0.25, 0.45, 0.75, 0.9):
        meshes = square(0.5, 0.0, (covered * pixel, 0.01)).to(device)
        row = PyTorch3DRenderer(size)(meshes, front_view(device))[0, size // 4 + 3, :, 0]
        partial = row[(row > 0) & (row < 1)].sort().values
        torch.testing.assert_close(partial.cpu(), torch.tensor(sorted([covered, 1 - covered])), atol=1e-4, rtol=0)


def derivative(images_of, parameter: torch.Tensor, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivative of a weighted sum of the images: by autograd, and by central differences."""
    images = images_of(parameter)
    weights = pattern(images.shape[1], images.shape[-1]).to(images.device)
    parameter = parameter.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad((images_of(parameter) * weights).sum(), parameter)
    differences = torch.zeros_like(parameter)
    with torch.no_grad():
        for k in range(parameter.numel()):
            moved = [parameter.clone(), parameter.clone()]
            moved[0].view(-1)[k] += step
            moved[1].view(-1)[k] -= step
            differences.view(-1)[k] = ((images_of(moved[0]) - images_of(moved[1])) * weights).sum() / (2 * step)
    return by_autograd, differences


@pytest.mark.parametrize("light", [None, SphericalHarmonicsLight.default()], ids=["silhouette", "shaded"])
@pytest.mark.parametrize(
    "meshes", [ico_sphere(1), ico_sphere(4), torus(0.25, 0.7, 20, 40)], ids=["coarse", "finer than pixels", "torus"]
)
def test_translation_and_scale(meshes, light, device):
    meshes = meshes.to(device)
    verts, faces = meshes.verts_packed() * 0.8, meshes.faces_list()
    renderer = PyTorch3DRenderer(96, light)

    def images_of(parameter):
        return renderer(Meshes([verts * (1 + parameter[3]) + parameter[:3]], faces), perspective(device))

    by_autograd, differences = derivative(images_of, torch.zeros(4, device=device), step=1e-2)
    assert differences.norm() > 100
    assert (by_autograd - differences).norm() <= 0.03 * differences.norm()


@pytest.mark.parametrize("corner", [0, 1, 2, 3])
def test_one_vertex_on_the_outline(corner, device):
    # A quadrilateral turned by an odd angle: each corner moves two of its sides.
    meshes = square(0.5, 0.37, (0.021, 0.043)).to(device)
    verts, faces = meshes.verts_packed(), meshes.faces_list()
    renderer = PyTorch3DRenderer(96)

    def images_of(xy):
        offset = torch.nn.functional.pad(xy, (0, 1))[None]
        return renderer(Meshes([verts.index_add(0, torch.tensor([corner], device=device), offset)], faces), front_view(device))

    by_autograd, differences = derivative(images_of, torch.zeros(2, device=device), step=2e-2)
    assert differences.norm() > 50
    assert (by_autograd - differences).norm() <= 0.03 * differences.norm()


def test_one_vertex_on_the_outline_of_a_sphere(device):
    sphere, cameras = ico_sphere(2).to(device), perspective(device)[[0]]
    verts, faces = sphere.verts_packed(), sphere.faces_list()
    eye = cameras.get_camera_center()  # (1, 3), at distance 2.7
    radial = verts - (verts @ eye.T / 2.7**2) * eye
    depth = 2.7 - verts @ eye.T / 2.7
    vertex = int((radial.norm(dim=1) / depth[:, 0]).argmax())  # seen at the largest angle to the line of sight
    renderer = PyTorch3DRenderer(160)

    def images_of(outwards):
        direction = torch.nn.functional.normalize(radial[[vertex]], dim=1) * outwards
        return renderer(Meshes([verts.index_add(0, torch.tensor([vertex], device=device), direction)], faces), cameras)

    by_autograd, differences = derivative(images_of, torch.zeros(1, device=device), step=1e-2)
    assert differences.abs() > 20
    assert (by_autograd - differences).abs() <= 0.1 * differences.abs()


def test_an_outline_before_another_surface(device):
    # A white square before a dark one: only their inner boundary moves, and alpha is 1 on both sides of it.
    light = SphericalHarmonicsLight.from_directions(torch.tensor([[0.0, 0, 1]]), torch.ones(1, 3))
    front, back = square(0.3).to(device), square(0.9).to(device)
    verts = torch.cat([front.verts_packed(), back.verts_packed() + torch.tensor([0, 0, 1.0], device=device)])
    faces = torch.cat([front.faces_packed(), back.faces_packed().flip(1) + 4])  # its normals look the other way
    renderer = PyTorch3DRenderer(128, light)

    def images_of(shift):
        offset = torch.nn.functional.pad(shift.expand(4, 1), (0, 2, 0, 4))  # of the square in front, along x
        return renderer(Meshes([verts + offset], [faces]), front_view(device))

    by_autograd, differences = derivative(images_of, torch.full((1,), 0.011, device=device), step=1e-2)
    assert differences.abs() > 20
    assert (by_autograd - differences).abs() <= 0.03 * differences.abs()


def test_a_hidden_outline_has_no_gradient(device):
    front, back = square(0.8).to(device), square(0.3).to(device)
    shift = torch.zeros(1, device=device, requires_grad=True)
    offset = torch.nn.functional.pad(shift, (0, 2))
    verts = torch.cat([front.verts_packed(), back.verts_packed() + torch.tensor([0, 0, 1.0], device=device) + offset])
    faces = torch.cat([front.faces_packed(), back.faces_packed() + 4])
    (PyTorch3DRenderer(64)(Meshes([verts], [faces]), front_view(device)) * pattern(64, 1).to(device)).sum().backward()
    assert shift.grad.item() == 0.0


def test_the_winding_of_the_faces_does_not_matter_for_silhouettes(device):
    meshes = torus(0.25, 0.7, 20, 40).to(device)
    faces = meshes.faces_packed().clone()
    faces[::3] = faces[::3].flip(1)
    silhouettes = [PyTorch3DRenderer(64)(m, perspective(device)) for m in (meshes, Meshes(meshes.verts_list(), [faces]))]
    assert_same_pixels(*silhouettes)


def test_a_batch_is_its_meshes_one_by_one(device):
    batch = join_meshes_as_batch([ico_sphere(2), torus(0.3, 0.7, 15, 25), grid()]).to(device)
    renderer, cameras = PyTorch3DRenderer(48, SphericalHarmonicsLight.default()), perspective(device)
    together = renderer(batch, cameras)
    for k in range(3):
        assert_same_pixels(together[[k]], renderer(batch[k], cameras[[k]]))


def test_several_meshes_before_one_camera(device):
    batch = join_meshes_as_batch([ico_sphere(2), torus(0.3, 0.7, 15, 25)]).to(device)
    renderer, cameras = PyTorch3DRenderer(48), perspective(device)[[0]]
    together = renderer(batch, cameras)
    for k in range(2):
        assert_same_pixels(together[[k]], renderer(batch[k], cameras))


def assert_same_pixels(images: torch.Tensor, expected: torch.Tensor) -> None:
    """On CUDA the projection of a batch differs by rounding, which for a few pixels decides what face they see."""
    differs = (images - expected).abs().amax(-1) > (1e-3 if images.is_cuda else 1e-5)
    assert differs.float().mean() <= (2e-3 if images.is_cuda else 0)
