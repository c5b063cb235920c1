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

from pt3d_largesteps import LargeSteps, UniformAdam


def recurrence(start, gradients, lr, beta1, beta2, eps):
    """Section 3.5 of the paper, in numpy: Adam, with the largest second moment in the place of all."""
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


def problem(dtype=torch.float64, steps=30):
    scale = torch.logspace(-3, 3, 15, dtype=dtype).view(5, 3)
    return torch.nn.Parameter(torch.randn(5, 3, dtype=dtype)), [scale * torch.randn(5, 3, dtype=dtype) for _ in range(steps)]


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.0), (0.5, 0.99)])
@pytest.mark.parametrize("eps", [1e-8, 1.0])
def test_the_papers_recurrence(betas, eps):
    parameter, gradients = problem()
    expected = recurrence(parameter.detach().numpy().copy(), [g.numpy() for g in gradients], 0.03, *betas, eps)
    run(UniformAdam([parameter], lr=0.03, betas=betas, eps=eps), parameter, gradients)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_step_for_step_the_released_optimiser(dtype, tolerance):
    ours, gradients = problem(dtype)
    theirs = copy.deepcopy(ours)
    our_optimizer, their_optimizer = UniformAdam([ours], lr=0.1), AdamUniform([theirs], lr=0.1)
    for gradient in gradients:
        run(our_optimizer, ours, [gradient])
        run(their_optimizer, theirs, [gradient])
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * 10)


def test_the_step_does_not_feel_the_scale_of_the_gradient():
    for scale in (1e-4, 1e4):
        parameter, gradients = problem()
        other = copy.deepcopy(parameter)
        run(UniformAdam([parameter]), parameter, gradients)
        run(UniformAdam([other]), other, [scale * g for g in gradients])
        torch.testing.assert_close(other, parameter, rtol=1e-4, atol=1e-4)


def test_the_first_step_keeps_the_direction_and_moves_the_largest_component_by_lr():
    parameter, gradients = problem()
    before = parameter.detach().clone()
    run(UniformAdam([parameter], lr=0.25), parameter, gradients[:1])
    moved = before - parameter.detach()
    torch.testing.assert_close(moved, 0.25 * gradients[0] / gradients[0].abs().max())


def test_the_maximum_is_of_each_tensor_by_itself():
    first, gradients = problem()
    second = torch.nn.Parameter(first.detach().clone())
    alone = copy.deepcopy(first)
    optimizer = UniformAdam([first, second])
    for gradient in gradients:
        first.grad, second.grad = gradient.clone(), 1e6 * gradient.flip(0)
        optimizer.step()
    run(UniformAdam([alone]), alone, gradients)
    assert torch.equal(first, alone)


def test_parameter_groups_and_parameters_without_a_gradient():
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    optimizer = UniformAdam([{"params": parameters[:1], "lr": 0.5}, {"params": parameters[1:]}], lr=0.25)
    parameters[0].grad = parameters[1].grad = torch.ones(3)
    optimizer.step()
    assert [p[0].item() for p in parameters] == pytest.approx([0.5, 0.75, 1.0])
    assert parameters[2] not in optimizer.state


def test_a_group_added_later():
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = UniformAdam([first], lr=0.25)
    optimizer.add_param_group({"params": [second], "lr": 0.5})
    first.grad = second.grad = torch.ones(3)
    optimizer.step()
    assert second[0].item() == pytest.approx(0.5)


def test_learning_rate_schedulers():
    parameter, gradients = problem(steps=10)
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


def test_closure():
    parameter = torch.nn.Parameter(torch.ones(3))
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
def test_a_run_continues_where_it_was_saved(through):
    parameter, gradients = problem(torch.float32)
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


def test_a_gradient_of_zeros_moves_nothing():
    parameter = torch.nn.Parameter(torch.ones(3))
    run(UniformAdam([parameter]), parameter, [torch.zeros(3)] * 3)
    assert torch.equal(parameter, torch.ones(3))


def test_no_gradient_and_no_eps():
    parameter = torch.nn.Parameter(torch.ones(3))
    run(UniformAdam([parameter], eps=0.0), parameter, [torch.zeros(3)] * 3)
    assert torch.equal(parameter, torch.ones(3))


def test_empty_parameters():
    parameter = torch.nn.Parameter(torch.zeros(0, 3))
    run(UniformAdam([parameter]), parameter, [torch.zeros(0, 3)])


def test_it_drives_large_steps():
    target = ico_sphere(2).scale_verts(0.5).verts_packed()
    steps = LargeSteps(ico_sphere(2))
    optimizer = UniformAdam(steps.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (steps().verts_packed() - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"lr": -1.0}, r"lr: expected a finite number in \[0, infinity\), got -1"),
            ({"lr": math.nan}, "lr: expected a finite number"),
            ({"betas": (1.0, 0.999)}, r"betas\[0\]: expected a finite number in \[0, 1\), got 1"),
            ({"betas": (0.9, -0.1)}, r"betas\[1\]: expected a finite number in \[0, 1\), got -0.1"),
            ({"eps": -1e-8}, "eps: expected a finite number"),
        ],
    )
    def test_hyperparameters(self, options, message):
        with pytest.raises(ValueError, match=message):
            UniformAdam([torch.nn.Parameter(torch.ones(3))], **options)

    def test_hyperparameters_of_a_group(self):
        with pytest.raises(ValueError, match=r"lr: expected a finite number in \[0, infinity\), got -1"):
            UniformAdam([{"params": [torch.nn.Parameter(torch.ones(3))], "lr": -1.0}])

    def test_a_refused_step_moves_no_parameter(self):
        good, bad = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        good.grad, bad.grad = torch.ones(3), torch.full((3,), math.nan)
        with pytest.raises(ValueError, match="gradient: expected finite numbers"):
            UniformAdam([good, bad]).step()
        assert torch.equal(good, torch.ones(3))

    @pytest.mark.parametrize("entry", [math.nan, math.inf])
    def test_a_gradient_that_is_not_finite_changes_nothing(self, entry):
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = UniformAdam([parameter])
        with pytest.raises(ValueError, match=r"gradient: expected finite numbers, got (nan|inf) at index \(1,\)"):
            run(optimizer, parameter, [torch.tensor([0.0, entry, 0.0])])
        assert torch.equal(parameter, torch.ones(3))
        assert parameter not in optimizer.state

    def test_sparse_gradients(self):
        embedding = torch.nn.Embedding(4, 2, sparse=True)
        embedding(torch.tensor([1])).sum().backward()
        with pytest.raises(RuntimeError, match="UniformAdam: expected dense gradients, got a sparse one"):
            UniformAdam(embedding.parameters()).step()
