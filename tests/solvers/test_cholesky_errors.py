"""Everything the factorisation must refuse, and the words with which it does so."""

import math
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere

import pt3d_largesteps
from pt3d_largesteps import LargeSteps, SystemMatrix, compute_matrix
from pt3d_largesteps.solvers import NotPositiveDefiniteError, analyze, factorize
from support.matrices import with_diagonal
from support.operators import factorize_arguments, operator, solve_arguments

OPS = torch.ops.pt3d_largesteps


@pytest.fixture
def matrix(device) -> SystemMatrix:
    return compute_matrix(ico_sphere(1).to(device))


@pytest.fixture
def factor(matrix):
    return factorize(analyze(matrix), matrix)


class TestNotPositiveDefinite:
    @pytest.mark.parametrize("entry", [-1.0, 0.0, -1000.0])
    def test_the_vertex_is_exact(self, matrix, entry):
        symbolic = analyze(matrix)
        for vertex in (0, 17, 41, *range(3, 41, 5)):
            with pytest.raises(NotPositiveDefiniteError, match=f"at vertex {vertex}; the likely cause: the diagonal") as caught:
                factorize(symbolic, with_diagonal(matrix, vertex, entry))
            assert caught.value.vertex == vertex
            assert f"(the diagonal entry is {entry:.3g})" in str(caught.value)

    @pytest.mark.parametrize("num_threads", [1, 2, 4])
    def test_of_several_the_first_to_be_eliminated_for_every_number_of_threads(self, num_threads):
        matrix = compute_matrix(ico_sphere(4))
        values = with_diagonal(matrix, 2000, -1.0)
        for vertex in (5, 170, 1700):
            values = torch.where((matrix.row_indices == vertex) & (matrix.col_indices == vertex), -2.0, values)
        before = torch.get_num_threads()
        vertices = []
        for number in (1, num_threads):
            torch.set_num_threads(number)
            with pytest.raises(NotPositiveDefiniteError) as caught:
                factorize(analyze(matrix), values)
            vertices.append(caught.value.vertex)
        torch.set_num_threads(before)
        assert vertices[0] == vertices[1]
        assert vertices[0] in (5, 170, 1700, 2000)

    def test_a_matrix_of_zeros(self, matrix):
        with pytest.raises(NotPositiveDefiniteError, match=r"got the pivot 0 \(the diagonal entry is 0\) at vertex"):
            factorize(analyze(matrix), torch.zeros_like(matrix.values))

    def test_two_by_two(self, device):
        matrix = SystemMatrix.from_sparse(torch.tensor([[1.0, 2.0], [2.0, 1.0]], device=device))
        message = r"got the pivot -3 \(the diagonal entry is 1\) at vertex [01]; the likely cause: negative weights"
        with pytest.raises(NotPositiveDefiniteError, match=message):
            factorize(analyze(matrix), matrix)

    def test_a_laplacian_alone_is_singular(self, device):
        sphere = ico_sphere(2).to(device)
        matrix = compute_matrix(sphere.verts_packed().double(), sphere.faces_packed(), lambda_=1e9)
        laplacian = torch.where(matrix.row_indices == matrix.col_indices, matrix.values - 1, matrix.values).round()
        with pytest.raises(NotPositiveDefiniteError, match="the identity is lost in rounding"):
            factorize(analyze(matrix), laplacian)

    def test_negative_weights(self, device):
        edges = torch.tensor([[0, 1], [1, 2], [2, 3], [0, 3], [0, 2]], device=device)
        weights = torch.tensor([1.0, 1.0, 1.0, 1.0, -0.9], device=device)
        matrix = SystemMatrix.from_edges(edges, weights, 4, lambda_=100.0)
        factorize(analyze(matrix), matrix)  # not every negative weight does harm
        matrix = SystemMatrix.from_edges(edges, torch.where(weights < 0, -1.5, weights), 4, lambda_=100.0)
        with pytest.raises(NotPositiveDefiniteError, match="negative weights at this vertex") as caught:
            factorize(analyze(matrix), matrix)
        assert caught.value.vertex in (0, 2)

    @pytest.mark.parametrize("solver", ["auto", "cholesky"])
    def test_the_mesh_and_the_vertex_in_it_are_named(self, solver, device):
        laplacian = torch.zeros(54, 54)
        laplacian[12 + 17, 12 + 17] = -3
        meshes = join_meshes_as_batch([ico_sphere(0), ico_sphere(1)]).to(device)
        steps = LargeSteps(meshes, 1.0, laplacian=laplacian, solver=solver)
        with pytest.raises(NotPositiveDefiniteError, match=r"at vertex 29; .* \(vertex 17 of mesh 1\)$") as caught:
            steps()
        assert caught.value.vertex == 29

    def test_the_error_can_be_pickled(self, matrix):
        with pytest.raises(NotPositiveDefiniteError) as caught:
            factorize(analyze(matrix), -matrix.values)
        copied = pickle.loads(pickle.dumps(caught.value))
        assert (str(copied), copied.vertex) == (str(caught.value), caught.value.vertex)
        assert isinstance(copied, ValueError)

    def test_a_failure_leaves_no_memory_behind(self):
        matrix = compute_matrix(ico_sphere(4))
        symbolic, values = analyze(matrix), with_diagonal(matrix, 2561, -1.0)

        def fail(times):
            for _ in range(times):
                with pytest.raises(NotPositiveDefiniteError):
                    factorize(symbolic, values)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        one_factor = factorize(symbolic, matrix.values).nbytes
        before = fail(10)
        assert (fail(200) - before) * 1024 < 20 * one_factor


