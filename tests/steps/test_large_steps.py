"""LargeSteps on Meshes: what comes back, and its gradients."""

import copy
import math

import pytest
import torch
from pytorch3d.loss import mesh_edge_loss, mesh_laplacian_smoothing, mesh_normal_consistency
from pytorch3d.renderer import TexturesUV, TexturesVertex
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import (
    LargeSteps,
    UniformAdam,
    available_solvers,
    compute_matrix,
    from_differential,
    to_differential,
)
from support.comparing import (
    assert_comes_back,
    assert_equal_to_rounding,
    assert_product_close,
    assert_solution_close,
    gradcheck,
    gradgradcheck,
)
from support.shapes import empty, grid, ragged, shapes

EVERY_SOLVER = pytest.mark.parametrize("solver", available_solvers())


def as_double(meshes: Meshes) -> Meshes:
    return Meshes([v.double() for v in meshes.verts_list()], meshes.faces_list())


@EVERY_SOLVER
@pytest.mark.parametrize("name", list(shapes()))
def test_the_meshes_come_back(name, solver, device):
    meshes = shapes()[name].to(device)
    steps = LargeSteps(meshes, solver=solver)
    result = steps()
    assert (len(result), result.device) == (len(meshes), device)
    assert_comes_back(steps.matrix, meshes.verts_packed(), result.verts_packed())
    assert torch.equal(result.faces_packed(), meshes.faces_packed())
    assert torch.equal(result.num_verts_per_mesh(), meshes.num_verts_per_mesh())
    assert torch.equal(torch.cat(result.verts_list()), result.verts_packed())
    for given, returned in zip(meshes.faces_list(), result.faces_list(), strict=True):
        assert torch.equal(given, returned)


def test_one_parameter_and_its_value(device):
    meshes = ragged().to(device)
    steps = LargeSteps(meshes, lambda_=5.0)
    assert [name for name, _ in steps.named_parameters()] == ["u"]
    assert_product_close(compute_matrix(meshes, lambda_=5.0), meshes.verts_packed(), steps.u)


@pytest.mark.parametrize("columns", [(), (1,), (3,), (7,)])
def test_functions_on_any_channels(columns, device):
    matrix = compute_matrix(ico_sphere(2).to(device))
    colors = torch.rand(162, *columns, device=device)
    u = to_differential(matrix, colors)
    assert_comes_back(matrix, colors, from_differential(matrix, u))


@EVERY_SOLVER
def test_gradient_is_a_solve_with_the_same_matrix(solver, device):
    steps = LargeSteps(ico_sphere(2).to(device), solver=solver)
    weight = torch.randn(162, 3, device=device)
    (steps().verts_packed() * weight).sum().backward()
    assert_solution_close(steps.matrix, weight, steps.u.grad)


@pytest.mark.parametrize(
    "solver",
    [pytest.param(name, marks=pytest.mark.slow if name == "conjugate_gradient" else ()) for name in available_solvers()],
)
def test_gradcheck_through_the_meshes(solver, device):
    meshes = as_double(join_meshes_as_batch([ico_sphere(0), grid(2, 3), ico_sphere(0)]).to(device))
    steps = LargeSteps(meshes, lambda_=0.7, solver=solver)

    def padded(u):
        return torch.func.functional_call(steps, {"u": u}, ()).verts_padded()

    assert gradcheck(padded, steps.u)
    assert gradgradcheck(padded, steps.u)


def test_losses_of_pytorch3d_on_a_ragged_batch(device):
    steps = LargeSteps(ragged().to(device))
    meshes = steps()
    loss = mesh_edge_loss(meshes) + mesh_normal_consistency(meshes) + mesh_laplacian_smoothing(meshes)
    loss.backward()
    assert torch.isfinite(steps.u.grad).all()
    assert steps.u.grad.abs().max() > 0


def test_empty_meshes_in_the_batch_keep_their_places(device):
    batch = join_meshes_as_batch([empty(), ico_sphere(1), empty(), grid()]).to(device)
    result = LargeSteps(batch)()
    assert result.num_verts_per_mesh().tolist() == [0, 42, 0, 20]


def test_a_mesh_without_faces_stays_where_it_is(device):
    points = Meshes(
        [torch.rand(4, 3), ico_sphere(0).verts_packed()], [torch.zeros(0, 3, dtype=torch.int64), ico_sphere(0).faces_packed()]
    ).to(device)
    result = LargeSteps(points)()
    assert_equal_to_rounding(result.verts_list()[0], points.verts_list()[0], roundings=4)  # rows of the identity


def test_a_batch_of_empty_meshes(device):
    steps = LargeSteps(join_meshes_as_batch([empty(), empty()]).to(device))
    assert (len(steps()), steps().device) == (2, device)
    assert steps().isempty()


