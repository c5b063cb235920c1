"""Errors of the solver on CUDA, devices that do not fit, and what goes from one device to another."""

import pickle
import re

import pytest
import torch
from pytorch3d.renderer import FoVPerspectiveCameras
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import BatchSystem, LargeSteps, UniformAdam, combinatorial_laplacian, compute_matrix
from pt3d_largesteps.renderers import PyTorch3DRenderer
from pt3d_largesteps.solvers import NotPositiveDefiniteError, analyze, factorize, solve
from support.matrices import mesh_matrix, with_diagonal
from support.operators import factorize_arguments, operator, solve_arguments
from support.optimising import optimise
from support.shapes import grid, ragged

if not torch.cuda.is_available():
    pytest.skip("needs CUDA", allow_module_level=True)

pytestmark = pytest.mark.gpu

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


def without_pivot(error: ValueError) -> str:
    """The order of elimination is another one on CUDA, and so is the number that a pivot has come to."""
    return re.sub(r"the pivot \S+", "the pivot", str(error))


class TestErrors:
    @pytest.mark.parametrize("entry", [-1.0, 0.0])
    @pytest.mark.parametrize("vertex", [0, 17, 1000, 2561])
    def test_the_words_are_those_of_the_cpu(self, vertex, entry):
        matrix = compute_matrix(ico_sphere(4))
        values, errors = with_diagonal(matrix, vertex, entry), []
        for device in (CPU, CUDA):
            with pytest.raises(NotPositiveDefiniteError) as caught:
                factorize(analyze(matrix.to(device), matrix.positions), values.to(device))
            errors.append(caught.value)
        assert [error.vertex for error in errors] == [vertex, vertex]
        assert without_pivot(errors[0]) == without_pivot(errors[1])

    def test_after_an_error_all_is_well(self):
        matrix = compute_matrix(ico_sphere(2).to(CUDA))
        with pytest.raises(NotPositiveDefiniteError):
            factorize(analyze(matrix), -matrix.values)
        rhs = torch.randn(162, 3, device=CUDA)
        torch.testing.assert_close(matrix @ solve(matrix, rhs), rhs, rtol=1e-4, atol=1e-4)

    def test_several_at_fault(self):
        matrix = compute_matrix(ico_sphere(3).to(CUDA))
        values = with_diagonal(matrix, 500, -1.0)
        values = torch.where((matrix.row_indices == 20) & (matrix.col_indices == 20), -2.0, values)
        vertices = []
        for _ in range(3):
            with pytest.raises(NotPositiveDefiniteError) as caught:
                factorize(analyze(matrix), values)
            vertices.append(caught.value.vertex)
        assert vertices in ([20] * 3, [500] * 3)

    def test_the_mesh_is_named(self):
        batch = join_meshes_as_batch([grid(), ico_sphere(1), grid(), ico_sphere(1)]).to(CUDA)
        laplacian = combinatorial_laplacian(batch).to_dense()
        laplacian[90, 90] = -30.0
        with pytest.raises(NotPositiveDefiniteError, match=r"\(vertex 8 of mesh 3\)"):
            LargeSteps(batch, laplacian=laplacian)()

    @pytest.mark.parametrize("spoil", [lambda plan: plan[:-1], lambda plan: [], lambda plan: [plan[0] + 1, *plan[1:]]])
    def test_plans_of_other_systems(self, spoil):
        matrix = compute_matrix(ico_sphere(1).to(CUDA))
        factor = factorize(analyze(matrix), matrix)
        *arguments, plan = solve_arguments(factor, torch.ones(42, 3, device=CUDA))
        with pytest.raises(RuntimeError, match="plan: expected"):
            operator("solve", CUDA)(*arguments, spoil(plan))
        *arguments, plan = factorize_arguments(factor, True)
        with pytest.raises(RuntimeError, match="plan: expected"):
            operator("factorize", CUDA)(*arguments, spoil(plan))


