"""The renderer by nvdiffrast against the one by PyTorch3D: on the CPU by an emulation of nvdiffrast, on CUDA by itself."""

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from pytorch3d.renderer import (
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    MeshRasterizer,
    OrthographicCameras,
    PerspectiveCameras,
    RasterizationSettings,
    TexturesAtlas,
    TexturesUV,
    TexturesVertex,
    look_at_view_transform,
)
from pytorch3d.renderer.fisheyecameras import FishEyeCameras
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.renderers import NvdiffrastRenderer, PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.renderers import nvdiffrast as renderer_module
from support import nvdiffrast_emulation
from support.comparing import assert_equal_to_rounding
from support.shapes import empty

LOOK = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 60.0]), torch.tensor([0.0, 100.0, 215.0]))
LIGHT = SphericalHarmonicsLight.default()
WHITE = SphericalHarmonicsLight.from_directions(torch.zeros(0, 3), torch.zeros(0, 3), ambient=1.0)  # shows colours as they are
PLACES = [pytest.param("emulated", id="emulated")]
if torch.cuda.is_available():
    PLACES.append(pytest.param("cuda", id="cuda", marks=pytest.mark.gpu))


@pytest.fixture(params=PLACES)
def place(request, monkeypatch) -> torch.device:
    """Where nvdiffrast can render: on the CPU by the emulation, on CUDA if it is installed."""
    if request.param == "cuda":
        pytest.importorskip("nvdiffrast.torch")
        return torch.device("cuda", 0)
    nvdiffrast_emulation.install(monkeypatch)
    return torch.device("cpu")


def make_cameras(kind, place, size=(64, 64)):
    views = {"R": LOOK[0], "T": LOOK[1], "device": place}
    focal = torch.tensor([[2.0, 2.2], [1.8, 1.8], [2.0, 1.7]])
    center = torch.tensor([[0.1, -0.1], [0.0, 0.0], [0.2, 0.1]])
    if kind == "screen":
        half, image_size = min(size) / 2, torch.tensor([size]).expand(3, 2)
        center = image_size.flip(1) / 2 + half * center
        return PerspectiveCameras(
            **views, focal_length=half * focal, principal_point=center, in_ndc=False, image_size=image_size
        )
    return {
        "fov": lambda: FoVPerspectiveCameras(**views, fov=45.0),
        "fov_orthographic": lambda: FoVOrthographicCameras(**views),
        "perspective": lambda: PerspectiveCameras(**views, focal_length=focal, principal_point=center),
        "orthographic": lambda: OrthographicCameras(**views, focal_length=0.5 * focal, principal_point=center),
    }[kind]()


def front_view(place) -> FoVOrthographicCameras:
    """At the origin, looking along +z; NDC is x and y."""
    return FoVOrthographicCameras(device=place)


def make_meshes(kind, place, coarse=False) -> Meshes:
    sphere, ring = (ico_sphere(0), torus(0.3, 0.6, 5, 7)) if coarse else (ico_sphere(2), torus(0.25, 0.65, 10, 16))
    # a pixel centre exactly on an edge belongs to no face in PyTorch3D
    sphere, ring = (meshes.offset_verts(torch.tensor([0.0131, -0.0072, 0.0043])) for meshes in (sphere, ring))
    if kind == "one mesh":
        return ring.to(place)
    if kind == "same faces":  # instanced mode
        verts = [sphere.verts_packed() * torch.tensor([0.5 + 0.2 * k, 0.8, 1 - 0.1 * k]) for k in range(3)]
        return Meshes(verts, sphere.faces_list() * 3).to(place)
    return join_meshes_as_batch([sphere.scale_verts(0.8), ring, sphere]).to(place)  # range mode


def both(size, light=None, **options):
    return NvdiffrastRenderer(size, light, **options), PyTorch3DRenderer(size, light, **options)


