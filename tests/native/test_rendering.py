"""The operators of the compiled renderer: derivatives, what torch demands, the same bits for any number of threads, errors."""

import pytest
import torch

from pt3d_largesteps.native import rendering
from pt3d_largesteps.native.library import is_compiled
from pt3d_largesteps.native.rendering import Difference, Mode
from support.comparing import gradcheck
from support.inductor import needs_inductor
from support.scenes import inputs

pytestmark = pytest.mark.skipif(not is_compiled(), reason="the operators are compiled ones")

OPS = torch.ops.pt3d_largesteps
SIZE = (13, 17)  # no multiples of eight
BACKGROUND = (0.2, 0.3, 0.4, 0.0)
BLOCKS = {Mode.SILHOUETTE: 0, Mode.SHADED: 1, Mode.PRODUCT: 2, Mode.ATTRIBUTES: 2, Mode.WEIGHTS: 0}


@pytest.fixture(params=[True, False], ids=["perspective", "orthographic"])
def scene(request):
    return inputs(perspective=request.param)


def draw(scene, points, visible, mode):
    options = {"perspective": scene.perspective, "mode": mode, "background": BACKGROUND}
    return rendering.draw(points, visible, scene.index, SIZE[1], **options)


def compare(scene, points, visible, targets, mode, difference=Difference.L2, pixel_weights=None):
    return rendering.compare(
        points, visible, scene.index, targets, [2, 0, 1, 1], channel_weights=[1.0, 2, 0.5, 3][: targets.shape[-1]],
        pixel_weights=pixel_weights, difference=difference, beta=0.3, perspective=scene.perspective, mode=mode,
        background=BACKGROUND,
    )  # fmt: skip


class TestDerivatives:
    @pytest.mark.parametrize("per_image", [False, True])
    def test_of_the_points(self, per_image):
        scene = inputs(per_image=per_image)
        given = (scene.verts, scene.view, scene.projection, scene.light, scene.colors)

        def function(verts, view, projection, light, colors):
            return scene.points(verts=verts, view=view, projection=projection, light=light, colors=colors)

        assert gradcheck(function, [one.clone().requires_grad_() for one in given], fast_mode=True)

    @pytest.mark.parametrize("mode", list(Mode))
    def test_of_pictures(self, scene, mode):
        points = scene.points(BLOCKS[mode])
        visible = scene.visible(points, SIZE)
        assert len(visible.crossings) > 50
        assert gradcheck(lambda p: draw(scene, p, visible, mode), [points.clone().requires_grad_()], fast_mode=True)

    def test_of_blended_pictures(self, scene):
        points, images = scene.points(0), torch.rand(4, *SIZE, 5, dtype=torch.float64, requires_grad=True)
        visible = scene.visible(points, SIZE)
        given = [images, points.clone().requires_grad_()]
        assert gradcheck(lambda i, p: rendering.blend(i, p, visible, scene.index), given, fast_mode=True)

    @pytest.mark.parametrize("difference", [Difference.L2, Difference.SMOOTH_L1])
    @pytest.mark.parametrize("mode", [Mode.SILHOUETTE, Mode.SHADED, Mode.PRODUCT])
    def test_of_differences(self, scene, mode, difference):
        points = scene.points(BLOCKS[mode])
        visible = scene.visible(points, SIZE)
        targets = torch.rand(3, *SIZE, 1 if mode is Mode.SILHOUETTE else 4, dtype=torch.float64)
        weights = torch.rand(3, *SIZE, dtype=torch.float64)
        given = [points.clone().requires_grad_()]
        assert gradcheck(lambda p: compare(scene, p, visible, targets, mode, difference, weights), given, fast_mode=True)

    def test_only_once(self, scene):
        points = scene.points(1).requires_grad_()
        visible = scene.visible(points, SIZE)
        (gradient,) = torch.autograd.grad(draw(scene, points, visible, Mode.SHADED).square().sum(), points, create_graph=True)
        with pytest.raises(RuntimeError, match="expected to be differentiated once"):
            gradient.sum().backward()


