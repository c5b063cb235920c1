"""Silhouettes: areas that can be computed by hand, and gradients against finite differences."""

import math

import pytest
import torch
from pytorch3d.renderer import FoVOrthographicCameras, FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus
from shapes import grid

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight

LOOK = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 60.0]), torch.tensor([0.0, 100.0, 215.0]))
PERSPECTIVE = FoVPerspectiveCameras(R=LOOK[0], T=LOOK[1], fov=45.0)
FRONT = FoVOrthographicCameras()  # at the origin, looking along +z; NDC is x and y


def pattern(size: int, channels: int) -> torch.Tensor:
    """Smooth weights for the pixels, (1, size, size, channels), so that no gradient vanishes by symmetry."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size), torch.linspace(0, 6, size), indexing="ij")
    return torch.stack([torch.sin(x + c) * torch.cos(1.3 * y) + 0.5 for c in range(channels)], dim=-1)[None]


def square(half_width: float, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), steps: int = 2) -> Meshes:
    """A square in front of ``FRONT``, made of 2 (steps - 1)^2 triangles."""
    flat = grid(steps, steps)
    verts = flat.verts_packed() / (steps - 1) * 2 - torch.tensor([1.0, 1.0, 0.0])
    c, s = math.cos(angle), math.sin(angle)
    verts = verts @ torch.tensor([[c, s, 0.0], [-s, c, 0], [0, 0, 1]]) * torch.tensor([half_width, half_width, 1.0])
    return Meshes([verts + torch.tensor([*shift, 2.0])], flat.faces_list())


@pytest.mark.parametrize("steps", [2, 60], ids=["two triangles", "triangles smaller than pixels"])
@pytest.mark.parametrize("shift", [(0.003, -0.002), (0.013, -0.031)])  # (0, 0) puts pixel centres onto edges: no face's
@pytest.mark.parametrize("half_width", [0.5, 0.517])
def test_the_area_of_an_upright_square(half_width, shift, steps):
    size = 64
    silhouette = PyTorch3DRenderer(size)(square(half_width, 0.0, shift, steps), FRONT)
    area = silhouette.sum().item() * (2 / size) ** 2
    # exact but for the four corner pixels
    assert area == pytest.approx((2 * half_width) ** 2, abs=4 * (2 / size) ** 2)


@pytest.mark.parametrize("angle", [0.1, 0.5, 0.7])
def test_the_area_of_a_turned_square(angle):
    size = 128
    silhouette = PyTorch3DRenderer(size)(square(0.5, angle), FRONT)
    assert silhouette.sum().item() * (2 / size) ** 2 == pytest.approx(1.0, rel=3e-3)


def test_a_pixel_half_covered_is_half_bright():
    size = 32
    pixel = 2 / size
    for covered in (0.1, 0.25, 0.45, 0.75, 0.9):
        row = PyTorch3DRenderer(size)(square(0.5, 0.0, (covered * pixel, 0.01)), FRONT)[0, size // 4 + 3, :, 0]
        partial = row[(row > 0) & (row < 1)].sort().values
        torch.testing.assert_close(partial, torch.tensor(sorted([covered, 1 - covered])), atol=1e-4, rtol=0)


def derivative(images_of, parameter: torch.Tensor, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivative of a weighted sum of the images: by autograd, and by central differences."""
    weights = pattern(images_of(parameter).shape[1], images_of(parameter).shape[-1])
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
def test_translation_and_scale(meshes, light):
    verts, faces = meshes.verts_packed() * 0.8, meshes.faces_list()
    renderer = PyTorch3DRenderer(96, light)

    def images_of(parameter):
        return renderer(Meshes([verts * (1 + parameter[3]) + parameter[:3]], faces), PERSPECTIVE)

    by_autograd, differences = derivative(images_of, torch.zeros(4), step=1e-2)
    assert differences.norm() > 100
    assert (by_autograd - differences).norm() <= 0.03 * differences.norm()


@pytest.mark.parametrize("corner", [0, 1, 2, 3])
def test_one_vertex_on_the_outline(corner):
    # A quadrilateral turned by an odd angle: each corner moves two of its sides.
    meshes = square(0.5, 0.37, (0.021, 0.043))
    verts, faces = meshes.verts_packed(), meshes.faces_list()
    renderer = PyTorch3DRenderer(96)

    def images_of(xy):
        offset = torch.nn.functional.pad(xy, (0, 1))[None]
        return renderer(Meshes([verts.index_add(0, torch.tensor([corner]), offset)], faces), FRONT)

    by_autograd, differences = derivative(images_of, torch.zeros(2), step=2e-2)
    assert differences.norm() > 50
    assert (by_autograd - differences).norm() <= 0.03 * differences.norm()


