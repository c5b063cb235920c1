"""The faces that the pixels see are PyTorch3D's: equal, not close."""

import dataclasses

import pytest
import torch
from pytorch3d.renderer import (
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    MeshRasterizer,
    OrthographicCameras,
    PerspectiveCameras,
    RasterizationSettings,
    look_at_view_transform,
)
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.native.library import is_compiled
from pt3d_largesteps.renderers import PyTorch3DRenderer, compiled, plain, rasterization
from pt3d_largesteps.renderers.cameras import camera_matrices
from pt3d_largesteps.renderers.scene import make_scene
from support.shapes import empty, grid, real_mesh

VIEWS = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 75.0]), torch.tensor([0.0, 100.0, 215.0]))
SIZES = [16, 64, (48, 80), (75, 40)]


def cameras(kind: str, size, device="cpu") -> object:
    rotation, translation = VIEWS
    height, width = (size, size) if isinstance(size, int) else size
    image_size = torch.tensor([[height, width]]).expand(3, 2)
    pixels = float(min(height, width))
    return {
        "fov": lambda: FoVPerspectiveCameras(R=rotation, T=translation, fov=50.0, device=device),
        "fov_orthographic": lambda: FoVOrthographicCameras(R=rotation, T=translation, device=device),
        "perspective_ndc": lambda: PerspectiveCameras(
            R=rotation, T=translation, focal_length=2.0, principal_point=((0.1, -0.1),), device=device
        ),
        "perspective_screen": lambda: PerspectiveCameras(
            R=rotation,
            T=translation,
            focal_length=pixels,
            principal_point=((width / 2 + 3, height / 2 - 2),),
            in_ndc=False,
            image_size=image_size,
            device=device,
        ),
        "orthographic_ndc": lambda: OrthographicCameras(R=rotation, T=translation, focal_length=0.8, device=device),
    }[kind]()


KINDS = ["fov", "fov_orthographic", "perspective_ndc", "perspective_screen", "orthographic_ndc"]


def faces_of_the_same_points(renderer: PyTorch3DRenderer, meshes: Meshes, views) -> rasterization.VisibleFaces:
    """What the renderer sees, of points that torch has projected.

    The compiled projection mostly has torch's bits, but not with every BLAS, and one bit can decide about a pixel.
    """
    if meshes.device.type != "cpu" or not is_compiled():
        return renderer.visible_faces(meshes, views)
    num_images = max(len(meshes), len(views))
    matrices = dataclasses.replace(camera_matrices(views).expand(num_images), projection=None)
    faces, depth = compiled.visible_faces(renderer._style(), compiled.IndexCache(), meshes, views, matrices)
    if len(meshes) == 1:
        first = torch.arange(num_images)[:, None, None] * len(meshes.faces_packed())
        faces = torch.where(faces >= 0, faces + first, faces)
    return rasterization.VisibleFaces(faces, depth)


def assert_same_faces(meshes: Meshes, views, size, **options) -> float:
    """Compares all pixels; returns the fraction that sees a face."""
    renderer = PyTorch3DRenderer(size, **options)
    ours = faces_of_the_same_points(renderer, meshes, views)
    extended = meshes.extend(len(views)) if len(meshes) == 1 else meshes
    raster_settings = RasterizationSettings(image_size=size, faces_per_pixel=1, **options)
    theirs = MeshRasterizer(views, raster_settings)(extended)
    same, hit = ours.pix_to_face == theirs.pix_to_face[..., 0], ours.pix_to_face >= 0
    # On CUDA the projections of one mesh and of its copies differ by rounding, which decides for a few pixels.
    assert same.float().mean() >= (0.995 if same.is_cuda else 1)
    torch.testing.assert_close(ours.zbuf[hit & same], theirs.zbuf[..., 0][hit & same])
    assert torch.isinf(ours.zbuf[~hit]).all()
    # projected by the renderer itself
    assert (renderer.visible_faces(meshes, views).pix_to_face == ours.pix_to_face).float().mean() >= 0.995
    return hit.float().mean().item()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_camera_and_image_size(kind, size, device):
    assert assert_same_faces(torus(0.3, 0.7, 15, 25).to(device), cameras(kind, size, device), size) > 0.02


