"""Maps in the uv plane: where the texels are, which face covers them, and textures baked and rendered again."""

import math

import pytest
import torch
from pytorch3d.renderer import FoVPerspectiveCameras, TexturesUV, TexturesVertex, look_at_view_transform
from pytorch3d.structures import Meshes, join_meshes_as_batch

from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight, uv
from pt3d_largesteps.renderers.texturing import vertex_colors
from pt3d_largesteps.renderers.uv import UVRenderer
from support.comparing import assert_equal_to_rounding
from support.shapes import empty

SQUARE = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
TWO_TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def flat(uvs: torch.Tensor, faces: torch.Tensor, size=(8, 8), **options) -> Meshes:
    """A mesh whose vertices are at (u, v, 0); the map is of no use but to make a ``TexturesUV``."""
    textures = TexturesUV(torch.zeros(1, *size, 3, device=uvs.device), [faces], [uvs], **options)
    return Meshes([torch.nn.functional.pad(uvs, (0, 1))], [faces], textures)


def uv_torus(rows: int = 24, cols: int = 36, inset: float = 0.0, **options) -> Meshes:
    """A torus whose map is a rectangle, smaller by ``inset`` on each side: vertices along two seams, with two uvs or four."""
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    a, b = i / rows * math.tau, j / cols * math.tau
    r = 0.6 + 0.3 * a.cos()
    verts = torch.stack([r * b.cos(), r * b.sin(), 0.3 * a.sin()], dim=-1).view(-1, 3)
    k, m = torch.meshgrid(torch.arange(rows + 1), torch.arange(cols + 1), indexing="ij")
    uvs = torch.stack([m / cols, k / rows], dim=-1).view(-1, 2) * (1 - 2 * inset) + inset

    def quads(rows_apart: int, wrap) -> torch.Tensor:
        def index(di: int, dj: int) -> torch.Tensor:
            return wrap(i + di, j + dj)

        one = torch.stack([index(0, 0), index(0, 1), index(1, 0)], dim=-1)
        other = torch.stack([index(0, 1), index(1, 1), index(1, 0)], dim=-1)
        return torch.cat([one.view(-1, 3), other.view(-1, 3)])

    faces = quads(cols, lambda p, q: p % rows * cols + q % cols)
    faces_uvs = quads(cols + 1, lambda p, q: p * (cols + 1) + q)
    return Meshes([verts], [faces], TexturesUV(torch.zeros(1, 8, 8, 3), [faces_uvs], [uvs], **options))