class TestDevices:
    def test_one_for_all(self):
        matrix, rhs = compute_matrix(ico_sphere(1)), torch.randn(42, 3)
        for here, there in ((CPU, CUDA), (CUDA, CPU)):
            factor = factorize(analyze(matrix.to(here)), matrix.to(here))
            with pytest.raises(ValueError, match=f"rhs: expected it on {here}, as the factor, got .* on {there}"):
                factor.solve(rhs.to(there))
            with pytest.raises(ValueError, match=f"values: expected a tensor on {here}.*, got .* on {there}"):
                factorize(factor.symbolic, matrix.values.to(there))
            with pytest.raises(ValueError, match=f"rhs: expected it on {here}, as the matrix, got .* on {there}"):
                solve(matrix.to(here), rhs.to(there))
            with pytest.raises(ValueError, match=f"rhs: expected it on {here}, as the meshes, got .* on {there}"):
                BatchSystem(ico_sphere(1).to(here)).solve(rhs.to(there))
            with pytest.raises(ValueError, match=f"faces: expected them on {here}, as verts, got .* on {there}"):
                combinatorial_laplacian(rhs.to(here), torch.tensor([[0, 1, 2]], device=there))
            with pytest.raises(ValueError, match=f"pinned: expected it on {here}, as the meshes, got .* on {there}"):
                LargeSteps(ico_sphere(1).to(here), pinned=torch.tensor([1], device=there))
            with pytest.raises(ValueError, match=f"lambda_: expected it on {here}, as the vertices, got .* on {there}"):
                LargeSteps(ico_sphere(1).to(here), lambda_=torch.rand(42, device=there))
            with pytest.raises(ValueError, match=f"cameras: expected them on {here}, as the meshes, got .* on {there}"):
                PyTorch3DRenderer(8)(ico_sphere(1).to(here), FoVPerspectiveCameras(device=there))

    @pytest.mark.parametrize(("here", "there"), [(CUDA, CPU), (CPU, CUDA)])
    def test_saved_here_and_loaded_there(self, here, there, tmp_path):
        matrix = mesh_matrix(ico_sphere(3).to(here))
        factor, rhs = factorize(analyze(matrix), matrix), torch.randn(642, 3, dtype=torch.float64)
        torch.save((factor, factor.symbolic, matrix), tmp_path / "saved")
        other, structure, same_matrix = torch.load(tmp_path / "saved", map_location=there, weights_only=False)
        assert other.values.device == structure.device == same_matrix.device == there
        expected = factor.solve(rhs.to(here)).to(there)
        for solution in (
            other.solve(rhs.to(there)),
            factorize(structure, same_matrix).solve(rhs.to(there)),
            solve(same_matrix, rhs.to(there)),
        ):
            torch.testing.assert_close(solution, expected)

    def test_a_module_and_its_optimiser_from_one_to_the_other(self):
        steps = LargeSteps(ragged(), pinned=torch.tensor([3, 50]), lambda_=torch.tensor([1.0, 5.0, 19.0]))
        before = steps().verts_packed().detach()
        moved = pickle.loads(pickle.dumps(steps.to(CUDA)))
        assert moved.pinned.device == moved.system.device == moved().device == CUDA
        torch.testing.assert_close(moved().verts_packed().cpu(), before, rtol=1e-5, atol=1e-5)
        optimizer = UniformAdam(moved.parameters(), lr=0.1)
        moved().verts_packed().square().sum().backward()
        optimizer.step()
        torch.testing.assert_close(moved().verts_packed()[[3, 50]].cpu(), before[[3, 50]], rtol=0, atol=0)

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
    def test_the_second_gpu_while_the_first_is_the_current_one(self):
        second = torch.device("cuda", 1)
        paths = [optimise(ragged().to(device), torch.float64, 10)[-1] for device in (CUDA, second)]
        assert torch.cuda.current_device() == 0
        for first, other in zip(*paths, strict=True):
            assert other.device == second
            torch.testing.assert_close(first.cpu(), other.cpu(), rtol=0, atol=1e-10)
        matrix = compute_matrix(ico_sphere(2).to(second))
        factor = factorize(analyze(matrix), matrix)
        assert analyze(matrix.to(CUDA)).device == CUDA
        with pytest.raises(ValueError, match=r"rhs: expected it on cuda:1, as the factor, got .* on cuda:0"):
            factor.solve(torch.zeros(162, 3, device=CUDA))
        stream = torch.cuda.Stream(second)
        with torch.cuda.stream(stream):
            rhs = torch.randn(162, 3, device=second)
            solution = factor.solve(rhs)
        stream.synchronize()
        torch.testing.assert_close(matrix @ solution, rhs, rtol=1e-4, atol=1e-4)