def assert_same_images(ours, theirs) -> None:
    """The same pixels are covered, and inside, where nothing is blended, they have the same colours."""
    assert ours.shape == theirs.shape
    covered = [images[..., -1] > 0.5 for images in (ours, theirs)]
    union = (covered[0] | covered[1]).sum(dim=(1, 2))
    assert ((covered[0] & covered[1]).sum(dim=(1, 2)) >= 0.995 * union).all()
    assert (union > 0).all()
    near_outline = torch.nn.functional.max_pool2d(1 - theirs[..., -1:].permute(0, 3, 1, 2).floor(), 5, 1, 2)[:, 0] > 0
    inside = covered[0] & covered[1] & ~near_outline
    # Faces before others have outlines too: some pixels there are blended by one of the two only.
    different = (ours - theirs).abs().amax(-1)[inside] > 2e-3
    assert different.float().mean() <= 0.02


@pytest.mark.parametrize("size", [(72, 72), (64, 96), (96, 64)], ids=str)
@pytest.mark.parametrize("kind", ["fov", "fov_orthographic", "perspective", "screen", "orthographic"])
def test_every_camera_and_image_size(kind, size, place):
    meshes, cameras = make_meshes("one mesh", place), make_cameras(kind, place, size)
    ours, theirs = (renderer(meshes, cameras) for renderer in both(size, LIGHT, background=(0.2, 0.4, 0.6)))
    assert_same_images(ours, theirs)
    torch.testing.assert_close(ours[0, 0, 0], torch.tensor([0.2, 0.4, 0.6, 0.0], device=place))


@pytest.mark.parametrize("light", [None, LIGHT], ids=["silhouette", "shaded"])
@pytest.mark.parametrize("options", [{}, {"cull_backfaces": True}, {"antialiased": False}], ids=str)
@pytest.mark.parametrize("kind", ["one mesh", "same faces", "ragged"])
def test_every_batch(kind, options, light, place):
    meshes, cameras = make_meshes(kind, place), make_cameras("fov", place)
    for views in (cameras, cameras[[1]]):
        assert_same_images(*(renderer(meshes, views) for renderer in both(64, light, **options)))


def test_a_batch_is_its_meshes_one_by_one(place):
    cameras, renderer = make_cameras("perspective", place), NvdiffrastRenderer(48, LIGHT)
    for kind in ("same faces", "ragged"):
        meshes = make_meshes(kind, place)
        one_by_one = torch.cat([renderer(meshes[k], cameras[[k]]) for k in range(3)])
        differs = (renderer(meshes, cameras) - one_by_one).abs().amax(-1) > 1e-3
        assert differs.float().mean() < 2e-3


def test_padding_of_ragged_batches_does_not_move_the_planes(place):
    # the vertices that fill up a batch lie in the origin, here far behind the meshes
    batch = make_meshes("ragged", place).offset_verts(torch.tensor([0.0, 0.0, -4000.0], device=place))
    cameras = PerspectiveCameras(T=torch.tensor([[0.0, 0.0, 4002.7]]), focal_length=2.0, device=place)
    assert_same_images(*(renderer(batch, cameras) for renderer in both(64)))


def test_culling_a_mesh_that_is_seen_from_inside(place):
    inside_out = Meshes(ico_sphere(1).verts_list(), [ico_sphere(1).faces_packed().flip(1)]).to(place)
    within = FoVPerspectiveCameras(fov=60.0, device=place)
    meshes = inside_out.offset_verts(torch.tensor([0.03, 0.02, 0.07], device=place))
    for options, covered in (({}, 1.0), ({"cull_backfaces": True}, 1.0)):
        assert NvdiffrastRenderer(24, **options)(meshes, within).mean() == covered
    flipped = Meshes(meshes.verts_list(), [meshes.faces_packed().flip(1)])
    verts = flipped.verts_packed().clone().requires_grad_()
    images = NvdiffrastRenderer(24, cull_backfaces=True)(Meshes([verts], flipped.faces_list()), within)
    assert images.max() == 0
    images.sum().backward()