class TestTexels:
    @pytest.mark.parametrize("align_corners", [True, False])
    @pytest.mark.parametrize("size", [8, 7, (5, 12), (33, 2)])
    def test_a_full_square_covers_every_texel(self, size, align_corners, device):
        # those of the border and of the diagonal lie exactly on edges
        meshes = flat(SQUARE.to(device), TWO_TRIANGLES.to(device), align_corners=align_corners)
        maps, mask = UVRenderer(size)(meshes, meshes.verts_packed()[:, :2])
        height, width = (size, size) if isinstance(size, int) else size
        assert maps.shape == (1, height, width, 2)
        assert mask.all()
        c, r = torch.arange(width), torch.arange(height)
        u, v = (c / (width - 1), 1 - r / (height - 1)) if align_corners else ((c + 0.5) / width, 1 - (r + 0.5) / height)
        expected = torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1)
        torch.testing.assert_close(maps[0].cpu(), expected, atol=1e-6, rtol=0)

    def test_double_precision_stays(self):
        meshes = flat(SQUARE.double(), TWO_TRIANGLES)
        maps, _ = UVRenderer(7)(meshes, meshes.verts_packed()[:, :2])
        axis = torch.arange(7, dtype=torch.float64) / 6  # sixths are no numbers of float32
        expected = torch.stack(torch.meshgrid(axis, axis.flip(0), indexing="xy"), dim=-1)
        torch.testing.assert_close(maps[0], expected, atol=1e-14, rtol=0)  # sums of three products of numbers up to 1

    def test_every_texel_on_the_edges_of_a_fine_grid_is_covered(self):
        # 32 x 32 squares over 65 x 65 texels: half of all texels on edges, in float32
        k = torch.arange(33.0) / 32
        uvs = torch.stack(torch.meshgrid(k, k, indexing="xy"), dim=-1).view(-1, 2)
        a = (torch.arange(32)[:, None] * 33 + torch.arange(32)).flatten()
        faces = torch.cat([torch.stack([a, a + 1, a + 33], 1), torch.stack([a + 1, a + 34, a + 33], 1)])
        scaled = uvs * 0.6 + 0.1  # whose corners are texels, but none is a number of float32
        for corners, size in ((uvs, 65), (scaled, 641)):
            meshes = flat(corners, faces)
            maps, mask = UVRenderer(size)(meshes, corners)
            axis = torch.arange(size, dtype=torch.float64) / (size - 1)
            low, high = corners[0, 0].item(), corners[-1, 0].item()
            inside = (axis > low - 1e-6) & (axis < high + 1e-6)
            assert torch.equal(mask[0], inside.flip(0)[:, None] & inside)
            expected = torch.stack(torch.meshgrid(axis, axis.flip(0), indexing="xy"), dim=-1).float()
            torch.testing.assert_close(maps[mask], expected[mask[0]], atol=2e-6, rtol=0)

    def test_random_triangles_against_the_definition(self, device):
        generator = torch.Generator().manual_seed(1)
        uvs = torch.rand(30, 1, 2, generator=generator) + 0.4 * torch.randn(30, 3, 2, generator=generator)
        meshes = flat(uvs.view(-1, 2).to(device), torch.arange(90).view(30, 3).to(device))
        height, width = 31, 45
        texels = UVRenderer((height, width)).texels(meshes)
        rows, cols = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
        point = torch.stack(torch.meshgrid(cols / (width - 1), 1 - rows / (height - 1), indexing="xy"), dim=-1)
        to = uvs.double()[:, :, None, None] - point  # (F, 3, H, W, 2)
        after, before = to.roll(-1, 1), to.roll(1, 1)
        sub = after[..., 0] * before[..., 1] - after[..., 1] * before[..., 0]
        weights = sub / sub.sum(1, keepdim=True)
        inside = (weights > 0).all(1)  # (F, H, W); none of these random points is on an edge
        face = torch.where(inside.any(0), inside.float().argmax(0), -1)  # the first
        assert (face >= 0).float().mean() > 0.3
        assert torch.equal(texels.faces[0].cpu(), face)
        assert torch.equal(texels.mask, texels.faces >= 0)
        expected = weights.permute(2, 3, 0, 1)[face >= 0, face[face >= 0]].float()
        assert_equal_to_rounding(texels.barycentric[texels.mask].cpu(), expected, roundings=1)  # both are found in float64

    def test_mirrored_overlapping_and_degenerate_triangles(self):
        uvs = torch.cat([SQUARE, torch.tensor([[0.5, 0.5], [0.25, 0.25]])])
        faces = torch.tensor([[0, 0, 2], [0, 5, 4], [1, 0, 2], [0, 2, 3], [0, 1, 2]])
        found = UVRenderer(9).texels(flat(uvs, faces)).faces[0]
        # nothing of the two lines; the mirrored face 2 below the diagonal, also where face 4 lies; 3 above it
        row, col = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
        assert torch.equal(found, torch.where(8 - row <= col, 2, 3))

    @pytest.mark.parametrize("direction", ["right", "left", "up"])
    def test_a_needle_ends_at_its_tip(self, direction):
        # thinner than what its edges may be off: they meet, each off by that, two texels beyond the tip
        uvs = torch.tensor([[0.0, 0.5 - 0.0003], [0.49, 0.5], [0.0, 0.5 + 0.0003]])
        expected = torch.zeros(9, 9, dtype=torch.bool)
        expected[4, :4] = True
        if direction == "left":
            uvs, expected = uvs * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0]), expected.flip(1)
        if direction == "up":
            uvs, expected = uvs.flip(1), expected.T.flip(0)
        assert torch.equal(UVRenderer(9).texels(flat(uvs, torch.tensor([[0, 1, 2]]))).mask[0], expected)

    def test_islands_leave_the_rest_empty(self, device):
        half = SQUARE.to(device) * torch.tensor([0.5, 1.0], device=device)
        maps, mask = UVRenderer(9)(flat(half, TWO_TRIANGLES.to(device)), torch.ones(4, 1, device=device))
        assert mask[0, :, :5].all()
        assert not mask[0, :, 5:].any()
        assert torch.equal(maps[..., 0], mask.float())

    def test_what_reaches_out_of_the_square_is_cut_off(self):
        meshes = flat(SQUARE * 5 - 2.2, TWO_TRIANGLES)
        maps, mask = UVRenderer(6)(meshes, meshes.verts_packed())
        assert mask.all()
        torch.testing.assert_close(maps[0, 0, 0], torch.tensor([0.0, 1, 0]), atol=1e-5, rtol=0)
        assert not UVRenderer(6).texels(flat(SQUARE + 3, TWO_TRIANGLES)).mask.any()

    def test_ragged_batches(self, device):
        batch = join_meshes_as_batch([uv_torus(6, 9), flat(SQUARE, TWO_TRIANGLES), uv_torus(4, 5, 0.1)]).to(device)
        renderer = UVRenderer(16, padding=1)
        maps, mask = renderer(batch, batch.verts_packed())
        for k in range(3):
            alone, alone_mask = renderer(batch[k], batch[k].verts_packed())
            torch.testing.assert_close(maps[[k]], alone)
            assert torch.equal(mask[[k]], alone_mask)

    def test_meshes_without_faces(self):
        textures = TexturesUV(torch.zeros(1, 4, 4, 3), torch.zeros(1, 0, 3, dtype=torch.int64), torch.zeros(1, 0, 2))
        meshes = Meshes(empty().verts_list(), empty().faces_list(), textures)
        maps, mask = UVRenderer(4, padding=2)(meshes, torch.zeros(0, 5))
        assert (maps.shape, mask.any().item(), maps.abs().max().item()) == ((1, 4, 4, 5), False, 0.0)

    @pytest.mark.parametrize("budget", [1, 100, 5000])
    def test_the_memory_budget_changes_nothing(self, monkeypatch, budget):
        meshes = uv_torus(6, 9)
        whole = UVRenderer(32).texels(meshes)
        monkeypatch.setattr(uv, "_TEXELS_AT_ONCE", budget)
        assert torch.equal(whole.faces, UVRenderer(32).texels(meshes).faces)


