"""The sparse Cholesky factorisation: the same bits for any number of threads, its copies, the analyses that it keeps."""

import copy
import dataclasses
import multiprocessing
import pickle
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import SystemMatrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.native.library import is_compiled
from pt3d_largesteps.solvers import analyze, factorize
from pt3d_largesteps.solvers.symbolic import LEAF_SIZE
from support.matrices import mesh_matrix, scipy_solve
from support.shapes import grid

BOTH_DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])


class TestTheSameBits:
    @pytest.fixture(autouse=True)
    def _threads(self):
        before = torch.get_num_threads()
        yield
        torch.set_num_threads(before)

    @BOTH_DTYPES
    @pytest.mark.parametrize("with_positions", [False, True])
    def test_for_every_number_of_threads(self, with_positions, dtype, tolerance):
        matrix = mesh_matrix(ico_sphere(5), dtype)
        rhs = torch.randn(matrix.shape[0], 24, dtype=dtype)
        results = []
        for num_threads in (1, 2, 4, 1):
            torch.set_num_threads(num_threads)
            symbolic = analyze(matrix, matrix.positions if with_positions else None, reuse=False)
            factor = factorize(symbolic, matrix)
            solutions = [factor.solve(columns) for columns in (rhs, rhs[:, :3], rhs[:, 0])]
            results.append([symbolic.index, factor.values, *solutions])
        for result in results[1:]:
            assert all(map(torch.equal, result, results[0]))
        torch.testing.assert_close(matrix @ results[0][2], rhs, rtol=0, atol=100 * tolerance)

    def test_from_eight_threads_at_once(self):
        torch.set_num_threads(2)
        matrix = mesh_matrix(ico_sphere(5), torch.float32)
        factor = factorize(analyze(matrix, matrix.positions), matrix)
        rhs = [torch.randn(matrix.shape[0], k) for k in (1, 3, 24, 3) * 4]
        expected = [factor.solve(b) for b in rhs]
        with ThreadPoolExecutor(8) as pool:
            assert all(map(torch.equal, pool.map(factor.solve, rhs), expected))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system does not fork")
class TestInAForkedChild:
    """The parent's threads, of the solver and of torch, do not follow into the child."""

    @pytest.fixture(autouse=True)
    def _threads(self):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        torch.rand(10**6).exp()
        yield
        torch.set_num_threads(before)

    @pytest.fixture
    def solved(self):
        matrix = mesh_matrix(ico_sphere(5), torch.float32)
        symbolic = analyze(matrix, matrix.positions)
        factor = factorize(symbolic, matrix)
        rhs = torch.randn(matrix.shape[0], 3)
        return matrix, symbolic, factor, rhs, factor.solve(rhs)

    @staticmethod
    def ends_well(function, *args) -> bool:
        """Whether the function returns true in a child; a child that hangs is ended."""
        context = multiprocessing.get_context("fork")
        child = context.Process(target=lambda: sys.exit(0 if function(*args) else 3))
        child.start()
        child.join(timeout=60)
        hangs = child.is_alive()
        child.kill()
        child.join()
        return not hangs and child.exitcode == 0

    @pytest.mark.skipif(not is_compiled(), reason="nothing is compiled here")
    def test_compiled_operators_with_helpers_of_its_own(self, solved):
        matrix, symbolic, factor, rhs, expected = solved

        def same_bits() -> bool:
            pattern = matrix.crow_indices, matrix.col_indices, matrix.positions.double()
            index = operators.analyze(*pattern, LEAF_SIZE)
            values, _ = operators.factorize(matrix.values, index, False)
            results = [(index, symbolic.index), (values, factor.values), (factor.solve(rhs), expected)]
            return all(one.numpy().tobytes() == two.numpy().tobytes() for one, two in results)

        assert self.ends_well(same_bits)

    def test_everything_with_one_thread(self, solved):
        matrix, _, _, rhs, expected = solved

        def same_bits() -> bool:
            torch.set_num_threads(1)
            values = matrix.values.clone().requires_grad_()
            factor = factorize(analyze(matrix, matrix.positions, reuse=False), SystemMatrix(*pattern, values))
            solution = factor.solve(rhs)
            solution.square().sum().backward()
            return torch.equal(solution, expected) and bool(values.grad.isfinite().all())

        pattern = matrix.crow_indices, matrix.col_indices
        assert self.ends_well(same_bits)


