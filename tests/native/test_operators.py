"""What torch demands of the operators: derivatives, torch.compile, torch.export, vmap, the modes of autograd."""

import warnings

import pytest
import torch
from pytorch3d.utils import ico_sphere, torus
from torch.autograd import forward_ad

from pt3d_largesteps import LargeSteps, SystemMatrix, compute_matrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers import CholeskyFactor, analyze, factorize, solve
from support.comparing import gradcheck, gradgradcheck
from support.operators import factorize_arguments, operator, solve_arguments
from support.shapes import ragged

OPS = torch.ops.pt3d_largesteps


def sphere_factor(
    device: torch.device, level: int = 1, dtype=torch.float64, *, requires_grad: bool = False, lambda_=0.7
) -> CholeskyFactor:
    sphere = ico_sphere(level).to(device)
    matrix = compute_matrix(sphere.verts_packed().to(dtype), sphere.faces_packed(), lambda_=lambda_)
    return factorize(analyze(matrix), matrix.values.clone().requires_grad_(requires_grad))


def dense(factor: CholeskyFactor, values: torch.Tensor) -> torch.Tensor:
    crow_indices, col_indices = factor.symbolic.pattern()
    rows = torch.arange(len(crow_indices) - 1, device=values.device).repeat_interleave(crow_indices.diff())
    return values.new_zeros(2 * [len(crow_indices) - 1]).index_put((rows, col_indices), values)


class TestDerivatives:
    @pytest.mark.parametrize("refine", [0, 1])
    @pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 3)])
    def test_in_the_right_hand_side(self, shape, refine, device):
        factor = sphere_factor(device, 0)
        rhs = torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
        assert gradcheck(lambda b: factor.solve(b, refine=refine), rhs)
        assert gradgradcheck(lambda b: factor.solve(b, refine=refine).pow(3), rhs)

    @pytest.mark.parametrize("refine", [0, 1])
    def test_in_weights_and_lambda(self, refine, device):
        edges = torch.combinations(torch.arange(7, device=device))[::2]  # the values stay symmetric
        weights = (0.5 + torch.rand(len(edges), dtype=torch.float64, device=device)).requires_grad_()
        lambda_ = torch.tensor(0.7, dtype=torch.float64, device=device, requires_grad=True)
        rhs = torch.randn(7, 2, dtype=torch.float64, device=device, requires_grad=True)
        symbolic = analyze(SystemMatrix.from_edges(edges, weights, 7))

        def solution(weights, lambda_, rhs):
            matrix = SystemMatrix.from_edges(edges, weights, 7, lambda_=lambda_)
            return factorize(symbolic, matrix).solve(rhs, refine=refine)

        assert gradcheck(solution, (weights, lambda_, rhs))
        assert gradgradcheck(solution, (weights, lambda_, rhs))

    def test_in_each_value_it_is_that_of_a_matrix_which_need_not_be_symmetric(self, device):
        # The factorisation reads one triangle and takes the other to be its mirror image; the gradient does not: entry by
        # entry it is that of the inverse of any matrix. So the two together are right wherever the values are symmetric.
        factor = sphere_factor(device, requires_grad=True)
        rhs, weight = torch.randn(2, 42, 3, dtype=torch.float64, device=device)
        (gradient,) = torch.autograd.grad((factor.solve(rhs) * weight).sum(), factor.matrix_values)
        values = factor.matrix_values.detach().requires_grad_()
        (expected,) = torch.autograd.grad((torch.linalg.solve(dense(factor, values), rhs) * weight).sum(), values)
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)

    def test_third_derivative(self, device):
        factor = sphere_factor(device, 0)
        u = torch.randn(12, 1, dtype=torch.float64, device=device, requires_grad=True)
        derivative = factor.solve(u).pow(4).sum()
        for _ in range(3):
            (derivative,) = torch.autograd.grad(derivative.sum(), u, create_graph=True)
        torch.testing.assert_close(derivative, factor.solve(24 * factor.solve(u)))  # M^-1 1 = 1

    def test_lambda_against_a_finite_difference(self, device):
        packed = ragged().verts_packed().double().to(device), ragged().faces_packed().to(device)
        rhs = torch.randn(len(packed[0]), 3, dtype=torch.float64, device=device)

        def loss(lambda_):
            return solve(compute_matrix(*packed, lambda_=lambda_, laplacian="cotangent"), rhs, "cholesky").pow(3).sum()

        lambda_ = torch.tensor(3.0, dtype=torch.float64, device=device, requires_grad=True)
        loss(lambda_).backward()
        difference = float(loss(3.0 + 1e-4) - loss(3.0 - 1e-4)) / 2e-4
        assert float(lambda_.grad) == pytest.approx(difference, rel=1e-6)
        assert abs(difference) > 1e-3

    def test_a_graph_that_is_kept(self, device):
        factor = sphere_factor(device, requires_grad=True)
        rhs = torch.randn(42, 3, dtype=torch.float64, device=device, requires_grad=True)
        loss = factor.solve(rhs).pow(2).sum()
        first = torch.autograd.grad(loss, (rhs, factor.matrix_values), retain_graph=True)
        assert all(map(torch.equal, torch.autograd.grad(loss, (rhs, factor.matrix_values)), first))
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()

    def test_only_what_asks_for_a_gradient_gets_one(self, device):
        fixed, free = sphere_factor(device), sphere_factor(device, requires_grad=True)
        rhs = torch.randn(42, 3, dtype=torch.float64, device=device)
        assert not fixed.solve(rhs).requires_grad
        free.solve(rhs).sum().backward()
        assert free.matrix_values.grad.shape == free.matrix_values.shape

    def test_a_factor_that_requires_a_gradient(self, device):
        factor = sphere_factor(device)
        values, numbers, *rest = solve_arguments(factor, torch.ones(42, 1, dtype=torch.float64, device=device))
        with pytest.raises(ValueError, match="factor: expected no gradient"):
            operator("solve", device)(values, numbers.clone().requires_grad_(), *rest)


