"""The system matrix: its values, what it refuses, its products and their gradients."""

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import SystemMatrix, combinatorial_laplacian, compute_matrix, cotangent_laplacian, lambda_from_alpha
from support.comparing import assert_equal_to_rounding, assert_product_close, gradcheck, gradgradcheck
from support.shapes import ragged, shapes


@pytest.mark.parametrize("name", list(shapes()))
@pytest.mark.parametrize("laplacian", ["combinatorial", "cotangent"])
def test_lambda_and_alpha_forms(name, laplacian, device):
    meshes = shapes()[name].to(device)
    dense = {"combinatorial": combinatorial_laplacian, "cotangent": cotangent_laplacian}[laplacian](meshes).to_dense()
    eye = torch.eye(len(dense), device=device)
    # A diagonal entry is a sum over the others of its row, scaled before or after; each of those is scaled alone.
    roundings = int((dense != 0).sum(1).max()) + 3 if len(dense) else 0
    for options, expected in (({"lambda_": 19.0}, eye + 19 * dense), ({"alpha": 0.95}, 0.05 * eye + 0.95 * dense)):
        matrix = compute_matrix(meshes, laplacian=laplacian, **options).to_dense()
        assert_equal_to_rounding(matrix, expected, roundings, expected.abs() + expected.abs().sum(1).diag())


def test_the_default_is_the_papers_lambda(device):
    meshes = ico_sphere(1).to(device)
    assert torch.equal(compute_matrix(meshes).to_dense(), compute_matrix(meshes, lambda_=19.0).to_dense())


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.95, 0.999])
def test_alpha_is_one_minus_alpha_times_lambda(alpha, device):
    meshes = ico_sphere(1).to(device)
    scaled = (1 - alpha) * compute_matrix(meshes, lambda_=lambda_from_alpha(alpha)).to_dense()
    assert_equal_to_rounding(compute_matrix(meshes, alpha=alpha).to_dense(), scaled, roundings=4)


def test_every_diagonal_entry_is_stored_and_columns_are_sorted(device):
    matrix = compute_matrix(shapes()["isolated"].to(device), lambda_=2.0)
    assert matrix.diagonal().tolist() == [1, 7, 7, 7, 7, 1]
    keys = matrix.row_indices * len(matrix.crow_indices) + matrix.col_indices
    assert (keys.diff() > 0).all()


@pytest.mark.parametrize("shape", [(162,), (162, 1), (162, 3), (162, 0)])
def test_product(shape, device):
    matrix = compute_matrix(ico_sphere(2).to(device))
    x = torch.randn(shape, device=device)
    assert_product_close(matrix, x, matrix @ x)