class TestGradients:
    def gradients(self, renderers, meshes, cameras):
        torch.manual_seed(0)
        found, weights = [], None
        for renderer in renderers:
            verts = meshes.verts_packed().clone().requires_grad_()
            counts = meshes.num_verts_per_mesh().tolist()
            images = renderer(Meshes(list(verts.split(counts)), meshes.faces_list()), cameras)
            if weights is None:  # smooth, so that the finest differences between the outlines do not count
                coarse = torch.randn(images.shape[0], images.shape[-1], 5, 5, device=images.device)
                size = images.shape[1:3]
                weights = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
            found.append(torch.autograd.grad((images * weights).sum(), verts)[0])
        return found

    @pytest.mark.parametrize("light", [None, LIGHT], ids=["silhouette", "shaded"])
    @pytest.mark.parametrize("kind", ["one mesh", "same faces", "ragged"])
    @pytest.mark.parametrize("camera", ["fov", "orthographic"])
    def test_they_point_the_same_way(self, camera, kind, light, place):
        # Large triangles: nvdiffrast finds fewer of the outlines of small ones, and its gradients are shorter.
        meshes, cameras = make_meshes(kind, place, coarse=True), make_cameras(camera, place, (96, 96))
        ours, theirs = self.gradients(both(96, light), meshes, cameras)
        assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) >= 0.9
        assert 0.75 < ours.norm() / theirs.norm() < 1.1

    @pytest.mark.parametrize("light", [None, LIGHT], ids=["silhouette", "shaded"])
    def test_a_flat_shape_has_the_same(self, light, place):
        ours, theirs = self.gradients(both(64, light), quad(place), front_view(place))
        # not of rounding: the two differ in some pixels along the outlines, as NvdiffrastRenderer says
        torch.testing.assert_close(ours, theirs, atol=0.02 * theirs.abs().max().item(), rtol=0)

    def test_the_boost_multiplies_those_of_outlines(self, place):
        meshes, cameras = make_meshes("one mesh", place), make_cameras("fov", place)
        renderers = [NvdiffrastRenderer(48, pos_gradient_boost=boost) for boost in (1.0, 3.0)]
        plain, boosted = self.gradients(renderers, meshes, cameras)
        torch.testing.assert_close(boosted, 3 * plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())

    def test_cameras_textures_and_float64_meshes_get_theirs(self, place):
        sphere = ico_sphere(1).to(place)
        verts = sphere.verts_packed().double().requires_grad_()
        colors = torch.rand(1, verts.shape[0], 3, device=place, requires_grad=True)
        translation = LOOK[1][:1].clone().to(place).requires_grad_()
        cameras = FoVPerspectiveCameras(R=LOOK[0][:1], T=translation, fov=45.0, device=place)
        images = NvdiffrastRenderer(32, LIGHT)(Meshes([verts], sphere.faces_list(), TexturesVertex(colors)), cameras)
        images.square().sum().backward()
        assert (images.dtype, verts.grad.dtype) == (torch.float32, torch.float64)
        for leaf in (verts, colors, translation):
            assert leaf.grad.isfinite().all()
            assert leaf.grad.norm() > 0

    def test_out_of_sight(self, place):
        sphere = ico_sphere(1).to(place)
        for offset in (torch.tensor([50.0, 0, 0]), torch.tensor([0.0, 0, -50])):
            verts = (sphere.verts_packed() + offset.to(place)).requires_grad_()
            images = NvdiffrastRenderer(16)(Meshes([verts], sphere.faces_list()), front_view(place))
            assert images.abs().max() == 0
            images.sum().backward()
            assert verts.grad.abs().max() == 0


