"""The operators in plain torch against the compiled ones and scipy, and the package where nothing is compiled."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import LargeSteps, SystemMatrix, UniformAdam, compute_matrix
from pt3d_largesteps.native import operators, reference
from pt3d_largesteps.solvers import analyze, factorize
from support.matrices import with_diagonal
from support.shapes import shapes

BOTH_DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])


def shape_matrix(name: str, dtype=torch.float64) -> SystemMatrix:
    meshes = shapes()[name]
    return compute_matrix(meshes.verts_packed().to(dtype), meshes.faces_packed())


def index_of(matrix: SystemMatrix, positions=None, leaf_size: int = 24) -> torch.Tensor:
    return reference.analyze(matrix.crow_indices, matrix.col_indices, positions, leaf_size)


@pytest.mark.parametrize("with_positions", [False, True])
@pytest.mark.parametrize("name", shapes())
@BOTH_DTYPES
def test_shapes_against_scipy_and_the_compiled_ones(name, with_positions, dtype, tolerance):
    matrix = shape_matrix(name, dtype)
    positions = matrix.positions.double() if with_positions else None
    rhs = torch.randn(matrix.shape[0], 3, dtype=dtype)
    solutions = []
    for index in (index_of(matrix, positions), index_of(matrix, positions, 3), analyze(matrix, positions, reuse=False).index):
        for store_double in (False, True):
            factor, breakdown = reference.factorize(matrix.values, index, store_double)
            assert breakdown.tolist() == [-1, 0, 0]
            assert factor.dtype == (torch.float64 if store_double else dtype)
            solutions.append(reference.solve(matrix.values, factor, index, rhs, 0))
    solutions.append(factorize(analyze(matrix, positions), matrix).solve(rhs))
    if name == "empty":
        assert all(solution.shape == (0, 3) for solution in solutions)
        return
    csc = scipy.sparse.csr_matrix((matrix.values.double(), matrix.col_indices, matrix.crow_indices)).tocsc()
    truth = torch.from_numpy(np.asarray(scipy.sparse.linalg.splu(csc).solve(rhs.double().numpy())))
    for solution in solutions:
        assert solution.dtype == dtype
        torch.testing.assert_close(solution.double(), truth, rtol=0, atol=tolerance * float(rhs.abs().max()))


@pytest.mark.parametrize("num_columns", [0, 1, 2, 7, 24])
def test_any_number_of_columns_and_a_rhs_left_as_it_was(num_columns):
    matrix = shape_matrix("sphere")
    index = index_of(matrix)
    factor, _ = reference.factorize(matrix.values, index, True)
    rhs = torch.randn(num_columns, 162, dtype=torch.float64).T
    before = rhs.clone()
    solution = reference.solve(matrix.values, factor, index, rhs, 0)
    assert torch.equal(rhs, before)
    torch.testing.assert_close(solution, factorize(analyze(matrix), matrix).solve(rhs))


def test_the_buffer_begins_as_the_compiled_one():
    matrix = shape_matrix("torus")
    mine, compiled = index_of(matrix), analyze(matrix).index
    shared = slice(reference.HEADER_SIZE, reference.HEADER_SIZE + 2 * matrix.nnz + matrix.shape[0] + 1)
    assert torch.equal(mine[shared], compiled[shared])
    both = [reference.NUM_VERTS, reference.NUM_ENTRIES, *range(reference.SECTION_OFFSETS, reference.SECTION_OFFSETS + 6)]
    assert torch.equal(mine[both], compiled[both])
    assert int(mine[reference.MAGIC]) == reference.MAGIC_REFERENCE != int(compiled[reference.MAGIC])
    with pytest.raises(RuntimeError, match="index: expected a buffer made by analyze"):
        torch.ops.pt3d_largesteps.factorize(matrix.values, mine, True)


@pytest.mark.parametrize("name", shapes())
def test_both_count_the_same_entries(name):
    matrix = shape_matrix(name)
    for symbolic in (analyze(matrix, reuse=False), analyze(matrix, matrix.positions, reuse=False)):
        assert reference.count_entries(symbolic.index) == symbolic.nnz
    assert (matrix.nnz + matrix.shape[0]) // 2 <= reference.count_entries(index_of(matrix)) <= matrix.shape[0] ** 2


class TestBreakdowns:
    @pytest.mark.parametrize("entry", [-1.0, 0.0])
    @pytest.mark.parametrize("vertex", [0, 17, 100, 161])
    def test_both_name_the_vertex(self, vertex, entry):
        matrix = shape_matrix("sphere")
        values = with_diagonal(matrix, vertex, entry)
        compiled = analyze(matrix).index
        reports = [reference.factorize(values, index, True)[1] for index in (index_of(matrix), compiled)]
        reports.append(operators.factorize(values, compiled, True)[1])
        assert [(int(report[0]), float(report[2])) for report in reports] == 3 * [(vertex, entry)]

    def test_of_several_both_name_the_same_on_one_structure(self):
        matrix = shape_matrix("sphere")
        index = analyze(matrix).index
        for values in (-matrix.values, torch.zeros_like(matrix.values), with_diagonal(matrix, 3, -1.0).clamp_max(0.0)):
            mine, compiled = (factorize(values, index, True)[1] for factorize in (reference.factorize, operators.factorize))
            assert int(mine[0]) == int(compiled[0]) >= 0

    def test_patterns_that_are_refused(self):
        for crow, columns in (([0, 2, 3], [0, 1, 1]), ([0, 1, 2], [1, 0])):
            with pytest.raises(RuntimeError, match="matrix: expected a symmetric pattern with every diagonal entry"):
                reference.analyze(torch.tensor(crow), torch.tensor(columns), None, 24)

    def test_a_right_hand_side_that_is_not_finite(self):
        matrix = shape_matrix("boundary")
        index = index_of(matrix)
        factor, _ = reference.factorize(matrix.values, index, True)
        rhs = torch.zeros(20, 3, dtype=torch.float64)
        rhs[4, 1] = torch.inf
        with pytest.raises(RuntimeError, match="rhs: expected finite numbers"):
            reference.solve(matrix.values, factor, index, rhs, 0)


ALONE = """
import pickle, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    from pytorch3d.utils import ico_sphere
    from pt3d_largesteps import LargeSteps, UniformAdam, available_solvers, compute_matrix
    from pt3d_largesteps.native import operators
    from pt3d_largesteps.solvers import analyze, factorize
    assert not operators.is_compiled()
    steps = [LargeSteps(ico_sphere(level), solver="cholesky") for level in (2, 1)]
    optimizer = UniformAdam(steps[0].parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        (steps[0].verts_packed() - 0.5).pow(4).sum().backward()
        optimizer.step()
    steps[1]()
factor, rhs, matrix_values = pickle.load(open(sys.argv[1], "rb"))
values = torch.tensor(matrix_values, dtype=torch.float64, requires_grad=True)
mine = factor.refactorize(values)
weight = torch.arange(rhs.numel(), dtype=rhs.dtype).view(rhs.shape)
b = rhs.clone().requires_grad_()
loss = (mine.solve(b) * weight).sum()
gradients = torch.autograd.grad(loss, (values, b), create_graph=True)
(second,) = torch.autograd.grad(gradients[0].pow(2).sum(), b)
result = {
    "warnings": [(type(w.message).__name__, str(w.message)) for w in caught if "pt3d_largesteps" in str(w.message)],
    "solvers": available_solvers(),
    "verts": steps[0].verts_packed().detach(),
    "solution": factor.solve(rhs),
    "batch": torch.func.vmap(factor.solve)(torch.stack([rhs, 2 * rhs])),
    "gradients": [g.detach() for g in gradients] + [second],
    "factor": factorize(analyze(compute_matrix(ico_sphere(2))), compute_matrix(ico_sphere(2))),
}
pickle.dump(result, open(sys.argv[2], "wb"))
"""


@pytest.fixture(scope="module")
def saved():
    matrix = shape_matrix("sphere")
    factor = factorize(analyze(matrix), matrix)
    return factor, torch.randn(162, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def alone(saved, tmp_path_factory) -> dict:
    """What a process without the compiled operators made, of its own and of a factor pickled here."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "in").write_bytes(pickle.dumps((*saved, saved[0].matrix_values.tolist())))
    environment = {**os.environ, "PT3D_LARGESTEPS_NO_EXTENSION": "1"}
    command = [sys.executable, "-c", ALONE, str(folder / "in"), str(folder / "out")]
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return pickle.loads((folder / "out").read_bytes())


class TestWithoutTheExtension:
    def test_one_warning_says_how_to_build_it(self, alone):
        ((kind, message),) = alone["warnings"]
        assert kind == "RuntimeWarning"
        assert "the compiled code is not here (PT3D_LARGESTEPS_NO_EXTENSION=1)" in message
        assert "To build it, from a clone" in message
        assert "pip install --no-build-isolation" in message

    def test_cholespy_comes_first(self, alone):
        pytest.importorskip("cholespy")
        assert alone["solvers"] == ["cholespy", "cholesky", "conjugate_gradient"]

    def test_an_optimisation_goes_the_same_way(self, alone):
        steps = LargeSteps(ico_sphere(2), solver="cholesky")
        optimizer = UniformAdam(steps.parameters(), lr=1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            (steps.verts_packed() - 0.5).pow(4).sum().backward()
            optimizer.step()
        moved = (steps.verts_packed().detach() - ico_sphere(2).verts_packed()).abs().max()
        assert float(moved) > 1e-2
        torch.testing.assert_close(alone["verts"], steps.verts_packed().detach(), rtol=0, atol=1e-5)

    def test_a_pickle_from_here_loads_there(self, alone, saved):
        factor, rhs = saved
        torch.testing.assert_close(alone["solution"], factor.solve(rhs))
        torch.testing.assert_close(alone["batch"], torch.stack([factor.solve(rhs), 2 * factor.solve(rhs)]))

    def test_gradients_are_the_same(self, alone, saved):
        factor, rhs = saved
        values = factor.matrix_values.clone().requires_grad_()
        rhs = rhs.clone().requires_grad_()
        weight = torch.arange(rhs.numel(), dtype=rhs.dtype).view(rhs.shape)
        loss = (factor.refactorize(values).solve(rhs) * weight).sum()
        gradients = torch.autograd.grad(loss, (values, rhs), create_graph=True)
        (second,) = torch.autograd.grad(gradients[0].pow(2).sum(), rhs)
        torch.testing.assert_close(alone["gradients"], [*gradients, second], rtol=1e-10, atol=1e-10)

    def test_a_pickle_from_there_loads_here(self, alone):
        matrix = compute_matrix(ico_sphere(2))
        rhs = torch.randn(162, 3)
        mine = factorize(analyze(matrix), matrix)
        assert alone["factor"].values.dtype == mine.values.dtype
        torch.testing.assert_close(alone["factor"].solve(rhs), mine.solve(rhs), rtol=0, atol=1e-6)
        assert int(alone["factor"].symbolic.index[reference.MAGIC]) != reference.MAGIC_REFERENCE
