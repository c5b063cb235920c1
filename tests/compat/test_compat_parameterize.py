"""The parameterisation of ``largesteps``, there and back, and the factors that are kept for it."""

import copy
import gc
import io
import weakref

import largesteps.parameterize
import pytest
import torch
from pytorch3d.utils import ico_sphere

import pt3d_largesteps
from pt3d_largesteps import SystemMatrix
from pt3d_largesteps.compat import _matrices
from pt3d_largesteps.compat.geometry import compute_matrix
from pt3d_largesteps.compat.parameterize import from_differential, to_differential
from pt3d_largesteps.compat.solvers import CholeskySolver, ConjugateGradientSolver
from pt3d_largesteps.solvers import NotPositiveDefiniteError
from support.comparing import assert_comes_back, gradcheck, gradgradcheck
from support.compat_cases import DTYPES, METHODS, matrix_and_verts, packed


class TestParameterize:
    @METHODS
    @DTYPES
    @pytest.mark.parametrize("options", [{}, {"alpha": 0.95}, {"cotan": True}])
    def test_there_and_back(self, device, dtype, tolerance, options, method):
        matrix, verts = matrix_and_verts(device, dtype, **options)
        u = to_differential(matrix, verts)
        torch.testing.assert_close(u, matrix.to_dense() @ verts, rtol=0, atol=100 * tolerance)
        back = from_differential(matrix, u, method)
        torch.testing.assert_close(back, verts, rtol=0, atol=10 * tolerance)
        assert (back.shape, back.dtype, back.device) == (verts.shape, verts.dtype, verts.device)
        torch.testing.assert_close(from_differential(matrix, u[:, 0], method), back[:, 0], rtol=0, atol=10 * tolerance)

    def test_their_own_functions_on_our_matrix(self):
        matrix, verts = matrix_and_verts(dtype=torch.float32)
        u = largesteps.parameterize.to_differential(matrix, verts)
        assert torch.equal(to_differential(matrix, verts), u)
        torch.testing.assert_close(largesteps.parameterize.from_differential(matrix, u), from_differential(matrix, u))

    def test_a_matrix_of_their_own(self, theirs_on_cpu):
        verts, faces = packed(ico_sphere(2), torch.float32)
        matrix = theirs_on_cpu.compute_matrix(verts, faces, 19.0)
        back = from_differential(matrix, to_differential(matrix, verts))
        assert_comes_back(SystemMatrix.from_sparse(matrix), verts, back)

    @pytest.mark.parametrize("method", ["Cholesky", pytest.param("CG", marks=pytest.mark.slow)])
    def test_differentiable_twice(self, method):
        matrix, verts = matrix_and_verts()
        rhs = torch.randn_like(verts).requires_grad_()
        assert gradcheck(lambda u: from_differential(matrix, u, method), rhs, atol=1e-4)
        assert gradgradcheck(lambda u: from_differential(matrix, u, method).pow(2), rhs, atol=1e-4)

    def test_gradients_that_are_not_contiguous(self, device):
        matrix, verts = matrix_and_verts(device)
        weight = torch.randn(3, len(verts), dtype=torch.float64, device=device)
        u = to_differential(matrix, verts).requires_grad_()
        (gradient,) = torch.autograd.grad((from_differential(matrix, u).T * weight).sum(), u)
        torch.testing.assert_close(matrix.to_dense() @ gradient, weight.T)
        (gradient,) = torch.autograd.grad(from_differential(matrix, u).sum(), u)  # an expanded one
        torch.testing.assert_close(matrix.to_dense() @ gradient, torch.ones_like(u))
        assert torch.equal(from_differential(matrix, u.detach().T.contiguous().T), from_differential(matrix, u.detach()))

    def test_the_matrix_counts_as_a_constant_and_can_be_used_again_and_again(self):
        verts, faces = packed(ico_sphere(1))
        matrix = compute_matrix(verts.requires_grad_(), faces, 1.0, cotan=True)
        assert matrix.requires_grad
        u = to_differential(matrix, verts).detach().requires_grad_()
        for _ in range(2):
            from_differential(matrix, u).pow(2).sum().backward()
        assert verts.grad is None

    @pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.strided])
    def test_other_tensors_and_system_matrices(self, layout):
        matrix, verts = matrix_and_verts()
        other = matrix.to_dense() if layout == torch.strided else matrix.to_dense().to_sparse(layout=layout)
        for L in (other, SystemMatrix.from_sparse(other)):
            torch.testing.assert_close(from_differential(L, to_differential(L, verts)), verts)

    def test_bad_arguments(self):
        matrix, verts = matrix_and_verts()
        with pytest.raises(ValueError, match=r"method: expected one of \['Cholesky', 'CG'\], got str 'cholesky'"):
            from_differential(matrix, verts, "cholesky")
        for function, name in ((to_differential, "v"), (from_differential, "u")):
            with pytest.raises(ValueError, match=rf"{name}: expected a tensor of shape \(54,\)"):
                function(matrix, verts[1:])
            with pytest.raises(TypeError, match=rf"{name}: expected torch.float64, the dtype of"):
                function(matrix, verts.float())
            with pytest.raises(TypeError, match=r"L: expected a sparse tensor \(V, V\), of compute_matrix, got ndarray"):
                function(matrix.to_dense().numpy(), verts)
        with pytest.raises(ValueError, match="square matrix"):
            to_differential(matrix.to_dense()[:, 1:], verts)
        with pytest.raises(ValueError, match="square matrix"):
            from_differential(matrix.to_dense()[:, 1:], verts)
        with pytest.raises(ValueError, match="symmetric"):
            from_differential(matrix.to_dense().triu(), verts)
        with pytest.raises(ValueError, match=r"^u: expected finite numbers, got nan at index"):
            from_differential(matrix, torch.full_like(verts, torch.nan))
        with pytest.raises(NotPositiveDefiniteError, match="expected a positive definite matrix"):
            from_differential(-matrix, verts)


