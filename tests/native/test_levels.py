"""The solver for CUDA, all of it but the GPU: analysis by levels, operators and kernels, these run by an emulation."""

import pickle

import pytest
import torch
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import LargeSteps, UniformAdam
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers import NotPositiveDefiniteError, analyze, factorize, solve, symbolic
from pt3d_largesteps.solvers.symbolic import SymbolicFactor
from support.emulation import load_emulation
from support.matrices import mesh_matrix, scipy_solve
from support.shapes import empty, grid, ragged, with_isolated_vertices

OPS = torch.ops.pt3d_largesteps
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def _by_levels(monkeypatch):
    load_emulation()
    monkeypatch.setattr(symbolic, "_is_by_levels", lambda device: True)


def make_factor(meshes=None, dtype=torch.float64, **options):
    matrix = mesh_matrix(ico_sphere(1) if meshes is None else meshes, dtype)
    return matrix, factorize(analyze(matrix, **options), matrix)


def relative_error(x, truth) -> float:
    return float((x.double() - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (4,), (5,), (17,)])
def test_columns(shape, dtype):
    matrix, factor = make_factor(ico_sphere(2), dtype)
    rhs = torch.randn(162, *shape, dtype=dtype)
    assert relative_error(factor.solve(rhs), scipy_solve(matrix, rhs)) < TOLERANCE[dtype]


@pytest.mark.parametrize("stored", [torch.float32, torch.float64])
def test_stored_dtypes(stored):
    matrix = mesh_matrix(ragged(), torch.float32)
    rhs = torch.randn(matrix.shape[0], 3)
    x = factorize(analyze(matrix), matrix, stored).solve(rhs)
    assert x.dtype == torch.float32
    assert relative_error(x, scipy_solve(matrix, rhs)) < (TOLERANCE[torch.float32] if stored == torch.float32 else 2e-7)


def test_several_levels():
    matrix, factor = make_factor(ico_sphere(5), torch.float32)
    assert 2 <= factor.levels <= 4
    assert factor.symbolic.num_supernodes > 10
    rhs = torch.randn(10242, 3)
    assert relative_error(factor.solve(rhs), scipy_solve(matrix, rhs)) < TOLERANCE[torch.float32]


def test_the_structure_is_that_of_the_matrix():
    matrix, factor = make_factor(torus(0.3, 1.0, 9, 14))
    crow_indices, col_indices = factor.symbolic.pattern()
    assert torch.equal(crow_indices, matrix.crow_indices)
    assert torch.equal(col_indices, matrix.col_indices)
    lower = torch.linalg.cholesky(matrix.to_dense()[order := _order(factor)][:, order])
    assert int((lower.abs() > 1e-13).sum()) <= factor.nnz <= factor.symbolic.stored_entries


def _order(factor) -> torch.Tensor:
    index = factor.symbolic.index
    start = int(index[operators.reference.SECTION_OFFSETS + operators.reference.OLD_FROM_NEW])
    return index[start : start + factor.symbolic.num_verts].long()


def test_a_batch_of_right_hand_sides_and_of_matrices():
    matrix, factor = make_factor()
    rhs = torch.randn(5, 42, 3, dtype=torch.float64)
    alone = torch.stack([scipy_solve(matrix, columns) for columns in rhs])
    assert relative_error(factor.solve(rhs), alone) < 1e-12
    scales = torch.tensor([1.0, 2.0, 5.0, 0.5, 10.0], dtype=torch.float64)
    factors = factor.refactorize(scales[:, None] * matrix.values)
    assert relative_error(factors.solve(rhs), alone / scales[:, None, None]) < 1e-12
    assert torch.equal(factors.values[0], factor.values)
    assert factor.refactorize(matrix.values[None][:0]).solve(rhs[:0]).shape == (0, 42, 3)


@pytest.mark.parametrize("meshes", [with_isolated_vertices(), empty(), grid(2, 2)], ids=["isolated", "empty", "four"])
def test_small_and_odd_meshes(meshes):
    matrix, factor = make_factor(meshes)
    rhs = torch.randn(matrix.shape[0], 3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ factor.solve(rhs), rhs)


def test_not_positive_definite():
    matrix, factor = make_factor()
    values = torch.stack([matrix.values, matrix.values])
    values[1, (matrix.row_indices == 17) & (matrix.col_indices == 17)] = -1.0
    with pytest.raises(NotPositiveDefiniteError, match=r"vertex 17; .* the diagonal itself is not positive") as error:
        factor.refactorize(values)
    assert (error.value.vertex, error.value.matrix) == (17, 1)


def test_a_factor_that_float32_cannot_hold():
    matrix, factor = make_factor(dtype=torch.float32)
    values = torch.where(matrix.row_indices == matrix.col_indices, 1e-42, 0.0)
    with pytest.raises(ValueError, match="store float64"):
        factorize(factor.symbolic, values, torch.float32)
    assert torch.isfinite(factorize(factor.symbolic, values, torch.float64).values).all()


def test_gradients():
    matrix, factor = make_factor(grid(3, 3))
    values, rhs = matrix.values.clone().requires_grad_(), torch.randn(9, 2, dtype=torch.float64, requires_grad=True)

    def function(values, rhs):  # a direction of values that stays symmetric
        symmetric = torch.zeros(9, 9, dtype=torch.float64).index_put((matrix.row_indices, matrix.col_indices), values)
        symmetric = 0.5 * (symmetric + symmetric.T)[matrix.row_indices, matrix.col_indices]
        again = factorize(factor.symbolic, symmetric)
        return again.solve(rhs)

    assert torch.autograd.gradcheck(function, (values, rhs), atol=1e-6)
    assert torch.autograd.gradgradcheck(function, (values, rhs), atol=1e-5)


