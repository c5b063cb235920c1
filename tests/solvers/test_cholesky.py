"""The sparse Cholesky factorisation against scipy on many graphs: its numbers."""

import copy
import pickle

import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import SystemMatrix
from pt3d_largesteps.native import reference
from pt3d_largesteps.solvers import analyze, factorize
from support.graphs import EVERY_DTYPE, GRAPHS, graph_matrix, path
from support.matrices import backward_error, mesh_matrix, scipy_matrix, scipy_solve
from support.shapes import ragged, real_mesh, shapes

COLUMNS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 24, 27, 33, 192)


def entries_of_the_factor(matrix: SystemMatrix, symbolic) -> int:
    """Counted by eliminating one vertex after the other, in the order of the solver."""
    start = int(symbolic.index[reference.SECTION_OFFSETS + reference.OLD_FROM_NEW])
    order = symbolic.index[start : start + matrix.shape[0]].long()
    entries = (matrix.to_dense() != 0)[order][:, order].cpu()
    for k in range(len(order)):
        below = entries[k + 1 :, k].clone()
        entries[k + 1 :, k + 1 :] |= below[:, None] & below
    return int(entries.tril().sum())


@pytest.mark.parametrize("with_positions", [False, True])
@pytest.mark.parametrize("laplacian", ["combinatorial", "cotangent"])
@pytest.mark.parametrize("name", shapes())
@EVERY_DTYPE
def test_shapes_against_scipy(name, laplacian, with_positions, dtype, stored, tolerance, device):
    lambda_ = 1.0 if name == "degenerate" else 19.0  # degenerate cotangents are as large as 1 / sqrt(eps)
    matrix = mesh_matrix(shapes()[name].to(device), dtype, lambda_=lambda_, laplacian=laplacian)
    positions = matrix.positions if with_positions else None
    factor = factorize(analyze(matrix, positions, reuse=False), matrix, stored)
    rhs = torch.randn(matrix.shape[0], 3, dtype=dtype, device=device)
    solution = factor.solve(rhs)
    assert (solution.shape, solution.dtype, factor.values.dtype) == (rhs.shape, dtype, stored)
    assert solution.device == factor.values.device == factor.symbolic.index.device == device
    if name != "empty":
        error = (solution.double() - scipy_solve(matrix, rhs)).abs().max()
        assert error <= tolerance * rhs.abs().max() * (100 if name == "degenerate" else 1)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_every_kind(name, device):
    edges, size = GRAPHS[name]()
    weights = 0.5 + torch.rand(len(edges), dtype=torch.float64)
    matrix = graph_matrix(edges, size, weights, device=device)
    rhs = torch.randn(size, 3, dtype=torch.float64, device=device)
    for positions in (None, torch.rand(size, 3)):  # positions that tell nothing, too
        if name == "path" and positions is not None:
            continue  # a path in random order of space fills up
        symbolic = analyze(matrix, positions, reuse=False)
        solution = factorize(symbolic, matrix).solve(rhs)
        assert backward_error(matrix, solution, rhs) < 1e-13
        torch.testing.assert_close(solution, scipy_solve(matrix, rhs), rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_path_of_a_million(device):
    matrix = graph_matrix(path(1_000_000), 1_000_000, device=device)
    rhs = torch.randn(1_000_000, 3, dtype=torch.float64, device=device)
    assert backward_error(matrix, factorize(analyze(matrix), matrix).solve(rhs), rhs) < 1e-13


@EVERY_DTYPE
@pytest.mark.parametrize("level", [1, 3])
def test_any_number_of_columns(level, dtype, stored, tolerance, device):
    matrix = mesh_matrix(ico_sphere(level).to(device), dtype)
    factor = factorize(analyze(matrix), matrix, stored)
    rhs = torch.randn(matrix.shape[0], max(COLUMNS), dtype=dtype, device=device)
    truth = torch.stack([scipy_solve(matrix, rhs[:, k]) for k in range(max(COLUMNS))], dim=1)
    for k in COLUMNS:
        solution = factor.solve(rhs[:, :k])  # with the strides of all columns
        assert solution.shape == (matrix.shape[0], k)
        torch.testing.assert_close(solution.double(), truth[:, :k], rtol=0, atol=tolerance * float(rhs.abs().max()))
    torch.testing.assert_close(factor.solve(rhs[:, 0]).double(), truth[:, 0], rtol=0, atol=tolerance * float(rhs.abs().max()))


@pytest.mark.parametrize(
    "strided", [lambda b: b.T.contiguous().T, lambda b: b.repeat(1, 2)[:, ::2], lambda b: b[:, :1].expand(-1, 6)]
)
def test_any_strides(strided, device):
    matrix = mesh_matrix(ico_sphere(2).to(device))
    factor = factorize(analyze(matrix), matrix)
    rhs = strided(torch.randn(162, 6, dtype=torch.float64, device=device))
    assert not rhs.is_contiguous()
    assert torch.equal(factor.solve(rhs), factor.solve(rhs.contiguous()))
    assert torch.equal(factor.solve(rhs[::1, 1]), factor.solve(rhs[:, 1].contiguous()))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 0), (1,), (1, 5)])