@pytest.mark.parametrize("name", ["spot", "suzanne", "cow"])
def test_real_meshes(name, device):
    meshes = real_mesh(name).to(device)
    verts = meshes.verts_packed() - meshes.verts_packed().mean(0)
    meshes = Meshes([verts / verts.norm(dim=1).max()], meshes.faces_list())
    assert assert_same_faces(meshes, cameras("fov", 64, device), 64) > 0.05


def test_culling():
    for meshes in (ico_sphere(2), Meshes(ico_sphere(2).verts_list(), [ico_sphere(2).faces_packed().flip(1)])):
        assert_same_faces(meshes, cameras("fov", 48), 48, cull_backfaces=True)


def test_ragged_batches(device):
    batch = join_meshes_as_batch([ico_sphere(2), torus(0.3, 0.7, 15, 25), grid()]).to(device)
    assert_same_faces(batch, cameras("fov", 48, device), 48)


@pytest.mark.parametrize("seed", range(8))
def test_soups_of_triangles(seed):
    # of all sizes, some thinner than a pixel, some larger than the image, some behind the camera or across its plane
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(200, 1, 3, generator=generator)
    spread = 10 ** (torch.rand(200, 1, 1, generator=generator) * 3 - 2)
    verts = (centers + spread * torch.randn(200, 3, 3, generator=generator)).view(-1, 3)
    meshes = Meshes([verts], [torch.arange(600).view(200, 3)])
    for kind in ("fov", "fov_orthographic"):
        assert_same_faces(meshes, cameras(kind, (37, 50)), (37, 50))


def test_the_way_over_pytorch3ds_rasteriser_sees_the_same():
    # the one that CUDA takes; it runs on a CPU as well
    batch = join_meshes_as_batch([ico_sphere(2), empty(), torus(0.3, 0.7, 15, 25)])
    inside = FoVPerspectiveCameras(R=VIEWS[0], T=torch.zeros(3, 3) + 0.05, znear=0.2)  # so that faces are clipped too
    for views in (cameras("fov", (24, 40)), inside):
        renderer = PyTorch3DRenderer((24, 40))
        z_clip = 0.5 if views is not inside else 0.1
        theirs = plain.visible_faces_pytorch3d(renderer._style(), make_scene(batch, views), True, z_clip)
        ours = renderer.visible_faces(batch, views)
        assert torch.equal(ours.pix_to_face, theirs.pix_to_face)
        torch.testing.assert_close(ours.zbuf, theirs.zbuf)


def test_a_camera_inside_the_mesh():
    # not in its centre, where vertices lie in the plane of the camera: their projection is infinite
    meshes = ico_sphere(1).offset_verts(torch.tensor([0.03, 0.02, 0.07]))
    assert assert_same_faces(meshes, FoVPerspectiveCameras(fov=60.0), 32) == 1.0


def test_equal_depths_go_to_the_lower_face():
    verts = grid().verts_packed()
    twice = Meshes([verts], [grid().faces_packed().repeat(2, 1)])
    assert_same_faces(twice, cameras("fov", 32), 32)


@pytest.mark.parametrize("budget", [1, 100, 5000])
def test_the_memory_budget_changes_nothing(monkeypatch, budget):
    arguments = PyTorch3DRenderer(48)._style(), torus(0.3, 0.7, 15, 25), cameras("fov", 48), 0.5
    whole = plain.visible_faces(*arguments)
    monkeypatch.setattr(rasterization, "_PAIRS_AT_ONCE", budget)
    parts = plain.visible_faces(*arguments)
    assert torch.equal(whole.pix_to_face, parts.pix_to_face)


def test_projection_equals_pytorch3ds():
    for kind in KINDS:
        views = cameras(kind, (48, 80))
        meshes = torus(0.3, 0.7, 15, 25)
        theirs = MeshRasterizer(views, RasterizationSettings(image_size=(48, 80))).transform(meshes.extend(3))
        assert torch.equal(make_scene(meshes, views).ndc, theirs.verts_packed())
