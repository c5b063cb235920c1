"""Textures in images: against hand-made ones, PyTorch3D's own sampling, and finite differences."""

import pytest
import torch
from pytorch3d.renderer import (
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    MeshRasterizer,
    RasterizationSettings,
    TexturesAtlas,
    TexturesUV,
    TexturesVertex,
    look_at_view_transform,
)
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.renderers.texturing import vertex_colors
from support.comparing import assert_equal_to_rounding
from support.shapes import empty

UNLIT = SphericalHarmonicsLight.ambient()
LOOK = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 60.0]), torch.tensor([0.0, 100.0, 215.0]))
CORNERS = torch.tensor([[1.0, 1, 2], [-1, 1, 2], [1, -1, 2], [-1, -1, 2]])  # of the image: +x is to the left
CORNER_UVS = torch.tensor([[0.0, 1], [1, 1], [0, 0], [1, 0]])
QUAD = torch.tensor([[0, 1, 2], [2, 1, 3]])


def views(device="cpu") -> FoVPerspectiveCameras:
    return FoVPerspectiveCameras(R=LOOK[0], T=LOOK[1], fov=45.0, device=device)


def picture(maps: torch.Tensor, half_width: float = 1.0, **options) -> Meshes:
    """A square before the camera of ``FoVOrthographicCameras()`` with a map (H, W, 3); 1 fills the image."""
    verts = CORNERS * torch.tensor([half_width, half_width, 1.0])
    textures = TexturesUV(maps[None], [QUAD.to(maps.device)], [CORNER_UVS.to(maps.device)], **options)
    return Meshes([verts.to(maps.device)], [QUAD.to(maps.device)], textures)


def with_uvs(meshes: Meshes, size=(9, 14), maps_count: int | None = None, seed: int = 0, **options) -> Meshes:
    """The meshes with random maps and uvs, some outside of [0, 1]; each face of its own uvs, every vertex a seam."""
    generator = torch.Generator().manual_seed(seed)
    counts = meshes.num_faces_per_mesh().tolist()
    uvs = [torch.rand(3 * count, 2, generator=generator) * 1.4 - 0.2 for count in counts]
    faces_uvs = [torch.arange(3 * count).view(-1, 3) for count in counts]
    extra = () if maps_count is None else (maps_count,)
    maps = torch.rand(len(counts), *extra, *size, 3, generator=generator)
    if maps_count is not None:
        options["maps_ids"] = [torch.randint(maps_count, (count,), generator=generator) for count in counts]
    return Meshes(meshes.verts_list(), meshes.faces_list(), TexturesUV(maps, faces_uvs, uvs, **options))


def with_colors(meshes: Meshes) -> Meshes:
    return Meshes(meshes.verts_list(), meshes.faces_list(), TexturesVertex([torch.rand_like(v) for v in meshes.verts_list()]))


def assert_pytorch3d_sees_the_same(meshes: Meshes, cameras, size: int = 40) -> None:
    ours = PyTorch3DRenderer(size, UNLIT, antialiased=False)(meshes, cameras)
    extended = meshes.extend(len(cameras)) if len(meshes) == 1 else meshes
    fragments = MeshRasterizer(cameras, RasterizationSettings(image_size=size, faces_per_pixel=1))(extended)
    theirs = extended.sample_textures(fragments)[..., 0, :]
    hit = fragments.pix_to_face[..., 0] >= 0
    assert torch.equal(hit, ours[..., 3] == 1)
    # at a discontinuity (nearest texels, an atlas) rounding decides for a few pixels
    same = (ours[..., :3][hit] - theirs[hit]).abs().amax(-1) < 1e-4
    assert same.float().mean() > 0.995
    assert theirs[hit].std() > 0.1