def test_no_vertex_and_one(shape, device):
    size = shape[0]
    matrix = SystemMatrix.from_sparse(4.0 * torch.eye(size, device=device))
    factor = factorize(analyze(matrix), matrix)
    rhs = torch.ones(shape, device=device)
    assert torch.equal(factor.solve(rhs), 0.25 * rhs)
    assert factor.nnz >= size
    assert pickle.loads(pickle.dumps(factor)).solve(rhs).shape == shape


def test_a_diagonal_matrix(device):
    diagonal = 10 ** (8 * torch.rand(1000, dtype=torch.float64) - 4)
    matrix = SystemMatrix.from_sparse(torch.sparse.spdiags(diagonal, torch.tensor([0]), (1000, 1000)).to(device))
    diagonal, rhs = diagonal.to(device), torch.randn(1000, dtype=torch.float64, device=device)
    torch.testing.assert_close(factorize(analyze(matrix), matrix).solve(rhs), rhs / diagonal, rtol=1e-14, atol=0)


def test_the_order_of_the_vertices_does_not_matter(device):
    edges, size = GRAPHS["cubes"]()
    weights, rhs = torch.rand(len(edges), dtype=torch.float64), torch.randn(size, 2, dtype=torch.float64, device=device)
    matrix = graph_matrix(edges, size, weights, device=device)
    solution = factorize(analyze(matrix), matrix).solve(rhs)
    for _ in range(3):
        place = torch.randperm(size)
        shuffled = graph_matrix(place[edges], size, weights, device=device)
        place = place.to(device)
        shuffled_rhs = torch.empty_like(rhs).index_copy(0, place, rhs)
        other = factorize(analyze(shuffled), shuffled).solve(shuffled_rhs)[place]
        torch.testing.assert_close(other, solution, rtol=0, atol=1e-11)


def test_meshes_of_a_batch_do_not_reach_each_other(device):
    batch = ragged().to(device)
    together = mesh_matrix(batch)
    rhs = torch.randn(together.shape[0], 3, dtype=torch.float64, device=device)
    solution = factorize(analyze(together, together.positions), together).solve(rhs)
    sizes = batch.num_verts_per_mesh().tolist()
    for mesh, part, x in zip(batch, rhs.split(sizes), solution.split(sizes), strict=True):
        torch.testing.assert_close(x, scipy_solve(mesh_matrix(mesh), part), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["bunny", "spot", "cow"])
def test_real_meshes(name, device):
    for dtype, bound in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        matrix = mesh_matrix(real_mesh(name).to(device), dtype)
        rhs = torch.randn(matrix.shape[0], 3, dtype=dtype, device=device)
        factor = factorize(analyze(matrix, matrix.positions), matrix)
        assert backward_error(matrix.to(torch.float64), factor.solve(rhs).double(), rhs.double()) < bound


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 80), st.integers(0, 300), st.integers(0, 2**31), st.floats(0, 100), st.integers(1, 30), st.booleans())
def test_any_weighted_graph_in_any_order(device, num_verts, num_edges, seed, lambda_, num_columns, with_positions):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_verts, (num_edges, 2), generator=generator)
    edges = torch.unique(edges[edges[:, 0] != edges[:, 1]].sort(dim=1).values, dim=0)
    edges = torch.randperm(num_verts, generator=generator)[edges]
    weights = torch.rand(len(edges), generator=generator, dtype=torch.float64)
    matrix = graph_matrix(edges, num_verts, weights, lambda_, device)
    positions = torch.rand(num_verts, 3, generator=generator) if with_positions else None
    factor = factorize(analyze(matrix, positions, reuse=False), matrix)
    rhs = torch.randn(num_verts, num_columns, generator=generator, dtype=torch.float64).to(device)
    assert backward_error(matrix, factor.solve(rhs), rhs) < 1e-13


