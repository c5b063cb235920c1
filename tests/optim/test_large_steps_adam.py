"""Large steps behind a leaf of vertices, and as a hook on its gradient; frames of one topology."""

import copy
import pickle

import pytest
import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import (
    BatchSystem,
    LargeSteps,
    LargeStepsAdam,
    UniformAdam,
    compute_matrix,
    from_differential,
    precondition,
    to_differential,
)
from pt3d_largesteps.solvers import available_solvers
from support.comparing import gradcheck, gradgradcheck
from support.optimising import double
from support.shapes import grid, ragged

BATCH = double(join_meshes_as_batch([ico_sphere(1), torus(0.3, 1.0, 6, 9), ico_sphere(1), grid()]))
OPTIONS = [
    {},
    {"weight_decay": 0.1},
    {"amsgrad": True, "maximize": True},
    {"foreach": True, "capturable": True, "betas": (0.5, 0.9)},
]


def loss_of(verts):
    return ((verts - 0.3) ** 2 * verts.new_tensor([1.0, 2.0, 3.0])).sum() + verts.pow(4).sum()


@pytest.mark.parametrize("pinned", [None, [3, 90]])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_path_is_that_of_large_steps(options, pinned, device):
    if pinned is not None and options.get("weight_decay"):
        pytest.skip("decay shrinks u towards 0, and what is pinned does not shrink")
    batch = BATCH.to(device)
    pinned = None if pinned is None else torch.tensor(pinned, device=device)
    steps = LargeSteps(batch, lambda_=7.0, pinned=pinned)
    theirs = UniformAdam(steps.parameters(), lr=0.05, **options)
    verts = batch.verts_packed().clone().requires_grad_()
    system = BatchSystem(batch, lambda_=7.0)
    if pinned is not None:
        system.set_pinned(torch.zeros(len(verts), dtype=torch.bool, device=device).index_fill(0, pinned, True))
    ours = LargeStepsAdam([verts], system, lr=0.05, **options)
    for _ in range(25):
        for parameter, optimizer, x in ((steps.u, theirs, steps.verts_packed()), (verts, ours, verts)):
            parameter.grad = None
            loss_of(x).backward()
            optimizer.step()
    torch.testing.assert_close(verts, steps.verts_packed(), rtol=0, atol=1e-11)
    assert (verts - batch.verts_packed()).abs().max() > 0.1
    if pinned is not None:
        assert torch.equal(verts[pinned], batch.verts_packed()[pinned])


def test_a_single_matrix_frames_and_padded_vertices(device):
    twins = double(join_meshes_as_batch([ico_sphere(1), ico_sphere(1).scale_verts(2.0)]).to(device))
    given = {
        "packed": (twins.verts_packed(), BatchSystem(twins)),
        "padded": (twins.verts_padded(), BatchSystem(twins)),
        "frames": (twins.verts_padded(), compute_matrix(double(ico_sphere(1).to(device)))),
        "meshes of a matrix": (twins.verts_packed(), compute_matrix(twins)),
    }
    results = []
    for verts, system in given.values():
        verts = verts.clone().requires_grad_()
        optimizer = LargeStepsAdam([verts], system, lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(verts).backward()
            optimizer.step()
        results.append(verts.detach().reshape(-1, 3))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on(through, device):
    batch = BATCH.to(device)
    verts = batch.verts_packed().clone().requires_grad_()
    optimizer = LargeStepsAdam([verts], BatchSystem(batch), lr=0.05)

    def run(verts, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(verts).backward()
            optimizer.step()
        return verts.detach().clone()

    run(verts, optimizer)
    other, other_optimizer = through((verts, optimizer))
    resumed = verts.detach().clone().requires_grad_()
    resumed_optimizer = LargeStepsAdam([resumed], BatchSystem(batch), lr=1.0)
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    expected = run(verts, optimizer)
    assert torch.equal(run(other, other_optimizer), expected)
    assert torch.equal(run(resumed, resumed_optimizer), expected)


@pytest.mark.parametrize("num_meshes", [0, 1])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 0)])
def test_nothing_to_move(num_meshes, shape):
    empty = Meshes([torch.zeros(0, 3)] * num_meshes, [torch.zeros(0, 3, dtype=torch.int64)] * num_meshes)
    for lr in (0.1, torch.tensor(0.1), torch.full((num_meshes,), 0.1)):
        verts = torch.zeros(shape, requires_grad=True)
        optimizer = LargeStepsAdam([verts], BatchSystem(empty), lr=lr)
        verts.grad = torch.zeros(shape)
        optimizer.step()
        assert verts.shape == shape


