"""The solvers of ``largesteps``: values, gradients and errors."""

import pytest
import torch

from pt3d_largesteps.compat.solvers import CholeskySolver, ConjugateGradientSolver, DifferentiableSolve, Solver, solve
from support.comparing import gradcheck, gradgradcheck
from support.compat_cases import DTYPES, matrix_and_verts


class TestSolvers:
    @DTYPES
    @pytest.mark.parametrize("make", [CholeskySolver, ConjugateGradientSolver])
    def test_solve(self, make, device, dtype, tolerance):
        matrix, verts = matrix_and_verts(device, dtype)
        solver = make(matrix)
        assert isinstance(solver, Solver)
        rhs = (matrix @ verts).requires_grad_()
        for backward in (False, True, False):
            solution = solver.solve(rhs, backward=backward)
            torch.testing.assert_close(solution, verts, rtol=0, atol=10 * tolerance)
            assert not solution.requires_grad
        torch.testing.assert_close(solver.solve(rhs[:, 1], True), verts[:, 1], rtol=0, atol=10 * tolerance)
        with pytest.raises(ValueError, match=r"b: expected a tensor of shape \(V,\) or \(V, C\)"):
            solver.solve(rhs[None])
        with pytest.raises(ValueError, match=r"b: expected a tensor of shape \(54,\)"):
            solver.solve(rhs[1:])

    def test_numbers_that_are_not_finite(self):
        matrix, verts = matrix_and_verts()
        for make in (CholeskySolver, ConjugateGradientSolver):
            with pytest.raises(ValueError, match="b: expected finite numbers, got inf at index"):
                make(matrix).solve(verts / 0)
            with pytest.raises(TypeError, match="M: expected a sparse tensor"):
                make(None)

    def test_conjugate_gradients_end_whatever_the_scale(self):
        # Theirs goes on until |r| is 1e-5, which is nothing for small numbers and out of reach for large ones.
        matrix, verts = matrix_and_verts(dtype=torch.float32)
        solver = ConjugateGradientSolver(matrix)
        for scale in (1e-12, 1.0, 1e12):
            torch.testing.assert_close(solver.solve(scale * (matrix @ verts)) / scale, verts, rtol=0, atol=1e-4)

    def test_solve_axis(self):
        matrix, verts = matrix_and_verts()
        solver = ConjugateGradientSolver(matrix)
        rhs = matrix @ verts
        for guess in (torch.zeros_like(verts), verts, torch.randn_like(verts)):
            torch.testing.assert_close(solver.solve_axis(rhs[:, 0], guess[:, 0]), verts[:, 0], rtol=0, atol=1e-8)
        with pytest.raises(ValueError, match=r"x0: expected a tensor of shape \(54,\)"):
            solver.solve_axis(rhs[:, 0], verts)

    @pytest.mark.parametrize("make", [CholeskySolver, pytest.param(ConjugateGradientSolver, marks=pytest.mark.slow)])
    def test_the_differentiable_solve(self, make):
        matrix, verts = matrix_and_verts()
        solver = make(matrix)
        rhs = torch.randn_like(verts).requires_grad_()
        assert gradcheck(lambda b: solve(solver, b), rhs, atol=1e-4)
        assert gradgradcheck(lambda b: DifferentiableSolve.apply(solver, b).pow(2), rhs, atol=1e-4)
        solve(solver, rhs).T.contiguous().sum().backward()
        torch.testing.assert_close(matrix.to_dense() @ rhs.grad, torch.ones_like(rhs))
        with pytest.raises(TypeError, match="solver: expected an object with a method solve"):
            solve(matrix, rhs)

    def test_solvers_of_ones_own(self):
        class Dense(Solver):
            def __init__(self, M):
                self.inverse, self.passes = M.to_dense().inverse(), []

            def solve(self, b, backward=False):
                assert b.is_contiguous()
                self.passes.append(backward)
                return self.inverse @ b

        matrix, verts = matrix_and_verts()
        solver = Dense(matrix)
        rhs = verts.clone().requires_grad_()
        (solve(solver, rhs).T ** 2).sum().backward()
        assert solver.passes == [False, True]
        torch.testing.assert_close(rhs.grad, 2 * solver.inverse @ solver.inverse @ verts)
        with pytest.raises(NotImplementedError, match=r"Solver: expected a solver with a method solve"):
            Solver(matrix).solve(verts)