class TestNumbersThatAreNotFinite:
    @pytest.mark.parametrize("entry", [math.nan, math.inf, -math.inf])
    def test_in_the_values(self, matrix, entry):
        values = matrix.values.clone()
        values[7] = entry
        with pytest.raises(ValueError, match=rf"values: expected finite numbers, got {entry} at index \(7,\)"):
            factorize(analyze(matrix), values)

    @pytest.mark.parametrize("num_columns", [1, 3, 5, 12, 27])
    @pytest.mark.parametrize("level", [1, 4])
    def test_anywhere_in_the_right_hand_side(self, num_columns, level):
        matrix = compute_matrix(ico_sphere(level))  # on the CPU: on CUDA it is not looked for
        factor = factorize(analyze(matrix, matrix.positions), matrix)
        size = matrix.shape[0]
        for k, vertex in enumerate(range(0, size, 1 if level == 1 else 97)):
            rhs = torch.zeros(size, num_columns)
            column, entry = k % num_columns, (math.nan, math.inf, -math.inf)[k % 3]
            rhs[vertex, column] = entry
            with pytest.raises(ValueError, match=rf"rhs: expected finite numbers, got {entry} at index \({vertex}, {column}\)"):
                factor.solve(rhs)

    @pytest.mark.parametrize("entry", [math.nan, math.inf])
    def test_in_the_gradient(self, entry):
        matrix = compute_matrix(ico_sphere(1))  # on the CPU, here too
        factor, rhs = factorize(analyze(matrix), matrix), torch.ones(42, 3, requires_grad=True)
        with pytest.raises(ValueError, match="the gradient of the solution: expected finite numbers, got"):
            (factor.solve(rhs) * entry).sum().backward()

    def test_in_the_positions(self, matrix):
        positions = torch.zeros(42, 3, device=matrix.device)
        positions[3, 1] = math.nan
        with pytest.raises(ValueError, match=r"positions: expected finite numbers, got nan at index \(3, 1\)"):
            analyze(matrix, positions)


