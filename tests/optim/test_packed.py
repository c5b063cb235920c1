"""PackedParameter: the vertices of several meshes in one parameter, each of which UniformAdam takes by itself."""

import copy
import pickle

import pytest
import torch

from pt3d_largesteps import PackedParameter, UniformAdam
from pt3d_largesteps.optim.packed import Segments
from support.comparing import assert_equal_to_rounding, assert_same_path


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 0, 7], [0, 12, 0], [3, 3, 6], [12], [1] * 12, [2, 4, 2, 4], [1, 1, 4] * 2])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_the_maximum_is_of_each_mesh_by_itself(sizes, layout, device):
    start = torch.randn(12, 3, dtype=torch.float64, device=device)
    whole = PackedParameter(start.T.contiguous().T if layout == "transposed" else start.clone(), sizes)
    parts = [torch.nn.Parameter(part.clone()) for part in start.split(sizes)]
    ours, theirs = UniformAdam([whole], amsgrad=True), UniformAdam(parts, amsgrad=True)
    for _ in range(10):
        whole.grad = torch.randn_like(whole) * torch.logspace(-2, 2, 12, dtype=torch.float64, device=device)[:, None]
        for part, gradient in zip(parts, whole.grad.split(sizes), strict=True):
            part.grad = gradient.clone()
        ours.step(), theirs.step()
    assert_same_path(whole, torch.cat(parts), 10)


def test_an_index_does_the_same_as_runs(monkeypatch, device):
    segments = Segments((2, 0, 5, 5, 1) * 2)
    packed, change = torch.rand(2, 26, 3, device=device)
    scales, moved = torch.rand(10, device=device), packed.clone()
    monkeypatch.setattr(Segments, "_is_indexed", lambda self, packed: False)  # not where CUDA would rather
    maxima = segments.maxima(packed)
    segments.add_scaled_(moved, change, scales)
    monkeypatch.setattr(Segments, "_is_indexed", lambda self, packed: True)
    assert torch.equal(segments.maxima(packed), maxima)
    segments.add_scaled_(packed, change, scales)
    assert_equal_to_rounding(packed, moved, roundings=2)  # a product and a sum


@pytest.mark.parametrize("through", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_copies_know_their_meshes(through, device):
    parameter = PackedParameter(torch.randn(5, 3, device=device), [2, 3])
    optimizer = UniformAdam([parameter])
    parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    other, other_optimizer, again = through((parameter, optimizer, parameter))
    assert other is again is other_optimizer.param_groups[0]["params"][0]
    assert isinstance(other, torch.nn.Parameter)
    assert other.requires_grad
    assert other.num_verts_per_mesh == (2, 3)
    assert torch.equal(other, parameter)
    assert other.data_ptr() != parameter.data_ptr()
    assert through(PackedParameter(torch.zeros(2), [2], requires_grad=False)).requires_grad is False


def test_results_are_plain_tensors():
    assert type(PackedParameter(torch.ones(2), [2]) * 2) is torch.Tensor


@pytest.mark.parametrize("sizes", [[2, 2], [6, -1], [], [5, 1]])
def test_sizes_that_do_not_add_up(sizes):
    with pytest.raises(ValueError, match="num_verts_per_mesh: expected numbers of vertices that add up to the rows of data"):
        PackedParameter(torch.zeros(5, 3), sizes)
