"""The names of ``largesteps``: the same signatures, numbers and steps as the released package, and none of its traps."""

import copy
import gc
import inspect
import io
import re
import weakref
from pathlib import Path
from types import SimpleNamespace

import largesteps.geometry
import largesteps.optimize
import largesteps.parameterize
import largesteps.solvers
import pytest
import torch
from comparing import assert_same_sums, gradcheck, gradgradcheck
from pytorch3d.utils import ico_sphere, torus
from shapes import grid, ragged, with_degenerate_faces, with_isolated_vertices

import pt3d_largesteps
from pt3d_largesteps import PackedParameter, SystemMatrix, compat
from pt3d_largesteps.compat import _matrices
from pt3d_largesteps.compat.geometry import compute_matrix, laplacian_cot, laplacian_uniform
from pt3d_largesteps.compat.optimize import AdamUniform
from pt3d_largesteps.compat.parameterize import from_differential, to_differential
from pt3d_largesteps.compat.solvers import CholeskySolver, ConjugateGradientSolver, DifferentiableSolve, Solver, solve
from pt3d_largesteps.solvers import NotPositiveDefiniteError

MODULES = ("geometry", "optimize", "parameterize", "solvers")
# What only serves their cache; names that they import themselves, from others and from each other.
NOT_OFFERED = {"geometry": set(), "optimize": set(), "solvers": {"CholeskySolverF", "Function", "MatrixType"}}
NOT_OFFERED["parameterize"] = {"cache_put", "CholeskySolver", "ConjugateGradientSolver", "solve"}
METHODS = pytest.mark.parametrize("method", ["Cholesky", "CG"])
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])


def packed(meshes, dtype=torch.float64, device="cpu"):
    return meshes.verts_packed().to(device, dtype), meshes.faces_packed().to(device)


def matrix_and_verts(device="cpu", dtype=torch.float64, **options):
    verts, faces = packed(torus(0.3, 1.0, 6, 9), dtype, device)
    return compute_matrix(verts, faces, **{"lambda_": 7.0, **options}), verts


@pytest.fixture
def theirs_on_cpu(monkeypatch):
    """Their builders, which name the device "cuda", with a torch that stays on the CPU."""

    def on_cpu(function):
        return lambda *args, **kwargs: function(*args, **{**kwargs, "device": "cpu"})

    names = {name: getattr(torch, name) for name in dir(torch) if not name.startswith("__")}
    names |= {name: on_cpu(getattr(torch, name)) for name in ("arange", "ones", "sparse_coo_tensor")}
    monkeypatch.setattr(largesteps.geometry, "torch", SimpleNamespace(**names))
    return largesteps.geometry


