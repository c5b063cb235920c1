"""How LargeSteps lives among torch's modules: states, copies, devices, hooks."""

import copy
import functools
import io
import pickle

import pytest
import torch
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import (
    LargeSteps,
    available_solvers,
    cotangent_laplacian,
)
from pt3d_largesteps.solvers import ConjugateGradientSolver
from support.comparing import (
    assert_same_sums,
    assert_solution_close,
)
from support.shapes import ragged

EVERY_SOLVER = pytest.mark.parametrize("solver", available_solvers())


def as_double(meshes: Meshes) -> Meshes:
    return Meshes([v.double() for v in meshes.verts_list()], meshes.faces_list())


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