def test_product_gradients_in_the_values_and_in_x(device):
    pattern = compute_matrix(ico_sphere(0).to(device), lambda_=0.5)

    def product(values, x):
        return SystemMatrix(pattern.crow_indices, pattern.col_indices, values) @ x

    values = pattern.values.double().requires_grad_()
    x = torch.randn(12, 2, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(product, (values, x))
    assert gradgradcheck(product, (values, x))


def test_lambda_can_be_learned(device):
    lambda_ = torch.tensor(3.0, dtype=torch.float64, device=device, requires_grad=True)
    sphere = ico_sphere(0).to(device)
    verts, faces = sphere.verts_packed().double(), sphere.faces_packed()
    x = torch.randn(12, 1, dtype=torch.float64, device=device)

    def energy(lambda_):
        return (x * (compute_matrix(verts, faces, lambda_=lambda_) @ x)).sum()

    assert gradcheck(energy, lambda_)
    with torch.no_grad():
        expected = (x * (combinatorial_laplacian(verts, faces) @ x)).sum()
    torch.testing.assert_close(torch.autograd.grad(energy(lambda_), lambda_)[0], expected)


@pytest.mark.parametrize("lambda_", [np.float32(3), np.int64(3), torch.tensor([3.0]), torch.tensor(3)])
def test_kinds_of_numbers(lambda_, device):
    sphere = ico_sphere(0).to(device)
    matrix = compute_matrix(sphere, lambda_=lambda_)  # a tensor of one may be on another device
    assert (matrix.dtype, matrix.device) == (torch.float32, device)
    assert torch.equal(matrix.values, compute_matrix(sphere, lambda_=3.0).values)


def test_second_derivatives_reach_the_vertices_through_cotangent_weights(device):
    sphere = ico_sphere(0).to(device)
    verts, faces = sphere.verts_packed().double(), sphere.faces_packed()
    x = torch.randn(12, 1, dtype=torch.float64, device=device)

    def energy(verts):
        return (x * (compute_matrix(verts, faces, lambda_=0.3, laplacian="cotangent") @ x)).sum()

    verts = verts.requires_grad_()
    assert gradcheck(energy, verts)
    assert gradgradcheck(energy, verts)


def test_second_derivatives_of_degenerate_faces_are_finite(device):
    meshes = shapes()["degenerate"].to(device)
    verts = meshes.verts_packed().double().requires_grad_()
    energy = compute_matrix(verts, meshes.faces_packed(), laplacian="cotangent").values.square().sum()
    (gradient,) = torch.autograd.grad(energy, verts, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), verts)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(second).all()


def test_a_product_after_inference_mode(device):
    matrix = compute_matrix(ico_sphere(0).to(device))
    with torch.inference_mode():
        matrix @ torch.ones(12, device=device)
    x = torch.randn(12, device=device, requires_grad=True)
    (matrix @ x).sum().backward()
    ones = torch.ones_like(x)
    assert_product_close(matrix, ones, x.grad)  # M is symmetric, and M 1 = 1
    assert_product_close(matrix, ones, ones)


@pytest.mark.parametrize(
    "convert",
    [
        lambda dense: dense,
        lambda dense: dense.to_sparse(),
        lambda dense: dense.to_sparse_csr(),
        lambda dense: dense.to_sparse_csc(),
        lambda dense: scipy.sparse.csr_matrix(dense.cpu().numpy()),
        lambda dense: scipy.sparse.coo_array(dense.cpu().numpy()),
    ],
    ids=["dense", "coo", "csr", "csc", "scipy_csr", "scipy_coo"],
)
@pytest.mark.filterwarnings("ignore:Sparse")  # torch, of its own CSR and CSC
def test_a_laplacian_of_ones_own(convert, device):
    meshes = ico_sphere(1).to(device)
    own = 0.5 * combinatorial_laplacian(meshes).to_dense() + cotangent_laplacian(meshes).to_dense()
    matrix = compute_matrix(meshes, lambda_=2.0, laplacian=convert(own))
    assert_equal_to_rounding(matrix.to_dense(), torch.eye(42, device=device) + 2 * own, roundings=3)


def test_from_sparse_leaves_the_callers_matrix_alone():
    own = scipy.sparse.csc_matrix(np.array([[2.0, -1, 0], [-1, 2, -1], [0, -1, 2]]))
    own.indices[:2] = own.indices[:2][::-1].copy()  # unsorted, as scipy allows
    own.data[:2] = own.data[:2][::-1].copy()
    own.has_sorted_indices = False
    before = own.indices.copy(), own.data.copy()
    matrix = SystemMatrix.from_sparse(own)
    assert matrix.to_dense().tolist() == [[2, -1, 0], [-1, 2, -1], [0, -1, 2]]
    assert np.array_equal(own.indices, before[0])
    assert np.array_equal(own.data, before[1])