class TestEmpty:
    @pytest.mark.parametrize("light", [None, LIGHT], ids=["silhouette", "shaded"])
    def test_meshes_in_a_batch(self, light, place):
        batch = join_meshes_as_batch([empty(), ico_sphere(1), empty()]).to(place)
        ours, theirs = (renderer(batch, make_cameras("fov", place)) for renderer in both(24, light, background=(0.1, 0.2, 0.3)))
        assert_same_images(ours[1:2], theirs[1:2])
        assert torch.equal(ours[::2], theirs[::2])

    def test_textured_meshes_in_a_batch(self, place):
        one, none = uv_quad(place, torch.rand(1, 4, 4, 3)), empty().to(place)
        no_faces = torch.zeros(0, 3, dtype=torch.int64, device=place)
        uvs, maps = one.textures.verts_uvs_list() * 2, one.textures.maps_padded().repeat(2, 1, 1, 1)
        textures = TexturesUV(maps, [no_faces, one.textures.faces_uvs_list()[0]], uvs)
        batch = Meshes([*none.verts_list(), *one.verts_list()], [*none.faces_list(), *one.faces_list()], textures)
        renderer = NvdiffrastRenderer(24, WHITE)
        images = renderer(batch, front_view(place))
        assert images[0].abs().max() == 0
        torch.testing.assert_close(images[1:], renderer(one, front_view(place)))

    def test_batches(self, place):
        cameras = make_cameras("fov", place)
        for meshes, views in ((empty().to(place), cameras), (Meshes([], []).to(place), cameras[[0]])):
            for light in (None, LIGHT):
                ours, theirs = (renderer(meshes, views) for renderer in both((8, 12), light, background=(0.1, 0.2, 0.3)))
                assert torch.equal(ours, theirs)
                assert ours.device == place


def quad(place, textures=None) -> Meshes:
    """Corners at +-0.8 in ``front_view``: 0 upper left, 1 upper right, 2 lower left, 3 lower right."""
    verts = torch.tensor([[0.8, 0.8, 2.0], [-0.8, 0.8, 2.0], [0.8, -0.8, 2.0], [-0.8, -0.8, 2.0]])  # +x is to the left
    verts = verts + torch.tensor([0.013, 0.007, 0.0])  # so that no pixel centre is on an edge, which in PyTorch3D is in no face
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    return Meshes([verts.to(place)], [faces.to(place)], None if textures is None else textures.to(place))


def uv_quad(place, maps, scale=1.0, shift=0.0, **options) -> Meshes:
    """The quad with the whole map on it, or its unit square scaled; uvs in an order of their own, one unused."""
    uvs = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * scale + shift
    faces_uvs = torch.tensor([[4, 2, 3], [3, 2, 1]])
    options = {name: value.to(place) if name == "maps_ids" else value for name, value in options.items()}
    return quad(place, TexturesUV(maps.to(place), [faces_uvs.to(place)], [uvs.to(place)], **options))


