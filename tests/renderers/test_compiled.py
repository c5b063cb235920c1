"""The compiled renderer beside the one in plain torch: the same pictures and derivatives, of whatever the renderer promises."""

import dataclasses
import math

import pytest
import torch
from pytorch3d.renderer import (
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    PerspectiveCameras,
    TexturesAtlas,
    TexturesUV,
    TexturesVertex,
    look_at_view_transform,
)
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.native.library import is_compiled
from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight, compiled, plain
from pt3d_largesteps.renderers.cameras import CachedMatrices, CameraMatrices, camera_matrices
from support.shapes import empty

pytestmark = pytest.mark.skipif(not is_compiled(), reason="nothing is compiled here")

SIZE = (30, 44)
ROTATION, TRANSLATION = look_at_view_transform(2.7, torch.tensor([10.0, -20.0, 75.0]), torch.tensor([0.0, 100.0, 215.0]))
LIGHT = SphericalHarmonicsLight.default()
# A point is rounded to eps of NDC's range, and the smallest triangle here has a height of a few hundredths of it: weights,
# colours and their derivatives are off by some tens of eps / .03 on both sides.
CLOSE = 1e-5
# The projection of one path may be rounded otherwise than that of the other, so that once in a while a pixel changes hands.
FEW = 0.005


def cameras(kind: str = "fov"):
    if kind == "screen":
        pixels = torch.tensor([SIZE]).expand(3, 2)
        options = {"focal_length": 30.0, "principal_point": ((20.0, 16.0),), "in_ndc": False, "image_size": pixels}
        return PerspectiveCameras(R=ROTATION, T=TRANSLATION, **options)
    if kind == "inside":  # faces are cut
        return FoVPerspectiveCameras(R=ROTATION, T=TRANSLATION * 0.3, znear=0.4)
    return {"fov": FoVPerspectiveCameras, "orthographic": FoVOrthographicCameras}[kind](R=ROTATION, T=TRANSLATION)


def lumpy(kind: str = "plain") -> Meshes:
    generator = torch.Generator().manual_seed(0)
    shape = torus(0.3, 0.7, 9, 14)
    verts = shape.verts_packed() + 0.03 * torch.randn(shape.verts_packed().shape, generator=generator)
    count = len(shape.faces_packed())
    textures = {
        "plain": None,
        "vertex": TexturesVertex([torch.rand(len(verts), 3, generator=generator)]),
        "uv": TexturesUV(
            torch.rand(1, 8, 9, 3, generator=generator), [torch.arange(3 * count).view(-1, 3)],
            [torch.rand(3 * count, 2, generator=generator)],
        ),
        "atlas": TexturesAtlas(torch.rand(1, count, 3, 3, 3, generator=generator)),
    }  # fmt: skip
    return Meshes([verts], shape.faces_list(), textures[kind])


def in_torch(renderer: PyTorch3DRenderer, meshes, views) -> torch.Tensor:
    return plain.render(renderer._style(), meshes, views, camera_matrices(views).z_clip)


def assert_same_picture(renderer: PyTorch3DRenderer, meshes, views) -> None:
    ours, theirs = renderer(meshes, views), in_torch(renderer, meshes, views)
    assert ours.shape == theirs.shape
    off = (ours - theirs).abs().amax(-1) > CLOSE
    assert off.float().mean() <= FEW, (ours - theirs).abs().max()
    assert ours.amax() > ours.amin()