def test_rounding_of_a_symmetric_matrix_is_taken_out(device):
    dense = compute_matrix(ico_sphere(0).to(device)).to_dense()
    dense[0] *= 1 + 1e-7
    matrix = SystemMatrix.from_sparse(dense).to_dense()
    assert torch.equal(matrix, matrix.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_beside_large_diagonals_is_taken_out(dtype, device):
    # Right-angled corners: entries that would be 0 are what rounding has left of sums of numbers as large as the diagonal.
    eps = torch.finfo(dtype).eps
    dense = torch.tensor([[1e6, -1e3, 0], [-1e3, 1.0, 0], [0, 0, 1e-6]], dtype=dtype, device=device)
    dense[0, 2], dense[2, 0] = 2 * eps, -eps  # beside sqrt(1e6 * 1e-6) = 1
    dense[0, 1] *= 1 + 2 * eps
    matrix = SystemMatrix.from_sparse(dense).to_dense()
    assert torch.equal(matrix, matrix.T)
    torch.testing.assert_close(matrix, dense, rtol=2 * eps, atol=2 * eps)


def test_one_that_lacks_its_mirror_image_to_rounding_is_left_out(device):
    own = torch.tensor([[1.0, 1e-7], [0.0, 1.0]], device=device)
    assert SystemMatrix.from_sparse(own).to_dense().tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.to(torch.float64)])
def test_copies(copied, device):
    matrix = compute_matrix(ragged().to(device))
    other = copied(matrix)
    assert torch.equal(other.to_dense().float(), matrix.to_dense())
    assert other.values is not matrix.values
    assert other.device == device


def test_to_the_same_place_is_the_same_matrix(device):
    matrix = compute_matrix(ragged().to(device))
    assert matrix.to(device) is matrix


def test_repr_tells_shape_and_entries(device):
    matrix = compute_matrix(ico_sphere(0).to(device))
    assert repr(matrix) == f"SystemMatrix(shape=(12, 12), nnz=72, dtype=torch.float32, device={device})"