@pytest.mark.parametrize("name", [name for name in shapes() if name != "empty"])
def test_what_a_factor_says_of_itself(name, device):
    matrix = mesh_matrix(shapes()[name].to(device))
    size = matrix.shape[0]
    symbolic = analyze(matrix, reuse=False)
    factor = factorize(symbolic, matrix)
    assert (matrix.nnz + size) // 2 <= symbolic.nnz == factor.nnz <= size * (size + 1) // 2
    assert 1 <= symbolic.levels == factor.levels <= symbolic.num_supernodes <= size
    assert symbolic.nbytes == symbolic.index.nbytes > 4 * matrix.nnz
    assert factor.nbytes >= 8 * symbolic.stored_entries >= 8 * symbolic.nnz
    assert symbolic.nnz == entries_of_the_factor(matrix, symbolic)
    assert (symbolic.num_verts, symbolic.num_entries, factor.dtype) == (size, matrix.nnz, torch.float64)
    assert all(map(torch.equal, symbolic.pattern(), (matrix.crow_indices, matrix.col_indices)))
    expected = f"SymbolicFactor(num_verts={size}, nnz={factor.nnz}, levels={factor.levels}, num_supernodes="
    assert repr(symbolic) == f"{expected}{symbolic.num_supernodes})"
    expected = f"CholeskyFactor(num_verts={size}, nnz={factor.nnz}, levels={factor.levels}, dtype=torch.float64,"
    assert repr(factor) == f"{expected} stored=torch.float64, nbytes={factor.nbytes})"


def test_the_fill_is_that_of_a_good_order(device):
    matrix = mesh_matrix(ico_sphere(5).to(device))
    options = {"permc_spec": "MMD_AT_PLUS_A", "options": {"SymmetricMode": True}}
    minimum_degree = scipy.sparse.linalg.splu(scipy_matrix(matrix), **options).L.nnz
    for positions in (None, matrix.positions):
        assert analyze(matrix, positions, reuse=False).nnz < 2 * minimum_degree


def test_the_dtype_of_the_stored_factor(device):
    for level, expected in ((3, torch.float64), (4, torch.float32)):  # 642 vertices, and 2562
        matrix = mesh_matrix(ico_sphere(level).to(device), torch.float32)
        factor = factorize(analyze(matrix), matrix)
        assert (factor.dtype, factor.values.dtype) == (torch.float32, expected)
        for stored in (torch.float32, torch.float64):
            factor = factorize(analyze(matrix), matrix, stored)
            for other in (
                factor,
                factor.refactorize(2 * matrix.values),
                copy.deepcopy(factor),
                pickle.loads(pickle.dumps(factor)),
            ):
                assert (other.dtype, other.values.dtype) == (torch.float32, stored)
        assert factor.refactorize(matrix.values.double()).dtype == torch.float64


class TestRefinement:
    def test_the_residual_is_that_of_float64(self, device):
        matrix = mesh_matrix(ico_sphere(2).to(device), torch.float32)
        factor = factorize(analyze(matrix), matrix)
        rhs, x = torch.randn(2, 162, 3, device=device)
        expected = (rhs.double() - matrix.to(torch.float64).to_dense() @ x.double()).float()
        torch.testing.assert_close(factor.residual(rhs, x), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(factor.residual(rhs[:, 1], x[:, 1]), expected[:, 1], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("lambda_", [1.0, 19.0, 999.0, 9999.0])
    def test_a_step_leaves_an_error_of_rounding(self, lambda_, device):
        matrix = mesh_matrix(ico_sphere(4).to(device), torch.float32, lambda_=lambda_)
        factor = factorize(analyze(matrix), matrix, torch.float32)
        rhs = torch.randn(matrix.shape[0], 3, device=device) + 1
        truth = scipy_solve(matrix, rhs)
        plain, refined, twice = (
            float((factor.solve(rhs, refine=k) - truth).abs().max() / truth.abs().max()) for k in (0, 1, 2)
        )
        rounding = torch.finfo(torch.float32).eps  # the solution itself is rounded to half of it
        assert refined <= max(plain, rounding)
        assert twice < rounding
        assert torch.equal(factor.solve(rhs[:, 0], refine=0), factor.solve(rhs[:, :1])[:, 0])