class TestPadding:
    @pytest.mark.parametrize("padding", [1, 3, 50])
    def test_the_nearest_covered_texel(self, padding, device):
        uvs = torch.cat([SQUARE * 0.2 + 0.1, SQUARE * 0.25 + 0.55]).to(device)
        meshes = flat(uvs, torch.cat([TWO_TRIANGLES, TWO_TRIANGLES + 4]).to(device))
        height, width = 21, 26
        bare, mask = UVRenderer((height, width))(meshes, meshes.verts_packed())
        padded, padded_mask = UVRenderer((height, width), padding=padding)(meshes, meshes.verts_packed())
        assert torch.equal(mask, padded_mask)
        assert torch.equal(padded[mask], bare[mask])
        covered = mask[0].nonzero()
        everywhere = torch.ones_like(mask[0]).nonzero()
        apart = (everywhere[:, None] - covered).abs()  # (H * W, K, 2)
        reached = (apart.amax(2) <= padding).any(1).view(height, width)
        squared = torch.where(apart.amax(2) <= padding, apart.square().sum(2), 10**6)
        found = padded[0][reached]
        best = squared.amin(1).view(height, width)[reached]
        # several may be equally near: the value is that of one of them
        candidates = (squared.view(height, width, -1)[reached] == best[:, None]) & (
            (bare[mask] - found[:, None]).abs().amax(2) == 0
        )
        assert candidates.any(1).all()
        assert (padded[0][~reached] == 0).all()
        assert reached.sum() > mask.sum()

    def test_bilinear_look_ups_do_not_find_the_background(self):
        # an island off the texels: those around it are mixed in along its border
        camera = FoVPerspectiveCameras(fov=50.0, T=torch.tensor([[0.0, 0, 3]]))
        unlit = PyTorch3DRenderer(96, SphericalHarmonicsLight.ambient(), antialiased=False)
        meshes = uv_torus(inset=0.113)
        darkest = []
        for padding in (0, 1):
            renderer = UVRenderer(20, padding=padding)
            meshes.textures = renderer.bake(meshes, torch.ones_like(meshes.verts_packed()))
            image = unlit(meshes, camera)
            darkest.append(image[..., :3][image[..., 3] == 1].min().item())
        assert darkest[0] < 0.7
        assert darkest[1] == pytest.approx(1.0, abs=1e-5)