class TestOpcheck:
    @pytest.mark.parametrize("requires_grad", [False, True])
    @pytest.mark.parametrize("num_columns", [1, 3])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_solve(self, dtype, num_columns, requires_grad, device):
        factor = sphere_factor(device, 0, dtype, requires_grad=requires_grad)
        rhs = torch.randn(12, num_columns, dtype=dtype, device=device, requires_grad=requires_grad)
        torch.library.opcheck(operator("solve", device), solve_arguments(factor, rhs))

    def test_solve_with_strides_and_a_later_direction(self, device):
        rhs = torch.randn(3, 12, dtype=torch.float64, device=device).T
        torch.library.opcheck(operator("solve", device), solve_arguments(sphere_factor(device, 0), rhs, 2))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_solve_detached(self, dtype, device):
        factor, rhs = sphere_factor(device, 1, dtype), torch.randn(42, 3, dtype=dtype, device=device)
        detached, arguments = operator("solve_detached", device), solve_arguments(factor, rhs)
        torch.library.opcheck(detached, arguments)
        assert torch.equal(detached(*arguments), operator("solve", device)(*arguments))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_factorize(self, dtype, device):
        factor = sphere_factor(device, 1, dtype)
        for store_double in (False, True):
            torch.library.opcheck(operator("factorize", device), factorize_arguments(factor, store_double))

    def test_count_entries(self):
        torch.library.opcheck(OPS.count_entries.default, (sphere_factor(torch.device("cpu")).symbolic.index,))

    @pytest.mark.parametrize("positions", [None, torch.rand(42, 3, dtype=torch.float64)])
    def test_analyze(self, positions):
        pattern = sphere_factor(torch.device("cpu")).symbolic.pattern()
        for by_levels in (False, True):  # the latter for CUDA, but made on the CPU
            torch.library.opcheck(OPS.analyze.default, (*pattern, positions, 24, by_levels))


class Layer(torch.nn.Module):
    def __init__(self, factor: CholeskyFactor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, rhs: torch.Tensor) -> torch.Tensor:
        return 2 * self.factor.solve(rhs)


