"""The module of uv maps: texels across seams, gutters, batches, saving."""

import copy
import io
import math
import pickle

import pytest
import torch
from pytorch3d.renderer import TexturesUV
from pytorch3d.structures import Meshes, join_meshes_as_batch

from pt3d_largesteps import LargeSteps, LargeStepsTexture, UniformAdam
from pt3d_largesteps.renderers.texturing import surface_colors
from pt3d_largesteps.solvers import ConjugateGradientSolver
from support.comparing import BACKWARD_ERROR, assert_equal_to_rounding
from support.matrices import row_sum_norm
from support.uv_maps import strip

CUT = [(0, 0, 8, 8), (12, 10, 20, 18)]
SIDE_BY_SIDE = [(3, 2, 9, 8), (12, 4, 18, 11)]


def painted(rectangles=CUT, device="cpu", size=24, channels=3, seed=0):
    meshes = strip(rectangles, size, device)
    maps = torch.rand(1, size, size, channels, generator=torch.Generator().manual_seed(seed)).to(device)
    return dressed(meshes, maps)


def dressed(meshes, maps):
    uvs = meshes.textures
    textures = TexturesUV(maps, uvs.faces_uvs_list(), uvs.verts_uvs_list(), align_corners=uvs.align_corners)
    return Meshes(meshes.verts_list(), meshes.faces_list(), textures)


def batch(device):
    """Maps with other texels covered, and as many vertices and faces."""
    return join_meshes_as_batch([painted(CUT, device), painted(SIDE_BY_SIDE, device, seed=1), painted(CUT, device, seed=2)])


def refuse(*arguments, **options):
    raise AssertionError("the places were looked for again")


def maps_of(meshes):
    return meshes.textures.maps_padded()


def assert_come_back(steps, maps, expected):
    """As ``assert_comes_back`` for meshes: M^-1 has no negative entries and M 1 = 1, so that its norm is 1."""
    longest = int(steps.matrix.crow_indices.diff().max())
    scale = 2 * row_sum_norm(steps.matrix) * float(expected.abs().max())
    assert_equal_to_rounding(maps, expected, int(BACKWARD_ERROR) + longest, scale)


class TestMaps:
    def test_they_come_back_and_so_does_the_geometry(self, device):
        meshes = batch(device)
        steps = LargeStepsTexture(meshes)
        returned = steps()
        assert_come_back(steps, maps_of(returned), steps.graph.fill(maps_of(meshes)))
        untouched = torch.ones(maps_of(meshes).shape[:3], dtype=torch.bool, device=device) & ~steps.graph.mask
        untouched.view(-1)[steps.graph.gutter] = False
        assert torch.equal(maps_of(returned)[untouched], maps_of(meshes)[untouched])
        assert torch.equal(returned.verts_packed(), meshes.verts_packed())
        assert torch.equal(returned.faces_packed(), meshes.faces_packed())
        assert returned.textures.align_corners is False
        assert meshes.textures.maps_padded().requires_grad is False

    def test_a_gradient_in_one_island_moves_the_other(self, device):
        steps = LargeStepsTexture(painted(device=device), 4.0)
        before = steps.maps().detach()
        steps.maps()[0, 4, 7].sum().backward()  # beside the seam
        UniformAdam(steps.parameters(), lr=0.1).step()
        moved = (steps.maps().detach() - before).abs().amax(-1)[0]
        assert moved[14, 12] > 0.7 * moved[4, 7]  # the texel on the other side
        assert moved[14, 19] > 0  # and the last of that island
        assert moved[14, 12] > 4 * moved[14, 19]

    def test_descent_reaches_a_target_of_pictures(self, device):
        meshes, other = painted(device=device), painted(device=device, seed=5)
        steps = LargeStepsTexture(meshes, 1.0)
        faces = torch.arange(4, device=device).repeat_interleave(40)
        weights = torch.rand(160, 3, device=device)
        weights = weights / weights.sum(1, keepdim=True)
        expected = surface_colors(dressed(other, steps.graph.fill(maps_of(other))), faces, weights)
        optimizer = UniformAdam(steps.parameters(), lr=0.1)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = (surface_colors(steps(), faces, weights) - expected).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.2 * losses[0]

    @pytest.mark.parametrize("channels", [1, 5])
    def test_any_number_of_channels(self, channels, device):
        meshes = painted(device=device, channels=channels)
        steps = LargeStepsTexture(meshes, gutter=0)
        assert_come_back(steps, steps.maps(), maps_of(meshes))

    def test_on_another_geometry(self, device):
        meshes = painted(device=device)
        shape, steps = LargeSteps(meshes), LargeStepsTexture(meshes)
        both = steps(shape())
        (both.verts_packed().sum() + maps_of(both).sum()).backward()
        assert shape.u.grad is not None
        assert steps.u.grad is not None

    def test_look_ups_find_no_background(self, device):
        meshes = painted(device=device)
        black = dressed(meshes, torch.zeros_like(maps_of(meshes)))
        steps = LargeStepsTexture(black)
        maps = torch.zeros_like(maps_of(black))
        maps[steps.graph.mask] = 1
        steps.set_maps(maps)
        faces = torch.arange(4, device=device).repeat_interleave(3)
        corners = torch.eye(3, device=device).repeat(4, 1)
        colors = surface_colors(steps(), faces, corners)
        torch.testing.assert_close(colors, torch.ones_like(colors))
        without = LargeStepsTexture(dressed(meshes, maps), gutter=0)
        assert float(surface_colors(without(), faces, corners).min()) < 0.6