def public_names(module):
    names = {name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")}
    return names - NOT_OFFERED[module.__name__.rpartition(".")[2]]


def parameters_of(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


class TestSignatures:
    @pytest.mark.parametrize("module", MODULES)
    def test_every_public_name_with_its_parameters_and_defaults(self, module):
        theirs, ours = getattr(largesteps, module), getattr(compat, module)
        names = public_names(theirs)
        assert names
        for name in names:
            their_object, our_object = getattr(theirs, name), getattr(ours, name)
            assert parameters_of(our_object) == parameters_of(their_object), name
            methods = [m for m in vars(their_object) if not m.startswith("_")] if inspect.isclass(their_object) else []
            for method in methods:
                expected = parameters_of(getattr(their_object, method))
                # Theirs has no closure.
                assert parameters_of(getattr(our_object, method))[: len(expected)] == expected, (name, method)

    def test_the_package_has_them_all(self):
        for module in MODULES:
            assert public_names(getattr(largesteps, module)) <= set(compat.__all__)
        for name in compat.__all__:
            assert name == "solve" or getattr(compat, name).__doc__, name


class TestGeometry:
    @pytest.mark.parametrize("meshes", [ico_sphere(2), torus(0.3, 1.0, 12, 20), grid(), with_isolated_vertices()])
    def test_their_own_numbers(self, theirs_on_cpu, meshes):
        verts, faces = packed(meshes, torch.float32)
        assert torch.equal(laplacian_uniform(verts, faces).to_dense(), theirs_on_cpu.laplacian_uniform(verts, faces).to_dense())
        their_cot = theirs_on_cpu.laplacian_cot(verts, faces).to_dense()
        torch.testing.assert_close(laplacian_cot(verts, faces).to_dense(), their_cot, rtol=1e-4, atol=1e-4)
        for options in ({"lambda_": 19}, {"lambda_": 1.5, "cotan": True}, {"lambda_": 3.0, "alpha": 0.9}, {"lambda_": 0}):
            expected = theirs_on_cpu.compute_matrix(verts, faces, **options)
            matrix = compute_matrix(verts, faces, **options)
            torch.testing.assert_close(matrix.to_dense(), expected.to_dense(), rtol=1e-4, atol=1e-4)
            assert matrix.is_coalesced()
            assert (matrix.layout, matrix.shape, matrix.dtype) == (expected.layout, expected.shape, expected.dtype)

    def test_cotangents_by_hand(self, device):
        # Two right triangles on a square: the diagonal sees two right angles, a side the angle of 45 degrees.
        verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], device=device)
        faces = torch.tensor([[0, 1, 2], [0, 2, 3]], device=device)
        expected = torch.tensor([[2.0, -1, 0, -1], [-1, 2, -1, 0], [0, -1, 2, -1], [-1, 0, -1, 2]], device=device)
        torch.testing.assert_close(laplacian_cot(verts, faces).to_dense(), expected, rtol=0, atol=1e-6)
        matrix = compute_matrix(verts, faces, 3.0, cotan=True).to_dense()
        torch.testing.assert_close(matrix, torch.eye(4, device=device) + 3 * expected, rtol=0, atol=1e-5)

    @DTYPES
    def test_dtype_device_and_kinds_of_faces(self, device, dtype, tolerance):
        verts, faces = packed(ico_sphere(1), dtype, device)
        for make in (laplacian_uniform, laplacian_cot, lambda v, f: compute_matrix(v, f, 2.0)):
            matrix = make(verts, faces)
            assert (matrix.dtype, matrix.device) == (dtype, verts.device)
            assert_same_sums(make(verts, faces.int()).to_dense(), matrix.to_dense())

    def test_alpha_goes_before_lambda(self):
        verts, faces = packed(ico_sphere(1))
        laplacian = laplacian_uniform(verts, faces).to_dense()
        expected = 0.05 * torch.eye(42, dtype=torch.float64) + 0.95 * laplacian
        for lambda_ in (19.0, None):
            torch.testing.assert_close(compute_matrix(verts, faces, lambda_, 0.95).to_dense(), expected)
            torch.testing.assert_close(compute_matrix(verts, faces, lambda_, alpha=0.95).to_dense(), expected)

    def test_twice_the_lambda_of_the_cotangents_here(self):
        verts, faces = packed(torus(0.3, 1.0, 6, 9))
        ours = pt3d_largesteps.compute_matrix(verts, faces, lambda_=2 * 3.0, laplacian="cotangent")
        torch.testing.assert_close(compute_matrix(verts, faces, 3.0, cotan=True).to_dense(), ours.to_dense())

    def test_gradients_reach_the_positions(self):
        verts, faces = packed(ico_sphere(0))
        x = torch.randn_like(verts)
        assert gradcheck(lambda v: compute_matrix(v, faces, 0.5, cotan=True) @ x, verts.requires_grad_())
        assert gradcheck(lambda v: laplacian_cot(v, faces) @ x, verts)

    def test_degenerate_faces_stay_finite(self):
        verts, faces = packed(with_degenerate_faces(), torch.float32)
        matrix = compute_matrix(verts, faces, 1.0, cotan=True)
        assert bool(torch.isfinite(matrix.values()).all())
        torch.testing.assert_close(from_differential(matrix, to_differential(matrix, verts)), verts, rtol=0, atol=1e-2)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"lambda_": None}, TypeError, r"lambda_: expected a number of at least 0 \(or alpha=.*, got None"),
            ({"lambda_": -1.0}, ValueError, r"lambda_: expected a finite number in \[0, infinity\), got -1"),
            ({"lambda_": "19"}, TypeError, "lambda_: expected a number, got str '19'"),
            ({"lambda_": float("nan")}, ValueError, "lambda_: expected a finite number"),
            ({"lambda_": 1.0, "alpha": 1.0}, ValueError, r"alpha: expected a finite number in \[0, 1\), got 1"),
            ({"lambda_": 1.0, "alpha": -0.1}, ValueError, r"alpha: expected a finite number in \[0, 1\), got -0.1"),
            ({"lambda_": 1e12}, ValueError, "take a smaller lambda, or float64 vertices"),
        ],
    )
    def test_bad_strengths(self, arguments, error, message):
        verts, faces = packed(ico_sphere(1), torch.float32)
        with pytest.raises(error, match=message):
            compute_matrix(verts, faces, **arguments)

    def test_an_alpha_alone_asks_for_lambda(self):
        verts, faces = packed(ico_sphere(1))
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'lambda_'"):
            compute_matrix(verts, faces, alpha=0.95)

    @pytest.mark.parametrize("function", [laplacian_uniform, laplacian_cot, lambda v, f: compute_matrix(v, f, 1.0)])
    def test_bad_meshes(self, function):
        verts, faces = packed(ico_sphere(1))
        with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 42\), got \[0, 1, 42\] in face 0"):
            function(verts, torch.tensor([[0, 1, 42]]))
        with pytest.raises(TypeError, match="faces: expected packed faces"):
            function(verts, faces.numpy())
        with pytest.raises(TypeError, match="faces: expected packed faces"):
            function(verts, None)
        with pytest.raises(ValueError, match=r"verts: expected packed positions of shape \(V, 3\)"):
            function(verts[None], faces)
        with pytest.raises(TypeError, match="verts: expected a real floating-point dtype"):
            function(verts.long(), faces)
        with pytest.raises(TypeError, match="faces: expected integer vertex indices"):
            function(verts, faces.double())


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
        torch.testing.assert_close(from_differential(matrix, to_differential(matrix, verts)), verts, rtol=0, atol=1e-5)

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