@pytest.mark.parametrize("mode", [Mode.SILHOUETTE, Mode.SHADED, Mode.PRODUCT])
def test_a_difference_is_that_of_the_pictures(scene, mode):
    points = scene.points(BLOCKS[mode])
    visible = scene.visible(points, SIZE)
    images = draw(scene, points, visible, mode)
    targets = torch.rand(3, *SIZE, images.shape[-1], dtype=torch.float64)
    pixel_weights = torch.rand(3, *SIZE, dtype=torch.float64)
    channels = torch.tensor([1.0, 2, 0.5, 3][: images.shape[-1]], dtype=torch.float64)
    given, weights = targets[[2, 0, 1, 1]], pixel_weights[[2, 0, 1, 1]]
    functions = {
        Difference.L1: torch.abs,
        Difference.L2: torch.square,
        Difference.SMOOTH_L1: lambda d: torch.where(d.abs() < 0.3, d * d / 0.6, d.abs() - 0.15),
    }
    for difference, function in functions.items():
        expected = (function(images - given) * channels * weights[..., None]).mean(dim=(1, 2, 3))
        torch.testing.assert_close(compare(scene, points, visible, targets, mode, difference, pixel_weights), expected)
    of_bytes = (255 * targets).to(torch.uint8)
    expected = ((images - of_bytes[[2, 0, 1, 1]].double() / 255).square() * channels).mean(dim=(1, 2, 3))
    torch.testing.assert_close(compare(scene, points, visible, of_bytes, mode), expected)


