"""The sparse Cholesky factorisation: the same bits for any number of threads, its copies, the analyses that it keeps."""

import copy
import dataclasses
import multiprocessing
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps.solvers import CholeskyFactor, analyze, factorize
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

    def test_in_a_forked_child(self):
        torch.set_num_threads(2)
        matrix = mesh_matrix(ico_sphere(5), torch.float32)
        factor = factorize(analyze(matrix, matrix.positions), matrix)
        rhs = torch.randn(matrix.shape[0], 3)
        expected = factor.solve(rhs)  # the helper threads are running now; they do not follow into the child
        child = multiprocessing.get_context("fork").Process(target=_solve_again, args=(factor, rhs, expected))
        child.start()
        child.join(timeout=60)
        hangs = child.is_alive()
        child.kill()
        assert not hangs
        assert child.exitcode == 0


def _solve_again(factor: CholeskyFactor, rhs: torch.Tensor, expected: torch.Tensor) -> None:
    raise SystemExit(0 if factor.solve(rhs).numpy().tobytes() == expected.numpy().tobytes() else 3)


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