class TestArguments:
    @pytest.mark.parametrize(
        ("rhs", "error", "message"),
        [
            (torch.zeros(41, 3), ValueError, r"rhs: expected a tensor of shape \(42,\), \(42, k\) or .*, got .* \(41, 3\)"),
            (torch.zeros(42, 3, 2), ValueError, "rhs: expected a tensor of shape"),
            (torch.tensor(1.0), ValueError, "rhs: expected a tensor of shape"),
            ([0.0] * 42, ValueError, "rhs: expected a tensor of shape .* got list"),
            (torch.zeros(42, 3).double(), TypeError, "rhs: expected torch.float32, the dtype of the .*, got"),
            (torch.zeros(42, 3).half(), TypeError, "rhs: expected torch.float32"),
            (torch.zeros(42, 3, dtype=torch.int64), TypeError, "rhs: expected torch.float32"),
            (torch.zeros(42, 3, device="meta"), ValueError, "rhs: expected it on {device}, as the factor, got .* on meta"),
        ],
    )
    def test_right_hand_sides(self, factor, rhs, error, message, device):
        rhs = rhs.to(device) if isinstance(rhs, torch.Tensor) and not rhs.is_meta else rhs
        with pytest.raises(error, match=message.format(device=device)):
            factor.solve(rhs)

    @pytest.mark.parametrize("refine", [-1, True, 1.0, "1", None])
    def test_refine(self, factor, refine, device):
        with pytest.raises(ValueError, match="refine: expected an integer of at least 0, got"):
            factor.solve(torch.zeros(42, device=device), refine=refine)

    def test_solution_of_another_shape(self, factor, device):
        with pytest.raises(ValueError, match=r"solution: expected the shape of rhs, \(42, 3\), got .* \(42, 2\)"):
            factor.residual(torch.zeros(42, 3, device=device), torch.zeros(42, 2, device=device))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.complex64])
    def test_dtypes_of_the_values(self, matrix, factor, dtype):
        for make in (factor.refactorize, lambda values: factorize(factor.symbolic, values)):
            with pytest.raises(TypeError, match="matrix: Cholesky factorisations expect float32 or float64, got"):
                make(matrix.values.to(dtype))
        with pytest.raises(TypeError, match=r"float32 or .*float64"):
            factor.to(dtype)
        with pytest.raises(TypeError, match=r"dtype: expected torch.float64, or torch.float32 for a float32 matrix, got"):
            factorize(factor.symbolic, matrix, dtype)

    def test_a_factor_of_fewer_digits_than_the_matrix(self, matrix):
        with pytest.raises(TypeError, match=r"dtype: expected torch.float64, or torch.float32 for a float32 matrix, got"):
            factorize(analyze(matrix), matrix.values.double(), torch.float32)

    def test_to_a_device(self, factor):
        with pytest.raises(TypeError, match=r"dtype: expected torch.float32 or torch.float64 .*, got str 'cuda'"):
            factor.to("cuda")

    @pytest.mark.parametrize(
        "values", [torch.zeros(281), torch.zeros(283), torch.zeros(282, 1), torch.zeros(1, 1, 282), [1.0] * 282]
    )
    def test_values_of_another_shape(self, factor, values, device):
        values = values.to(device) if isinstance(values, torch.Tensor) else values
        with pytest.raises(
            ValueError, match=r"values: expected a tensor of shape \(282,\) or \(B, 282\), one number per entry .*, got"
        ):
            factorize(factor.symbolic, values)

    def test_another_device(self, matrix):
        away = SystemMatrix(*(t.to("meta") for t in (matrix.crow_indices, matrix.col_indices, matrix.values)))
        with pytest.raises(ValueError, match=r"matrix: expected it on the CPU.*, got it on meta"):
            analyze(away)
        with pytest.raises(ValueError, match=r"values: expected .* on .*, got .* on meta"):
            factorize(analyze(matrix), away.values)

    def test_another_pattern_with_as_many_entries(self, device):
        star, line = torch.tensor([[[0, 1], [0, 2], [0, 3]], [[0, 1], [1, 2], [2, 3]]], device=device)
        symbolic = analyze(SystemMatrix.from_edges(star, torch.ones(3, device=device), 4))
        with pytest.raises(ValueError, match="matrix: expected the pattern that was analysed, 4 rows and 10 entries, got"):
            factorize(symbolic, SystemMatrix.from_edges(line, torch.ones(3, device=device), 4))

    @pytest.mark.parametrize("positions", [torch.zeros(41, 3), torch.zeros(42, 2), torch.zeros(42), [[0.0] * 3] * 42])
    def test_positions(self, matrix, positions):
        with pytest.raises(ValueError, match=r"positions: expected a tensor of shape \(42, 3\), got"):
            analyze(matrix, positions)

    def test_things_of_another_kind(self, matrix, factor):
        with pytest.raises(TypeError, match="matrix: expected a SystemMatrix, got a tensor of shape"):
            analyze(matrix.values)
        for other in (matrix, factor, factor.symbolic.index, None):
            with pytest.raises(TypeError, match="symbolic: expected a SymbolicFactor, of analyze, got"):
                factorize(other, matrix.values)