class TestImages:
    def test_four_coloured_corners(self, device):
        # affine in the position, so that the two triangles make one gradient
        colors = torch.tensor([[0.1, 0.2, 0.9], [0.7, 0.2, 0.5], [0.1, 0.8, 0.6], [0.7, 0.8, 0.2]], device=device)
        meshes = Meshes([CORNERS.to(device)], [QUAD.to(device)], TexturesVertex([colors]))
        size = 15
        image = PyTorch3DRenderer(size, UNLIT, antialiased=False)(meshes, FoVOrthographicCameras(device=device))[0]
        along = (torch.arange(size, device=device) + 0.5) / size
        right, down = along[None, :, None], along[:, None, None]
        expected = colors[0] + right * (colors[1] - colors[0]) + down * (colors[2] - colors[0])
        hit = image[..., 3] == 1
        assert hit.float().mean() > 0.9  # all but the diagonal: as in PyTorch3D, an edge belongs to no face
        assert_equal_to_rounding(image[..., :3][hit], expected[hit], roundings=20)

    def test_a_picture_stands_upright(self, device):
        # 8 x 12 pixels to each of the 2 x 3 texels, which with align_corners=False tile the image
        maps = torch.rand(2, 3, 3, device=device)
        meshes = picture(maps, sampling_mode="nearest", align_corners=False)
        image = PyTorch3DRenderer(24, UNLIT, antialiased=False)(meshes, FoVOrthographicCameras(device=device))[0]
        expected = maps.repeat_interleave(12, dim=0).repeat_interleave(8, dim=1)
        hit = image[..., 3] == 1
        assert hit.float().mean() > 0.9
        assert_equal_to_rounding(image[..., :3][hit], expected[hit], roundings=20)

    @pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
    @pytest.mark.parametrize("align_corners", [True, False])
    @pytest.mark.parametrize("sampling_mode", ["bilinear", "nearest"])
    def test_maps_are_sampled_as_by_pytorch3d(self, padding_mode, align_corners, sampling_mode):
        options = {"padding_mode": padding_mode, "align_corners": align_corners, "sampling_mode": sampling_mode}
        assert_pytorch3d_sees_the_same(with_uvs(torus(0.3, 0.7, 8, 12), **options), views())

    def test_one_mesh_of_several_maps(self):
        assert_pytorch3d_sees_the_same(with_uvs(torus(0.3, 0.7, 8, 12), maps_count=3), views()[[0]])

    @pytest.mark.parametrize("textured", [with_uvs, with_colors], ids=["maps", "vertices"])
    def test_ragged_batches(self, textured):
        assert_pytorch3d_sees_the_same(
            textured(join_meshes_as_batch([ico_sphere(2), torus(0.3, 0.7, 8, 12), empty()])), views()
        )

    def test_an_atlas(self):
        batch = [ico_sphere(1), torus(0.3, 0.7, 8, 12)]
        atlas = [torch.rand(len(m.faces_packed()), 4, 4, 3) for m in batch]
        verts, faces = ([getattr(m, name)() for m in batch] for name in ("verts_packed", "faces_packed"))
        assert_pytorch3d_sees_the_same(Meshes(verts, faces, TexturesAtlas(atlas)), views()[[0, 1]])
        assert_pytorch3d_sees_the_same(Meshes(verts[:1], faces[:1], TexturesAtlas(atlas[:1])), views())

    def test_maps_of_different_sizes(self):
        maps = [torch.rand(5, 7, 3), torch.rand(11, 3, 3)]
        batch = with_uvs(join_meshes_as_batch([ico_sphere(1), torus(0.3, 0.7, 8, 12)]))
        textures = TexturesUV(maps, batch.textures.faces_uvs_list(), batch.textures.verts_uvs_list())
        assert_pytorch3d_sees_the_same(Meshes(batch.verts_list(), batch.faces_list(), textures), views()[[0, 1]])

    @pytest.mark.parametrize("maps_count", [1, 3])
    @pytest.mark.parametrize("align_corners", [True, False])
    def test_ragged_batches_of_several_maps(self, maps_count, align_corners):
        # PyTorch3D samples wrongly here; one face of each mesh at a time, with its own map, it does not
        batch = join_meshes_as_batch([ico_sphere(0), torus(0.3, 0.7, 4, 5)])
        batch = with_uvs(batch, maps_count=maps_count, align_corners=align_corners)
        cameras = views()[[0, 1]]
        ours = PyTorch3DRenderer(32, UNLIT, antialiased=False)(batch, cameras)
        textures = batch.textures
        for k in range(2):
            ids, maps = textures.maps_ids_list()[k], textures.maps_padded()[k]
            uvs = (textures.faces_uvs_list()[k], textures.verts_uvs_list()[k])
            one = [
                Meshes(
                    batch[k].verts_list(),
                    batch[k].faces_list(),
                    TexturesUV(maps[[m]], [uvs[0]], [uvs[1]], align_corners=align_corners),
                )
                for m in range(maps_count)
            ]
            each = torch.stack([PyTorch3DRenderer(32, UNLIT, antialiased=False)(m, cameras[[k]])[0] for m in one])
            visible = PyTorch3DRenderer(32).visible_faces(batch[k], cameras[[k]]).pix_to_face[0]
            chosen = each.gather(0, ids[visible.clamp_min(0)][None, ..., None].expand(1, -1, -1, 4))[0]
            torch.testing.assert_close(ours[k], chosen)

    def test_several_meshes_before_one_camera(self):
        batch = with_uvs(join_meshes_as_batch([ico_sphere(1), torus(0.3, 0.7, 8, 12)]))
        renderer, camera = PyTorch3DRenderer(32, SphericalHarmonicsLight.default()), views()[[1]]
        images = renderer(batch, camera)
        for k in range(2):
            # What is blended at an outline is measured in pixels, of which the coordinates are up to 32.
            assert_equal_to_rounding(images[[k]], renderer(batch[k], camera), roundings=10, scale=32.0)

    def test_colours_on_faces_across_the_near_plane(self, device):
        # a floor from behind the camera into the distance: where each pixel's ray meets it is known
        verts = torch.tensor([[-50.0, -1, -50], [50, -1, -50], [0, -1, 100]], device=device)
        floor = Meshes([verts], [torch.tensor([[0, 1, 2]], device=device)], TexturesVertex([verts]))
        cameras = FoVPerspectiveCameras(fov=90.0, znear=0.1, device=device)
        size = 32
        image = PyTorch3DRenderer(size, UNLIT, antialiased=False)(floor, cameras)[0]
        ndc = 1 - (2 * torch.arange(size, device=device) + 1) / size
        depth = (-1 / ndc)[:, None].expand(size, size)  # y = depth * ndc = -1, with 90 degrees
        expected = torch.stack([ndc * depth, -torch.ones_like(depth), depth], dim=-1)
        near = slice(20, size)
        assert image[near, :, 3].min() == 1
        torch.testing.assert_close(image[near, :, :3], expected[near], rtol=1e-4, atol=1e-4)

    def test_shading_is_multiplied_and_alpha_is_not(self):
        meshes, light = with_colors(ico_sphere(2)), SphericalHarmonicsLight.default()
        both = PyTorch3DRenderer(32, light, antialiased=False)(meshes, views())
        colors = PyTorch3DRenderer(32, UNLIT, antialiased=False)(meshes, views())
        shades = PyTorch3DRenderer(32, light, antialiased=False, textured=False)(meshes, views())
        expected = torch.cat([colors[..., :3] * shades[..., :3], shades[..., 3:]], dim=-1)
        assert_equal_to_rounding(both, expected, roundings=20)
        white = Meshes(meshes.verts_list(), meshes.faces_list())
        assert torch.equal(shades, PyTorch3DRenderer(32, light, antialiased=False)(white, views()))
        assert torch.equal(PyTorch3DRenderer(32)(meshes, views()), PyTorch3DRenderer(32)(white, views()))

    def test_textures_of_no_faces_at_all(self):
        meshes = Meshes(empty().verts_list(), empty().faces_list(), TexturesVertex(torch.zeros(1, 0, 3)))
        assert PyTorch3DRenderer(8, UNLIT)(meshes, views()).abs().max() == 0
        assert vertex_colors(meshes).shape == (0, 3)