class TestCompile:
    @pytest.mark.parametrize("refine", [0, 1])
    @pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
    def test_a_factor_by_closure_and_as_an_argument(self, backend, refine, device):
        torch.compiler.reset()
        factor = sphere_factor(device, requires_grad=True)

        def loss(factor, rhs):
            return factor.solve(rhs.sin(), refine=refine).pow(2).sum()

        as_argument = torch.compile(loss, fullgraph=True, backend=backend)
        by_closure = torch.compile(lambda rhs: loss(factor, rhs), fullgraph=True, backend=backend)
        rhs = torch.randn(42, 3, dtype=torch.float64, device=device, requires_grad=True)
        expected = torch.autograd.grad(loss(factor, rhs), (rhs, factor.matrix_values))
        for value in (as_argument(factor, rhs), by_closure(rhs)):
            torch.testing.assert_close(value, loss(factor, rhs))
            torch.testing.assert_close(torch.autograd.grad(value, (rhs, factor.matrix_values)), expected)

    def test_any_number_of_columns_with_one_graph(self, device):
        torch.compiler.reset()
        factor, graphs = sphere_factor(device), []

        def count(graph, _):
            graphs.append(graph)
            return graph.forward

        compiled = torch.compile(Layer(factor), fullgraph=True, dynamic=True, backend=count)
        for k in (2, 3, 5, 24):
            rhs = torch.randn(42, k, dtype=torch.float64, device=device)
            torch.testing.assert_close(compiled(rhs), 2 * factor.solve(rhs))
        assert len(graphs) == 1

    def test_the_gradient_with_any_number_of_columns(self, device):
        torch.compiler.reset()
        factor = sphere_factor(device)
        compiled = torch.compile(Layer(factor), fullgraph=True, dynamic=True, backend="aot_eager")
        for k in (2, 3, 7):
            rhs = torch.randn(42, k, dtype=torch.float64, device=device, requires_grad=True)
            weight = torch.randn_like(rhs)
            (gradient,) = torch.autograd.grad((compiled(rhs) * weight).sum(), rhs)
            torch.testing.assert_close(gradient, 2 * factor.solve(weight))

    def test_export(self, device):
        factor = sphere_factor(device)
        columns = torch.export.Dim("columns", min=1, max=64)
        rhs = torch.randn(42, 4, dtype=torch.float64, device=device)
        program = torch.export.export(Layer(factor), (rhs,), dynamic_shapes=({1: columns},))
        assert "pt3d_largesteps.solve" in str(program.graph)
        for k in (1, 4, 9):
            rhs = torch.randn(42, k, dtype=torch.float64, device=device)
            torch.testing.assert_close(program.module()(rhs), 2 * factor.solve(rhs))