def test_what_does_not_fit(device):
    system = BatchSystem(BATCH.to(device))
    with pytest.raises(TypeError, match="system: expected a BatchSystem or a SystemMatrix, got list"):
        LargeStepsAdam([torch.zeros(3, 3)], [])
    for wrong in (torch.zeros(157, 3), torch.zeros(158), torch.zeros(2, 157, 3), torch.zeros(1, 2, 158, 3), torch.zeros(())):
        with pytest.raises(ValueError, match=r"params: expected packed vertices \(158, C\) or frames \(T, 158, C\)"):
            LargeStepsAdam([wrong.to(device).requires_grad_()], system)
    with pytest.raises(ValueError, match="lr: expected a finite number"):
        LargeStepsAdam([torch.zeros(158, 3, device=device, requires_grad=True)], system, lr=-1.0)


class TestPrecondition:
    @pytest.mark.parametrize("power", [1, 2])
    @pytest.mark.parametrize("make", [BatchSystem, compute_matrix])
    def test_powers_of_the_inverse(self, make, power, device):
        batch, gradient = BATCH.to(device), torch.randn(158, 3, dtype=torch.float64, device=device)
        inverse = torch.linalg.matrix_power(compute_matrix(batch, lambda_=3.0).to_dense(), -power)
        smooth = precondition(gradient, make(batch, lambda_=3.0), power=power)
        torch.testing.assert_close(smooth, inverse @ gradient)

    def test_as_a_hook(self, device):
        batch = BATCH.to(device)
        verts, system = batch.verts_packed().clone().requires_grad_(), BatchSystem(batch)
        plain = torch.autograd.grad(loss_of(verts), verts)[0]
        verts.register_hook(lambda gradient: precondition(gradient, system))
        loss_of(verts).backward()
        torch.testing.assert_close(verts.grad, system.solve(system.solve(plain)))

    def test_pins(self, device):
        system = BatchSystem(BATCH.to(device))
        system.set_pinned(torch.arange(158, device=device) < 3)
        for shape in ((158,), (158, 3), (2, 158, 3)):
            smooth = precondition(torch.randn(shape, dtype=torch.float64, device=device), system)
            rows = smooth if len(shape) < 3 else smooth[0]
            assert (rows[:3] == 0).all()
            assert (rows[3:] != 0).all()

    def test_errors(self):
        for power in (0, 3, 1.5, True, "2"):
            with pytest.raises(ValueError, match="power: expected 1 or 2, got"):
                precondition(torch.zeros(158, 3), BatchSystem(BATCH), power=power)
        with pytest.raises(TypeError, match="system: expected a BatchSystem or a SystemMatrix, got a tensor"):
            precondition(torch.zeros(3, 3), torch.eye(3))


class TestFrames:
    @pytest.mark.parametrize("solver", available_solvers())
    def test_of_one_topology_in_one_call(self, solver, device):
        matrix = compute_matrix(double(ico_sphere(2).to(device)), lambda_=3.0)
        frames = torch.randn(5, 162, 3, dtype=torch.float64, device=device)
        u = to_differential(matrix, frames)
        assert u.shape == frames.shape
        torch.testing.assert_close(u[2], to_differential(matrix, frames[2]))
        torch.testing.assert_close(from_differential(matrix, u, solver), frames, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("solver", available_solvers())
    def test_derivatives(self, solver, device):
        matrix = compute_matrix(double(ico_sphere(0).to(device)), lambda_=0.5)
        u = torch.randn(2, 12, 2, dtype=torch.float64, device=device, requires_grad=True)
        assert gradcheck(lambda u: from_differential(matrix, u, solver), u)
        assert gradgradcheck(lambda u: from_differential(matrix, u, solver), u)

    def test_frames_of_another_size(self, device):
        with pytest.raises(ValueError, match=r"verts: expected a tensor of shape \(116,\), \(116, k\) or \(B, 116, k\)"):
            to_differential(compute_matrix(ragged().to(device)), torch.zeros(5, 115, 3, device=device))