class TestGradients:
    @pytest.mark.parametrize("lit", [False, True])
    def test_vertex_colours(self, lit, device):
        # images are linear in the colours, so that differences are exact
        meshes = ico_sphere(1).to(device)
        renderer = PyTorch3DRenderer(24, SphericalHarmonicsLight.default() if lit else UNLIT)

        def images_of(colors):
            return renderer(Meshes(meshes.verts_list(), meshes.faces_list(), TexturesVertex([colors])), views(device))

        assert_gradient(images_of, torch.rand_like(meshes.verts_packed()), step=0.5, tolerance=1e-4)

    @pytest.mark.parametrize("maps_count", [None, 2])
    def test_maps(self, maps_count, device):
        batch = with_uvs(join_meshes_as_batch([ico_sphere(0), torus(0.3, 0.7, 4, 5)]), (4, 5), maps_count).to(device)
        textures, renderer = batch.textures, PyTorch3DRenderer(24, SphericalHarmonicsLight.default())
        uvs = textures.faces_uvs_list(), textures.verts_uvs_list()

        def images_of(maps):
            own = TexturesUV(maps, *uvs, maps_ids=textures.maps_ids_padded())
            return renderer(Meshes(batch.verts_list(), batch.faces_list(), own), views(device)[[0, 1]])

        assert_gradient(images_of, textures.maps_padded().clone(), step=0.5, tolerance=1e-4)

    @pytest.mark.parametrize("kind", ["maps", "vertices"])
    def test_vertices(self, kind, device):
        # the inside of a picture moves with its vertices: smooth colours, also across the fixed outline of the image
        y, x = torch.meshgrid(torch.linspace(0, 3, 24), torch.linspace(0, 3, 24), indexing="ij")
        maps = torch.stack([x.sin(), (1.3 * y).cos(), (x * y / 3).sin()], dim=-1).to(device)
        flat = picture(maps, 1.6)
        colors = torch.tensor([[0.1, 0.9, 0.4], [0.8, 0.3, 0.6], [0.5, 0.1, 0.7], [0.2, 0.6, 0.9]], device=device)
        textures = flat.textures if kind == "maps" else TexturesVertex([colors])
        renderer, cameras = PyTorch3DRenderer(64, UNLIT), FoVPerspectiveCameras(fov=53.0, device=device)

        def images_of(verts):
            return renderer(Meshes([verts], flat.faces_list(), textures), cameras)

        # not symmetric, lest pixel centres lie on the diagonal, where they belong to no face
        assert_gradient(images_of, flat.verts_packed() + 0.02 * torch.randn(4, 3).to(device), step=0.01, tolerance=0.02)

    def test_a_textured_mesh_finds_back_to_its_place(self):
        # a square that reaches beyond the image: its colours alone tell how it has moved; not with its diagonal on pixels
        maps = torch.linspace(0, 1, 16)[None, :, None].expand(16, -1, 3).clone()
        renderer, camera = PyTorch3DRenderer(24, UNLIT), FoVOrthographicCameras()
        start = picture(maps, 1.5).offset_verts(torch.tensor([0.017, 0.005, 0.0]))
        target = renderer(start, camera)
        shift = torch.tensor([0.3, 0.0, 0.0], requires_grad=True)
        for _ in range(30):
            meshes = start.offset_verts(shift.expand(4, 3))
            loss = (renderer(meshes, camera) - target).square().mean()
            (slope,) = torch.autograd.grad(loss, shift)
            shift = (shift - 2.5 * slope).detach().requires_grad_()
        assert shift.abs().max() < 0.02