class TestBatches:
    @pytest.mark.parametrize("solver", ["auto", "conjugate_gradient"])
    def test_each_map_goes_the_way_it_would_go_alone(self, solver, device):
        meshes = batch(device)
        weights = torch.tensor([1.0, 1e-3, 1e3], device=device)

        def descended(meshes, weights):
            steps = LargeStepsTexture(meshes, solver=solver)
            optimizer = UniformAdam(steps.parameters(), lr=0.1)
            for _ in range(4):
                optimizer.zero_grad()
                (weights[:, None, None, None] * (steps.maps() - 0.5).square()).sum().backward()
                optimizer.step()
            return steps.maps().detach()

        together = descended(meshes, weights)
        for k in range(3):
            torch.testing.assert_close(together[k : k + 1], descended(meshes[k], weights[k : k + 1]), rtol=1e-3, atol=1e-4)

    def test_one_lambda_per_mesh_and_per_texel(self, device):
        meshes = batch(device)
        lambda_ = torch.tensor([1.0, 5.0, 20.0], device=device)
        steps = LargeStepsTexture(meshes, lambda_)
        sizes = torch.tensor(steps.u.num_verts_per_mesh, device=device)
        assert len(sizes.unique()) == 2
        per_texel = LargeStepsTexture(meshes, lambda_.repeat_interleave(sizes))
        rounding = (int(steps.matrix.crow_indices.diff().max()) + 2, row_sum_norm(steps.matrix))  # of maps between 0 and 1
        assert_equal_to_rounding(steps.u, per_texel.u, *rounding)
        for k, part in enumerate(steps.u.split(sizes.tolist())):
            assert_equal_to_rounding(part, LargeStepsTexture(meshes[k], float(lambda_[k])).u, *rounding)


