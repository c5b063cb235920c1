"""Solvers against scipy, their gradients, what is kept and what is made again, and what they refuse."""

import contextlib
import copy
import functools
import gc
import math
import pickle
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import SystemMatrix, available_solvers, compute_matrix, from_differential
from pt3d_largesteps.matrices.laplacian import laplacian_from_edges
from pt3d_largesteps.solvers import ConjugateGradientSolver, ConvergenceError, solve, solver_for
from pt3d_largesteps.solvers.cholesky import CholeskySolver
from support.comparing import assert_equal_to_rounding, assert_same_sums, assert_solves, gradcheck, gradgradcheck
from support.matrices import scipy_solve
from support.shapes import ragged, real_mesh, shapes, with_isolated_vertices

EVERY_SOLVER = pytest.mark.parametrize("solver", available_solvers())


def double_matrix(meshes, **kwargs) -> SystemMatrix:
    return compute_matrix(meshes.verts_packed().double(), meshes.faces_packed(), **kwargs)


def test_all_solvers_are_here():
    # cholespy is among the requirements of the tests; without it half of them would test nothing
    assert available_solvers() == ["cholesky", "cholespy", "conjugate_gradient"]


@EVERY_SOLVER
@pytest.mark.parametrize("laplacian", ["combinatorial", "cotangent"])
@pytest.mark.parametrize("name", [name for name in shapes() if name != "empty"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_against_scipy(solver, laplacian, name, dtype, tolerance, device):
    meshes = shapes()[name].to(device)
    lambda_ = 1.0 if name == "degenerate" else 19.0  # degenerate cotangents are as large as 1 / sqrt(eps)
    matrix = compute_matrix(meshes.verts_packed().to(dtype), meshes.faces_packed(), lambda_=lambda_, laplacian=laplacian)
    rhs = torch.randn(matrix.shape[0], 3, dtype=dtype, device=device)
    solution = solve(matrix, rhs, solver)
    error = (solution.double() - scipy_solve(matrix, rhs)).abs().max()
    assert error <= tolerance * rhs.abs().max() * (100 if name == "degenerate" else 1)


@EVERY_SOLVER
@pytest.mark.parametrize("lambda_", [0.0, 1e-3, 1.0, 99.0, 999.0])
def test_solve_undoes_the_product(solver, lambda_, device):
    matrix = double_matrix(ico_sphere(3).to(device), lambda_=lambda_)
    x = torch.randn(642, 3, dtype=torch.float64, device=device)
    torch.testing.assert_close(solve(matrix, matrix @ x, solver), x, rtol=1e-8, atol=1e-8)


@EVERY_SOLVER
@pytest.mark.parametrize("shape", [(42,), (42, 1), (42, 3), (42, 200), (42, 0)])
def test_any_number_of_columns(solver, shape, device):
    matrix = compute_matrix(ico_sphere(1).to(device))
    rhs = torch.randn(shape, device=device)
    solution = solve(matrix, rhs, solver)
    assert solution.shape == rhs.shape
    assert_solves(matrix, rhs, solution)


@EVERY_SOLVER
def test_columns_do_not_reach_each_other(solver, device):
    sphere = ico_sphere(2).to(device)
    packed = sphere.verts_packed().double(), sphere.faces_packed()
    matrix = compute_matrix(*packed, lambda_=19.0)
    rhs = torch.randn(162, 4, dtype=torch.float64, device=device) * torch.tensor([1.0, 1e-6, 1e6, 0.0], device=device)
    together = solve(matrix, rhs, solver)
    for k in range(4):
        alone = solve(compute_matrix(*packed, lambda_=19.0), rhs[:, k], solver)  # a matrix of its own: no guess is left over
        torch.testing.assert_close(together[:, k], alone, rtol=1e-8, atol=1e-300)


@EVERY_SOLVER
def test_gradients(solver, device):
    pattern = double_matrix(ico_sphere(0).to(device), lambda_=0.7)
    rhs = torch.randn(12, 2, dtype=torch.float64, device=device, requires_grad=True)
    # The solvers read the values as those of a symmetric matrix: perturb them symmetrically, through edge weights.
    edges = torch.stack([pattern.row_indices, pattern.col_indices], dim=1)
    edges = edges[edges[:, 0] < edges[:, 1]]
    weights = torch.rand(len(edges), dtype=torch.float64, device=device).add(0.5).requires_grad_()
    lambda_ = torch.tensor(0.7, dtype=torch.float64, device=device, requires_grad=True)

    def solution(weights, lambda_, rhs):
        return solve(SystemMatrix.from_edges(edges, weights, 12, lambda_=lambda_), rhs, solver)

    assert gradcheck(solution, (weights, lambda_, rhs))
    assert gradgradcheck(solution, (weights, lambda_, rhs))


@EVERY_SOLVER
def test_third_derivative(solver, device):
    matrix = double_matrix(ico_sphere(0).to(device), lambda_=0.7)
    u = torch.randn(12, 1, dtype=torch.float64, device=device, requires_grad=True)
    derivative = solve(matrix, u, solver).pow(4).sum()
    for _ in range(3):
        (derivative,) = torch.autograd.grad(derivative.sum(), u, create_graph=True)
    # The Hessian of sum x^4 by rows: each derivative along the vector of ones multiplies by M^-1 1 = 1.
    x = solve(matrix, u, solver)
    torch.testing.assert_close(derivative, solve(matrix, 24 * x, solver))


@EVERY_SOLVER
def test_a_gradient_that_is_not_contiguous(solver, device):
    matrix = compute_matrix(ico_sphere(2).to(device))
    rhs = torch.randn(162, 3, device=device, requires_grad=True)
    solution = solve(matrix, rhs, solver)
    weight = torch.randn(3, 162, device=device)
    (transposed,) = torch.autograd.grad((solution.T * weight).sum(), rhs, retain_graph=True)
    (expanded,) = torch.autograd.grad(solution.sum(), rhs)  # the gradient of a sum has strides of zero
    torch.testing.assert_close(transposed, solve(matrix, weight.T, solver), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(expanded, torch.ones_like(rhs), rtol=1e-4, atol=1e-5)  # M 1 = 1


@EVERY_SOLVER
def test_a_right_hand_side_that_is_not_contiguous(solver, device):
    matrix = compute_matrix(ico_sphere(2).to(device))
    rhs = torch.randn(3, 162, device=device).T
    torch.testing.assert_close(solve(matrix, rhs, solver), solve(matrix, rhs.contiguous(), solver), rtol=1e-4, atol=1e-5)


def test_compiled_code_notices_an_edit_in_place(device):
    torch.compiler.reset()
    matrix = compute_matrix(ico_sphere(1).to(device))
    rhs = torch.randn(42, 3, device=device)
    from_differential(matrix, rhs)
    compiled = torch.compile(lambda rhs: from_differential(matrix, rhs), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(rhs), from_differential(matrix, rhs))
    matrix.values.mul_(2)
    with pytest.raises(RuntimeError, match="matrix: expected the values that were factorised, got others"):
        compiled(rhs)
    halved = from_differential(matrix, rhs)
    torch.testing.assert_close(compiled(rhs), halved)


@EVERY_SOLVER
def test_the_solver_is_made_once_and_again_after_an_edit_in_place(solver, device):
    matrix = compute_matrix(ico_sphere(1).to(device))
    first = solver_for(matrix, solver)
    assert solver_for(matrix, solver) is first
    rhs = torch.randn(42, 3, device=device)
    before = solve(matrix, rhs, solver)
    matrix.values.mul_(2)
    assert solver_for(matrix, solver) is not first
    torch.testing.assert_close(2 * solve(matrix, rhs, solver), before, rtol=1e-4, atol=1e-5)


def test_a_matrix_frees_its_solvers_at_once():
    # no cycle through the solver: memory does not wait for the garbage collector
    gc.disable()
    try:
        matrix = compute_matrix(ico_sphere(1))
        kept = weakref.ref(solver_for(matrix, "conjugate_gradient"))
        del matrix
        assert kept() is None
    finally:
        gc.enable()


def test_factories_made_anew_at_every_call_do_not_pile_up():
    matrix = compute_matrix(ico_sphere(0))
    for k in range(20):
        solver_for(matrix, functools.partial(ConjugateGradientSolver, check_every=k + 1))
    assert len(matrix._solvers) <= 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_make_their_own_solver(copied, device):
    matrix = compute_matrix(ico_sphere(1).to(device))
    rhs = torch.randn(42, 3, device=device)
    solution = solve(matrix, rhs)
    other = copied(matrix)
    assert solver_for(other) is not solver_for(matrix)
    assert_same_sums(solve(other, rhs), solution)


@EVERY_SOLVER
def test_under_no_grad_and_inference_mode(solver, device):
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            matrix = compute_matrix(ico_sphere(1).to(device))
            rhs = torch.randn(42, 3, device=device)
            assert_solves(matrix, rhs, solve(matrix, rhs, solver))
            matrix.values.mul_(2)
            assert_solves(matrix, rhs, solve(matrix, rhs, solver))


@EVERY_SOLVER
def test_autocast_leaves_the_solve_alone(solver, device):
    matrix = compute_matrix(ico_sphere(1).to(device))
    rhs = torch.randn(42, 3, device=device, requires_grad=True)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        solution = solve(matrix, rhs, solver)
    assert solution.dtype == torch.float32
    assert_solves(matrix, rhs, solution)
    solution.sum().backward()


@EVERY_SOLVER
def test_empty_system(solver, device):
    matrix = compute_matrix(torch.zeros(0, 3, device=device), torch.zeros(0, 3, dtype=torch.int64, device=device))
    solution = solve(matrix, torch.zeros(0, 3, device=device), solver)
    assert (solution.shape, solution.device) == ((0, 3), device)


@EVERY_SOLVER
def test_isolated_vertices_are_left_alone(solver, device):
    matrix = compute_matrix(with_isolated_vertices().to(device))
    rhs = torch.randn(6, 3, device=device)
    # rows of the identity; conjugate gradients stop at a residual of 1e-6, which is 9 eps, of the norm of the right-hand side
    assert_equal_to_rounding(solve(matrix, rhs, solver)[[0, 5]], rhs[[0, 5]], roundings=12, scale=rhs.norm())


@EVERY_SOLVER
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 120), st.integers(0, 2**31), st.floats(0, 100))
def test_any_weighted_graph(solver, device, num_verts, num_edges, seed, lambda_):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_verts, (num_edges, 2), generator=generator)
    edges = torch.unique(edges[edges[:, 0] != edges[:, 1]].sort(dim=1).values, dim=0)
    weights = torch.rand(len(edges), generator=generator, dtype=torch.float64)
    laplacian = laplacian_from_edges(edges.to(device), weights.to(device), num_verts)
    matrix = SystemMatrix.from_laplacian(laplacian, lambda_=lambda_)
    rhs = torch.randn(num_verts, 2, generator=generator, dtype=torch.float64).to(device)
    torch.testing.assert_close(matrix @ solve(matrix, rhs, solver), rhs, rtol=1e-9, atol=1e-9)