def assert_gradient(images_of, parameter: torch.Tensor, step: float, tolerance: float) -> None:
    """Autograd against central differences, for a weighted sum of the images."""
    shape = images_of(parameter).shape
    y, x, c = (torch.arange(n, device=parameter.device, dtype=torch.float32) for n in shape[1:])
    weights = (x[None, :, None] * 0.21 + c).sin() * (0.27 * y[:, None, None]).cos() + 0.5

    def value(at: torch.Tensor) -> torch.Tensor:
        return (images_of(at) * weights).double().sum()

    parameter = parameter.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(value(parameter), parameter)
    with torch.no_grad():
        directions = [torch.randn_like(parameter) for _ in range(6)]
        differences = torch.stack(
            [(value(parameter + step * d) - value(parameter - step * d)) / (2 * step) for d in directions]
        )
    along = torch.stack([(by_autograd * d).sum() for d in directions]).double()
    assert differences.norm() > 1
    assert (along - differences).norm() <= tolerance * differences.norm()


class TestVertexColors:
    def test_colours_of_vertices_come_back(self):
        meshes = with_colors(join_meshes_as_batch([ico_sphere(1), torus(0.3, 0.7, 4, 5)]))
        colors = meshes.textures.verts_features_packed()
        assert_equal_to_rounding(vertex_colors(meshes), colors, roundings=10)

    @pytest.mark.parametrize("kind", ["vertices", "map", "atlas"])
    def test_double_precision_stays(self, kind):
        third = torch.full((1, 4, 4, 3), 1 / 3, dtype=torch.float64)  # not a number of float32
        uvs = torch.tensor([[0.0, 1], [1, 1], [0, 0], [1, 0]])
        textures = {
            "vertices": lambda: TexturesVertex(third[:, 0]),
            "map": lambda: TexturesUV(third, [QUAD], [uvs]),
            "atlas": lambda: TexturesAtlas(third[:, :2, :1, None]),
        }[kind]()
        colors = vertex_colors(Meshes([CORNERS], [QUAD], textures))
        assert colors.dtype == torch.float64
        # bilinear weights and means round to a few eps
        torch.testing.assert_close(colors, third[0, 0], atol=1e-15, rtol=0)

    def test_the_mean_over_a_seam(self):
        maps = torch.zeros(1, 2, 3, 3)  # of two rows and three columns
        maps[0, 0] = torch.tensor([[0.3], [0.6], [0.9]])
        uvs = torch.tensor([[0.0, 1], [0.5, 1], [0, 0], [1, 1]])  # vertex 1 is at (1/2, 1) and at (1, 1)
        textures = TexturesUV(maps, [torch.tensor([[0, 1, 2], [2, 3, 2]])], [uvs])
        colors = vertex_colors(Meshes([torch.cat([CORNERS, torch.ones(1, 3)])], [QUAD], textures))
        torch.testing.assert_close(colors[:, 0], torch.tensor([0.3, 0.75, 0.0, 0.0, 0.0]))