class TestFactorsThatAreKept:
    @pytest.fixture
    def made(self, monkeypatch):
        """How many factorisations there were."""
        calls = []
        make = pt3d_largesteps.solvers.base._make
        monkeypatch.setattr(pt3d_largesteps.solvers.base, "_make", lambda *args: calls.append(1) or make(*args))
        return calls

    def test_one_factorisation_for_each_method(self, made):
        matrix, verts = matrix_and_verts()
        for _ in range(3):
            from_differential(matrix, verts)
            from_differential(matrix, verts, "CG")
        assert len(made) == 2

    @METHODS
    @pytest.mark.parametrize("edit", ["values", "whole", "copy", "zero_grad_view"])
    def test_an_edit_in_place_makes_another(self, edit, method):
        matrix, verts = matrix_and_verts()
        before = from_differential(matrix, verts, method)
        other = matrix_and_verts(lambda_=1.0)[0]
        expected = from_differential(other, verts, method)
        if edit == "values":
            matrix.values().copy_(other.values())
        elif edit == "copy":
            matrix.copy_(other)
        elif edit == "zero_grad_view":
            matrix.detach().values().copy_(other.values())
        else:
            matrix.mul_(2.0)
            expected = before / 2
        torch.testing.assert_close(from_differential(matrix, verts, method), expected)

    def test_a_solver_object_keeps_the_matrix_that_it_was_made_of(self):
        matrix, verts = matrix_and_verts()
        for make in (CholeskySolver, ConjugateGradientSolver):
            solver = make(matrix)
            before = solver.solve(verts)
            matrix.values().mul_(2.0)
            torch.testing.assert_close(solver.solve(verts), before)
            torch.testing.assert_close(make(matrix).solve(verts), before / 2)

    def test_memory_goes_with_the_matrix(self):
        gc.collect()
        before = len(_matrices._kept)
        matrix, verts = matrix_and_verts()
        from_differential(matrix, verts)
        from_differential(matrix, verts, "CG")
        solvers = [weakref.ref(solver) for _, solver in _matrices._kept[matrix][1]._solvers.values()]
        assert len(solvers) == 2
        gc.disable()  # at once, not when cycles are looked for
        try:
            del matrix
            assert len(_matrices._kept) == before
            assert [solver() for solver in solvers] == [None, None]
        finally:
            gc.enable()

    def test_a_new_matrix_at_the_old_ones_address_is_another(self):
        # id() comes again, as soon as the one before is gone.
        verts, faces = packed(ico_sphere(1))
        ids = set()
        for k in range(20):
            matrix = compute_matrix(verts, faces, float(k))
            torch.testing.assert_close(matrix.to_dense() @ from_differential(matrix, verts), verts)
            ids.add(id(matrix))
            del matrix
        assert len(ids) < 20

    def test_copies_and_saved_files_are_plain_tensors(self):
        matrix, verts = matrix_and_verts()
        before = from_differential(matrix, verts)
        assert vars(matrix) == {}
        buffer = io.BytesIO()
        torch.save(matrix, buffer)
        buffer.seek(0)
        for other in (torch.load(buffer), copy.deepcopy(matrix), matrix.clone()):
            torch.testing.assert_close(from_differential(other, verts), before)
            other.values().mul_(2.0)
            torch.testing.assert_close(from_differential(other, verts), before / 2)
        torch.testing.assert_close(from_differential(matrix, verts), before)

    def test_under_inference_mode_and_after(self):
        with torch.inference_mode():
            matrix, verts = matrix_and_verts()
            torch.testing.assert_close(from_differential(matrix, to_differential(matrix, verts)), verts)
        torch.testing.assert_close(from_differential(matrix, matrix @ verts), verts)
