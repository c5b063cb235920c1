"""LargeSteps on Meshes: what comes back, its gradients, and how the module lives among torch's."""

import copy
import functools
import io
import math
import pickle

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
    cotangent_laplacian,
    from_differential,
    to_differential,
)
from pt3d_largesteps.solvers import ConjugateGradientSolver
from support.comparing import (
    assert_comes_back,
    assert_equal_to_rounding,
    assert_product_close,
    assert_same_sums,
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


class TestModule:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda steps: pickle.loads(pickle.dumps(steps))])
    def test_copies_live_on_their_own(self, copied, device):
        steps = LargeSteps(ragged().to(device))
        steps().verts_packed().sum().backward()
        other = copied(steps)
        assert_same_sums(other().verts_packed(), steps().verts_packed())
        with torch.no_grad():
            other.u.zero_()
        assert steps.u.abs().max() > 0
        other().verts_packed().sum().backward()

    def test_state_dict_round_trip(self, device):
        steps, other = LargeSteps(ragged().to(device)), LargeSteps(ragged().to(device))
        with torch.no_grad():
            steps.u.add_(torch.randn_like(steps.u))
        file = io.BytesIO()
        torch.save(steps.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other().verts_packed(), steps().verts_packed())

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (lambda sphere: LargeSteps(sphere, lambda_=5.0), "got another lambda or another Laplacian"),
            (lambda sphere: LargeSteps(sphere, laplacian="cotangent"), "got another lambda or another Laplacian"),
            (lambda sphere: LargeSteps(sphere.extend(1).scale_verts(2.0), alpha=0.5), "got another lambda"),
        ],
    )
    def test_the_state_of_another_matrix_is_refused(self, other, message, device):
        sphere = ico_sphere(2).to(device)
        with pytest.raises(ValueError, match=f"state_dict: .*{message}"):
            other(sphere).load_state_dict(LargeSteps(sphere).state_dict())

    @pytest.mark.parametrize("extra", [None, {}, {"values": torch.zeros(3)}])
    def test_a_state_without_its_matrix_is_refused(self, extra):
        state = LargeSteps(ico_sphere(1)).state_dict()
        state["_extra_state"] = extra
        with pytest.raises(ValueError, match="state_dict: expected the system matrix beside u"):
            LargeSteps(ico_sphere(1)).load_state_dict(state)

    def test_a_refused_state_changes_nothing(self, device):
        steps, other = (LargeSteps(ico_sphere(1).to(device), lambda_=lambda_) for lambda_ in (6.0, 5.0))
        before = steps.u.detach().clone()
        with pytest.raises(ValueError, match="got another lambda"):
            torch.nn.Sequential(steps).load_state_dict(torch.nn.Sequential(other).state_dict())
        assert torch.equal(steps.u, before)

    def test_a_state_of_another_version_is_named(self):
        state = LargeSteps(ico_sphere(1)).state_dict()
        del state["_extra_state"]["anchors"]
        message = "expected the system matrix beside u, got no anchors; another version has saved it"
        with pytest.raises(ValueError, match=f"state_dict: {message}"):
            LargeSteps(ico_sphere(1)).load_state_dict(state)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda state: state.update({"u": state["u"][:-1]}), "size mismatch for u"),
            (lambda state: state.pop("u"), 'Missing key.* "u"'),
            (lambda state: state.pop("_extra_state"), 'Missing key.* "_extra_state"'),
            (lambda state: state.update({"v": state["u"]}), 'Unexpected key.* "v"'),
            (lambda state: state["_extra_state"].update({"values": 2 * state["_extra_state"]["values"]}), "another lambda"),
            (lambda state: state["_extra_state"].update({"pinned": torch.ones(3)}), "pinned"),
        ],
    )
    @pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
    def test_a_refused_state_leaves_u_and_pins(self, change, error, assign, device):
        sphere = ico_sphere(1).to(device)
        steps = LargeSteps(sphere, pinned=torch.tensor([3]))
        other = LargeSteps(sphere.scale_verts(2.0), pinned=torch.tensor([5, 6]))
        u, state = steps.u, other.state_dict()
        before, pinned, verts = u.detach().clone(), steps.pinned.clone(), steps.verts_packed().detach()
        change(state)
        with pytest.raises((RuntimeError, TypeError, ValueError), match=error):
            steps.load_state_dict(state, assign=assign)
        assert steps.u is u
        assert torch.equal(u, before)
        assert torch.equal(steps.pinned, pinned)
        assert torch.equal(steps.verts_packed(), verts)

    def test_a_part_of_a_state_is_taken_where_that_is_asked_for(self, device):
        sphere = ico_sphere(1).to(device)
        steps, other = LargeSteps(sphere), LargeSteps(sphere.scale_verts(2.0))
        steps.load_state_dict({"u": other.u.detach()}, strict=False)
        torch.testing.assert_close(steps.verts_packed(), other.verts_packed())

    def test_assigning_a_state_of_another_dtype(self, device):
        sphere = ico_sphere(1).to(device)
        steps = LargeSteps(sphere)
        steps.load_state_dict(LargeSteps(as_double(sphere)).state_dict(), assign=True)
        assert steps().verts_padded().dtype == torch.float64

    def test_the_state_of_another_topology_is_refused(self, device):
        sphere = ico_sphere(1).to(device)
        faces = sphere.faces_packed().clone()
        faces[faces == 0], faces[faces == 41] = -1, 0
        faces[faces == -1] = 41
        renamed = Meshes(sphere.verts_list(), [faces])
        with pytest.raises(ValueError, match="state_dict: expected the state of meshes with the same faces"):
            LargeSteps(renamed).load_state_dict(LargeSteps(sphere).state_dict())

    def test_double_and_back(self, device):
        steps = LargeSteps(ragged().to(device))
        steps.double()
        assert steps.u.dtype == steps.matrix.dtype == steps().verts_packed().dtype == torch.float64
        steps().verts_packed().sum().backward()
        steps.float()
        assert steps().verts_packed().dtype == torch.float32

    def test_half_precision_is_refused_before_anything_is_converted(self, device):
        steps = LargeSteps(ico_sphere(1).to(device))
        with pytest.raises(TypeError, match="u: expected float32 or float64, got"):
            steps.half()
        assert steps().verts_packed().dtype == torch.float32

    def test_first_meshes_within_a_transform_leave_nothing_of_it(self, device):
        steps = LargeSteps(ragged().to(device))
        steps.verts_packed()  # the factorisation cannot be made within

        def height(u: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(steps, {"u": u}).verts_packed()[:, 1].sum()

        gradient = torch.func.grad(height)(steps.u.detach())
        other = copy.deepcopy(steps)
        other().verts_packed()[:, 1].sum().backward()
        weight = torch.zeros_like(gradient).index_fill(1, torch.tensor(1, device=device), 1.0)
        assert_solution_close(steps.matrix, weight, gradient)
        assert_solution_close(steps.matrix, weight, other.u.grad)

    @EVERY_SOLVER
    def test_to_another_device_takes_everything_along(self, solver, device):
        steps = LargeSteps(ragged(), solver=solver).to(device)
        assert steps.u.device == steps.matrix.device == steps().device == device
        torch.testing.assert_close(steps().verts_packed().cpu(), ragged().verts_packed(), rtol=1e-4, atol=1e-4)
        steps.cpu()
        assert steps.u.device == steps.matrix.device == steps().device == torch.device("cpu")
        torch.testing.assert_close(steps().verts_packed(), ragged().verts_packed(), rtol=1e-4, atol=1e-4)

    def test_inside_another_module(self, device):
        modules = torch.nn.ModuleList([LargeSteps(ico_sphere(1)), LargeSteps(ragged())]).to(device)
        assert len(list(modules.parameters())) == 2
        modules.load_state_dict(modules.state_dict())

    def test_float64_meshes(self, device):
        steps = LargeSteps(as_double(ragged().to(device)))
        assert steps().verts_padded().dtype == torch.float64

    def test_repr(self, device):
        batch = ragged().to(device)
        assert repr(LargeSteps(batch)) == (
            "LargeSteps(meshes=3, verts=116, lambda_=19, laplacian=combinatorial, solver=auto; 3 topologies, one factor)"
        )
        assert "alpha=0.95" in repr(LargeSteps(batch, alpha=0.95, laplacian=cotangent_laplacian(batch)))

    def test_a_solver_with_options(self, device):
        sphere = ico_sphere(1).to(device)
        steps = LargeSteps(sphere, solver=functools.partial(ConjugateGradientSolver, tolerance=1e-3))
        torch.testing.assert_close(steps().verts_packed(), sphere.verts_packed(), rtol=0, atol=1e-1)


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
