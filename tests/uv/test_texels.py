"""Textures across the seams of their uv maps: a map that is cut gives the matrix of the one that is not."""

import math

import pytest
import torch
from pytorch3d.renderer import TexturesUV
from pytorch3d.structures import Meshes

from pt3d_largesteps import from_differential, grid_laplacian, to_differential
from pt3d_largesteps.uv.texels import texel_graph
from support.uv_maps import strip


def test_a_cut_map_gives_the_matrix_of_the_whole_one(device):
    whole = texel_graph(strip([(0, 0, 8, 8), (8, 0, 16, 8)], 24, device), 24)
    assert (int(whole.mask.sum()), whole.num_seam_edges) == (128, 0)
    laplacian = whole.matrix(1.0, dtype=torch.float64).to_dense() - torch.eye(128, device=device)
    assert torch.equal(laplacian, grid_laplacian((8, 16), dtype=torch.float64, device=device).to_dense())

    cut = texel_graph(strip([(0, 0, 8, 8), (12, 10, 20, 18)], 24, device), 24)
    assert (int(cut.mask.sum()), cut.num_seam_edges) == (128, 8)
    field = torch.randn(8, 16, 2, device=device)
    maps = torch.zeros(1, 24, 24, 2, device=device)
    maps[0, :8, :8], maps[0, 10:18, 12:20] = field[:, :8], field[:, 8:]
    solution = cut.scatter(from_differential(cut.matrix(), cut.gather(maps)))
    expected = from_differential(whole.matrix(), field.reshape(128, 2)).view(8, 16, 2)
    torch.testing.assert_close(solution[0, :8, :8], expected[:, :8], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(solution[0, 10:18, 12:20], expected[:, 8:], rtol=1e-4, atol=1e-6)


def test_islands_side_by_side_are_joined_across_the_seam_only(device):
    # the right square lies left of the left one: their borders touch, but not where they belong together
    graph = texel_graph(strip([(8, 0, 16, 8), (0, 0, 8, 8)], 24, device), 24)
    assert graph.num_seam_edges == 8
    pairs = graph.edges[-8:].sort(1).values
    columns = torch.stack([pairs[:, 0] % 16, pairs[:, 1] % 16], dim=1).tolist()
    assert columns == [[0, 15]] * 8
    assert not any(abs(int(a) % 16 - int(b) % 16) == 1 and {int(a) % 16, int(b) % 16} == {7, 8} for a, b in graph.edges)


def test_sides_of_different_density(device):
    graph = texel_graph(strip([(0, 0, 8, 8), (12, 8, 14, 12)], 24, device), 24)
    assert graph.num_seam_edges == 8  # every texel of the finer side has its partner
    assert len(graph.edges) == len(graph.edges.sort(1).values.unique(dim=0))


def test_maps_of_several_meshes(device):
    one = strip([(0, 0, 8, 8), (12, 10, 20, 18)], 24, device)
    graph, alone = texel_graph(one.extend(2), 24), texel_graph(one, 24)
    assert (len(graph.edges), graph.num_seam_edges) == (2 * len(alone.edges), 16)
    assert bool(((graph.edges < 128).sum(1) != 1).all())


def test_gradients_reach_the_values(device):
    graph = texel_graph(strip([(0, 0, 8, 8), (12, 10, 20, 18)], 24, device), 24)
    matrix = graph.matrix()
    maps = torch.rand(1, 24, 24, 3, device=device)
    u = to_differential(matrix, graph.gather(maps)).requires_grad_()
    restored = graph.scatter(from_differential(matrix, u), maps)
    torch.testing.assert_close(restored.detach(), maps, rtol=1e-4, atol=1e-5)
    restored.sum().backward()
    torch.testing.assert_close(u.grad, torch.ones_like(u), rtol=1e-4, atol=1e-4)


def test_wrong_arguments():
    meshes = strip([(0, 0, 8, 8), (12, 10, 20, 18)], 24)
    with pytest.raises(ValueError, match="size: expected a positive int"):
        texel_graph(meshes, 0)
    with pytest.raises(TypeError, match="meshes: expected Meshes with TexturesUV"):
        texel_graph(Meshes(meshes.verts_list(), meshes.faces_list()), 24)
    with pytest.raises(ValueError, match="maps: expected a tensor of shape"):
        texel_graph(meshes, 24).gather(torch.zeros(1, 3, 24, 24))
    outside = strip([(-80, 0, -70, 8), (-60, 10, -50, 18)], 24)
    with pytest.raises(ValueError, match="meshes: expected uvs that cover at least one of the texels, got none of 576"):
        texel_graph(outside, 24)


class TestSeams:
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_texels_that_are_joined_lie_together(self, align_corners, device):
        """On a closed ring whose map ends at its seam; with aligned corners its first and last columns are one place."""
        graph = texel_graph(ring(align_corners, device), (8, 33))
        neighbours, across = graph.edges[: -graph.num_seam_edges], graph.edges[-graph.num_seam_edges :]
        step = float(distances(graph, neighbours).max())
        assert graph.num_seam_edges == 8
        assert float(distances(graph, across).max()) < (1e-5 if align_corners else 1.05 * step)
        assert torch.equal(across[:, 1] - across[:, 0], torch.full((8,), 32, device=device))

    def test_positions_are_those_of_the_surface(self, device):
        graph = texel_graph(strip([(0, 0, 8, 8), (12, 10, 20, 18)], 24, device), 24)
        places = graph.mask.nonzero()[:, 1:].to(torch.float32)
        left = places[:, 1] < 10
        x = torch.where(left, (places[:, 1] + 0.5) / 8, 1 + (places[:, 1] + 0.5 - 12) / 8)
        y = 1 - (places[:, 0] + 0.5 - torch.where(left, 0.0, 10.0)) / 8
        torch.testing.assert_close(graph.positions, torch.stack([x, y, 0 * x], dim=1), rtol=0, atol=1e-5)


class TestGutter:
    def test_texels_around_follow_the_nearest(self, device):
        meshes = strip([(2, 2, 8, 8), (12, 10, 20, 18)], 24, device)
        graph = texel_graph(meshes, 24, gutter=1)
        assert len(graph.gutter) == 4 * 6 + 4 + 4 * 8 + 4
        maps = torch.rand(1, 24, 24, 3, device=device)
        filled = graph.fill(maps)
        assert torch.equal(filled[0, 2:8, 1], maps[0, 2:8, 2])
        assert torch.equal(filled[0, 8, 2:8], maps[0, 7, 2:8])
        assert torch.equal(filled[0, 1, 1], maps[0, 2, 2])
        assert torch.equal(filled[0, 0], maps[0, 0])
        assert torch.equal(filled[graph.mask], maps[graph.mask])
        assert torch.equal(graph.scatter(graph.gather(maps), maps), filled)

    def test_none(self, device):
        graph = texel_graph(strip([(2, 2, 8, 8), (12, 10, 20, 18)], 24, device), 24)
        assert len(graph.gutter) == len(graph.sources) == 0
        maps = torch.rand(1, 24, 24, 3, device=device)
        assert torch.equal(graph.fill(maps), maps)

    def test_gradients_reach_their_sources(self, device):
        graph = texel_graph(strip([(2, 2, 8, 8), (12, 10, 20, 18)], 24, device), 24, gutter=2)
        values = torch.rand(36 + 64, 3, device=device, requires_grad=True)
        graph.scatter(values).flatten(0, 2)[graph.gutter].sum().backward()
        torch.testing.assert_close(values.grad[:, 0], torch.bincount(graph.sources, minlength=100).float())

    def test_moves(self, device):
        graph = texel_graph(strip([(2, 2, 8, 8), (12, 10, 20, 18)], 24), 24, gutter=1).to(device)
        maps = torch.rand(1, 24, 24, 3, device=device)
        assert graph.fill(maps).device == device
        assert graph.matrix().device == device


def ring(align_corners, device):
    """A closed band of 16 squares; its map goes once from u = 0 to u = 1."""
    angle = 2 * math.pi * torch.arange(17, device=device) / 16
    column = torch.arange(16, device=device)
    low, high = column, column + 17
    faces_uvs = torch.cat([torch.stack([low, low + 1, high], 1), torch.stack([low + 1, high + 1, high], 1)])
    uvs = torch.stack(
        [torch.arange(17, device=device).repeat(2) / 16, torch.arange(2.0, device=device).repeat_interleave(17)], 1
    )
    verts = torch.stack([angle.cos().repeat(2), uvs[:, 1], angle.sin().repeat(2)], dim=1)
    closed = torch.arange(34, device=device)
    closed[16], closed[33] = 0, 17
    textures = TexturesUV(torch.zeros(1, 8, 33, 3, device=device), [faces_uvs], [uvs], align_corners=align_corners)
    return Meshes([verts], [closed[faces_uvs]], textures=textures)


def distances(graph, edges):
    return (graph.positions[edges[:, 0]] - graph.positions[edges[:, 1]]).norm(dim=1)