class TestPictures:
    @pytest.mark.parametrize("kind", ["fov", "orthographic", "screen", "inside"])
    @pytest.mark.parametrize("texture", ["plain", "vertex", "uv", "atlas"])
    @pytest.mark.parametrize("antialiased", [True, False])
    def test_of_every_kind(self, kind, texture, antialiased):
        renderer = PyTorch3DRenderer(SIZE, LIGHT, background=(0.2, 0.5, 0.9), antialiased=antialiased)
        assert_same_picture(renderer, lumpy(texture), cameras(kind))

    @pytest.mark.parametrize("kind", ["fov", "orthographic", "screen", "inside"])
    def test_silhouettes(self, kind):
        assert_same_picture(PyTorch3DRenderer(SIZE), lumpy(), cameras(kind))

    def test_culling_and_textures_that_are_left_out(self):
        assert_same_picture(PyTorch3DRenderer(SIZE, LIGHT, cull_backfaces=True, textured=False), lumpy("vertex"), cameras())

    def test_ragged_batches(self):
        batch = join_meshes_as_batch([ico_sphere(2), lumpy(), empty()])
        assert_same_picture(PyTorch3DRenderer(SIZE, LIGHT), batch, cameras())
        assert_same_picture(PyTorch3DRenderer(SIZE, LIGHT), batch, cameras()[[1]])

    @pytest.mark.parametrize("size", [1, 7, (1, 9), (9, 1), (8, 16), (33, 2)])
    def test_small_pictures(self, size):
        assert_same_picture(PyTorch3DRenderer(size, LIGHT, background=(1, 0, 1)), ico_sphere(2), cameras())

    def test_cameras_without_a_matrix(self):
        renderer, views = PyTorch3DRenderer(SIZE, LIGHT), cameras()
        without = dataclasses.replace(camera_matrices(views), projection=None)  # as the fisheye ones: torch projects
        for meshes in (lumpy("vertex"), join_meshes_as_batch([ico_sphere(1), lumpy(), ico_sphere(2)])):
            images = compiled.render(renderer._style(), compiled.IndexCache(), meshes, views, without)
            off = (images - renderer(meshes, views)).abs().amax(-1) > CLOSE
            assert off.float().mean() <= FEW

    def test_lights_for_each_image(self):
        lights = torch.stack([LIGHT.coefficients * k for k in (1, 0.5, 2)])
        gains = torch.tensor([[1.0, 0.5, 0.2], [2, 1, 1], [0.3, 0.4, 0.5]])
        renderer = PyTorch3DRenderer(SIZE, SphericalHarmonicsLight(lights, gains))
        assert_same_picture(renderer, lumpy("vertex"), cameras())
        assert_same_picture(renderer, join_meshes_as_batch([ico_sphere(2), lumpy(), ico_sphere(1)]), cameras())
        alone = PyTorch3DRenderer(SIZE, SphericalHarmonicsLight(LIGHT.coefficients * 2 * gains[2]))
        third = renderer(lumpy(), cameras())[2]
        torch.testing.assert_close(third, alone(lumpy(), cameras()[[2]])[0], rtol=0, atol=CLOSE)

    def test_autocast_changes_nothing(self):
        renderer = PyTorch3DRenderer(SIZE, LIGHT)
        expected = renderer(lumpy("uv"), cameras())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(renderer(lumpy("uv"), cameras()), expected)

    def test_defaults_of_torch_change_nothing(self):
        renderer, meshes, views = PyTorch3DRenderer(SIZE, LIGHT), lumpy("vertex"), cameras()
        expected = renderer(meshes, views)
        torch.set_default_dtype(torch.float64)
        try:
            actual = renderer(meshes, views)
        finally:
            torch.set_default_dtype(torch.float32)
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)
        with torch.device("meta"):
            assert torch.equal(renderer(meshes, views), expected)

    def test_inference_mode(self):
        renderer, views = PyTorch3DRenderer(SIZE, LIGHT), cameras()
        loss = ImageLoss(renderer, views, torch.zeros(3, *SIZE, 4))
        expected = renderer(lumpy("vertex"), views), loss(lumpy(), [0, 2])
        with torch.inference_mode():
            for _ in range(2):
                assert torch.equal(renderer(lumpy("vertex"), cameras()), expected[0])
                assert torch.equal(loss(lumpy(), [0, 2]), expected[1])


