"""UniformAdam against the paper's recurrence in numpy, and against the released optimiser, on the same gradients."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from largesteps.optimize import AdamUniform
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import LargeSteps, PackedParameter, UniformAdam
from support.comparing import assert_same_path
from support.inductor import needs_inductor


def recurrence(start, gradients, lr, beta1, beta2, eps):
    """Section 3.5 of the paper, in numpy: Adam with the largest second moment for all components."""
    theta, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - lr * (m / (1 - beta1**t)) / (eps + np.sqrt(v / (1 - beta2**t)).max())
    return theta


def run(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()


def problem(device, dtype=torch.float64, steps=30):
    scale = torch.logspace(-3, 3, 15, dtype=dtype, device=device).view(5, 3)
    return torch.nn.Parameter(torch.randn_like(scale)), [scale * torch.randn_like(scale) for _ in range(steps)]


def ones(device) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(3, device=device))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.0), (0.5, 0.99)])
@pytest.mark.parametrize("eps", [1e-8, 1.0])
def test_the_papers_recurrence(betas, eps, device):
    parameter, gradients = problem(device)
    expected = recurrence(parameter.detach().cpu().numpy().copy(), [g.cpu().numpy() for g in gradients], 0.03, *betas, eps)
    run(UniformAdam([parameter], lr=0.03, betas=betas, eps=eps), parameter, gradients)
    np.testing.assert_allclose(parameter.detach().cpu().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_for_step_the_released_optimiser(dtype, device):
    ours, gradients = problem(device, dtype)
    theirs = copy.deepcopy(ours)
    our_optimizer, their_optimizer = UniformAdam([ours], lr=0.1), AdamUniform([theirs], lr=0.1)
    for step, gradient in enumerate(gradients, start=1):
        run(our_optimizer, ours, [gradient])
        run(their_optimizer, theirs, [gradient])
        assert_same_path(ours, theirs, step)


def test_the_step_does_not_feel_the_scale_of_the_gradient(device):
    for scale in (1e-4, 1e4):
        parameter, gradients = problem(device)
        other = copy.deepcopy(parameter)
        run(UniformAdam([parameter]), parameter, gradients)
        run(UniformAdam([other]), other, [scale * g for g in gradients])
        torch.testing.assert_close(other, parameter, rtol=1e-4, atol=1e-4)


def test_the_first_step_keeps_the_direction_and_moves_the_largest_component_by_lr(device):
    parameter, gradients = problem(device)
    before = parameter.detach().clone()
    run(UniformAdam([parameter], lr=0.25), parameter, gradients[:1])
    moved = before - parameter.detach()
    torch.testing.assert_close(moved, 0.25 * gradients[0] / gradients[0].abs().max())


def test_the_maximum_is_of_each_tensor_by_itself(device):
    first, gradients = problem(device)
    second = torch.nn.Parameter(first.detach().clone())
    alone = copy.deepcopy(first)
    optimizer = UniformAdam([first, second])
    for gradient in gradients:
        first.grad, second.grad = gradient.clone(), 1e6 * gradient.flip(0)
        optimizer.step()
    run(UniformAdam([alone]), alone, gradients)
    assert torch.equal(first, alone)


def test_parameter_groups_and_parameters_without_a_gradient(device):
    parameters = [ones(device) for _ in range(3)]
    optimizer = UniformAdam([{"params": parameters[:1], "lr": 0.5}, {"params": parameters[1:]}], lr=0.25)
    parameters[0].grad = parameters[1].grad = torch.ones(3, device=device)
    optimizer.step()
    assert [p[0].item() for p in parameters] == pytest.approx([0.5, 0.75, 1.0])
    assert parameters[2] not in optimizer.state


def test_a_group_added_later(device):
    first, second = ones(device), ones(device)
    optimizer = UniformAdam([first], lr=0.25)
    optimizer.add_param_group({"params": [second], "lr": 0.5})
    first.grad = second.grad = torch.ones(3, device=device)
    optimizer.step()
    assert second[0].item() == pytest.approx(0.5)


def test_learning_rate_schedulers(device):
    parameter, gradients = problem(device, steps=10)
    other = copy.deepcopy(parameter)
    optimizer = UniformAdam([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    by_hand = UniformAdam([other], lr=0.1)
    for k, gradient in enumerate(gradients):
        run(optimizer, parameter, [gradient])
        scheduler.step()
        by_hand.param_groups[0]["lr"] = 0.1 * 0.5**k
        run(by_hand, other, [gradient])
    torch.testing.assert_close(parameter, other)


def test_closure(device):
    parameter = ones(device)
    optimizer = UniformAdam([parameter], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = parameter.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert optimizer.step(closure).item() == pytest.approx(1.5)
    assert optimizer.step() is None


@pytest.mark.parametrize("through", ["state_dict", "file", "pickle"])
def test_a_run_continues_where_it_was_saved(through, device):
    parameter, gradients = problem(device, torch.float32)
    optimizer = UniformAdam([parameter], lr=0.05)
    run(optimizer, parameter, gradients[:10])
    other = torch.nn.Parameter(parameter.detach().clone())
    resumed = UniformAdam([other], lr=1.0)
    if through == "pickle":
        resumed = pickle.loads(pickle.dumps(optimizer))
        (other,) = resumed.param_groups[0]["params"]
    elif through == "file":
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        resumed.load_state_dict(torch.load(file, weights_only=True))
    else:
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, parameter, gradients[10:])
    run(resumed, other, gradients[10:])
    assert torch.equal(other, parameter)


def test_a_gradient_of_zeros_moves_nothing(device):
    parameter = ones(device)
    run(UniformAdam([parameter]), parameter, [torch.zeros_like(parameter)] * 3)
    assert torch.equal(parameter, ones(device))


def test_no_gradient_and_no_eps(device):
    parameter = ones(device)
    run(UniformAdam([parameter], eps=0.0), parameter, [torch.zeros_like(parameter)] * 3)
    assert torch.equal(parameter, ones(device))


def test_empty_parameters(device):
    parameter = torch.nn.Parameter(torch.zeros(0, 3, device=device))
    run(UniformAdam([parameter]), parameter, [torch.zeros(0, 3, device=device)])


def test_it_drives_large_steps(device):
    sphere = ico_sphere(2).to(device)
    target = sphere.scale_verts(0.5).verts_packed()
    steps = LargeSteps(sphere)
    optimizer = UniformAdam(steps.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (steps().verts_packed() - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4


class TestOptions:
    """Against the recurrence with the option written out."""

    def test_maximize(self, device):
        parameter, gradients = problem(device)
        other = copy.deepcopy(parameter)
        run(UniformAdam([parameter], maximize=True), parameter, gradients)
        run(UniformAdam([other]), other, [-gradient for gradient in gradients])
        assert torch.equal(parameter, other)

    def test_decoupled_weight_decay(self, device):
        parameter, gradients = problem(device)
        theta, plain = parameter.detach().clone(), torch.nn.Parameter(torch.zeros_like(parameter))
        before, optimizer = plain.detach().clone(), UniformAdam([plain], lr=0.05)
        for gradient in gradients:  # the steps do not depend on where the parameter is
            run(optimizer, plain, [gradient])
            theta = theta * (1 - 0.05 * 0.3) + (plain.detach() - before)
            before = plain.detach().clone()
        run(UniformAdam([parameter], lr=0.05, weight_decay=0.3), parameter, gradients)
        torch.testing.assert_close(parameter.detach(), theta)

    def test_amsgrad(self, device):
        parameter, gradients = problem(device)
        gradients[10:] = [1e-3 * gradient for gradient in gradients[10:]]
        theta, m, v, largest = parameter.detach().clone(), 0.0, 0.0, 0.0
        for t, g in enumerate(gradients, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            largest = max(largest, float(v.max()))
            theta -= 0.1 * (m / (1 - 0.9**t)) / (1e-8 + math.sqrt(largest / (1 - 0.999**t)))
        run(UniformAdam([parameter], amsgrad=True), parameter, gradients)
        torch.testing.assert_close(parameter.detach(), theta)

    @pytest.mark.parametrize("options", [{"foreach": True}, {"capturable": True}, {"foreach": True, "capturable": True}])
    @pytest.mark.parametrize("more", [{}, {"amsgrad": True, "weight_decay": 0.1, "maximize": True}])
    def test_ways_to_compute_the_same(self, options, more, device):
        parameters = [
            PackedParameter(torch.randn(9, 3, device=device), [2, 0, 7]),
            torch.nn.Parameter(torch.randn(5, device=device)),
            *problem(device, torch.float32)[:1],
        ]
        others = copy.deepcopy(parameters)
        ours, theirs = UniformAdam(parameters, **options, **more), UniformAdam(others, foreach=False, **more)
        for _ in range(20):
            for parameter, other in zip(parameters, others, strict=True):
                parameter.grad = torch.randn_like(parameter)
                other.grad = parameter.grad.clone()
            ours.step(), theirs.step()
        for parameter, other in zip(parameters, others, strict=True):
            assert_same_path(parameter, other, 20)

    @needs_inductor
    @pytest.mark.parametrize("more", [{}, {"capturable": True}, {"foreach": True, "amsgrad": True, "weight_decay": 0.1}])
    def test_a_compiled_step(self, more, device):
        parameters = [PackedParameter(torch.randn(9, 3, device=device), [2, 3, 4]), problem(device, torch.float32)[0]]
        others = copy.deepcopy(parameters)
        ours, theirs = UniformAdam(parameters, **more), UniformAdam(others, **more)
        compiled = torch.compile(ours.step)
        for _ in range(5):
            for parameter, other in zip(parameters, others, strict=True):
                parameter.grad = torch.randn_like(parameter)
                other.grad = parameter.grad.clone()
            compiled(), theirs.step()
        for parameter, other in zip(parameters, others, strict=True):
            assert_same_path(parameter, other, 5)

    def test_a_step_size_that_is_a_tensor(self, device):
        parameter, gradients = problem(device)
        other = copy.deepcopy(parameter)
        lr = torch.tensor(0.03, device=device)  # rounded to float32
        run(UniformAdam([parameter], lr=lr, capturable=True), parameter, gradients)
        run(UniformAdam([other], lr=lr.item()), other, gradients)
        torch.testing.assert_close(parameter, other)

    @pytest.mark.parametrize("decay", [0.0, 0.2])
    def test_a_step_size_for_each_mesh(self, decay, device):
        whole = PackedParameter(torch.randn(9, 3, device=device), [4, 0, 5])
        parts = [torch.nn.Parameter(part.clone()) for part in whole.detach().split([4, 0, 5])]
        lr = torch.tensor([0.3, 1.0, 0.02], device=device)
        ours = UniformAdam([whole], lr=lr, weight_decay=decay)
        groups = [{"params": [part], "lr": float(one)} for part, one in zip(parts, lr, strict=True)]
        theirs = UniformAdam(groups, weight_decay=decay)
        for _ in range(10):
            whole.grad = torch.randn_like(whole)
            for part, gradient in zip(parts, whole.grad.split([4, 0, 5]), strict=True):
                part.grad = gradient.clone()
            ours.step(), theirs.step()
        assert_same_path(whole, torch.cat(parts), 10)
        for wrong in (torch.tensor([0.1, 0.2]), torch.tensor([0.1, -0.2, 0.3])):
            with pytest.raises(ValueError, match="lr: expected"):
                UniformAdam([whole], lr=wrong)

    def test_a_state_from_before_the_options(self, device):
        parameter, gradients = problem(device)
        other = copy.deepcopy(parameter)
        optimizer, resumed = UniformAdam([parameter]), UniformAdam([other])
        run(optimizer, parameter, gradients[:5])
        other.data.copy_(parameter)
        state = copy.deepcopy(optimizer.state_dict())
        state["state"][0]["step"] = 5
        for group in state["param_groups"]:
            for name in ("weight_decay", "amsgrad", "maximize", "foreach", "capturable"):
                del group[name]
        resumed.load_state_dict(state)
        run(optimizer, parameter, gradients[5:])
        run(resumed, other, gradients[5:])
        torch.testing.assert_close(parameter, other)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"lr": -1.0}, r"lr: expected a finite number in \[0, infinity\), got -1"),
            ({"lr": math.nan}, "lr: expected a finite number"),
            ({"betas": (1.0, 0.999)}, r"betas\[0\]: expected a finite number in \[0, 1\), got 1"),
            ({"betas": (0.9, -0.1)}, r"betas\[1\]: expected a finite number in \[0, 1\), got -0.1"),
            ({"eps": -1e-8}, "eps: expected a finite number"),
            ({"weight_decay": -0.1}, "weight_decay: expected a finite number"),
            ({"weight_decay": math.inf}, "weight_decay: expected a finite number"),
        ],
    )
    def test_hyperparameters(self, options, message):
        with pytest.raises(ValueError, match=message):
            UniformAdam([torch.nn.Parameter(torch.ones(3))], **options)

    @pytest.mark.parametrize("name", ["amsgrad", "maximize", "capturable", "foreach"])
    def test_flags(self, name):
        with pytest.raises(TypeError, match=f"{name}: expected True or False, got 1"):
            UniformAdam([torch.nn.Parameter(torch.ones(3))], **{name: 1})

    def test_hyperparameters_of_a_group(self):
        with pytest.raises(ValueError, match=r"lr: expected a finite number in \[0, infinity\), got -1"):
            UniformAdam([{"params": [torch.nn.Parameter(torch.ones(3))], "lr": -1.0}])

    def test_a_refused_step_moves_no_parameter(self):
        good, bad = ones("cpu"), ones("cpu")  # on CUDA nothing is refused
        good.grad, bad.grad = torch.ones(3), torch.full((3,), math.nan)
        with pytest.raises(ValueError, match="gradient: expected finite numbers"):
            UniformAdam([good, bad]).step()
        assert torch.equal(good, torch.ones(3))

    @pytest.mark.parametrize("entry", [math.nan, math.inf])
    def test_a_gradient_that_is_not_finite_changes_nothing(self, entry, device):
        parameter = ones(device)
        optimizer, gradients = UniformAdam([parameter]), [torch.tensor([0.0, entry, 0.0], device=device)]
        if device.type == "cuda":  # or is not looked for, which would wait for the device, and shows
            run(optimizer, parameter, gradients)
            assert parameter[1].isnan()
            return
        with pytest.raises(ValueError, match=r"gradient: expected finite numbers, got (nan|inf) at index \(1,\)"):
            run(optimizer, parameter, gradients)
        assert torch.equal(parameter, torch.ones(3))
        assert parameter not in optimizer.state

    def test_sparse_gradients(self, device):
        embedding = torch.nn.Embedding(4, 2, sparse=True, device=device)
        embedding(torch.tensor([1], device=device)).sum().backward()
        with pytest.raises(RuntimeError, match="UniformAdam: expected dense gradients, got a sparse one"):
            UniformAdam(embedding.parameters()).step()