def ints(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


class TestOperatorsCalledDirectly:
    """On the CPU."""

    @pytest.fixture
    def matrix(self) -> SystemMatrix:
        return compute_matrix(ico_sphere(1))

    @pytest.mark.parametrize(
        ("crow_indices", "col_indices", "message"),
        [
            (ints(0, 2, 3), ints(0, 1, 1), r"symmetric pattern, got entry \(0, 1\) without its mirror image"),
            (ints(0, 1, 3), ints(0, 0, 1), r"symmetric pattern, got entry \(1, 0\) without its mirror image"),
            (ints(0, 1, 2), ints(1, 0), "every diagonal entry, none in row 0"),
            (ints(0, 0, 0), ints(), "every diagonal entry, none in row 0"),
            (ints(0, 2, 4), ints(1, 0, 0, 1), r"increasing columns in \[0, 2\) in row 0, got 0"),
            (ints(0, 2, 3), ints(0, 0, 1), "increasing columns"),
            (ints(0, 2, 3), ints(0, 2, 1), r"increasing columns in \[0, 2\) in row 0, got 2"),
            (ints(0, 2, 3), ints(-1, 0, 1), r"increasing columns in \[0, 2\) in row 0, got -1"),
            (ints(0, -5, 2), ints(0, 1), "crow_indices to increase, at row 0"),
            (ints(1, 1, 2), ints(0, 1), "crow_indices to begin with 0, got 1"),
            (ints(0, 1, 3), ints(0, 1), "crow_indices: expected the number of entries at its end, 2, got 3"),
            (ints(0, 1, 2**62), ints(0, 1), "crow_indices: expected the number of entries at its end"),
            (ints(), ints(), "crow_indices: expected at least one number"),
            (ints(0, 1).int(), ints(0), "crow_indices: expected a contiguous int64 tensor of 1 dimensions"),
            (ints(0, 9, 1, 9)[::2], ints(0), "crow_indices: expected a contiguous int64 tensor"),
            (ints(0, 1), ints(0).float(), "col_indices: expected a contiguous int64 tensor"),
            (ints(0, 1), ints(0).view(1, 1), "col_indices: expected a contiguous int64 tensor of 1 dimensions"),
        ],
    )
    def test_patterns(self, crow_indices, col_indices, message):
        for positions in (None, torch.zeros(max(len(crow_indices) - 1, 0), 3, dtype=torch.float64)):
            with pytest.raises(RuntimeError, match=message):
                OPS.analyze(crow_indices, col_indices, positions, 24, False)

    def test_more_entries_than_31_bits(self):
        number = 2**31
        with pytest.raises(RuntimeError, match="col_indices: expected a contiguous int64 tensor"):
            OPS.analyze(ints(0, number), ints(0).expand(number), None, 24, False)
        try:
            untouched = torch.empty(number, dtype=torch.int64)  # 16 GiB of addresses, of which none is used
        except RuntimeError:
            pytest.skip("no room for the addresses")
        with pytest.raises(RuntimeError, match=f"expected fewer than 2.31 vertices and entries, got 1 and {number}"):
            OPS.analyze(ints(0, number), untouched, None, 24, False)

    @pytest.mark.parametrize("leaf_size", [0, -1, 1025, 2**40])
    def test_leaf_size(self, leaf_size):
        with pytest.raises(RuntimeError, match=rf"leaf_size: expected a number in \[1, 1024\], got {leaf_size}"):
            OPS.analyze(ints(0, 1), ints(0), None, leaf_size, False)

    @pytest.mark.parametrize("positions", [torch.zeros(41, 3).double(), torch.zeros(42, 3), torch.zeros(3, 42).double().T])
    def test_positions(self, factor, positions):
        with pytest.raises(RuntimeError, match="positions: expected"):
            OPS.analyze(*factor.symbolic.pattern(), positions, 24, False)

    @pytest.mark.parametrize("entry", [math.nan, math.inf, 1e308])
    def test_positions_that_lead_nowhere_do_no_harm(self, factor, matrix, entry):
        positions = torch.full((42, 3), entry, dtype=torch.float64)
        positions[::2] *= -1
        index = OPS.analyze(*factor.symbolic.pattern(), positions, 8, False)
        numbers, breakdown = OPS.factorize(matrix.values, index, True)
        rhs = torch.randn(42, 3)
        assert float(breakdown[0]) == -1
        torch.testing.assert_close(OPS.solve(matrix.values, numbers, index, rhs, 0), factor.solve(rhs))

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda index: torch.zeros(1000, dtype=torch.int32),
            lambda index: torch.full_like(index, -1),
            lambda index: torch.randint(-(2**31), 2**31 - 1, (1000,), dtype=torch.int32),
            lambda index: index[:0],
            lambda index: index[:63],
            lambda index: index[:-1],
            lambda index: index.repeat(2),
            lambda index: index.long(),
            lambda index: index.view(1, -1),
            lambda index: index.repeat_interleave(2)[::2],
        ],
    )
    def test_index_buffers(self, factor, spoil):
        index = spoil(factor.symbolic.index)
        with pytest.raises(RuntimeError, match="index: expected"):
            OPS.factorize(factor.matrix_values, index, True)
        with pytest.raises(RuntimeError, match="index: expected"):
            OPS.solve(factor.matrix_values, factor.values, index, torch.ones(42, 1), 0)

    @pytest.mark.parametrize("entry", [math.nan, math.inf])
    def test_values_that_are_not_finite_break_down(self, factor, matrix, entry):
        rows, cols = matrix.row_indices, matrix.col_indices
        for i, j in zip(rows[::5].tolist(), cols[::5].tolist(), strict=True):
            here = ((rows == i) & (cols == j)) | ((rows == j) & (cols == i))
            values = torch.where(here, entry, matrix.values)
            assert float(OPS.factorize(values, factor.symbolic.index, True)[1][0]) >= 0, (i, j)

    @pytest.mark.skipif(sys.platform != "linux", reason="protects a page by mprotect")
    def test_nothing_is_read_behind_the_entries(self):
        library = next(Path(pt3d_largesteps.__file__).parent.glob("_C*.so"))
        command = [sys.executable, "-c", ENTRIES_BEFORE_A_WALL, library]
        assert subprocess.run(command, check=False).returncode == 0