class TestErrors:
    @pytest.mark.parametrize("lambda_", [-1.0, -1e-9, math.nan, math.inf, torch.tensor(-2.0)])
    def test_lambda_negative_or_not_finite(self, lambda_, device):
        with pytest.raises(ValueError, match=r"lambda_: expected a finite number in \[0, infinity\), got"):
            compute_matrix(ico_sphere(0).to(device), lambda_=lambda_)

    @pytest.mark.parametrize("lambda_", ["19", True, [19.0], torch.ones(12, dtype=torch.bool)])
    def test_lambda_that_is_no_number(self, lambda_):
        with pytest.raises(TypeError, match=r"lambda_: expected (a number|real numbers)"):
            compute_matrix(ico_sphere(0), lambda_=lambda_)

    @pytest.mark.parametrize("alpha", [-0.1, 1.0, 19.0, math.nan])
    def test_alpha_outside_its_interval(self, alpha):
        with pytest.raises(ValueError, match=r"alpha: expected a finite number in \[0, 1\), got"):
            compute_matrix(ico_sphere(0), alpha=alpha)
        with pytest.raises(ValueError, match=r"alpha: expected a finite number in \[0, 1\), got"):
            lambda_from_alpha(alpha)

    def test_lambda_and_alpha_together(self):
        with pytest.raises(ValueError, match="alpha: expected lambda_ or alpha, not both"):
            compute_matrix(ico_sphere(0), lambda_=19.0, alpha=0.95)

    def test_lambda_too_large_for_the_dtype(self, device):
        sphere = ico_sphere(0).to(device)
        with pytest.raises(ValueError, match="matrix: expected finite numbers, got inf"):
            compute_matrix(sphere, lambda_=1e38)
        with pytest.raises(
            ValueError, match=r"matrix: expected a lambda whose lambda L leaves the identity visible in torch.float32"
        ):
            compute_matrix(sphere, lambda_=1e7)
        compute_matrix(sphere.verts_packed().double(), sphere.faces_packed(), lambda_=1e7)

    @pytest.mark.parametrize(
        ("edges", "weights", "message"),
        [
            (torch.zeros(3, 3, dtype=torch.int64), torch.ones(3), r"edges: expected \(E, 2\) beside weights \(E,\)"),
            (torch.tensor([[0, 12]]), torch.ones(1), r"edges: expected vertex indices in \[0, 12\), got 0 to 12"),
            (torch.tensor([[0, 1]]), torch.tensor([math.nan]), "weights: expected finite numbers, got nan"),
        ],
    )
    def test_wrong_edges(self, edges, weights, message, device):
        with pytest.raises(ValueError, match=message):
            SystemMatrix.from_edges(edges.to(device), weights.to(device), 12)

    def test_not_symmetric(self, device):
        sphere = ico_sphere(0).to(device)
        dense = combinatorial_laplacian(sphere).to_dense()
        dense[3, 5] += 0.5
        with pytest.raises(ValueError, match=r"laplacian: expected a symmetric matrix, got .* at \(3, 5\) and .* at \(5, 3\)"):
            compute_matrix(sphere, laplacian=dense)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(
        "own",
        [
            [[1e6, 1, 0], [-1, 1e6, 0], [0, 0, 1]],  # 1 is 8 times eps of float32 of the diagonal
            [[1e6, 0, 0], [0, 1, 1e-2], [0, -1e-2, 1]],  # small beside the largest entry only
            [[1e6, 0, 0], [0, 1e-6, 1e-8], [0, 0, 1e-6]],  # without a mirror image
        ],
    )
    def test_not_symmetric_beside_large_numbers(self, own, dtype, device):
        with pytest.raises(ValueError, match=r"matrix: expected a symmetric matrix, got .* differ"):
            SystemMatrix.from_sparse(torch.tensor(own, dtype=dtype, device=device))

    def test_pytorch3ds_own_laplacian_is_refused(self, device):
        meshes = ico_sphere(1).to(device)  # its vertices have degrees 5 and 6
        with pytest.raises(ValueError, match="laplacian: expected a symmetric matrix"):
            compute_matrix(meshes, laplacian=meshes.laplacian_packed())

    @pytest.mark.parametrize("entry", [math.nan, math.inf])
    def test_an_entry_that_is_not_finite(self, entry, device):
        sphere = ico_sphere(0).to(device)
        dense = combinatorial_laplacian(sphere).to_dense()
        dense[3, 3] = entry
        with pytest.raises(ValueError, match=r"laplacian \(its stored entries\): expected finite numbers, got (nan|inf)"):
            compute_matrix(sphere, laplacian=dense)

    @pytest.mark.parametrize(
        ("laplacian", "error", "message"),
        [
            (torch.eye(11), ValueError, "laplacian: expected a matrix of 12 rows, one per vertex"),
            (torch.ones(12, 11), ValueError, "laplacian: expected a square matrix"),
            (torch.eye(12, dtype=torch.int64), TypeError, "laplacian: expected a real floating-point dtype"),
            (np.eye(12), TypeError, "laplacian: expected a torch tensor or a scipy.sparse matrix"),
            ("uniform", ValueError, r"laplacian: expected one of \['combinatorial', 'cotangent'\]"),
        ],
    )
    def test_wrong_laplacians(self, laplacian, error, message):
        with pytest.raises(error, match=message):
            compute_matrix(ico_sphere(0), laplacian=laplacian)

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (torch.zeros(11, 3), ValueError, r"x: expected a tensor of shape \(12,\), \(12, k\) or \(B, 12, k\)"),
            (torch.zeros(3, 11, 1), ValueError, r"x: expected a tensor of shape"),
            (torch.zeros(12, 3).double(), TypeError, "x: expected torch.float32, the dtype of the matrix"),
            (torch.zeros(12, 3, device="meta"), ValueError, "x: expected it on {device}"),
        ],
    )
    def test_wrong_factors(self, x, error, message, device):
        with pytest.raises(error, match=message.format(device=device)):
            compute_matrix(ico_sphere(0).to(device)) @ (x if x.is_meta else x.to(device))
