"""Grids: Laplacians, products, masks and lambda per texel, against SciPy."""

import copy
import functools
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from pt3d_largesteps import (
    GridMatrix,
    from_differential,
    grid_laplacian,
    grid_system_matrix,
    precondition,
    to_differential,
)
from pt3d_largesteps.solvers import ConvergenceError, GridConjugateGradientSolver, solve, solve_grid
from pt3d_largesteps.solvers.grid import best_solver
from support.grids import BOUNDARIES, by_loops, kronecker, relative_error, scipy_product, scipy_solution

ITERATIVE_AND_DIRECT = pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient"])
SHAPES = [(1,), (2,), (7,), (4, 3), (1, 5), (2, 3, 4)]


def masked(shape, device, probability=0.7) -> torch.Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < probability
    mask.view(-1)[0] = True
    return mask.to(device)


class TestLaplacian:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_every_boundary(self, shape, device):
        spacing = (0.5, 2.0, 3.0)[: len(shape)]
        for boundary in itertools.product(BOUNDARIES, repeat=len(shape)):
            laplacian = grid_laplacian(shape, boundary, spacing, dtype=torch.float64, device=device)
            expected = kronecker(shape, boundary, [1 / h**2 for h in spacing]).toarray()
            np.testing.assert_allclose(laplacian.to_dense().cpu().numpy(), expected, atol=1e-15)
            assert laplacian.is_coalesced()

    def test_unit_spacing_is_the_combinatorial_one(self, device):
        laplacian = grid_laplacian((3, 4), device=device).to_dense()
        assert torch.equal(laplacian.diagonal(), -(laplacian - laplacian.diagonal().diag()).sum(1))
        assert sorted(laplacian.diagonal().tolist()) == [2.0] * 4 + [3.0] * 6 + [4.0] * 2

    def test_a_mask_leaves_rows_empty(self, device):
        mask = masked((4, 5), device)
        laplacian = grid_laplacian((4, 5), "fixed", mask=mask, device=device).to_dense()
        expected = by_loops(np.ones((4, 5)), ["fixed"] * 2, [1, 1], mask.cpu().numpy()).toarray() - np.eye(20)
        np.testing.assert_allclose(laplacian.cpu().numpy(), expected)
        assert not laplacian[~mask.flatten()].any()

    @pytest.mark.parametrize("shape", SHAPES)
    def test_eigenvalues(self, shape):
        for boundary in itertools.product(BOUNDARIES, repeat=len(shape)):
            matrix = GridMatrix(shape, [3.0, 5.0, 0.5][: len(shape)], boundary=boundary)
            expected = torch.linalg.eigvalsh(grid_system_matrix(matrix, torch.float64).to_dense())
            torch.testing.assert_close(matrix.eigenvalues().flatten().sort().values, expected)


class TestProduct:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_every_boundary(self, shape, device):
        strengths, spacing = [3.0, 5.0, 0.5][: len(shape)], (0.5, 2.0, 3.0)[: len(shape)]
        field = torch.randn(2, 3, *shape, dtype=torch.float64, device=device)
        for boundary in itertools.product(BOUNDARIES, repeat=len(shape)):
            matrix = GridMatrix(shape, strengths, boundary=boundary, spacing=spacing)
            weights = [strength / h**2 for strength, h in zip(strengths, spacing, strict=True)]
            expected = field + scipy_product(kronecker(shape, boundary, weights), field)
            torch.testing.assert_close(matrix @ field, expected)
            torch.testing.assert_close(to_differential(matrix, field.clone().requires_grad_()).detach(), expected)

    @pytest.mark.parametrize("boundary", ["natural", ("periodic", "fixed"), ("fixed", "periodic")])
    def test_a_mask_and_lambda_per_texel(self, boundary, device):
        shape, spacing = (6, 5), (1.0, 0.5)
        mask, lambda_ = masked(shape, device), 10 * torch.rand(shape, dtype=torch.float64, device=device)
        field = torch.randn(2, 3, *shape, dtype=torch.float64, device=device)
        names = (boundary,) * 2 if isinstance(boundary, str) else boundary
        for given in (mask, None):
            matrix = GridMatrix(shape, lambda_, boundary=boundary, spacing=spacing, mask=given)
            valid = np.ones(shape, bool) if given is None else given.cpu().numpy()
            expected = by_loops(lambda_.cpu().numpy(), names, spacing, valid)
            torch.testing.assert_close(matrix @ field, scipy_product(expected, field))
            torch.testing.assert_close((matrix @ field.clone().requires_grad_()).detach(), scipy_product(expected, field))
            sparse = grid_system_matrix(matrix, torch.float64).to_dense().cpu().numpy()
            np.testing.assert_allclose(sparse, expected.toarray(), atol=1e-13)

    def test_alpha_is_lambda_scaled(self, device):
        field = torch.randn(1, 2, 5, 6, dtype=torch.float64, device=device)
        for mask in (None, masked((5, 6), device)):
            scaled = 0.2 * (GridMatrix((5, 6), 4.0, mask=mask) @ field)
            if mask is not None:
                scaled = torch.where(mask, scaled, field)
            torch.testing.assert_close(GridMatrix((5, 6), alpha=0.8, mask=mask) @ field, scaled)

    def test_a_mask_of_all_texels_is_none(self):
        assert GridMatrix((3, 3), mask=torch.ones(3, 3, dtype=torch.bool)).is_uniform