@pytest.mark.parametrize("num_images", [1, 4])  # one image is cut into bands
def test_the_same_bits_for_any_number_of_threads(num_images):
    scene = inputs(dtype=torch.float32)
    if num_images == 1:
        scene = one_image(scene)
    targets = torch.rand(3, 65, 130, 4)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            given = [
                one.clone().requires_grad_() for one in (scene.verts, scene.view, scene.projection, scene.light, scene.colors)
            ]
            verts, view, projection, light, colors = given
            points = scene.points(verts=verts, view=view, projection=projection, light=light, colors=colors)
            visible = scene.visible(points, (65, 130))
            options = {"perspective": True, "mode": Mode.PRODUCT, "background": BACKGROUND}
            images = rendering.draw(points, visible, scene.index, 130, **options)
            losses = rendering.compare(
                points, visible, scene.index, targets, [0, 1, 2, 0][:num_images], channel_weights=[1.0] * 4, pixel_weights=None,
                difference=Difference.L1, beta=1.0, **options,
            )  # fmt: skip
            gradients = torch.autograd.grad(images.square().sum() + losses.sum(), given)
            results.append([points, *visible, images, losses, *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def one_image(scene):
    from pt3d_largesteps.renderers.compiled import IndexCache

    scene.meshes = scene.meshes[0]
    count = len(scene.meshes.verts_packed())
    scene.verts, scene.colors = scene.verts[:count].contiguous(), scene.colors[:count].contiguous()
    scene.view, scene.projection, scene.index = scene.view[:1], scene.projection[:1], IndexCache().of(scene.meshes)
    return scene


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestWhatTorchDemands:
    def test_opcheck(self, dtype):
        scene = inputs(dtype=dtype)
        given = [one.clone().requires_grad_() for one in (scene.verts, scene.view, scene.projection, scene.light, scene.colors)]
        points = scene.points().detach()
        visible = scene.visible(points, SIZE)
        opcheck = torch.library.opcheck
        without_aot = ("test_schema", "test_autograd_registration", "test_faketensor")  # it asks for gradients of all results
        opcheck(OPS.render_points.default, (*given, scene.index, 2), test_utils=without_aot)
        opcheck(OPS.rasterize.default, (points, scene.index, 4, *SIZE, True, -1.0, False, True))
        drawn = (points.clone().requires_grad_(), visible.faces, visible.crossings, scene.index)
        for mode in (Mode.SHADED, Mode.PRODUCT, Mode.ATTRIBUTES, Mode.WEIGHTS, Mode.SILHOUETTE):
            opcheck(OPS.draw.default, (*drawn, SIZE[1], True, int(mode), BACKGROUND))
        images = torch.rand(4, *SIZE, 3, dtype=dtype, requires_grad=True)
        opcheck(OPS.blend.default, (images, drawn[0], visible.crossings, scene.index))
        targets, numbers = torch.rand(2, *SIZE, 4, dtype=dtype), [1.0] * 4
        rest = (targets, [0, 1, 1, 0], None, numbers, 1, 1.0, SIZE[1], True, int(Mode.SHADED), BACKGROUND, True)
        opcheck(OPS.compare.default, (points, *drawn[1:], *rest))
        faces, meshes = scene.meshes.faces_packed(), scene.meshes
        counts = [torch.tensor([0, *n.tolist()]).cumsum(0) for n in (meshes.num_verts_per_mesh(), meshes.num_faces_per_mesh())]
        opcheck(OPS.mesh_index.default, (faces, *counts))

    @needs_inductor
    @pytest.mark.slow
    def test_a_compiled_loss(self, dtype):
        scene = inputs(dtype=dtype)
        visible = scene.visible(scene.points(), SIZE)

        def loss(verts):
            images = draw(scene, scene.points(verts=2 * verts - verts), visible, Mode.PRODUCT)
            return (images.sin() * images).mean()

        gradients = []
        for function in (loss, torch.compile(loss, fullgraph=True)):
            verts = scene.verts.clone().requires_grad_()
            function(verts).backward()
            gradients.append(verts.grad)
        tolerance = 200 * torch.finfo(dtype).eps * float(gradients[0].abs().max())
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=tolerance)


class TestErrors:
    def test_a_face_without_a_vertex(self):
        counts = torch.tensor([0, 3]), torch.tensor([0, 1])
        with pytest.raises(RuntimeError, match="expected faces of vertices from 0 to 2, got 3 in face 0"):
            rendering.mesh_index(torch.tensor([[0, 1, 3]]), *counts)

    def test_shapes(self, scene):
        points = scene.points()
        visible = scene.visible(points, SIZE)
        with pytest.raises(RuntimeError, match=r"light: expected the shape \(1, 9, 3\) or \(4, 9, 3\)"):
            scene.points(light=scene.light.repeat(3, 1, 1))
        with pytest.raises(RuntimeError, match="verts: expected the shape"):
            scene.points(verts=scene.verts[1:])
        with pytest.raises(RuntimeError, match="points: expected contiguous planes"):
            rendering.blend(torch.zeros(4, *SIZE, 3, dtype=torch.float64), points[:, 1:], visible, scene.index)
        with pytest.raises(RuntimeError, match="faces: expected those that rasterize found for this width"):
            rendering.draw(points, visible, scene.index, 40, perspective=True, mode=Mode.SHADED)
        with pytest.raises(RuntimeError, match="points: expected attributes for this mode"):
            draw(scene, scene.points(1), visible, Mode.PRODUCT)
        with pytest.raises(RuntimeError, match="images: expected contiguous ones of the shape"):
            compare(scene, points, visible, torch.zeros(3, 5, 17, 4, dtype=torch.float64), Mode.SHADED)
        with pytest.raises(RuntimeError, match="image_size: expected from 1 to 32,768"):
            scene.visible(points, (40000, 3))
        with pytest.raises(RuntimeError, match="index: expected a buffer made by mesh_index"):
            rendering.blend(torch.zeros(4, *SIZE, 3, dtype=torch.float64), points, visible, scene.index[:-1])