def test_one_vertex_on_the_outline_of_a_sphere():
    verts, faces = ico_sphere(2).verts_packed(), ico_sphere(2).faces_list()
    cameras = PERSPECTIVE[[0]]
    eye = cameras.get_camera_center()  # (1, 3), at distance 2.7
    radial = verts - (verts @ eye.T / 2.7**2) * eye
    depth = 2.7 - verts @ eye.T / 2.7
    vertex = int((radial.norm(dim=1) / depth[:, 0]).argmax())  # seen at the largest angle to the line of sight
    renderer = PyTorch3DRenderer(160)

    def images_of(outwards):
        direction = torch.nn.functional.normalize(radial[[vertex]], dim=1) * outwards
        return renderer(Meshes([verts.index_add(0, torch.tensor([vertex]), direction)], faces), cameras)

    by_autograd, differences = derivative(images_of, torch.zeros(1), step=1e-2)
    assert differences.abs() > 20
    assert (by_autograd - differences).abs() <= 0.1 * differences.abs()


def test_an_outline_before_another_surface():
    # A white square before a dark one: only their inner boundary moves, and alpha is 1 on both sides of it.
    light = SphericalHarmonicsLight.from_directions(torch.tensor([[0.0, 0, 1]]), torch.ones(1, 3))
    front, back = square(0.3), square(0.9)
    verts = torch.cat([front.verts_packed(), back.verts_packed() * torch.tensor([1.0, 1, 1]) + torch.tensor([0, 0, 1.0])])
    faces = torch.cat([front.faces_packed(), back.faces_packed().flip(1) + 4])  # its normals look the other way
    renderer = PyTorch3DRenderer(128, light)

    def images_of(shift):
        offset = torch.zeros(8, 3).index_copy(1, torch.tensor([0]), shift.expand(8, 1).clone())
        offset = offset * (torch.arange(8) < 4)[:, None]
        return renderer(Meshes([verts + offset], [faces]), FRONT)

    by_autograd, differences = derivative(images_of, torch.full((1,), 0.011), step=1e-2)
    assert differences.abs() > 20
    assert (by_autograd - differences).abs() <= 0.03 * differences.abs()


def test_a_hidden_outline_has_no_gradient():
    front, back = square(0.8), square(0.3)
    shift = torch.zeros(1, requires_grad=True)
    offset = torch.stack([shift[0], shift[0] * 0, shift[0] * 0])
    verts = torch.cat([front.verts_packed(), back.verts_packed() + torch.tensor([0, 0, 1.0]) + offset])
    faces = torch.cat([front.faces_packed(), back.faces_packed() + 4])
    (PyTorch3DRenderer(64)(Meshes([verts], [faces]), FRONT) * pattern(64, 1)).sum().backward()
    assert shift.grad.item() == 0.0


def test_the_winding_of_the_faces_does_not_matter_for_silhouettes():
    meshes = torus(0.25, 0.7, 20, 40)
    faces = meshes.faces_packed().clone()
    faces[::3] = faces[::3].flip(1)
    silhouettes = [PyTorch3DRenderer(64)(m, PERSPECTIVE) for m in (meshes, Meshes(meshes.verts_list(), [faces]))]
    torch.testing.assert_close(*silhouettes)


def test_a_batch_is_its_meshes_one_by_one():
    batch = join_meshes_as_batch([ico_sphere(2), torus(0.3, 0.7, 15, 25), grid()])
    renderer = PyTorch3DRenderer(48, SphericalHarmonicsLight.default())
    together = renderer(batch, PERSPECTIVE)
    for k in range(3):
        torch.testing.assert_close(together[[k]], renderer(batch[k], PERSPECTIVE[[k]]))


def test_several_meshes_before_one_camera():
    batch = join_meshes_as_batch([ico_sphere(2), torus(0.3, 0.7, 15, 25)])
    renderer = PyTorch3DRenderer(48)
    together = renderer(batch, PERSPECTIVE[[0]])
    for k in range(2):
        torch.testing.assert_close(together[[k]], renderer(batch[k], PERSPECTIVE[[0]]))