class TestMaskedSolve:
    @ITERATIVE_AND_DIRECT
    @pytest.mark.parametrize("shape", [(40,), (13, 12), (5, 6, 7)])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-11)])
    def test_against_scipy(self, solver, shape, dtype, tolerance, device):
        mask, lambda_ = masked(shape, device), 1 + 20 * torch.rand(shape, dtype=dtype, device=device)
        boundary = ("fixed", "natural", "periodic")[: len(shape)]
        field = torch.randn(2, 3, *shape, dtype=dtype, device=device)
        for strength, given in ((lambda_, None), (7.0, mask), (lambda_, mask)):
            matrix = GridMatrix(shape, strength, boundary=boundary, mask=given)
            of_texels = np.broadcast_to(strength.double().cpu().numpy() if strength is lambda_ else 7.0, shape)
            valid = np.ones(shape, bool) if given is None else given.cpu().numpy()
            expected = scipy_solution(by_loops(of_texels, boundary, [1] * len(shape), valid), field)
            solution = solve_grid(matrix, field, solver)
            assert relative_error(solution, expected) < tolerance
            if given is not None:
                assert torch.equal(solution[..., ~given], field[..., ~given])

    @pytest.mark.parametrize("solver", ["cholesky", pytest.param("conjugate_gradient", marks=pytest.mark.slow)])
    def test_derivatives(self, solver, device):
        mask = masked((2, 4), device)
        field = torch.randn(1, 2, 2, 4, dtype=torch.float64, device=device, requires_grad=True)
        per_texel = torch.rand(2, 4, dtype=torch.float64, device=device, requires_grad=True)

        def solution(lambda_, field):
            return solve_grid(GridMatrix((2, 4), lambda_, boundary=("fixed", "periodic"), mask=mask), field, solver)

        assert gradcheck(solution, (per_texel, field))
        assert gradgradcheck(solution, (per_texel, field), atol=1e-4)
        number = torch.tensor(0.7, dtype=torch.float64, device=device, requires_grad=True)
        assert gradcheck(solution, (number, field))

    @pytest.mark.parametrize("given", ["mask", "lambda", "lambda per field"])
    def test_conjugate_gradients_under_the_transforms_of_torch_func(self, given, device):
        options = {
            "mask": {"mask": masked((3, 4), device)},
            "lambda": {"lambda_": 9 * torch.rand(3, 4, dtype=torch.float64, device=device)},
            "lambda per field": {"lambda_": torch.rand(2, 1, 1, 1, dtype=torch.float64, device=device)},
        }[given]
        matrix = GridMatrix((3, 4), **options)
        fields = torch.randn(3, 2, 2, 3, 4, dtype=torch.float64, device=device)

        def solution(field, solver="conjugate_gradient"):
            return solve_grid(matrix, field, solver)

        expected = torch.stack([solution(field, "auto") for field in fields])
        torch.testing.assert_close(torch.func.vmap(solution)(fields), expected)
        torch.testing.assert_close(torch.func.vmap(solution, in_dims=2)(fields.movedim(0, 2)), expected)
        jacobians = [transform(solution)(fields[0]) for transform in (torch.func.jacfwd, torch.func.jacrev)]
        torch.testing.assert_close(*jacobians)
        assert torch.equal(solution(fields[0]), solution(fields[0]))  # what is kept is of no transform

    def test_conjugate_gradients_forwards_in_lambda(self, device):
        lambda_ = torch.rand(3, 2, dtype=torch.float64, device=device)
        field = torch.randn(1, 1, 3, 2, dtype=torch.float64, device=device)
        tangents = (torch.randn_like(lambda_), torch.randn_like(field))

        def solution(lambda_, field):
            return solve_grid(GridMatrix((3, 2), lambda_), field, "conjugate_gradient")

        _, change = torch.func.jvp(solution, (lambda_, field), tangents)
        ends = [solution(lambda_ + h * tangents[0], field + h * tangents[1]) for h in (-1e-4, 1e-4)]
        torch.testing.assert_close(change, (ends[1] - ends[0]) / 2e-4, rtol=1e-5, atol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("given", ["mask", "lambda"])
    def test_compile(self, given, device):
        options = {"mask": {"mask": masked((6, 7), device)}, "lambda": {"lambda_": 9 * torch.rand(6, 7, device=device)}}[given]
        matrix = GridMatrix((6, 7), **options)
        field = torch.randn(2, 3, 6, 7, device=device, requires_grad=True)

        def loss(field):
            return from_differential(matrix, to_differential(matrix, field) ** 2).square().sum()

        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        with pytest.raises(Exception, match="expected one that was factorised by a call before"):
            compiled(field)
        expected = torch.autograd.grad(loss(field), field)
        torch.testing.assert_close(torch.autograd.grad(compiled(field), field), expected)

    def test_one_lambda_per_field_and_a_mask(self, device):
        mask = masked((6, 6), device)
        lambda_ = torch.tensor([2.0, 30.0], dtype=torch.float64, device=device).view(2, 1, 1, 1)
        field = torch.randn(2, 3, 6, 6, dtype=torch.float64, device=device)
        solution = from_differential(GridMatrix((6, 6), lambda_, mask=mask), field)
        for k, number in enumerate((2.0, 30.0)):
            alone = from_differential(GridMatrix((6, 6), number, mask=mask), field[k : k + 1])
            torch.testing.assert_close(solution[k : k + 1], alone)

    def test_few_iterations_whatever_the_size(self, device):
        counts = []
        for size in (16, 64):
            mask = torch.ones(size, size, dtype=torch.bool, device=device)
            mask[size // 4 : size // 2, size // 4 : size // 2] = False
            field = torch.randn(1, 1, size, size, device=device)
            solver = GridConjugateGradientSolver(GridMatrix((size, size), mask=mask), field)
            solver.solve(field)
            counts.append(solver.iterations)
        assert max(counts) <= 15

    def test_the_guess_helps_the_next_call(self, device):
        field = torch.randn(1, 2, 30, 30, device=device)
        solver = GridConjugateGradientSolver(GridMatrix((30, 30), 50 * torch.rand(30, 30, device=device)), field)
        solver.solve(field)
        cold = solver.iterations
        solver.solve(field + 1e-5 * torch.randn_like(field))
        assert solver.iterations < cold / 1.5
        solver.solve(torch.zeros_like(field))
        assert solver.iterations == 0

    @pytest.mark.parametrize("scale", [1e-25, 1e25])
    def test_the_tolerance_is_relative(self, scale, device):
        matrix = GridMatrix((12, 12), mask=masked((12, 12), device))
        field = torch.randn(1, 2, 12, 12, device=device)
        field[:, 1] = 0
        solution = solve_grid(matrix, scale * field, "conjugate_gradient") / scale
        torch.testing.assert_close(solution, solve_grid(matrix, field, "cholesky"), rtol=1e-4, atol=1e-5)

    def test_the_rule_of_auto(self):
        lambda_ = torch.ones(64, 64, 64)
        assert best_solver(GridMatrix((64, 64, 64))) == "cosine"
        assert best_solver(GridMatrix((64, 64, 64), lambda_)) == "conjugate_gradient"
        assert best_solver(GridMatrix((64, 64), lambda_[0])) == "cholesky"
        mask = torch.zeros(64, 64, 64, dtype=torch.bool)
        mask[:30, :30, :30] = True
        assert best_solver(GridMatrix((64, 64, 64), mask=mask)) == "cholesky"

    def test_what_is_kept_with_the_matrix(self, device):
        matrix = GridMatrix((8, 8), mask=masked((8, 8), device))
        field = torch.randn(1, 1, 8, 8, device=device)
        for tolerance in np.linspace(1e-5, 1e-3, 12):
            solve_grid(matrix, field, functools.partial(GridConjugateGradientSolver, tolerance=float(tolerance)))
        solve_grid(matrix, field, "cholesky")
        assert len([key for key in matrix._kept if isinstance(key, tuple) and key[0] == "solver"]) <= 4
        for other in (copy.deepcopy(matrix), pickle.loads(pickle.dumps(matrix))):
            torch.testing.assert_close(other @ field, matrix @ field)

    def test_as_a_sparse_matrix(self, device):
        matrix = GridMatrix((5, 4), boundary="fixed")
        field = torch.randn(1, 3, 5, 4, dtype=torch.float64, device=device)
        columns = solve(grid_system_matrix(matrix.to(device), torch.float64), field.flatten(2)[0].T)
        torch.testing.assert_close(columns.T.view(1, 3, 5, 4), from_differential(matrix, field))

    @pytest.mark.parametrize("given", [None, "mask", "lambda"])
    def test_under_inference_mode_and_then_with_gradients(self, given, device):
        field = torch.randn(1, 2, 6, 6, device=device)
        lambda_ = 9 * torch.rand(6, 6, device=device) if given == "lambda" else None
        mask = masked((6, 6), device) if given == "mask" else None
        with torch.inference_mode():
            matrix = GridMatrix((6, 6), lambda_, mask=mask)
            solutions = [solve_grid(matrix, field, solver) for solver in ("auto", "conjugate_gradient")]
            torch.testing.assert_close(matrix @ solutions[0], field, rtol=1e-4, atol=1e-4)
        for solver in ("auto", "conjugate_gradient"):
            field = field.detach().clone().requires_grad_()
            solve_grid(matrix, field, solver).square().sum().backward()
            torch.testing.assert_close(field.grad, 2 * solve_grid(matrix, solutions[0].clone()), rtol=1e-3, atol=1e-3)

    def test_precondition(self, device):
        matrix = GridMatrix((6, 5))
        field = torch.randn(1, 2, 6, 5, dtype=torch.float64, device=device)
        torch.testing.assert_close(precondition(matrix @ (matrix @ field), matrix), field)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (((0, 3),), {}, ValueError, r"shape: expected \(L,\), .* of at least 1, got tuple \(0, 3\)"),
            (((2, 2, 2, 2),), {}, ValueError, "shape: expected"),
            ((5,), {}, ValueError, "shape: expected"),
            (((2, 2.5),), {}, ValueError, "shape: expected"),
            (((3, 3), -1.0), {}, ValueError, r"lambda_: expected a finite number in \[0, infinity\), got -1"),
            (((3, 3), [1.0, -2.0]), {}, ValueError, "lambda_: expected a finite number"),
            (((3, 3), [1.0, 2.0, 3.0]), {}, ValueError, "lambda_: expected a number, or 2 of them"),
            (((3, 3), math.nan), {}, ValueError, "lambda_: expected a finite number"),
            (((3, 3), "much"), {}, TypeError, "lambda_: expected a number, got str"),
            (((3, 3), torch.tensor([1.0, math.inf])), {}, ValueError, r"lambda_: expected finite numbers .* index \(1,\)"),
            (((3, 3), torch.ones(4)), {}, ValueError, r"lambda_: expected a number, or a tensor of shape \(2,\), one per axis"),
            (((3, 3), 1.0), {"alpha": 0.5}, ValueError, "alpha: expected lambda_ or alpha, not both"),
            (((3, 3),), {"alpha": 1.0}, ValueError, r"alpha: expected a finite number in \[0, 1\)"),
            (((3, 3),), {"alpha": torch.tensor([0.5, 0.5])}, ValueError, "alpha: expected a number, or a tensor of shape"),
            (((3, 3),), {"boundary": "open"}, ValueError, r"boundary: expected one of \['natural', 'periodic', 'fixed'\]"),
            (((3, 3),), {"boundary": ("natural",)}, ValueError, "boundary: expected .* or 2 of them"),
            (((3, 3),), {"spacing": 0.0}, ValueError, r"spacing: expected a finite number in \(0, infinity\)"),
            (((3, 3),), {"spacing": (1.0, 1.0, 1.0)}, ValueError, "spacing: expected a number, or 2 of them"),
            (((3, 3),), {"mask": torch.ones(3, 3)}, ValueError, "mask: expected a bool tensor"),
            (((3, 3),), {"mask": torch.ones(3, 4) > 0}, ValueError, r"mask: expected a bool tensor of shape \(3, 3\)"),
            (
                ((3, 3),),
                {"mask": torch.zeros(3, 3) > 0},
                ValueError,
                "mask: expected at least one valid texel, got none",
            ),
        ],
    )
    def test_wrong_grids(self, arguments, options, error, message):
        with pytest.raises(error, match=message):
            GridMatrix(*arguments, **options)

    @pytest.mark.parametrize("function", [to_differential, from_differential])
    @pytest.mark.parametrize(
        ("field", "error", "message"),
        [
            (torch.zeros(3, 4), ValueError, r"expected a tensor of shape \(N, C, 3, 4\), got a tensor of shape \(3, 4\)"),
            (torch.zeros(1, 1, 4, 3), ValueError, r"expected a tensor of shape \(N, C, 3, 4\)"),
            (torch.zeros(1, 1, 3, 4, dtype=torch.int64), TypeError, "expected a real floating-point dtype"),
            (torch.zeros(1, 1, 3, 4, dtype=torch.float16), TypeError, "expected float32 or float64"),
            ([0.0], ValueError, "expected a tensor of shape"),
        ],
    )
    def test_wrong_fields(self, function, field, error, message):
        with pytest.raises(error, match=message):
            function(GridMatrix((3, 4)), field)

    def test_another_batch_than_that_of_lambda(self):
        with pytest.raises(ValueError, match="field: expected 2 fields, one for each of lambda_"):
            GridMatrix((3, 4), torch.ones(2, 1, 1, 1)) @ torch.zeros(3, 1, 3, 4)

    @ITERATIVE_AND_DIRECT
    def test_a_field_that_is_not_finite(self, solver):
        field = torch.ones(1, 1, 3, 4)
        field[0, 0, 1, 2] = math.nan
        mask = torch.ones(3, 4, dtype=torch.bool)
        mask[0, 0] = False
        with pytest.raises(ValueError, match="rhs: expected finite numbers, got nan"):
            solve_grid(GridMatrix((3, 4), mask=mask), field, solver)

    def test_not_converged(self):
        matrix = GridMatrix((20, 20), 1000 * torch.rand(20, 20))
        solver = functools.partial(GridConjugateGradientSolver, max_iterations=2)
        with pytest.raises(ConvergenceError, match="expected a relative residual of 1e-06 within 2 iterations, got"):
            solve_grid(matrix, torch.randn(1, 1, 20, 20), solver)

    def test_a_solver_that_it_cannot_have(self):
        field = torch.zeros(1, 1, 3, 3)
        with pytest.raises(ValueError, match='solver: expected another than "cosine"'):
            solve_grid(GridMatrix((3, 3), torch.ones(3, 3)), field, "cosine")
        with pytest.raises(ValueError, match=r"solver: expected one of \['auto', 'cosine'"):
            solve_grid(GridMatrix((3, 3)), field, "lu")

    def test_one_lambda_per_field_is_no_sparse_matrix(self):
        with pytest.raises(ValueError, match="matrix: expected one lambda for all fields, got one for each of 2"):
            grid_system_matrix(GridMatrix((3, 3), torch.ones(2, 1, 1, 1)))
