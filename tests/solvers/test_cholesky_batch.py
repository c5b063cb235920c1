"""Batches of right-hand sides (B, V, k), and of matrices that share their pattern: (B, nnz)."""

import pytest
import torch

from pt3d_largesteps import SystemMatrix
from pt3d_largesteps.native import reference
from pt3d_largesteps.solvers import NotPositiveDefiniteError, analyze, factorize, solve
from support.comparing import assert_product_close, gradcheck, gradgradcheck
from support.matrices import sphere_matrices
from support.operators import operator, solve_arguments

SOLVERS = ["cholesky", "cholespy", "conjugate_gradient"]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("level", [1, 4])
@pytest.mark.parametrize("num_columns", [0, 1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_of_a_small_batch_is_solved_to_the_same_bits_as_alone(level, num_columns, dtype, threads):
    matrix = sphere_matrices(level, [1.0, 19.0, 100.0], dtype)
    rhs = torch.randn(3, matrix.shape[0], num_columns, dtype=dtype)
    symbolic = analyze(matrix, matrix.positions)
    together = factorize(symbolic, matrix)
    for k, values in enumerate(matrix.values):
        alone = factorize(symbolic, values)
        assert torch.equal(together.values[k], alone.values)
        assert torch.equal(together.solve(rhs)[k], alone.solve(rhs[k]))
        assert torch.equal(alone.solve(rhs)[k], alone.solve(rhs[k]))


@pytest.mark.parametrize("level", [1, 4])
@pytest.mark.parametrize("size", [4, 5, 9, 24])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-14)])
def test_many_with_one_factor_are_solved_side_by_side(level, size, dtype, tolerance, device):
    matrix = sphere_matrices(level, [19.0], dtype, device).matrices()[0]
    factor = factorize(analyze(matrix, matrix.positions), matrix)
    rhs = torch.randn(size, matrix.shape[0], 3, dtype=dtype, device=device)
    before, results = torch.get_num_threads(), []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        results.append(factor.solve(rhs))
    torch.set_num_threads(before)
    assert torch.equal(*results)
    for one, solution in zip(rhs, results[0], strict=True):
        torch.testing.assert_close(solution, factor.solve(one), rtol=tolerance, atol=tolerance)
    for place in (0, rhs.numel() // 2 + 1, rhs.numel() - 1):
        spoiled = rhs.clone()
        spoiled.view(-1)[place] = float("nan")
        if device.type == "cpu":
            with pytest.raises(ValueError, match="rhs: expected finite numbers, got nan"):
                factor.solve(spoiled)
        else:  # where it is not looked for, it spoils the column that it stands in, and no other
            is_spoiled = torch.isnan(factor.solve(spoiled)).any(1).flatten()
            assert is_spoiled.nonzero().tolist() == [[place // rhs[0].numel() * 3 + place % 3]]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("lambdas", [[19.0], [19.0, 19.0, 3.0]])
def test_every_solver_takes_batches(solver, lambdas, device):
    matrix = sphere_matrices(1, lambdas, device=device)
    rhs = torch.randn(len(lambdas), 42, 2, dtype=torch.float64, device=device)
    expected = torch.linalg.solve(matrix.to_dense(), rhs)
    torch.testing.assert_close(solve(matrix, rhs, solver), expected, rtol=1e-9, atol=1e-10)
    first = matrix.matrices()[0]
    expected = torch.linalg.solve(first.to_dense(), rhs)
    torch.testing.assert_close(solve(first, rhs, solver), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("solver", ["cholesky", "cholespy"])
@pytest.mark.parametrize("shared", [False, True])
def test_derivatives_in_values_and_right_hand_sides(solver, shared, device):
    tetrahedron = torch.combinations(torch.arange(4, device=device))
    weights = (0.5 + torch.rand(6 if shared else (2, 6), dtype=torch.float64, device=device)).requires_grad_()
    rhs = torch.randn(2, 4, 2, dtype=torch.float64, device=device, requires_grad=True)
    pattern = SystemMatrix.from_edges(tetrahedron, torch.ones(6, dtype=torch.float64, device=device), 4)

    def solution(weights, rhs):
        values = [SystemMatrix.from_edges(tetrahedron, w, 4, lambda_=0.7).values for w in weights.view(-1, 6)]
        values = values[0] if shared else torch.stack(values)
        return solve(SystemMatrix(pattern.crow_indices, pattern.col_indices, values), rhs, solver)

    assert gradcheck(solution, (weights, rhs))
    assert gradgradcheck(solution, (weights, rhs))


@pytest.mark.parametrize("shared", [False, True])
def test_what_torch_wants_of_an_operator(shared, device):
    matrix = sphere_matrices(1, [1.0, 2.0], device=device)
    factor = factorize(analyze(matrix), matrix.values[0] if shared else matrix.values)
    rhs = torch.randn(2, 42, 3, dtype=torch.float64, device=device, requires_grad=True)
    torch.library.opcheck(operator("solve", device), solve_arguments(factor, rhs))
    compiled = torch.compile(factor.solve, fullgraph=True)
    torch.testing.assert_close(compiled(rhs), factor.solve(rhs))


def test_vmap_over_matrices_and_their_factors(device):
    matrix = sphere_matrices(1, [1.0, 2.0, 3.0], device=device)
    factor = factorize(analyze(matrix), matrix.values)
    rhs = torch.randn(3, 42, 2, dtype=torch.float64, device=device)
    _, _, index, _, *others = solve_arguments(factor, rhs)
    expected = factor.solve(rhs)

    def alone(values, factor, rhs):
        return operator("solve", device)(values, factor, index, rhs, *others)

    torch.testing.assert_close(torch.func.vmap(alone)(matrix.values, factor.values, rhs), expected)
    one = torch.func.vmap(alone, in_dims=(0, 0, None))(matrix.values, factor.values, rhs[1])
    torch.testing.assert_close(one[1], expected[1])
    many = torch.func.vmap(alone, in_dims=(0, 0, 1))(matrix.values, factor.values, rhs.expand(4, -1, -1, -1))
    torch.testing.assert_close(many, expected[:, None].expand(-1, 4, -1, -1))
    twice = torch.func.vmap(alone, in_dims=(None, None, 0))(matrix.values, factor.values, rhs.expand(4, -1, -1, -1))
    torch.testing.assert_close(twice, expected.expand(4, -1, -1, -1))


@pytest.mark.parametrize("size", [0, 2])
def test_the_plain_torch_version_agrees(size):
    matrix = sphere_matrices(1, [1.0, 19.0])
    index = reference.analyze(matrix.crow_indices, matrix.col_indices, None, 16)
    factor, breakdown = reference.factorize(matrix.values[:size], index, True)
    assert breakdown.shape == (size, 3)
    rhs = torch.randn(2, 42, 3, dtype=torch.float64)[:size]
    solution = reference.solve(matrix.values[:size], factor, index, rhs, 0)
    torch.testing.assert_close(solution, factorize(analyze(matrix), matrix.values[:size]).solve(rhs))


def test_products_and_residuals(device):
    matrix = sphere_matrices(1, [1.0, 19.0], device=device)
    x = torch.randn(2, 42, 3, dtype=torch.float64, device=device)
    assert_product_close(matrix, x, matrix @ x)
    factor = factorize(analyze(matrix), matrix)
    # a product less another: each errs as a product does
    assert_product_close(matrix, x, matrix @ x - factor.residual(matrix @ x, x))
    torch.testing.assert_close(matrix.diagonal(), matrix.to_dense().diagonal(dim1=1, dim2=2))


def test_the_matrix_at_fault_is_named(device):
    matrix = sphere_matrices(1, [1.0, 1.0, 1.0], device=device)
    matrix.values[1] = -matrix.values[1]
    with pytest.raises(NotPositiveDefiniteError, match="the diagonal itself is not positive") as caught:
        factorize(analyze(matrix), matrix)
    assert caught.value.matrix == 1


@pytest.mark.parametrize("shape", [(42, 3), (3, 42, 3), (2, 41, 3), (42,), (2, 42)])
def test_right_hand_sides_of_another_shape(shape, device):
    matrix, rhs = sphere_matrices(1, [1.0, 2.0], device=device), torch.ones(shape, dtype=torch.float64, device=device)
    with pytest.raises(ValueError, match=r"rhs: expected a tensor of shape \(2, 42, k\), got"):
        factorize(analyze(matrix), matrix).solve(rhs)
    with pytest.raises(ValueError, match=r"rhs: expected a tensor of shape \(2, 42, k\), got"):
        solve(matrix, rhs)