def test_the_operator_keeps_what_torch_asks_of_it():
    _, factor = make_factor(grid(3, 3))
    symbolic_factor = factor.symbolic
    rhs = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    values = factor.matrix_values.clone().requires_grad_()
    arguments = (factor.values, symbolic_factor.index, rhs, 0, symbolic_factor.solve_plan)
    torch.library.opcheck(OPS.solve_levels.default, (values, *arguments))
    torch.library.opcheck(OPS.solve_levels_detached.default, (factor.matrix_values, factor.values, symbolic_factor.index,
                                                              rhs.detach(), 0, symbolic_factor.solve_plan))  # fmt: skip
    torch.library.opcheck(
        OPS.factorize_levels.default, (factor.matrix_values, symbolic_factor.index, True, symbolic_factor.factor_plan)
    )


def test_compile_vmap_and_forward_mode():
    matrix, factor = make_factor()
    rhs = torch.randn(4, 42, 3, dtype=torch.float64)
    expected = factor.solve(rhs)
    compiled = torch.compile(lambda rhs: 2 * factor.solve(rhs), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(rhs[0]), 2 * expected[0])
    torch.testing.assert_close(torch.func.vmap(factor.solve)(rhs), expected)
    tangent = torch.func.jvp(factor.solve, (rhs[0],), (rhs[1],))[1]
    torch.testing.assert_close(tangent, expected[1])
    assert solve(matrix, rhs[0]).shape == (42, 3)


def test_second_derivatives_through_transforms():
    matrix, factor = make_factor(grid(3, 3))
    rhs = torch.randn(9, 2, dtype=torch.float64)
    hessian = torch.func.hessian(lambda rhs: (factor.solve(rhs) ** 2).sum())(rhs)
    inverse = torch.linalg.inv(matrix.to_dense())
    expected = 2 * torch.einsum("ki,kj,ab->iajb", inverse, inverse, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(hessian, expected)


def test_large_steps_go_as_on_the_cpu(monkeypatch):
    """Pins, lambda per vertex, textures' positions, a ragged batch with repeats: the same way, to rounding."""

    def run() -> torch.Tensor:
        torch.manual_seed(1)
        meshes = join_meshes_as_batch([ico_sphere(1), torus(0.3, 1.0, 6, 9), ico_sphere(1), grid()])
        meshes = meshes.update_padded(meshes.verts_padded().double())
        num_verts = len(meshes.verts_packed())
        target = torch.randn(num_verts, 3, dtype=torch.float64)
        steps = LargeSteps(meshes, torch.linspace(1, 30, num_verts), pinned=torch.arange(0, num_verts, 11), solver="cholesky")
        optimizer = UniformAdam(steps.parameters(), lr=0.1)
        for step in range(4):
            if step == 2:
                steps.set_lambda(7.0)
            optimizer.zero_grad()
            (steps().verts_packed() - target).square().sum().backward()
            optimizer.step()
        return steps.verts_packed().detach()

    by_levels = run()
    monkeypatch.setattr(symbolic, "_is_by_levels", lambda device: False)
    torch.testing.assert_close(by_levels, run(), rtol=0, atol=1e-11)


def test_pickles_serve_where_they_are_read(monkeypatch):
    factor = make_factor()[1]
    rhs = torch.randn(42, 3, dtype=torch.float64)
    saved, expected = pickle.dumps((factor.symbolic, factor)), factor.solve(rhs)
    assert torch.equal(pickle.loads(saved)[1].solve(rhs), expected)
    monkeypatch.setattr(symbolic, "_is_by_levels", lambda device: False)  # as if read on the CPU
    symbolic_factor, again = pickle.loads(saved)
    assert isinstance(symbolic_factor, SymbolicFactor)
    assert symbolic_factor.solve_plan == ()
    torch.testing.assert_close(again.solve(rhs), expected)


class TestWrongArguments:
    @pytest.fixture
    def arguments(self):
        factor = make_factor()[1]
        rhs = torch.randn(42, 3, dtype=torch.float64)
        return [factor.matrix_values, factor.values, factor.symbolic.index, rhs, 0, list(factor.symbolic.solve_plan)]

    @pytest.mark.parametrize(
        ("place", "change", "message"),
        [
            (0, lambda values: values[:-1], "values: expected the values that were factorised"),
            (1, lambda factor: factor[:-8], "factor: expected what factorize made with this index"),
            (1, lambda factor: factor.float(), "factor: expected float64, as the matrix"),
            (2, lambda index: index[:-1].clone(), "plan: expected the one that was made with this index"),
            (2, lambda index: index.long(), "index: expected a contiguous int32 tensor"),
            (3, lambda rhs: rhs[:-1], r"rhs: expected the shape \(42, k\) or \(batch, 42, k\)"),
            (3, lambda rhs: rhs.float(), "rhs: expected the dtype of the matrix"),
            (3, lambda rhs: rhs[0], r"rhs: expected the shape"),
            (5, lambda plan: plan[:-1], "plan: expected the one that was made with this index"),
            (5, lambda plan: [], "plan: expected the one"),
        ],
    )
    def test_solve(self, arguments, place, change, message):
        OPS.solve_levels(*arguments)
        arguments[place] = change(arguments[place])
        with pytest.raises(RuntimeError, match=message):
            OPS.solve_levels(*arguments)

    def test_factorize(self, arguments):
        values, _, index = arguments[:3]
        with pytest.raises(RuntimeError, match="plan: expected the one that was made with this index"):
            OPS.factorize_levels(values, index, True, arguments[5])
        factor = make_factor()[1]
        with pytest.raises(RuntimeError, match=r"values: expected \d+ numbers, one per entry of the pattern"):
            OPS.factorize_levels(values[:-1], index, True, factor.symbolic.factor_plan)