class TestTextures:
    def test_colours_of_the_corners_are_where_they_should_be(self, place):
        colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
        image = NvdiffrastRenderer(64, WHITE)(quad(place, TexturesVertex(colors[None])), front_view(place))[0].cpu()
        corners = image[[8, 8, -9, -9], [8, -9, 8, -9]]  # upper left, upper right, lower left, lower right
        # their centres are a twentieth of the square's side away from its corners, along both axes
        torch.testing.assert_close(corners[:, :3], colors, atol=0.1, rtol=0)
        assert (corners[:, 3] == 1).all()

    def test_a_texture_is_not_flipped(self, place):
        map_ = torch.zeros(8, 16, 3)
        map_[:4, :8, 0], map_[:4, 8:, 1], map_[4:, :8, 2] = 1, 1, 1  # red upper left, green upper right, blue lower left
        image = NvdiffrastRenderer(64, WHITE)(uv_quad(place, map_[None]), front_view(place))[0, ..., :3].cpu()
        expected = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
        torch.testing.assert_close(image[[12, 12, -13, -13], [12, -13, 12, -13]], expected, atol=1e-3, rtol=0)

    @pytest.mark.parametrize("sampling_mode", ["bilinear", "nearest"])
    @pytest.mark.parametrize("align_corners", [True, False])
    @pytest.mark.parametrize("padding_mode", ["border", "zeros", "reflection"])
    def test_borders_of_the_map_are_pytorch3ds(self, padding_mode, align_corners, sampling_mode, place):
        options = {"padding_mode": padding_mode, "align_corners": align_corners, "sampling_mode": sampling_mode}
        meshes = uv_quad(place, torch.rand(1, 4, 6, 3), scale=2.3, shift=-0.613, **options)
        ours = NvdiffrastRenderer(64, WHITE, antialiased=False)(meshes, front_view(place))
        theirs = sampled_by_pytorch3d(meshes, front_view(place), 64)
        covered = ours[..., 3] > 0
        assert covered.float().mean() > 0.6
        torch.testing.assert_close(ours[covered][:, :3], theirs[covered], atol=1e-4, rtol=0)

    @pytest.mark.parametrize("kind", ["one mesh", "same faces", "ragged"])
    @pytest.mark.parametrize("cull_backfaces", [False, True])
    @pytest.mark.parametrize("textures", ["vertex", "uv", "uv of different faces"])
    def test_batches(self, textures, cull_backfaces, kind, place):
        meshes, cameras = make_meshes(kind, place), make_cameras("fov", place)
        meshes.textures = make_textures(textures, meshes)
        options = {"antialiased": False, "cull_backfaces": cull_backfaces}
        ours, plain = (
            NvdiffrastRenderer(48, WHITE, textured=textured, **options)(meshes, cameras) for textured in (True, False)
        )
        theirs = sampled_by_pytorch3d(meshes, cameras, 48, cull_backfaces)
        covered = (ours[..., 3] > 0) & (theirs.amax(-1) > 0)
        assert covered.float().mean() > 0.05
        different = (ours[..., :3] - theirs).abs().amax(-1)[covered] > 1e-3
        assert different.float().mean() < 0.01  # where rounding decides which face a pixel sees
        assert_equal_to_rounding(plain[..., :3], plain[..., 3:].expand_as(plain[..., :3]), roundings=20)

    def test_gradients_of_a_map(self, place):
        maps = torch.rand(1, 4, 4, 3, device=place, requires_grad=True)
        NvdiffrastRenderer(64, WHITE, antialiased=False)(uv_quad(place, maps), front_view(place))[..., :3].sum().backward()
        covered = 0.64 * 64 * 64  # each pixel's weights add up to 1
        assert maps.grad[..., 0].sum().item() == pytest.approx(covered, rel=0.05)
        assert (maps.grad > 0).all()


def make_textures(kind, meshes):
    counts, place = meshes.num_verts_per_mesh().tolist(), meshes.device
    if kind == "vertex":
        return TexturesVertex([torch.rand(count, 3, device=place) * 0.9 + 0.1 for count in counts])
    verts_uvs, faces_uvs = [], []
    for number, faces in enumerate(meshes.faces_list()):
        corners = torch.arange(3 * faces.shape[0], device=place)
        corners = corners.flip(0) if number == 1 and kind != "uv" else corners
        verts_uvs.append(torch.rand(corners.shape[0], 2, device=place))
        faces_uvs.append(corners.view(-1, 3))
    return TexturesUV(torch.rand(len(meshes), 5, 7, 3, device=place) * 0.9 + 0.1, faces_uvs, verts_uvs)


def sampled_by_pytorch3d(meshes, cameras, size, cull_backfaces=False):
    """The textures (N, H, W, 3) at the pixels of PyTorch3D's rasteriser, by PyTorch3D; 0 where there is none."""
    meshes = meshes.extend(len(cameras)) if len(meshes) == 1 else meshes
    settings = RasterizationSettings(image_size=size, faces_per_pixel=1, cull_backfaces=cull_backfaces)
    fragments = MeshRasterizer(cameras, settings)(meshes)
    colors = meshes.sample_textures(fragments)[..., 0, :3]
    return torch.where(fragments.pix_to_face >= 0, colors, 0.0)


