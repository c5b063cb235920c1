"""The seconds of the parts of a step: the demo takes the path that users get, and each part has its own time."""

import itertools

import pytest
import torch
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.native import operators
from pt3d_largesteps.optimization import large_steps
from pt3d_largesteps.reconstruction import timing
from pt3d_largesteps.reconstruction.methods import parameterization

FOUR = [ico_sphere(1), ico_sphere(2), torus(0.2, 0.7, 8, 12), torus(0.3, 0.6, 5, 9)]


@pytest.fixture
def calls(monkeypatch):
    """The operators that are called, by name, in their order."""
    called = []
    for place, name in ((operators, "factorize"), (operators.SparseInverse, "solve")):
        operator = getattr(place, name)
        monkeypatch.setattr(
            place,
            name,
            lambda *args, name=name, operator=operator, **options: called.append(name) or operator(*args, **options),
        )
    return called


@pytest.mark.parametrize("solver", ["auto", "cholesky"])
def test_four_topologies_take_one_factorisation_and_one_solve(solver, calls):
    start = join_meshes_as_batch(FOUR)
    seconds = {"solve": 0.0, "optimizer": 0.0}
    module, optimizer = parameterization("large-steps", solver, seconds)(start, 4.0, None)
    for _ in range(2):
        optimizer.zero_grad()
        module().verts_packed().square().sum().backward()
        optimizer.step()
    assert calls == ["factorize", *["solve"] * 4]  # forward and backward of two steps


def test_the_path_is_that_of_the_driver():
    results = []
    for make in (parameterization("large-steps", "auto", {"solve": 0.0, "optimizer": 0.0}), large_steps()):
        module, optimizer = make(join_meshes_as_batch(FOUR), 4.0, None)
        for _ in range(3):
            optimizer.zero_grad()
            module().verts_packed().square().sum().backward()
            optimizer.step()
        results.append(module().verts_packed())
    assert torch.equal(*results)


def test_each_part_has_its_own_time(monkeypatch):
    clock = itertools.count()  # one second passes between two looks at it
    monkeypatch.setattr(timing, "now", lambda device: next(clock))
    seconds = {"solve": 0.0, "optimizer": 0.0}
    module, optimizer = parameterization("large-steps", "auto", seconds)(ico_sphere(1), 4.0, None)
    loss = module().verts_packed().square().sum()
    assert seconds == {"solve": 1.0, "optimizer": 0.0}
    next(clock)  # the renderer
    loss.backward()
    assert seconds == {"solve": 2.0, "optimizer": 0.0}
    optimizer.step()
    assert seconds == {"solve": 2.0, "optimizer": 1.0}
    with torch.no_grad():
        module()
    assert seconds == {"solve": 2.0, "optimizer": 1.0}
    module, optimizer = parameterization("adam", "auto", seconds)(ico_sphere(1), 4.0, None)
    module().verts_packed().square().sum().backward()
    optimizer.step()
    assert seconds == {"solve": 2.0, "optimizer": 2.0}