class TestWhatOperatorsAreGiven:
    """On every device: what does not fit would be read or written out of bounds."""

    @pytest.mark.parametrize(
        ("name", "spoil"),
        [
            ("values", lambda t: t[:-1]),
            ("factor", lambda t: t[:-1]),
            ("factor", lambda t: t.repeat_interleave(2)[::2]),
            ("factor", lambda t: t.half()),
            ("values", lambda t: t.view(1, -1)),
            ("rhs", lambda t: t.double()),
            ("rhs", lambda t: t.unsqueeze(2)),
            ("rhs", lambda t: t[:-1]),
            ("rhs", lambda t: t[:, 0]),
        ],
    )
    def test_solve(self, factor, name, spoil, device):
        arguments = list(solve_arguments(factor, torch.ones(42, 3, device=device)))
        place = ["values", "factor", "index", "rhs"].index(name)
        arguments[place] = spoil(arguments[place])
        with pytest.raises(RuntimeError, match=f"{name}: expected"):
            operator("solve", device)(*arguments)

    @pytest.mark.parametrize(
        "spoil", [lambda v: v[1:], lambda v: v.half(), lambda v: v[None, None], lambda v: v.repeat(2)[::2]]
    )
    def test_factorize(self, factor, spoil, device):
        values, *others = factorize_arguments(factor, True)
        with pytest.raises(RuntimeError, match="values: expected"):
            operator("factorize", device)(spoil(values), *others)


ENTRIES_BEFORE_A_WALL = """
import ctypes, mmap, sys, numpy, torch
torch.ops.load_library(sys.argv[1])
page = mmap.PAGESIZE
memory = numpy.frombuffer(mmap.mmap(-1, 2 * page), dtype=numpy.int64)
number = page // 8
memory[:number] = numpy.arange(number)
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + page), ctypes.c_size_t(page), 0) == 0
crow_indices = torch.full((number + 100,), number)
crow_indices[0], crow_indices[1] = 0, number + 50
try:
    torch.ops.pt3d_largesteps.analyze(crow_indices, torch.from_numpy(memory[:number]), None, 24, False)
except RuntimeError:
    pass
"""