class TestInputsAtTheEdge:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
    def test_a_vertex_that_is_nowhere(self, value):
        sphere = ico_sphere(2)
        verts = sphere.verts_packed().clone()
        verts[5] = value
        images = PyTorch3DRenderer(SIZE, antialiased=True)(Meshes([verts], sphere.faces_list()), cameras())
        assert images.isfinite().all()
        assert images.sum() > 10  # the rest is there

    def test_one_face(self):
        one = Meshes([torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])], [torch.tensor([[0, 1, 2]])])
        assert_same_picture(PyTorch3DRenderer(SIZE, LIGHT), one, cameras())

    def test_a_face_of_no_vertex(self):
        bad = Meshes([torch.rand(3, 3)], [torch.tensor([[0, 1, 3]])])
        with pytest.raises(RuntimeError, match="meshes: expected faces of vertices from 0 to 2, got 3"):
            PyTorch3DRenderer(SIZE, LIGHT)(bad, cameras())

    @pytest.mark.slow
    def test_large_ones(self):
        views = cameras()[[0]]
        picture = PyTorch3DRenderer(4096, LIGHT)(ico_sphere(3), views)
        small = PyTorch3DRenderer(512, LIGHT)(ico_sphere(3), views)
        pooled = torch.nn.functional.avg_pool2d(picture.permute(0, 3, 1, 2), 8).permute(0, 2, 3, 1)
        assert (pooled - small).abs().mean() < 0.01
        rows = torch.arange(1000 * 1000).view(1000, 1000)
        a, b, c, d = (part.flatten() for part in (rows[:-1, :-1], rows[:-1, 1:], rows[1:, :-1], rows[1:, 1:]))
        faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([c, b, d], 1)])  # two million
        y, x = torch.meshgrid(torch.linspace(-1, 1, 1000), torch.linspace(-1, 1, 1000), indexing="ij")
        verts = torch.stack([x, y, 0.2 * torch.sin(5 * x)], -1).view(-1, 3).requires_grad_()
        images = PyTorch3DRenderer(64, LIGHT)(Meshes([verts], [faces]), views)
        images.sum().backward()
        assert images[..., 3].mean() > 0.1
        assert verts.grad.isfinite().all()


class TestDerivatives:
    """Of a smooth function of the pictures, by everything that has a derivative."""

    @pytest.mark.parametrize("texture", ["plain", "vertex", "uv", "atlas"])
    @pytest.mark.parametrize("kind", ["fov", "orthographic", "inside"])
    def test_vertices_colours_cameras_and_lights(self, texture, kind):
        gradients = []
        for draw in (lambda r, m, c: r(m, c), in_torch):
            mesh, views = lumpy(texture), cameras(kind)
            verts = mesh.verts_packed().clone().requires_grad_()
            leaves = [verts]
            if texture == "vertex":
                leaves.append(mesh.textures.verts_features_packed().requires_grad_())
                mesh.textures = TexturesVertex([leaves[-1]])
            if texture == "uv":
                leaves.append(mesh.textures.maps_padded().requires_grad_())
            views.R, views.T = ROTATION.clone().requires_grad_(), views.T.clone().requires_grad_()
            coefficients = torch.stack([LIGHT.coefficients] * 3).requires_grad_()
            gains = torch.ones(3, 3, requires_grad=True)
            leaves += [views.R, views.T, coefficients, gains]
            renderer = PyTorch3DRenderer(SIZE, SphericalHarmonicsLight(coefficients, gains))
            images = draw(renderer, mesh.update_padded(verts[None]), views)
            gradients.append(torch.autograd.grad((images * waves(images)).sum(), leaves))
        for ours, theirs in zip(*gradients, strict=True):
            assert_few_differ(ours, theirs)

    def test_focal_length_and_principal_point(self):
        gradients = []
        for draw in (lambda r, m, c: r(m, c), in_torch):
            focal = torch.full((3, 2), 1.8, requires_grad=True)
            point = torch.tensor([[0.1, -0.2]] * 3).requires_grad_()
            views = PerspectiveCameras(R=ROTATION, T=TRANSLATION, focal_length=focal, principal_point=point)
            images = draw(PyTorch3DRenderer(SIZE, LIGHT), lumpy(), views)
            gradients.append(torch.autograd.grad((images * waves(images)).sum(), [focal, point]))
        for ours, theirs in zip(*gradients, strict=True):
            assert_few_differ(ours, theirs)

    def test_transforms_of_torch(self):
        faces, verts = lumpy().faces_packed(), lumpy().verts_packed()
        renderer, views = PyTorch3DRenderer(SIZE, LIGHT), cameras()
        loss = ImageLoss(renderer, views, torch.zeros(3, *SIZE, 4), difference="l2")
        transformed = torch.func.grad(lambda v: loss(Meshes([v], [faces]), [0, 2]).sum())(verts)
        leaf = verts.clone().requires_grad_()
        loss(Meshes([leaf], [faces]), [0, 2]).sum().backward()  # what was made inside is not used again
        assert_few_differ(transformed, leaf.grad)

    def test_a_shared_light_that_is_learned(self):
        light = SphericalHarmonicsLight(torch.nn.Parameter(LIGHT.coefficients.clone()))
        assert [name for name, _ in light.named_parameters()] == ["coefficients"]
        PyTorch3DRenderer(SIZE, light)(lumpy(), cameras()).sum().backward()
        step = torch.zeros(9, 3)
        step[0, 1] = 0.01
        lights = [SphericalHarmonicsLight(LIGHT.coefficients + sign * step) for sign in (1, -1)]
        more, less = (PyTorch3DRenderer(SIZE, moved)(lumpy(), cameras()).double().sum() for moved in lights)
        expected = float(more - less) / 0.02
        assert float(light.coefficients.grad[0, 1]) == pytest.approx(expected, rel=1e-3)