class TestTheObject:
    def test_contexts_are_made_once_and_kept_out_of_copies(self, place):
        renderer = NvdiffrastRenderer(16, LIGHT, background=(0.1, 0.2, 0.3))
        meshes, cameras = ico_sphere(1).to(place), make_cameras("fov", place)
        first = renderer(meshes, cameras)
        contexts = list(renderer._contexts.values())
        assert len(contexts) == 1
        renderer(meshes, cameras)
        assert list(renderer._contexts.values()) == contexts
        for copied in (copy.copy(renderer), copy.deepcopy(renderer), pickle.loads(pickle.dumps(renderer))):
            assert copied._contexts == {}
            torch.testing.assert_close(copied(meshes, cameras), first)
        assert list(renderer._contexts.values()) == contexts

    def test_importing_the_class_does_not_import_nvdiffrast(self):
        code = "import sys; from pt3d_largesteps.renderers import NvdiffrastRenderer; assert 'nvdiffrast' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)


class TestErrors:
    def test_without_cuda(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(RuntimeError, match=r"NvdiffrastRenderer renders only on CUDA, and torch .* sees no such device"):
            NvdiffrastRenderer(8)

    def test_without_nvdiffrast(self, monkeypatch):
        monkeypatch.setattr(renderer_module, "_device_types", lambda: ("cuda",))
        monkeypatch.setitem(sys.modules, "nvdiffrast", None)
        monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
        with pytest.raises(ImportError, match=r"pip install --no-build-isolation git\+https://github.com/NVlabs/nvdiffrast"):
            NvdiffrastRenderer(8)

    def test_meshes_and_cameras_elsewhere(self, place, monkeypatch):
        renderer, meshes, cameras = NvdiffrastRenderer(8), ico_sphere(0), make_cameras("fov", "cpu")
        monkeypatch.setattr(renderer_module, "_device_types", lambda: ("cuda",))
        with pytest.raises(
            ValueError, match="meshes: expected them on a CUDA device, which nvdiffrast needs, got meshes on cpu"
        ):
            renderer(meshes, cameras)
        if place.type == "cuda":
            with pytest.raises(ValueError, match="cameras: expected them on a CUDA device"):
                renderer(meshes.to(place), cameras)

    def test_arguments(self, place):
        for size in (0, (4, 0), (4, 4, 4), "large"):
            with pytest.raises(ValueError, match=r"image_size: expected a positive int or \(H, W\), got"):
                NvdiffrastRenderer(size)
        for boost in (-1.0, math.nan):
            with pytest.raises(ValueError, match="pos_gradient_boost: expected a finite number"):
                NvdiffrastRenderer(8, pos_gradient_boost=boost)

    def test_what_is_called_with(self, place):
        renderer, sphere, cameras = NvdiffrastRenderer(8), ico_sphere(0).to(place), make_cameras("fov", place)
        with pytest.raises(TypeError, match="meshes: expected Meshes"):
            renderer(sphere.verts_packed(), cameras)
        with pytest.raises(TypeError, match="cameras: expected PyTorch3D cameras"):
            renderer(sphere, None)
        with pytest.raises(ValueError, match="cameras: expected 1 or 2 cameras for 2 meshes, got 3"):
            renderer(sphere.extend(2), cameras)
        fisheye = FishEyeCameras(R=LOOK[0], T=LOOK[1], focal_length=torch.ones(3, 1), device=place)
        with pytest.raises(TypeError, match="cameras: expected cameras with a projection matrix, got FishEyeCameras"):
            renderer(sphere, fisheye)

    def test_textures(self, place):
        renderer, cameras = NvdiffrastRenderer(8, WHITE), front_view(place)
        with pytest.raises(TypeError, match=r"meshes\.textures: expected TexturesVertex or TexturesUV, got TexturesAtlas"):
            renderer(quad(place, TexturesAtlas(torch.rand(1, 2, 2, 2, 3))), cameras)
        with pytest.raises(ValueError, match=r"meshes\.textures: expected 3 channels, got .*\(4, 2\)"):
            renderer(quad(place, TexturesVertex(torch.rand(1, 4, 2))), cameras)
        several = {"maps_ids": torch.zeros(1, 2, dtype=torch.int64)}
        with pytest.raises(ValueError, match="expected one map for each mesh, got several"):
            renderer(uv_quad(place, torch.rand(1, 2, 4, 4, 3), **several), cameras)
