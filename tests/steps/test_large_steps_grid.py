"""The module of fields over a grid."""

import copy
import io
import math
import pickle

import pytest
import torch

from pt3d_largesteps import GridMatrix, LargeStepsGrid, UniformAdam, from_differential
from support.comparing import BACKWARD_ERROR, assert_equal_to_rounding

SHAPES = pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 8, 9), (2, 1, 4, 5, 6)])


def half_mask(shape, device="cpu"):
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[: shape[0] // 2 + 1] = True
    return mask


def assert_comes_back(field: torch.Tensor, expected: torch.Tensor, lambda_: float = 19.0) -> None:
    """As the function of this name for matrices. M^-1 has no negative entries and M 1 = 1, so that its norm is 1; that of M is
    1 + 4 lambda for each axis; its rows have 2 entries for each axis, and one."""
    axes = expected.dim() - 2
    roundings = int(BACKWARD_ERROR) + 2 * axes + 1
    assert_equal_to_rounding(field, expected, roundings, 2 * (1 + 4 * axes * lambda_) * expected.abs().max())


@SHAPES
def test_the_fields_come_back(shape, device):
    field = torch.randn(shape, device=device)
    for mask in (None, half_mask(shape[2:], device)):
        steps = LargeStepsGrid(field, boundary="periodic", mask=mask)
        assert steps.u.shape == field.shape
        assert_comes_back(steps(), field)


def test_a_step_of_descent_is_smooth_and_reaches_the_target(device):
    target = torch.zeros(1, 3, 16, 16, device=device)
    target[..., 4:12, 4:12] = 1
    steps = LargeStepsGrid(torch.zeros_like(target), lambda_=5.0, boundary=("natural", "periodic"))
    optimizer = UniformAdam(steps.parameters(), lr=0.2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (steps() - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_each_field_goes_the_way_it_would_go_alone(device):
    fields = torch.randn(3, 2, 6, 7, dtype=torch.float64, device=device)
    weights = torch.tensor([1.0, 1e-3, 1e3], device=device).view(3, 1, 1, 1)

    def descended(fields, weights):
        steps = LargeStepsGrid(fields)
        optimizer = UniformAdam(steps.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            (weights * (steps() - 1).square()).sum().backward()
            optimizer.step()
        return steps().detach()

    together = descended(fields, weights)
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], descended(fields[k : k + 1], weights[k : k + 1]), rtol=0, atol=1e-10)


def test_invalid_texels_stay(device):
    field, mask = torch.randn(1, 2, 6, 6, device=device), half_mask((6, 6), device)
    steps = LargeStepsGrid(field, mask=mask)
    steps().square().sum().backward()
    assert not steps.u.grad[..., ~mask].any()
    assert steps.u.grad[..., mask].any()
    UniformAdam(steps.parameters(), lr=0.1).step()
    assert torch.equal(steps()[..., ~mask], field[..., ~mask])
    assert not torch.allclose(steps()[..., mask], field[..., mask], atol=1e-3)
    steps.set_values(2 * field)
    assert_comes_back(steps(), 2 * field)


def test_set_values_keeps_the_parameter(device):
    steps = LargeStepsGrid(torch.randn(1, 2, 6, 6, device=device))
    u = steps.u
    field = torch.randn(1, 2, 6, 6, device=device)
    steps.set_values(field)
    assert steps.u is u
    assert_comes_back(steps(), field)


@pytest.mark.parametrize("with_mask", [False, True])
def test_set_lambda_keeps_the_fields(with_mask, device):
    field = torch.randn(2, 3, 6, 7, device=device)
    steps = LargeStepsGrid(field, 30.0, mask=half_mask((6, 7), device) if with_mask else None)
    u = steps.u
    for options in ({"lambda_": 0.5}, {"alpha": 0.9}, {"lambda_": torch.tensor([1.0, 8.0], device=device)}):
        steps.set_lambda(**options)
        assert steps.u is u
        assert_comes_back(steps(), field, lambda_=30.0)  # at once the one before, and so the largest
    torch.testing.assert_close(steps.u, steps.matrix @ field, rtol=1e-3, atol=1e-4)
    before = steps.u.detach().clone()
    with pytest.raises(ValueError, match="lambda_: expected a finite number"):
        steps.set_lambda(-1.0)
    with pytest.raises(ValueError, match="field: expected 3 fields, one for each of lambda_"):
        steps.set_lambda(torch.ones(3, 1, 1, 1, device=device))
    assert torch.equal(steps.u, before)
    assert_comes_back(steps(), field, lambda_=30.0)


def test_set_lambda_where_it_is_learned():
    steps = LargeStepsGrid(torch.zeros(1, 1, 4, 4), torch.nn.Parameter(torch.tensor(4.0)))
    with pytest.raises(ValueError, match="cannot replace a learned lambda_ or alpha"):
        steps.set_lambda(1.0)


def test_a_learned_lambda_finds_its_places_once(monkeypatch, device):
    mask = torch.rand(9, 8, generator=torch.Generator().manual_seed(0)).to(device) > 0.2
    steps = LargeStepsGrid(
        torch.rand(2, 3, 9, 8, device=device), torch.nn.Parameter(torch.tensor(4.0, device=device)), mask=mask
    )
    steps()
    for name in ("sort", "argsort", "unique"):
        monkeypatch.setattr(torch, name, None)
    steps().square().sum().backward()
    assert steps.lambda_.grad != 0


def test_a_learned_lambda(device):
    lambda_ = torch.nn.Parameter(torch.tensor([4.0, 6.0], device=device))
    steps = LargeStepsGrid(torch.randn(1, 2, 6, 6, device=device), lambda_)
    assert {name for name, _ in steps.named_parameters()} == {"u", "lambda_"}
    before = steps().detach()
    steps().square().sum().backward()
    torch.optim.SGD([lambda_], lr=1.0).step()
    assert not torch.allclose(steps(), before)
    expected = from_differential(GridMatrix((6, 6), lambda_.detach()), steps.u.detach())
    torch.testing.assert_close(steps().detach(), expected)
    steps.double()
    assert steps().dtype == torch.float64
    steps().square().sum().backward()
    assert steps.lambda_.grad is not None


class TestSaving:
    @pytest.mark.parametrize("with_mask", [False, True])
    def test_state_dict_round_trip(self, with_mask, device):
        mask = half_mask((6, 7), device) if with_mask else None
        field = torch.randn(1, 2, 6, 7, device=device)
        steps, file = LargeStepsGrid(field, 7.0, mask=mask), io.BytesIO()
        torch.save(steps.state_dict(), file)
        file.seek(0)
        other = LargeStepsGrid(torch.zeros_like(field), 7.0, mask=mask)
        other.load_state_dict(torch.load(file, weights_only=True))
        torch.testing.assert_close(other(), steps())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"lambda_": 8.0}, "another strength"),
            ({"alpha": 0.5}, "another (name|strength)"),
            ({"boundary": "periodic"}, "another boundary"),
            ({"spacing": 2.0}, "another spacing"),
            ({"mask": half_mask((6, 6))}, "another mask"),
        ],
    )
    def test_the_coordinates_of_another_matrix(self, options, message):
        field = torch.randn(1, 2, 6, 6)
        steps = LargeStepsGrid(field)
        with pytest.raises(ValueError, match=f"state_dict: expected the state of the same grid, got {message}"):
            steps.load_state_dict(LargeStepsGrid(field, **options).state_dict())
        assert_comes_back(steps(), field)

    def test_a_state_without_the_matrix(self):
        steps = LargeStepsGrid(torch.randn(1, 2, 6, 6))
        with pytest.raises(ValueError, match="state_dict: expected the matrix of the grid beside u"):
            steps.set_extra_state({})

    def test_a_state_of_another_version_is_named(self):
        steps = LargeStepsGrid(torch.randn(1, 2, 6, 6))
        state = steps.get_extra_state()
        del state["outside"]
        state["other"] = None
        message = "expected the matrix of the grid beside u, got no outside and an unknown other; another version"
        with pytest.raises(ValueError, match=f"state_dict: {message}"):
            steps.set_extra_state(state)

    def test_a_refused_state_changes_nothing(self):
        steps, other = (LargeStepsGrid(torch.randn(1, 2, 6, 6), mask=half_mask((6, 6))) for _ in range(2))
        before, state = steps().detach(), other.state_dict()
        state["u"] = state["u"][:, :1]
        with pytest.raises(RuntimeError, match="size mismatch for u"):
            steps.load_state_dict(state)
        assert torch.equal(steps(), before)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies(self, copied, device):
        steps = LargeStepsGrid(torch.randn(2, 2, 6, 6, device=device), mask=half_mask((6, 6), device))
        steps()
        other = copied(steps)
        torch.testing.assert_close(other(), steps())
        assert other.u is not steps.u
        assert other.u.num_verts_per_mesh == (1, 1)