class TestBaking:
    LOOK = look_at_view_transform(2.7, torch.tensor([10.0, -20.0]), torch.tensor([0.0, 100.0]))
    CAMERAS = FoVPerspectiveCameras(R=LOOK[0], T=LOOK[1], fov=45.0)

    @pytest.mark.parametrize("align_corners", [True, False])
    def test_a_baked_function_looks_as_it_does_on_the_vertices(self, align_corners):
        # the island ends on texel centres: further out its values are constant, not those of the vertices
        meshes = uv_torus(inset=0.0 if align_corners else 2.5 / 128, align_corners=align_corners)
        colors = 0.5 + 0.4 * (meshes.verts_packed() * torch.tensor([2.0, 3.0, 4.0])).sin()
        unlit = PyTorch3DRenderer(64, SphericalHarmonicsLight.ambient())
        meshes.textures = UVRenderer(128, padding=2).bake(meshes, colors)
        assert meshes.textures.align_corners == align_corners
        baked = unlit(meshes, self.CAMERAS)
        on_vertices = unlit(Meshes(meshes.verts_list(), meshes.faces_list(), TexturesVertex([colors])), self.CAMERAS)
        assert on_vertices.std() > 0.2
        # bilinear look-ups round off the kinks at the edges of faces, over a fraction of a texel
        torch.testing.assert_close(baked, on_vertices, atol=0.01, rtol=0)
        torch.testing.assert_close(vertex_colors(meshes), colors, atol=0.01, rtol=0)

    def test_a_function_of_baked_positions(self):
        # what one optimises in texel space: any function of the surface's points
        meshes = uv_torus()
        positions, mask = UVRenderer(160, padding=2)(meshes, meshes.verts_packed())
        assert mask.all()
        meshes.textures = TexturesUV(
            0.5 + 0.4 * (6 * positions).sin(), meshes.textures.faces_uvs_list(), meshes.textures.verts_uvs_list()
        )
        unlit = PyTorch3DRenderer(64, SphericalHarmonicsLight.ambient(), antialiased=False)
        image = unlit(meshes, self.CAMERAS)
        meshes.textures = TexturesVertex([meshes.verts_packed()])
        points = unlit(meshes, self.CAMERAS)
        hit = image[..., 3] == 1
        expected = 0.5 + 0.4 * (6 * points[..., :3][hit]).sin()
        assert expected.std() > 0.2
        torch.testing.assert_close(image[..., :3][hit], expected, atol=0.02, rtol=0)

    def test_texels_can_be_found_once(self):
        meshes, renderer = uv_torus(6, 9), UVRenderer(16)
        texels = renderer.texels(meshes)
        moved = meshes.offset_verts(torch.tensor([1.0, 2.0, 3.0]))
        moved.textures = meshes.textures
        with_texels, _ = renderer(moved, moved.verts_packed(), texels)
        torch.testing.assert_close(with_texels, renderer(moved, moved.verts_packed())[0])

    def test_gradients_reach_the_attributes(self, device):
        meshes = uv_torus(4, 5, 0.1).to(device)
        renderer = UVRenderer(12, padding=1)
        attributes = torch.rand(20, 2, dtype=torch.float64, device=device, requires_grad=True)
        assert renderer(meshes, attributes)[0].dtype == torch.float64
        assert torch.autograd.gradcheck(lambda a: renderer(meshes, a)[0], attributes)


class TestErrors:
    @pytest.mark.parametrize("size", [0, (4, 0), (4, 4, 4), "large", 2.5, True])
    def test_size(self, size):
        with pytest.raises(ValueError, match=r"size: expected a positive int or \(H, W\), got"):
            UVRenderer(size)

    @pytest.mark.parametrize("padding", [-1, 1.5, True])
    def test_padding(self, padding):
        with pytest.raises(ValueError, match="padding: expected an int of at least 0, got"):
            UVRenderer(8, padding=padding)

    def test_meshes_without_uvs(self):
        meshes = flat(SQUARE, TWO_TRIANGLES)
        for textures, message in ((None, "NoneType"), (TexturesVertex([torch.rand(4, 3)]), "TexturesVertex")):
            meshes.textures = textures
            with pytest.raises(TypeError, match=f"meshes: expected Meshes with TexturesUV, got textures: {message}"):
                UVRenderer(8)(meshes, meshes.verts_packed())
        with pytest.raises(TypeError, match="meshes: expected Meshes with TexturesUV, got int 3"):
            UVRenderer(8).texels(3)

    def test_several_maps(self):
        textures = TexturesUV(
            torch.zeros(1, 2, 4, 4, 3), [TWO_TRIANGLES], [SQUARE], maps_ids=torch.zeros(1, 2, dtype=torch.int64)
        )
        meshes = Meshes([torch.rand(4, 3)], [TWO_TRIANGLES], textures)
        with pytest.raises(ValueError, match="meshes: expected textures of one map for each mesh, got several"):
            UVRenderer(8)(meshes, meshes.verts_packed())

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_uvs_that_are_not_finite(self, value):
        uvs = SQUARE.clone()
        uvs[2, 1] = value
        with pytest.raises(ValueError, match=r"meshes.textures: verts_uvs .* expected finite numbers, got"):
            UVRenderer(8).texels(flat(uvs, TWO_TRIANGLES))

    def test_attributes(self):
        meshes = flat(SQUARE, TWO_TRIANGLES)
        for attributes in (torch.rand(3, 3), torch.rand(4), None):
            with pytest.raises(ValueError, match=r"attributes: expected a tensor of shape \(4, C\), got"):
                UVRenderer(8)(meshes, attributes)
        with pytest.raises(TypeError, match="attributes: expected a real floating-point dtype"):
            UVRenderer(8)(meshes, torch.zeros(4, 3, dtype=torch.int64))
