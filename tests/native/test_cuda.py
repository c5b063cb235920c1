"""The solver on CUDA beside the one on the CPU: numbers, bits, batches, derivatives."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import BatchSystem, LargeSteps, SystemMatrix, compute_matrix
from pt3d_largesteps.solvers import CholeskyFactor, analyze, base, factorize, solve, solver_for, symbolic
from pt3d_largesteps.solvers.cholesky import CholeskySolver
from support.graphs import EVERY_DTYPE, GRAPHS, graph_matrix
from support.matrices import backward_error, mesh_matrix, sphere_matrices
from support.optimising import optimise
from support.shapes import empty, grid, ragged, with_isolated_vertices

if not torch.cuda.is_available():
    pytest.skip("needs CUDA", allow_module_level=True)

pytestmark = pytest.mark.gpu

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
COLUMNS = (1, 2, 3, 4, 5, 8, 24, 192)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def factor_of(matrix: SystemMatrix, stored: torch.dtype | None = None) -> CholeskyFactor:
    return factorize(analyze(matrix, matrix.positions), matrix, stored)


class TestNumbers:
    @EVERY_DTYPE
    @pytest.mark.parametrize("level", [1, 3, 5])
    def test_the_cpu_agrees(self, level, dtype, stored, tolerance):
        matrix = mesh_matrix(ico_sphere(level), dtype)
        ours, theirs = factor_of(matrix.to(CUDA), stored), factor_of(matrix, stored)
        assert ours.values.device == ours.symbolic.device == CUDA
        for k in COLUMNS:
            rhs = torch.randn(matrix.shape[0], k, dtype=dtype)
            solution = ours.solve(rhs.to(CUDA))
            assert (solution.device, solution.dtype) == (CUDA, dtype)
            atol = tolerance * float(rhs.abs().max())
            torch.testing.assert_close(solution.cpu(), theirs.solve(rhs), rtol=0, atol=atol)
            torch.testing.assert_close(ours.solve(rhs[:, 0].to(CUDA)).cpu(), theirs.solve(rhs[:, 0]), rtol=0, atol=atol)

    @pytest.mark.parametrize("name", [*GRAPHS, "empty"])
    def test_graphs_in_float32(self, name):
        edges, size = GRAPHS[name]() if name != "empty" else (torch.zeros(0, 2, dtype=torch.int64), 0)
        matrix = graph_matrix(edges, size, 0.5 + torch.rand(len(edges)), device=CUDA)
        rhs = torch.randn(size, 3, device=CUDA)
        for stored in (torch.float32, torch.float64):
            solution = factor_of(matrix, stored).solve(rhs)
            assert solution.shape == rhs.shape
            assert backward_error(matrix.to(torch.float64), solution.double(), rhs.double()) < 1e-6

    def test_the_solver_is_chosen_by_itself(self):
        matrix = compute_matrix(ragged().to(CUDA))
        assert isinstance(solver_for(matrix), CholeskySolver)
        assert isinstance(solver_for(matrix, "cholesky"), CholeskySolver)
        assert "3 topologies, one factor" in repr(LargeSteps(ragged().to(CUDA)))

    def test_without_the_compiled_kernels(self, monkeypatch):
        for module in (base, symbolic):
            monkeypatch.setattr(module, "has_cuda", lambda: False)
        matrix = compute_matrix(ragged().to(CUDA))
        assert not isinstance(solver_for(matrix), CholeskySolver)
        rhs = torch.randn(116, 3, device=CUDA)
        torch.testing.assert_close(matrix @ solve(matrix, rhs), rhs, rtol=1e-4, atol=1e-4)
        with pytest.raises(ValueError, match=r"got it on cuda:0; the solver for CUDA is not here .* To build it"):
            solve(matrix, rhs, "cholesky")


def digest() -> str:
    """Of all that is computed for a sphere and a ragged batch, from matrix to gradient."""
    numbers = []
    for meshes in (ico_sphere(4), ragged()):
        matrix = compute_matrix(meshes.to(CUDA))  # of whole numbers, which add up to the same in any order
        factor = factor_of(matrix)
        rhs = torch.randn(matrix.shape[0], 3, generator=torch.Generator().manual_seed(1)).to(CUDA).requires_grad_()
        solution = factor.solve(rhs)
        solution.square().sum().backward()
        numbers += [factor.values, solution.detach(), rhs.grad]
    return hashlib.sha256(b"".join(tensor.cpu().numpy().tobytes() for tensor in numbers)).hexdigest()


class TestBits:
    @BOTH_DTYPES
    def test_two_runs(self, dtype):
        matrix = mesh_matrix(ico_sphere(5).to(CUDA), dtype)
        rhs = torch.randn(matrix.shape[0], 24, dtype=dtype, device=CUDA)
        first, second = (factorize(analyze(matrix, matrix.positions, reuse=False), matrix) for _ in range(2))
        assert torch.equal(first.values, second.values)
        for k in (1, 3, 24):
            assert torch.equal(first.solve(rhs[:, :k]), second.solve(rhs[:, :k]))

    @pytest.mark.parametrize("variables", [{}, {"CUDA_LAUNCH_BLOCKING": "1"}])
    def test_two_processes(self, variables):
        command = [sys.executable, "-c", "from test_cuda import digest; print(digest())"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == [digest()]

    def test_a_column_whatever_stands_beside_it(self):
        factor = factor_of(compute_matrix(ico_sphere(4).to(CUDA)))
        rhs = torch.randn(2562, 24, device=CUDA)
        together = factor.solve(rhs)
        for k in (0, 3, 7, 23):
            assert torch.equal(together[:, k], factor.solve(rhs[:, k]))

    @BOTH_DTYPES
    def test_refactorised_and_factorised_anew(self, dtype):
        first, second = (mesh_matrix(ico_sphere(4).to(CUDA), dtype, lambda_=lambda_) for lambda_ in (19.0, 3.0))
        again, anew = factor_of(first).refactorize(second.values), factor_of(second)
        rhs = torch.randn(2562, 3, dtype=dtype, device=CUDA)
        assert torch.equal(again.values, anew.values)
        assert torch.equal(again.solve(rhs), anew.solve(rhs))


class TestBatches:
    @BOTH_DTYPES
    @pytest.mark.parametrize("own", [False, True], ids=["one factor", "a factor for each"])
    def test_64_copies_against_each_alone_on_the_cpu(self, own, dtype):
        verts, faces = ico_sphere(2).verts_packed().to(dtype), ico_sphere(2).faces_packed()
        lambdas = torch.linspace(1, 64, 64) if own else torch.full((64,), 19.0)
        meshes = [Meshes([verts * (1 + 0.01 * k)], [faces]) for k in range(64)]
        system = BatchSystem(join_meshes_as_batch(meshes).to(CUDA), lambda_=lambdas.to(CUDA))
        assert ("a factor for each" if own else "one factor") in repr(system)
        rhs = torch.randn(64 * 162, 3, dtype=dtype)
        together = system.solve(rhs.to(CUDA)).cpu().split(162)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-13
        for mesh, lambda_, one, solution in zip(meshes, lambdas.tolist(), rhs.split(162), together, strict=True):
            alone = BatchSystem(mesh, lambda_=lambda_).solve(one)
            torch.testing.assert_close(solution, alone, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.float64, 1e-10)])
    def test_a_ragged_batch_goes_the_ways_of_the_cpu(self, dtype, tolerance):
        shapes = [ico_sphere(2), grid(12, 9), empty(), with_isolated_vertices(), torus(0.3, 1.0, 8, 12), ico_sphere(2)]
        together = optimise(join_meshes_as_batch(shapes).to(CUDA), dtype, 30)
        for index, shape in enumerate(shapes):
            alone = optimise(shape, dtype, 30)
            torch.testing.assert_close(together[-1][index].cpu(), alone[-1][0], rtol=0, atol=tolerance)
        assert (together[-1][0] - together[0][0]).abs().max() > 0.05  # they moved

    @BOTH_DTYPES
    def test_members_and_their_factors(self, dtype):
        matrix = sphere_matrices(3, [1.0, 19.0, 100.0], dtype, CUDA)
        together, rhs = factor_of(matrix), torch.randn(3, 642, 5, dtype=dtype, device=CUDA)
        solutions = together.solve(rhs)
        for k, values in enumerate(matrix.values):
            alone = factorize(together.symbolic, values)
            torch.testing.assert_close(together.values[k], alone.values)
            torch.testing.assert_close(solutions[k], alone.solve(rhs[k]))

    def test_a_mesh_that_is_not_finite_reaches_no_other(self):
        matrix = compute_matrix(ragged().to(CUDA))
        rhs = torch.randn(116, 3, device=CUDA)
        expected = solve(matrix, rhs)
        for first, size in ((0, 42), (42, 54), (96, 20)):
            spoiled = rhs.clone()
            spoiled[first] = float("nan")
            solution = solve(matrix, spoiled)
            here = torch.zeros(116, dtype=torch.bool, device=CUDA)
            here[first : first + size] = True
            assert solution[here].isnan().all()
            torch.testing.assert_close(solution[~here], expected[~here])


class TestDerivatives:
    def test_every_entry_of_both_derivatives(self):
        edges = torch.combinations(torch.arange(5, device=CUDA))
        weights = (0.5 + torch.rand(len(edges), dtype=torch.float64, device=CUDA)).requires_grad_()
        lambda_ = torch.tensor(0.7, dtype=torch.float64, device=CUDA, requires_grad=True)
        rhs = torch.randn(5, 2, dtype=torch.float64, device=CUDA, requires_grad=True)

        def solution(weights, lambda_, rhs):
            return solve(SystemMatrix.from_edges(edges, weights, 5, lambda_=lambda_), rhs, "cholesky")

        # What torch adds by atomic operations comes in any order.
        assert torch.autograd.gradcheck(solution, (weights, lambda_, rhs), nondet_tol=1e-10)
        assert torch.autograd.gradgradcheck(solution, (weights, lambda_, rhs), nondet_tol=1e-10)

    def test_the_gradients_of_the_cpu(self):
        matrix, rhs, weight = mesh_matrix(ico_sphere(3)), *torch.randn(2, 642, 3, dtype=torch.float64)
        gradients = []
        for device in (CPU, CUDA):
            values, b = (tensor.detach().to(device).requires_grad_() for tensor in (matrix.values, rhs))
            factor = factorize(analyze(matrix.to(device)), values)
            (factor.solve(b) * weight.to(device)).sum().backward()
            gradients.append((values.grad.cpu(), b.grad.cpu()))
        torch.testing.assert_close(*gradients)