@EVERY_SOLVER
@pytest.mark.parametrize("name", ["bunny", "suzanne", "stanford-bunny"])
def test_real_meshes(solver, name, device):
    matrix = compute_matrix(real_mesh(name).to(device))
    rhs = torch.randn(matrix.shape[0], 3, device=device)
    assert_solves(matrix, rhs, solve(matrix, rhs, solver))


class TestConjugateGradient:
    def test_the_guess_of_each_direction_helps_the_next_call(self, device):
        matrix = compute_matrix(ico_sphere(3).to(device))
        solver = ConjugateGradientSolver(matrix)
        forward, backward = torch.randn(2, 642, 3, device=device)
        solver.solve(forward, 0)
        cold = solver.iterations
        solver.solve(backward, 1)
        solver.solve(forward + 1e-5 * torch.randn_like(forward), 0)
        assert 0 < solver.iterations < cold / 2
        solver.solve(backward, 1)
        assert solver.iterations <= solver.check_every  # its own guess, not that of the other direction

    def test_another_number_of_columns_starts_afresh(self, device):
        matrix = compute_matrix(ico_sphere(2).to(device))
        solver = ConjugateGradientSolver(matrix)
        solver.solve(torch.randn(162, 3, device=device))
        rhs = torch.randn(162, 5, device=device)
        assert_solves(matrix, rhs, solver.solve(rhs))

    def test_a_right_hand_side_of_zeros_after_another(self, device):
        solver = ConjugateGradientSolver(compute_matrix(ico_sphere(1).to(device)))
        solver.solve(torch.randn(42, 3, device=device))
        zeros = torch.zeros(42, 3, device=device)
        assert torch.equal(solver.solve(zeros), zeros)

    @pytest.mark.parametrize("ratio", [1e-3, 1e-5, 1e-8])
    def test_a_guess_that_is_far_too_large_costs_no_digits(self, ratio, device):
        matrix = compute_matrix(ico_sphere(4).to(device))
        solver = ConjugateGradientSolver(matrix)
        solver.solve(torch.randn(2562, 3, device=device))
        rhs = ratio * torch.randn(2562, 3, device=device)
        truth = scipy_solve(matrix, rhs)
        # ||M^-1|| is 1, so that the error is no larger than the residual; the iteration's own is only an estimate of it
        assert (solver.solve(rhs).double() - truth).norm() <= 4 * solver.tolerance * rhs.double().norm()

    @pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
    def test_the_tolerance_is_relative(self, scale, device):
        matrix = compute_matrix(ico_sphere(2).to(device))
        rhs = torch.randn(162, 3, device=device)
        expected = scipy_solve(matrix, rhs)
        solution = ConjugateGradientSolver(matrix).solve(rhs * scale) / scale
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(solution.double(), expected, rtol=0, atol=1e-4)

    def test_not_converged(self, device):
        solver = ConjugateGradientSolver(double_matrix(ico_sphere(3).to(device), lambda_=999.0), max_iterations=3)
        with pytest.raises(ConvergenceError, match="expected a relative residual of 1e-12 within 3 iterations, got"):
            solver.solve(torch.randn(642, 3, dtype=torch.float64, device=device))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tolerance": 0.0}, r"tolerance: expected a finite number in \(0, infinity\), got 0"),
            ({"tolerance": math.nan}, "tolerance: expected a finite number"),
            ({"max_iterations": -1}, r"max_iterations: expected a finite number in \[1, infinity\), got -1"),
            ({"max_iterations": 0}, r"max_iterations: expected a finite number in \[1, infinity\), got 0"),
            ({"check_every": 0}, r"check_every: expected a finite number in \[1, infinity\), got 0"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            ConjugateGradientSolver(compute_matrix(ico_sphere(0)), **options)


def not_finite(solver: str, device: torch.device, message: str):
    """On the CPU a number that is not finite is refused. On CUDA it is not looked for, which would wait for the device, and the
    assertions inside are reached; conjugate gradients alone look at where they are, and do not converge."""
    if device.type == "cpu":
        return pytest.raises(ValueError, match=message)
    if solver == "conjugate_gradient":
        return pytest.raises(ConvergenceError, match="conjugate gradients: expected a relative residual of")
    return contextlib.nullcontext()


class TestErrors:
    @EVERY_SOLVER
    @pytest.mark.parametrize("diagonal", [[1.0, -1.0], [0.0, 1.0]])
    def test_not_positive_definite_on_the_diagonal(self, solver, diagonal, device):
        matrix = SystemMatrix.from_sparse(torch.diag(torch.tensor(diagonal, device=device)))
        with pytest.raises(ValueError, match="matrix: expected a positive definite matrix"):
            solve(matrix, torch.ones(2, 1, device=device), solver)

    @EVERY_SOLVER
    def test_indefinite(self, solver, device):
        matrix = SystemMatrix.from_sparse(torch.tensor([[1.0, 2.0], [2.0, 1.0]], device=device))
        with pytest.raises(ValueError, match="matrix: expected a positive definite matrix"):
            solve(matrix, torch.tensor([[1.0], [-1.0]], device=device), solver)

    @EVERY_SOLVER
    @pytest.mark.parametrize("entry", [math.nan, math.inf])
    def test_right_hand_side_that_is_not_finite(self, solver, entry, device):
        rhs = torch.ones(12, 3, device=device)
        rhs[7, 2] = entry
        with not_finite(solver, device, r"rhs: expected finite numbers, got (nan|inf) at index \(7, 2\)"):
            solution = solve(compute_matrix(ico_sphere(0).to(device)), rhs, solver)
            assert not torch.isfinite(solution[:, 2]).any()
            torch.testing.assert_close(solution[:, :2], rhs[:, :2])  # M 1 = 1

    @EVERY_SOLVER
    def test_gradient_that_is_not_finite(self, solver, device):
        rhs = torch.ones(12, 3, device=device, requires_grad=True)
        solution = solve(compute_matrix(ico_sphere(0).to(device)), rhs, solver)
        with not_finite(solver, device, "the gradient of the solution: expected finite numbers, got nan"):
            (solution * math.nan).sum().backward()
            assert torch.isnan(rhs.grad).all()

    @pytest.mark.parametrize(
        ("rhs", "error", "message"),
        [
            (torch.zeros(11, 3), ValueError, r"rhs: expected a tensor of shape \(12,\), \(12, k\) or .*, got .* \(11, 3\)"),
            (torch.zeros(12, 3, 2), ValueError, "rhs: expected a tensor of shape"),
            (torch.zeros(12, 3).double(), TypeError, "rhs: expected torch.float32, the dtype of the matrix"),
            ([0.0] * 12, ValueError, "rhs: expected a tensor of shape"),
        ],
    )
    def test_wrong_right_hand_sides(self, rhs, error, message, device):
        with pytest.raises(error, match=message):
            solve(compute_matrix(ico_sphere(0).to(device)), rhs.to(device) if isinstance(rhs, torch.Tensor) else rhs)

    @EVERY_SOLVER
    def test_half_precision_is_refused(self, solver, device):
        matrix = compute_matrix(ico_sphere(0).to(device)).to(torch.float16)
        with pytest.raises(TypeError, match=r"matrix: .* expect"):
            solve(matrix, torch.zeros(12, 3, dtype=torch.float16, device=device), solver)

    def test_an_unknown_solver(self):
        with pytest.raises(
            ValueError, match=r"solver: expected one of \['auto', 'cholesky', 'cholespy', 'conjugate_gradient'\]"
        ):
            solve(compute_matrix(ico_sphere(0)), torch.zeros(12, 3), "lu")

    def test_cholespy_that_is_not_installed(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "cholespy", None)
        with pytest.raises(ImportError, match=r"solver: \"cholespy\" needs the package cholespy \(pip install cholespy\)"):
            solve(compute_matrix(ico_sphere(0)), torch.zeros(12, 3), "cholespy")

    def test_auto_without_cholespy(self, monkeypatch, device):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        matrix = compute_matrix(ragged().to(device))
        assert available_solvers() == ["cholesky", "conjugate_gradient"]
        assert isinstance(solver_for(matrix, "auto"), CholeskySolver)