class TestAdamUniform:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
    @pytest.mark.parametrize("options", [{}, {"lr": 3e-2}, {"lr": 1.0, "betas": (0.5, 0.9)}])
    def test_step_for_step(self, dtype, tolerance, options, device):
        ours = torch.nn.Parameter(torch.randn(20, 3, dtype=dtype, device=device))
        theirs = copy.deepcopy(ours)
        optimizers = AdamUniform([ours], **options), largesteps.optimize.AdamUniform([theirs], **options)
        for _ in range(40):
            gradient = torch.randn_like(ours) * torch.logspace(-3, 3, 3, dtype=dtype, device=device)
            for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
                parameter.grad = gradient.clone()
                optimizer.step()
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)

    def test_positions_of_the_arguments(self):
        (group,) = AdamUniform([torch.zeros(3, requires_grad=True)], 3e-2, (0.8, 0.99)).param_groups
        assert (group["lr"], group["betas"], group["eps"]) == (3e-2, (0.8, 0.99), 1e-8)

    def test_parameters_without_a_gradient(self):
        used, unused = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
        used.grad = torch.ones(4, 3)
        with pytest.raises(AttributeError):
            largesteps.optimize.AdamUniform([used, unused]).step()
        used.data.fill_(1.0)
        AdamUniform([used, unused]).step()
        assert torch.equal(unused, torch.ones(4, 3))
        assert float(used.detach().max()) == pytest.approx(0.9)

    def test_a_state_that_they_have_saved(self):
        parameter = torch.nn.Parameter(torch.randn(9, 3))
        theirs = largesteps.optimize.AdamUniform([parameter], lr=0.02)
        gradients = torch.randn(8, 9, 3)
        for gradient in gradients[:4]:
            parameter.grad = gradient.clone()
            theirs.step()
        copied = torch.nn.Parameter(parameter.detach().clone())
        ours = AdamUniform([copied])
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))  # torch does not copy the tensors
        again = AdamUniform([copied])
        again.load_state_dict(ours.state_dict())
        for gradient in gradients[4:]:
            for one, optimizer in ((parameter, theirs), (copied, again)):
                one.grad = gradient.clone()
                optimizer.step()
            torch.testing.assert_close(copied, parameter, rtol=0, atol=1e-6)

    def test_each_mesh_of_a_packed_parameter_by_itself(self):
        sizes = ragged().num_verts_per_mesh().tolist()
        parameter = PackedParameter(torch.zeros(sum(sizes), 3), sizes)
        parameter.grad = torch.randn_like(parameter)
        AdamUniform([parameter], lr=0.5).step()
        for part in parameter.detach().split(sizes):
            assert float(part.abs().max()) == pytest.approx(0.5, rel=1e-4)