def waves(images: torch.Tensor) -> torch.Tensor:
    """Smooth weights, so that nothing cancels by symmetry."""
    place = torch.arange(images.numel(), dtype=torch.float64).view(images.shape)
    return (0.01 * place).sin().to(images)


def assert_few_differ(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """A pixel that changes hands changes the derivatives of its vertices; of what all pixels share, it is a small part."""
    scale = theirs.abs().max()
    off = (ours - theirs).abs() > 1e-4 * scale
    assert off.float().mean() <= 0.02 if ours.numel() > 200 else not off.any(), ((ours - theirs).abs().max() / scale, off.sum())


class TestLosses:
    """``ImageLoss`` in one pass, and with pictures."""

    class Opaque:
        """A renderer that only draws."""

        def __init__(self, renderer):
            self.renderer, self.light = renderer, renderer.light

        def __call__(self, meshes, views, light=None):
            return self.renderer(meshes, views, light)

    def assert_same_loss(self, renderer, target, meshes, **options) -> None:
        views = cameras()
        in_one_pass = ImageLoss(renderer, views, target, **options)
        with_images = ImageLoss(self.Opaque(renderer), views, target, **options)
        results = []
        for loss in (in_one_pass, with_images):
            verts = meshes.verts_padded().clone().requires_grad_()
            losses = loss(meshes.update_padded(verts), [2, 0])
            (gradient,) = torch.autograd.grad((losses * torch.arange(1.0, 1 + len(losses))).sum(), verts)
            results.append((losses, gradient))
        assert results[0][0].shape == (len(meshes),)
        torch.testing.assert_close(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-5 * float(results[1][1].abs().max()))

    @pytest.mark.parametrize("options", [{}, {"difference": "l2"}, {"difference": "smooth_l1", "beta": 0.2}])
    @pytest.mark.parametrize("texture", ["plain", "vertex", "uv"])
    def test_differences(self, texture, options):
        generator = torch.Generator().manual_seed(1)
        weights = {"channel_weights": (1, 2, 1, 3), "view_weights": (1, 2, 3)}
        pixels = torch.rand(3, *SIZE, generator=generator)
        target = torch.rand(3, *SIZE, 4, generator=generator)
        renderer = PyTorch3DRenderer(SIZE, LIGHT, background=(0.1, 0.2, 0.3))
        self.assert_same_loss(renderer, target, lumpy(texture), pixel_weights=pixels, **weights, **options)

    def test_batches_and_bytes(self):
        generator = torch.Generator().manual_seed(2)
        batch = join_meshes_as_batch([ico_sphere(2), lumpy()])
        renderer = PyTorch3DRenderer(SIZE, LIGHT)
        for shape in ((3, *SIZE, 4), (3, 2, *SIZE, 4)):
            target = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
            pixels = torch.rand(shape[:-1], generator=generator)
            self.assert_same_loss(renderer, target, batch, difference="l2", pixel_weights=pixels)

    def test_silhouettes_and_lights_of_the_views(self):
        generator = torch.Generator().manual_seed(3)
        self.assert_same_loss(PyTorch3DRenderer(SIZE), torch.rand(3, *SIZE, 1, generator=generator), lumpy())
        lights = SphericalHarmonicsLight(torch.stack([LIGHT.coefficients * k for k in (1, 0.5, 2)]))
        target = torch.rand(3, *SIZE, 4, generator=generator)
        self.assert_same_loss(PyTorch3DRenderer(SIZE, lights), target, lumpy(), difference="l2")

    def test_cameras_that_move(self):
        views = cameras()
        loss = ImageLoss(PyTorch3DRenderer(SIZE, LIGHT), views, torch.zeros(3, *SIZE, 4))
        before = loss(lumpy(), [0, 1])
        views.T.mul_(1.5)
        assert loss(lumpy(), [0, 1]) < before
        views.T = views.T.clone().requires_grad_()
        loss(lumpy(), [0, 1]).sum().backward()
        assert views.T.grad[:2].abs().min() > 0
        assert views.T.grad[2].abs().max() == 0

    def test_without_gradients(self):
        loss = ImageLoss.of_meshes(lumpy(), PyTorch3DRenderer(SIZE, LIGHT), cameras())
        with torch.no_grad():
            assert loss(ico_sphere(2), range(3)) == loss(ico_sphere(2), range(3))
        assert loss(lumpy(), range(3)).tolist() == [0.0]


class TestCaches:
    def test_an_index_serves_while_the_faces_stay(self):
        cache, sphere = compiled.IndexCache(), ico_sphere(2)
        first = cache.of(sphere)
        assert cache.of(sphere.scale_verts(2.0)) is first  # another Meshes, equal faces
        assert cache.of(Meshes(sphere.verts_list(), [sphere.faces_packed().flip(0)])) is not first
        assert cache.of(sphere) is first

    def test_an_index_follows_from_the_faces_alone(self):
        # so that a run which is resumed adds up in the same order, and goes on to the same bits
        moved = lumpy().offset_verts(torch.rand(len(lumpy().verts_packed()), 3))
        assert torch.equal(compiled.IndexCache().of(moved), compiled.IndexCache().of(lumpy()))

    def test_faces_that_were_changed_in_place(self):
        renderer, sphere = PyTorch3DRenderer(SIZE, LIGHT), ico_sphere(2)
        whole = renderer(sphere, cameras())
        sphere.faces_packed()[:160] = 0
        assert renderer(sphere, cameras())[..., 3].sum() < whole[..., 3].sum() - 10

    def test_matrices_serve_while_the_cameras_stay(self):
        views = cameras()
        cached = CachedMatrices(views)
        assert cached.of([0]).view.data_ptr() != cached.of([1]).view.data_ptr()
        assert cached._matrices is not None
        kept = cached._matrices
        cached.of([0, 2])
        assert cached._matrices is kept
        views.R = views.R.flip(0)
        assert torch.equal(cached.of([0]).view, camera_matrices(views[[0]]).view)
        assert isinstance(cached._matrices, CameraMatrices)