class TestTransforms:
    @pytest.fixture(autouse=True)
    def _no_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # by torch's own forward mode
            yield

    @pytest.mark.parametrize(("in_dim", "shape"), [(0, (5, 42, 3)), (1, (42, 5, 3)), (2, (42, 3, 5)), (-1, (42, 3, 0))])
    def test_vmap(self, in_dim, shape, device):
        factor, rhs = sphere_factor(device), torch.randn(shape, dtype=torch.float64, device=device)
        solutions = torch.func.vmap(factor.solve, in_dims=in_dim, out_dims=in_dim)(rhs)
        expected = factor.solve(rhs.movedim(in_dim, -1).flatten(1)).view(42, 3, -1).movedim(-1, in_dim)
        torch.testing.assert_close(solutions, expected)

    def test_vmap_of_vectors_and_in_two_levels(self, device):
        factor = sphere_factor(device)
        rhs = torch.randn(2, 5, 42, dtype=torch.float64, device=device)
        solutions = torch.func.vmap(torch.func.vmap(factor.solve))(rhs)
        torch.testing.assert_close(solutions, factor.solve(rhs.view(10, 42).T).T.view(2, 5, 42))

    def test_vmap_over_values_without_their_factors_is_refused(self, device):
        factor = sphere_factor(device)
        rhs, values = torch.ones(42, 1, dtype=torch.float64, device=device), factor.matrix_values.expand(2, -1)
        with pytest.raises(ValueError, match="vmap: expected one pattern for the whole batch, and a factor for each"):
            torch.func.vmap(lambda v: operator("solve", device)(v, *solve_arguments(factor, rhs)[1:]))(values)

    def test_many_gradients_at_once(self, device):
        factor = sphere_factor(device)
        rhs = torch.randn(42, dtype=torch.float64, device=device, requires_grad=True)
        jacobian = torch.autograd.functional.jacobian(factor.solve, rhs, vectorize=True)
        torch.testing.assert_close(jacobian, torch.linalg.inv(dense(factor, factor.matrix_values)))

    def test_vjp(self, device):
        factor, rhs = sphere_factor(device), torch.randn(42, dtype=torch.float64, device=device)
        (gradient,) = torch.func.vjp(factor.solve, rhs)[1](rhs)
        torch.testing.assert_close(gradient, factor.solve(rhs))

    def test_gradients_of_each_column_alone(self, device):
        factor, rhs = sphere_factor(device), torch.randn(3, 42, dtype=torch.float64, device=device)
        gradients = torch.func.vmap(torch.func.grad(lambda column: factor.solve(column).pow(2).sum()))(rhs)
        torch.testing.assert_close(gradients, factor.solve(2 * factor.solve(rhs.T)).T)

    def test_forward_mode(self, device):
        factor, rhs = sphere_factor(device), torch.randn(42, dtype=torch.float64, device=device)
        _, tangent = torch.func.jvp(factor.solve, (rhs,), (2 * rhs,))
        torch.testing.assert_close(tangent, 2 * factor.solve(rhs))
        with forward_ad.dual_level():
            dual = factor.solve(forward_ad.make_dual(rhs, 3 * rhs))
            torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, 3 * factor.solve(rhs))

    def test_forward_mode_in_the_values(self, device):
        factor = sphere_factor(device, requires_grad=True)
        rhs = torch.randn(42, 2, dtype=torch.float64, device=device)

        def solution(scale):  # of the matrix scale M
            return operators.solve(scale * factor.matrix_values, *solve_arguments(factor, rhs)[1:])

        one = torch.ones((), dtype=torch.float64, device=device)
        _, tangent = torch.func.jvp(solution, (one,), (one,))
        torch.testing.assert_close(tangent, -factor.solve(rhs))

    def test_second_derivatives_through_both_modes(self, device):
        factor, rhs = sphere_factor(device, 0), torch.randn(12, dtype=torch.float64, device=device)
        hessian = torch.func.hessian(lambda b: factor.solve(b).pow(3).sum())(rhs)
        inverse = torch.linalg.inv(dense(factor, factor.matrix_values))
        torch.testing.assert_close(hessian, inverse @ torch.diag(6 * factor.solve(rhs)) @ inverse)


class TestModes:
    def test_autocast_leaves_the_dtype(self, device):
        factor = sphere_factor(device, dtype=torch.float32)
        rhs = torch.randn(42, 3, device=device, requires_grad=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            solution = factor.solve(rhs)
        assert solution.dtype == torch.float32
        assert torch.equal(solution, factor.solve(rhs))
        solution.sum().backward()
        torch.testing.assert_close(rhs.grad, torch.ones_like(rhs))

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients(self, mode, device):
        factor = sphere_factor(device, requires_grad=True)
        rhs = torch.randn(42, 3, dtype=torch.float64, device=device, requires_grad=True)
        with mode():
            assert torch.equal(factor.solve(rhs), factor.solve(rhs.detach()))
            assert not factor.solve(rhs).requires_grad
            again = factor.refactorize(factor.matrix_values)
            assert torch.equal(again.solve(rhs), factor.solve(rhs))

    def test_a_first_solve_in_inference_mode_leaves_the_next_its_gradient(self, device):
        steps = LargeSteps(ico_sphere(2).to(device), solver="cholesky")
        with torch.inference_mode():
            steps()
        steps.verts_packed().sum().backward()
        torch.testing.assert_close(steps.u.grad, torch.ones(162, 3, device=device))

    def test_an_analysis_in_inference_mode_serves_others_too(self, device):
        matrix = compute_matrix(torus(0.3, 1.0, 7, 6).to(device))  # a topology of its own
        with torch.inference_mode():
            analyze(matrix)
        rhs = torch.randn(42, 3, device=device, requires_grad=True)
        factorize(analyze(matrix), matrix).solve(rhs).sum().backward()
        torch.testing.assert_close(rhs.grad, torch.ones_like(rhs))

    def test_a_negated_view_and_zeros_without_memory(self, device):
        factor, rhs = sphere_factor(device), torch.randn(42, 3, dtype=torch.float64, device=device)
        assert torch.equal(factor.solve(torch._neg_view(rhs)), -factor.solve(rhs))
        zeros = torch._efficientzerotensor((42, 3), dtype=torch.float64, device=device)
        assert torch.equal(factor.solve(zeros), torch.zeros_like(rhs))