TUTORIAL = """
import torch
from largesteps.geometry import compute_matrix, laplacian_uniform
from largesteps.optimize import AdamUniform
from largesteps.parameterize import from_differential, to_differential
from pytorch3d.loss import chamfer_distance
from pytorch3d.utils import ico_sphere

target = ico_sphere(3).verts_packed() * torch.tensor([1.0, 0.6, 0.5])
source = ico_sphere(3)
v, f = source.verts_packed(), source.faces_packed()

steps = 60
step_size = 3e-2
lambda_ = 19

M = compute_matrix(v, f, lambda_)
u = to_differential(M, v)
u.requires_grad = True
opt = AdamUniform([u], step_size)
L = laplacian_uniform(v, f)
losses, roughness = torch.zeros(steps), torch.zeros(steps)
for it in range(steps):
    v = from_differential(M, u, 'Cholesky')
    loss, _ = chamfer_distance(v[None], target[None])
    with torch.no_grad():
        losses[it] = loss
        roughness[it] = (L @ v).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def run_tutorial(package: str) -> dict:
    names = {}
    exec(TUTORIAL.replace("from largesteps.", f"from {package}."), names)
    return names


class TestScript:
    def test_only_the_imports_change(self):
        names = run_tutorial("pt3d_largesteps.compat")
        assert float(names["losses"][-1]) < 0.05 * float(names["losses"][0])
        assert float(names["roughness"].max()) < 4 * float(names["roughness"][0])

    def test_it_goes_the_way_of_the_released_package(self, theirs_on_cpu):
        theirs, ours = run_tutorial("largesteps"), run_tutorial("pt3d_largesteps.compat")
        torch.testing.assert_close(ours["losses"], theirs["losses"], rtol=1e-2, atol=1e-6)
        torch.testing.assert_close(ours["v"], theirs["v"], rtol=0, atol=1e-3)

    def test_the_example_of_the_guide(self):
        text = (Path(__file__).resolve().parents[1] / "docs" / "migrating.md").read_text()
        first, *_ = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        verts, faces = packed(ico_sphere(1))
        names = {"v": verts, "f": faces, "steps": 5, "image_loss": lambda v, f: (v[f] - 0.1).square().mean()}
        exec(first, names)
        assert float(names["loss"].detach()) < float(names["image_loss"](verts, faces))

    def test_the_package_under_their_name(self):
        import pt3d_largesteps.compat as largesteps

        verts, faces = packed(ico_sphere(1))
        matrix = largesteps.geometry.compute_matrix(verts, faces, 19)
        u = largesteps.parameterize.to_differential(matrix, verts)
        torch.testing.assert_close(largesteps.parameterize.from_differential(matrix, u), verts)