class TestSettings:
    def test_set_lambda_keeps_the_maps(self, device):
        steps = LargeStepsTexture(painted(device=device), 30.0)
        u, before = steps.u, steps.maps().detach()
        steps.set_lambda(0.5)
        assert steps.u is u
        torch.testing.assert_close(steps.maps().detach(), before, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(steps.u, LargeStepsTexture(steps(), 0.5).u, rtol=1e-3, atol=1e-4)
        with pytest.raises(ValueError, match=r"lambda_: expected a finite number in \[0, infinity\), got -1"):
            steps.set_lambda(-1.0)
        torch.testing.assert_close(steps.maps().detach(), before, rtol=1e-4, atol=1e-5)
        steps.set_lambda(alpha=0.9)
        torch.testing.assert_close(steps.maps().detach(), before, rtol=1e-4, atol=1e-5)
        assert "alpha=0.9" in repr(steps)

    def test_set_maps_keeps_the_parameter(self, device):
        steps, other = LargeStepsTexture(painted(device=device)), painted(device=device, seed=3)
        u = steps.u
        steps.set_maps(maps_of(other))
        assert steps.u is u
        assert_come_back(steps, steps.maps(), steps.graph.fill(maps_of(other)))

    def test_a_learned_lambda_finds_its_places_once(self, monkeypatch, device):
        steps = LargeStepsTexture(batch(device), torch.nn.Parameter(torch.tensor(4.0, device=device)))
        steps.maps()
        for name in ("sort", "argsort", "unique"):
            monkeypatch.setattr(torch, name, refuse)
        steps.maps().square().sum().backward()
        assert steps.lambda_.grad != 0
        assert steps.matrix.pattern is steps.matrix.pattern

    def test_a_learned_lambda(self, device):
        lambda_ = torch.nn.Parameter(torch.tensor(4.0, device=device))
        steps = LargeStepsTexture(painted(device=device), lambda_)
        assert {name for name, _ in steps.named_parameters()} == {"u", "lambda_"}
        before = steps.maps().detach()
        steps.maps().square().sum().backward()
        assert lambda_.grad < 0  # less smooth, larger squares
        torch.optim.SGD([lambda_], lr=1e-3).step()
        assert not torch.allclose(steps.maps(), before)
        with pytest.raises(ValueError, match="cannot replace a learned lambda_ or alpha"):
            steps.set_lambda(1.0)
        steps.double()
        assert steps.maps().dtype == torch.float64

    def test_moves(self, device):
        meshes = painted()
        steps = LargeStepsTexture(meshes, torch.full((128,), 3.0)).to(device, torch.float64)
        assert (steps.maps().device, steps.maps().dtype) == (device, torch.float64)
        assert_come_back(steps, steps.maps(), steps.graph.fill(maps_of(meshes).to(device)))  # u was made in float32
        assert steps().device == device
        assert "maps=(1, 24, 24, 3), texels=128, seam_edges=8, lambda_=3" in repr(steps)

    @pytest.mark.slow
    def test_compile(self, device):
        steps = LargeStepsTexture(painted(device=device), 4.0)
        expected = torch.autograd.grad(steps.maps().square().sum(), steps.u)
        compiled = torch.compile(lambda: steps.maps().square().sum(), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(torch.autograd.grad(compiled(), steps.u), expected)

    def test_a_factory(self, device):
        steps = LargeStepsTexture(painted(device=device), solver=ConjugateGradientSolver)
        torch.testing.assert_close(steps.maps(), LargeStepsTexture(painted(device=device)).maps(), rtol=1e-3, atol=1e-4)


class TestSaving:
    def test_state_dict_round_trip(self, device):
        steps, file = LargeStepsTexture(painted(device=device), 7.0), io.BytesIO()
        torch.save(steps.state_dict(), file)
        file.seek(0)
        other = LargeStepsTexture(painted(device=device, seed=9), 7.0)
        other.load_state_dict(torch.load(file, weights_only=True))
        torch.testing.assert_close(other.maps(), steps.maps())

    @pytest.mark.parametrize(
        ("rectangles", "options", "message"),
        [
            (CUT, {"lambda_": 8.0}, "of the same system matrix, got another lambda"),
            (SIDE_BY_SIDE, {}, "of maps of the same size and uvs, got other texels"),
            ([CUT[1], CUT[0]], {"gutter": 0}, "of maps of the same size and uvs, got other texels"),
        ],
    )
    def test_the_coordinates_of_another_matrix(self, rectangles, options, message):
        steps = LargeStepsTexture(painted())
        before = steps.maps().detach()
        with pytest.raises(ValueError, match=f"state_dict: expected the state {message}"):
            steps.load_state_dict(LargeStepsTexture(painted(rectangles, seed=4), **options).state_dict())
        assert torch.equal(steps.maps(), before)

    def test_a_refused_state_changes_nothing(self):
        steps, other = (LargeStepsTexture(painted(seed=seed)) for seed in (3, 4))
        before, state = steps.maps().detach(), other.state_dict()
        state["u"] = state["u"][1:]
        with pytest.raises(RuntimeError, match="size mismatch for u"):
            steps.load_state_dict(state)
        assert torch.equal(steps.maps(), before)

    def test_a_state_without_the_matrix(self):
        with pytest.raises(ValueError, match="state_dict: expected the system matrix beside u"):
            LargeStepsTexture(painted()).set_extra_state({})

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies(self, copied, device):
        steps = LargeStepsTexture(batch(device))
        steps()
        other = copied(steps)
        torch.testing.assert_close(other.maps(), steps.maps())
        assert other.u is not steps.u
        assert other.u.num_verts_per_mesh == steps.u.num_verts_per_mesh


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda m: "mesh", {}, TypeError, "meshes: expected Meshes with TexturesUV, got str 'mesh'"),
        (
            lambda m: Meshes(m.verts_list(), m.faces_list()),
            {},
            TypeError,
            "meshes: expected Meshes with TexturesUV, got textures: NoneType",
        ),
        (lambda m: dressed(m, maps_of(m).byte()), {}, TypeError, "meshes.textures: expected maps of float32 or float64"),
        (lambda m: dressed(m, maps_of(m) * math.nan), {}, ValueError, "meshes.textures: expected finite numbers, got nan"),
        (lambda m: dressed(m, maps_of(m) * 3e38), {}, ValueError, "u: expected finite numbers, .* too large"),
        (lambda m: m, {"lambda_": -1.0}, ValueError, "lambda_: expected a finite number"),
        (lambda m: m, {"lambda_": torch.ones(5)}, ValueError, r"lambda_: .* or \(128,\), one per texel, got"),
        (lambda m: m, {"lambda_": 1.0, "alpha": 0.5}, ValueError, "alpha: expected lambda_ or alpha, not both"),
        (lambda m: m, {"solver": "gauss"}, ValueError, "solver: expected one of"),
        (lambda m: m, {"gutter": -1}, ValueError, "gutter: expected an int of at least 0, got int -1"),
    ],
)
def test_wrong_arguments(change, options, error, message):
    with pytest.raises(error, match=message):
        LargeStepsTexture(change(painted()), **options)


def test_wrong_values():
    steps = LargeStepsTexture(painted())
    with pytest.raises(ValueError, match=r"maps: expected a tensor of shape \(1, 24, 24, 3\), got"):
        steps.set_maps(torch.zeros(1, 24, 25, 3))
    with pytest.raises(ValueError, match="maps: expected finite numbers, got inf"):
        steps.set_maps(torch.full((1, 24, 24, 3), math.inf))
    with pytest.raises(ValueError, match=r"meshes: expected \[4\] faces, as of the given meshes, got \[4, 4\]"):
        steps(painted().extend(2))
    with pytest.raises(TypeError, match=r"meshes: expected pytorch3d\.structures\.Meshes, got int 3"):
        steps(3)