class TestCopies:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f)), copy.copy])
    def test_copies_solve_alike(self, copied, device):
        matrix = mesh_matrix(ico_sphere(3).to(device))
        factor = factorize(analyze(matrix), matrix)
        rhs = torch.randn(642, 3, dtype=torch.float64, device=device)
        assert torch.equal(copied(factor).solve(rhs), factor.solve(rhs))
        assert torch.equal(factorize(copied(factor.symbolic), matrix).solve(rhs), factor.solve(rhs))

    def test_a_deep_copy_shares_no_numbers(self, device):
        matrix = mesh_matrix(ico_sphere(1).to(device))
        factor = factorize(analyze(matrix), matrix)
        other = copy.deepcopy(factor)
        rhs = torch.randn(42, dtype=torch.float64, device=device)
        before = factor.solve(rhs)
        other.values.zero_()
        other.matrix_values.zero_()
        assert torch.equal(factor.solve(rhs), before)
        assert float(matrix.values.abs().min()) > 0

    def test_a_pickle_leaves_the_stored_factor_out(self, device):
        matrix = mesh_matrix(ico_sphere(4).to(device))
        factor = factorize(analyze(matrix), matrix)
        assert len(pickle.dumps(factor)) < factor.symbolic.nbytes + matrix.values.nbytes + 10_000

    def test_another_dtype(self, device):
        matrix = mesh_matrix(ico_sphere(3).to(device), torch.float32)
        factor = factorize(analyze(matrix), matrix)
        rhs = torch.randn(642, 3, dtype=torch.float64, device=device)
        double = factor.to(torch.float64)
        torch.testing.assert_close(double.solve(rhs), scipy_solve(matrix, rhs), rtol=0, atol=1e-11)
        assert torch.equal(double.to(torch.float32).values, factor.values)
        assert factor.to(torch.float32) is factor

    def test_other_numbers_for_the_same_pattern(self, device):
        first, second = (mesh_matrix(ico_sphere(2).to(device), lambda_=lambda_) for lambda_ in (19.0, 3.0))
        factor = factorize(analyze(first), first).refactorize(second.values)
        rhs = torch.randn(162, 3, dtype=torch.float64, device=device)
        torch.testing.assert_close(factor.solve(rhs), scipy_solve(second, rhs), rtol=0, atol=1e-12)
        assert factor.symbolic is analyze(first)


class TestThePattern:
    """The analysis belongs to the pattern of a matrix, which all matrices made of it share."""

    def test_is_analysed_once(self, device):
        matrix = mesh_matrix(ico_sphere(2).to(device))
        symbolic = analyze(matrix)
        others = [
            matrix.detach(),
            matrix.to(torch.float32),
            matrix.with_pinned(torch.arange(162, device=device) < 3),
            dataclasses.replace(matrix, values=2 * matrix.values),
            copy.copy(matrix),
            copy.deepcopy(matrix),
        ]
        assert all(analyze(other, torch.rand(162, 3)) is symbolic for other in others)
        assert analyze(matrix, reuse=False) is not symbolic
        assert analyze(matrix) is symbolic

    def test_another_matrix_and_another_process_have_their_own(self, device):
        matrix = mesh_matrix(ico_sphere(2).to(device))
        symbolic = analyze(matrix)
        assert analyze(mesh_matrix(ico_sphere(2).to(device))) is not symbolic
        assert pickle.loads(pickle.dumps(matrix)).pattern.analysis is None

    def test_nothing_outlives_the_matrix(self):
        matrix = mesh_matrix(ico_sphere(2))
        index = weakref.ref(analyze(matrix).index)
        del matrix  # freed at once: no cycle waits for the collector
        assert index() is None

    def test_threads_that_analyse_at_once(self):
        matrices = [mesh_matrix(grid(5 + k % 4, 6)) for k in range(40)]
        with ThreadPoolExecutor(8) as pool:
            symbolics = list(pool.map(analyze, [*matrices, *matrices]))
        assert [symbolic.num_verts for symbolic in symbolics[:40]] == [matrix.shape[0] for matrix in matrices]