class TestAmbientLight:
    @pytest.mark.parametrize("radiance", [1.0, 0.25, 0.0])
    def test_every_normal_has_the_radiance(self, radiance):
        normals = torch.cat([ico_sphere(2).verts_packed(), torch.zeros(1, 3)])
        shades = SphericalHarmonicsLight.ambient(radiance)(normals)
        # a product with 9 coefficients, of which one is not 0, and what makes it of the radiance and back
        assert_equal_to_rounding(shades, torch.full_like(normals, radiance), roundings=9 + 6)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"radiance: expected a finite number in \[0, infinity\), got -1"):
            SphericalHarmonicsLight.ambient(-1.0)


class TestErrors:
    @pytest.mark.parametrize(
        ("textures", "message"),
        [
            (TexturesVertex(torch.rand(1, 4, 4)), r"expected verts_features of 3 channels, got .*\(4, 4\)"),
            (TexturesVertex(torch.rand(1, 4, 1)), r"expected verts_features of 3 channels, got .*\(4, 1\)"),
            (TexturesAtlas(torch.rand(1, 2, 2, 2, 4)), r"expected atlas of 3 channels, got .*\(2, 2, 2, 4\)"),
            (TexturesUV(torch.rand(1, 8, 8, 4), [QUAD], [CORNER_UVS]), r"expected maps of 3 channels, got .*\(1, 8, 8, 4\)"),
            (
                TexturesUV(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), [QUAD], [CORNER_UVS]),
                "maps: expected a real floating-point dtype, got .*uint8",
            ),
            (
                TexturesUV(torch.rand(1, 2, 8, 8, 3), [QUAD], [CORNER_UVS], maps_ids=torch.tensor([[0, 2]])),
                "expected maps_ids from 0 to 1, got 0 to 2",
            ),
        ],
    )
    def test_bad_textures(self, textures, message):
        with pytest.raises((TypeError, ValueError), match=f"meshes.textures: {message}"):
            PyTorch3DRenderer(8, UNLIT)(Meshes([CORNERS], [QUAD], textures), FoVOrthographicCameras())

    def test_another_class_of_textures(self):
        class Painting(TexturesVertex):
            pass

        meshes = Meshes([CORNERS], [QUAD], Painting([CORNERS]))
        assert PyTorch3DRenderer(8, UNLIT)(meshes, FoVOrthographicCameras())[..., 3].max() == 1  # a TexturesVertex too
        meshes.textures = "green"
        with pytest.raises(TypeError, match="expected TexturesVertex, TexturesUV or TexturesAtlas, got str 'green'"):
            PyTorch3DRenderer(8, UNLIT)(meshes, FoVOrthographicCameras())