def test_moves(device):
    steps = LargeStepsGrid(torch.randn(1, 2, 6, 6), mask=half_mask((6, 6))).to(device, torch.float64)
    assert (steps().device, steps().dtype) == (device, torch.float64)
    assert "fields=1, channels=2, GridMatrix(shape=(6, 6), lambda_=19" in repr(steps)


@pytest.mark.parametrize(
    ("field", "options", "error", "message"),
    [
        (torch.zeros(3, 3), {}, ValueError, r"field: expected a tensor \(N, C, L\), .*got a tensor of shape \(3, 3\)"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.int32), {}, TypeError, "field: expected a real floating-point dtype"),
        (torch.full((1, 1, 2, 2), math.nan), {}, ValueError, "field: expected finite numbers, got nan"),
        (
            torch.full((1, 1, 2, 2), 1e38) * torch.eye(2),
            {"lambda_": 9.0},
            ValueError,
            "u: expected finite numbers, .* too large",
        ),
        (torch.zeros(1, 1, 0, 2), {}, ValueError, "shape: expected"),
        (torch.zeros(1, 1, 2, 2), {"mask": torch.zeros(2, 2) > 0}, ValueError, "mask: expected at least one valid texel"),
        (torch.zeros(1, 1, 2, 2), {"lambda_": -1.0}, ValueError, "lambda_: expected a finite number"),
    ],
)
def test_wrong_arguments(field, options, error, message):
    with pytest.raises(error, match=message):
        LargeStepsGrid(field, **options)


def test_wrong_values():
    steps = LargeStepsGrid(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"field: expected a tensor of shape \(1, 1, 2, 2\), got"):
        steps.set_values(torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match="field: expected finite numbers"):
        steps.set_values(torch.full((1, 1, 2, 2), math.inf))