class TestMeshesThatComeBack:
    def test_topology_is_found_once(self, monkeypatch, device):
        first, second = (LargeSteps(ragged().to(device))() for _ in range(2))
        calls = []
        monkeypatch.setattr(torch, "unique", lambda *args, **kwargs: calls.append(args))
        assert len(first.edges_packed()) == len(second.edges_packed()) > 0
        assert not calls

    def test_the_given_meshes_are_not_touched(self, device):
        meshes = ico_sphere(1).to(device)
        before = meshes.verts_packed().clone()
        steps = LargeSteps(meshes)
        with torch.no_grad():
            steps.u.add_(1.0)
        steps()
        assert torch.equal(meshes.verts_packed(), before)
        meshes.verts_packed().zero_()
        assert steps().verts_packed().abs().max() > 0

    def test_vertex_colours_can_be_optimised_along(self, device):
        colors = torch.rand(1, 42, 3, device=device, requires_grad=True)
        sphere = ico_sphere(1).to(device)
        steps = LargeSteps(Meshes(sphere.verts_list(), sphere.faces_list(), TexturesVertex(colors)))
        optimizer = torch.optim.SGD([colors], lr=1.0)
        for _ in range(3):
            before = colors.detach().clone()
            optimizer.zero_grad()
            textures = steps().textures
            torch.testing.assert_close(textures.verts_features_list()[0], before[0])
            textures.verts_features_packed().square().sum().backward()
            optimizer.step()
            torch.testing.assert_close(colors, -before)  # x - 2 x
        copy.deepcopy(steps)

    def test_uv_textures_can_be_optimised_along(self, device):
        sphere = ico_sphere(1).to(device)
        image = torch.rand(1, 8, 8, 3, device=device, requires_grad=True)
        textures = TexturesUV(image, [sphere.faces_packed()], [torch.rand(42, 2, device=device)])
        steps = LargeSteps(Meshes(sphere.verts_list(), sphere.faces_list(), textures))
        for value in (0.25, 0.75):
            with torch.no_grad():
                image.fill_(value)
            assert steps().textures.maps_padded().unique().item() == value
            steps().textures.faces_uvs_list()

    def test_two_backward_passes_through_two_meshes(self, device):
        steps = LargeSteps(ico_sphere(1).to(device))
        for _ in range(2):
            steps().verts_normals_packed().sum().backward()


class TestSetVerts:
    @pytest.mark.parametrize("as_meshes", [False, True])
    def test_new_positions(self, as_meshes, device):
        batch = ragged().to(device)
        steps = LargeSteps(batch)
        parameter = steps.u
        moved = batch.offset_verts(torch.randn(116, 3, device=device))
        steps.set_verts(moved if as_meshes else moved.verts_packed())
        assert steps.u is parameter
        assert_comes_back(steps.matrix, moved.verts_packed(), steps().verts_packed())

    def test_positions_from_another_device(self, device):
        steps = LargeSteps(ragged().to(device))
        moved = ragged().scale_verts(2.0)  # on the CPU
        for given in (moved, moved.verts_packed()):
            steps.set_verts(given)
            torch.testing.assert_close(steps().verts_packed().cpu(), moved.verts_packed(), rtol=1e-4, atol=1e-4)

    def test_errors(self, device):
        steps = LargeSteps(ico_sphere(1).to(device))
        with pytest.raises(ValueError, match=r"verts: expected packed positions of shape \(42, 3\), got"):
            steps.set_verts(torch.zeros(41, 3))
        with pytest.raises(ValueError, match="verts: expected Meshes with the same faces"):
            steps.set_verts(ragged())
        two = LargeSteps(join_meshes_as_batch([ico_sphere(0), ico_sphere(0)]).to(device))
        points = [ico_sphere(0).verts_packed()] * 2
        one = Meshes([torch.cat(points)], [torch.cat([ico_sphere(0).faces_packed(), ico_sphere(0).faces_packed() + 12])])
        with pytest.raises(ValueError, match="verts: expected Meshes with the same faces"):
            two.set_verts(one)
        with pytest.raises(ValueError, match=r"u: expected finite numbers, got .*; the positions are too large"):
            steps.set_verts(steps.verts_packed() * 3e38)
        with pytest.raises(ValueError, match=r"verts: expected finite positions, got .* at vertex 3 of mesh 0"):
            steps.set_verts(torch.zeros(42, 3).index_fill(0, torch.tensor(3), math.inf))
        with pytest.raises(TypeError, match="verts: expected a real floating-point dtype"):
            steps.set_verts(torch.zeros(42, 3, dtype=torch.int64))


class TestErrors:
    def test_what_is_no_meshes(self):
        with pytest.raises(TypeError, match=r"meshes: expected pytorch3d.structures.Meshes, got a tensor of shape \(4, 3\)"):
            LargeSteps(torch.zeros(4, 3))

    def test_positions_that_are_not_finite(self, device):
        batch = ragged().to(device)
        offset = torch.zeros(116, 3, device=device)
        offset[42 + 5, 1] = math.nan
        with pytest.raises(ValueError, match=r"meshes: expected finite positions, got .*nan.* at vertex 5 of mesh 1"):
            LargeSteps(batch.offset_verts(offset))

    def test_alpha_in_the_place_of_lambda_is_a_lambda(self):
        assert "lambda_=0.95" in repr(LargeSteps(ico_sphere(0), 0.95))

    def test_both(self):
        with pytest.raises(ValueError, match="alpha: expected lambda_ or alpha, not both"):
            LargeSteps(ico_sphere(0), 19.0, alpha=0.95)

    def test_an_unknown_solver_at_once(self):
        with pytest.raises(ValueError, match="solver: expected one of"):
            LargeSteps(ico_sphere(0), solver="lu")

    def test_functions_want_a_system_matrix(self):
        for function in (to_differential, from_differential):
            with pytest.raises(TypeError, match="matrix: expected a SystemMatrix"):
                function(torch.eye(12), torch.zeros(12, 3))


def test_large_steps_are_smooth_where_plain_steps_are_not(device):
    """One step along the gradient of a loss that pulls a single vertex: the whole surface follows, or a spike grows."""
    sphere = ico_sphere(3).to(device)
    steps = LargeSteps(sphere, lambda_=19.0)
    optimizer = UniformAdam(steps.parameters(), lr=1.0)
    (-steps().verts_packed()[0, 0]).backward()
    optimizer.step()
    moved = (steps().verts_packed() - sphere.verts_packed()).detach()[:, 0]
    neighbours = compute_matrix(sphere).to_dense()[0].nonzero().squeeze(1)
    assert moved[0] > 0
    assert (moved[neighbours] > 0.5 * moved[0]).all()
