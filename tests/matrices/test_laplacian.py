"""Laplacians by their identities: symmetric, rows that sum to zero, positive semidefinite, closed forms, other libraries."""

import math
from types import SimpleNamespace

import gpytoolbox
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.ops import cot_laplacian
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import combinatorial_laplacian, cotangent_laplacian
from pt3d_largesteps.matrices.laplacian import laplacian_from_edges
from support.comparing import assert_equal_to_rounding, assert_same_sums, gradcheck
from support.shapes import book, empty, equilateral_triangle, grid, ragged, real_mesh, shapes, with_degenerate_faces

BOTH = pytest.mark.parametrize("laplacian", [combinatorial_laplacian, cotangent_laplacian])
# On the way from the corners of a face to a cotangent, and from those to an entry, which sums up to a dozen of them. The
# triangles of the shapes are far from thin, so that nothing cancels.
ROUNDINGS = 40
EVERY_SHAPE = pytest.mark.parametrize("name", list(shapes()))


def double(meshes: Meshes) -> tuple[torch.Tensor, torch.Tensor]:
    return meshes.verts_packed().double(), meshes.faces_packed()


@BOTH
@EVERY_SHAPE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_symmetric_zero_rows_positive_semidefinite(laplacian, name, dtype, device):
    meshes = shapes()[name].to(device)
    matrix = laplacian(meshes.verts_packed().to(dtype), meshes.faces_packed()).to_dense()
    assert (matrix.dtype, matrix.device) == (dtype, device)
    matrix = matrix.cpu()
    scale = matrix.abs().max() if matrix.numel() else 1
    assert matrix.shape == (len(meshes.verts_packed()),) * 2
    assert torch.equal(matrix, matrix.T)
    assert (matrix.sum(1).abs() <= 20 * torch.finfo(dtype).eps * scale).all()
    assert (torch.linalg.eigvalsh(matrix.double()) >= -100 * torch.finfo(dtype).eps * scale).all()


@EVERY_SHAPE
def test_combinatorial_is_degree_minus_adjacency(name, device):
    meshes = shapes()[name].to(device)
    adjacency = torch.zeros((len(meshes.verts_packed()),) * 2)
    for a, b, c in meshes.faces_packed().tolist():
        for i, j in ((a, b), (b, c), (c, a)):
            if i != j:
                adjacency[i, j] = adjacency[j, i] = 1
    assert torch.equal(combinatorial_laplacian(meshes).to_dense().cpu(), torch.diag(adjacency.sum(1)) - adjacency)


@EVERY_SHAPE
@BOTH
def test_meshes_and_packed_tensors_agree(laplacian, name, device):
    meshes = shapes()[name].to(device)
    packed = laplacian(meshes.verts_packed(), meshes.faces_packed().to(torch.int32))
    assert_same_sums(laplacian(meshes).to_dense(), packed.to_dense())


@BOTH
def test_batch_is_block_diagonal_and_each_block_is_the_mesh_alone(laplacian, device):
    batch = ragged().to(device)
    blocks = [laplacian(batch[k]).to_dense() for k in range(len(batch))]
    assert_equal_to_rounding(laplacian(batch).to_dense(), torch.block_diag(*blocks), ROUNDINGS)


def test_cotangent_of_an_equilateral_triangle_by_hand(device):
    # cot 60 degrees = 1 / sqrt(3), and half of it, since each edge has one face
    w = 0.5 / math.sqrt(3)
    expected = torch.tensor([[2 * w, -w, -w], [-w, 2 * w, -w], [-w, -w, 2 * w]], device=device)
    assert_equal_to_rounding(cotangent_laplacian(equilateral_triangle().to(device)).to_dense(), expected, ROUNDINGS)


def test_cotangent_of_a_flat_grid_is_the_five_point_stencil(device):
    matrix = cotangent_laplacian(grid(5, 5).to(device)).to_dense()
    row = matrix[12].view(5, 5)  # the middle vertex
    expected = torch.zeros(5, 5, device=device)
    expected[2, 2], expected[1, 2], expected[3, 2], expected[2, 1], expected[2, 3] = 4, -1, -1, -1, -1
    torch.testing.assert_close(row, expected, atol=1e-6, rtol=0)


def test_combinatorial_eigenvalues_of_a_ring_of_triangles(device):
    # Vertices 0..n-1 with edges (i, i+1) and (i, i+2): a circulant graph with eigenvalues 4 - 2 cos t - 2 cos 2t.
    n = 11
    i = torch.arange(n, device=device)
    faces = torch.stack([i, (i + 1) % n, (i + 2) % n], dim=1)
    values = torch.linalg.eigvalsh(combinatorial_laplacian(torch.rand(n, 3, device=device).double(), faces).to_dense())
    t = 2 * math.pi * i.double() / n
    torch.testing.assert_close(values, (4 - 2 * t.cos() - 2 * (2 * t).cos()).sort().values)


def test_an_edge_of_three_faces_counts_once_or_adds_up(device):
    meshes = book().to(device)
    assert combinatorial_laplacian(meshes).to_dense()[0, 1] == -1
    parts = [cotangent_laplacian(meshes.verts_packed(), meshes.faces_packed()[[k]]).to_dense() for k in range(3)]
    assert_equal_to_rounding(cotangent_laplacian(meshes).to_dense(), sum(parts), ROUNDINGS)


def test_degenerate_faces_give_no_self_edge_and_no_infinity(device):
    meshes = with_degenerate_faces().to(device)
    matrix = combinatorial_laplacian(meshes).to_dense()
    assert matrix[1, 4] == -1  # of the face (1, 1, 4)
    assert matrix[1, 1] == 3  # neighbours 0, 2 and 4; not itself
    cotangent = cotangent_laplacian(meshes).to_dense()
    assert torch.isfinite(cotangent).all()
    sound = cotangent_laplacian(meshes.verts_packed(), meshes.faces_packed()[:2]).to_dense()
    assert cotangent[2, 3] == sound[2, 3]  # an edge of sound faces alone does not feel the others


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_cotangent_knows_no_scale(scale, device):
    meshes = torus(0.3, 1.0, 12, 20).to(device)
    verts, faces = meshes.verts_packed(), meshes.faces_packed()
    torch.testing.assert_close(
        cotangent_laplacian(verts * scale, faces).to_dense(), cotangent_laplacian(verts, faces).to_dense(), rtol=1e-4, atol=1e-5
    )


def test_dirichlet_energy_of_a_linear_function_is_its_gradient_squared_times_the_area(device):
    verts, faces = double(grid(6, 7).to(device))
    f = 2 * verts[:, 0] - 3 * verts[:, 1] + 1
    energy = f @ (cotangent_laplacian(verts, faces) @ f[:, None]).squeeze(1)
    torch.testing.assert_close(energy, torch.tensor((4 + 9) * 5.0 * 6.0).to(f))


def test_cotangent_gradient_with_respect_to_the_vertices(device):
    verts, faces = double(ico_sphere(0).to(device))
    verts.requires_grad_()
    x = torch.randn(len(verts), 2, dtype=torch.float64, device=device)

    def energy(verts):
        return (x * (cotangent_laplacian(verts, faces) @ x)).sum()

    assert gradcheck(energy, verts)


@pytest.mark.parametrize("meshes", [torus(0.3, 1.0, 12, 20), grid(), ico_sphere(3)], ids=["torus", "grid", "sphere"])
def test_cotangent_equals_gpytoolbox(meshes, device):
    verts, faces = double(meshes)
    theirs = gpytoolbox.cotangent_laplacian(verts.numpy(), faces.numpy()).toarray()
    ours = cotangent_laplacian(verts.to(device), faces.to(device)).to_dense()
    torch.testing.assert_close(ours.cpu(), torch.from_numpy(theirs))


def test_pytorch3d_has_minus_two_of_ours_and_no_diagonal(device):
    meshes = torus(0.3, 1.0, 12, 20).to(device)
    theirs, _ = cot_laplacian(meshes.verts_packed(), meshes.faces_packed())
    ours = cotangent_laplacian(meshes).to_dense()
    torch.testing.assert_close(theirs.to_dense(), -2 * (ours - torch.diag(ours.diagonal())), rtol=1e-4, atol=1e-4)


@pytest.fixture
def largesteps_geometry(monkeypatch):
    """The released package, whose builders name the device "cuda", with its torch told to stay on the CPU."""
    import largesteps.geometry as geometry

    def on_cpu(function):
        return lambda *args, **kwargs: function(*args, **{**kwargs, "device": "cpu"})

    names = {name: getattr(torch, name) for name in dir(torch) if not name.startswith("__")}
    names |= {name: on_cpu(getattr(torch, name)) for name in ("arange", "ones", "sparse_coo_tensor")}
    monkeypatch.setattr(geometry, "torch", SimpleNamespace(**names))
    return geometry


def test_largesteps_has_the_same_combinatorial_and_twice_the_cotangent(largesteps_geometry):
    meshes = torus(0.3, 1.0, 12, 20)
    verts, faces = meshes.verts_packed(), meshes.faces_packed()
    theirs = largesteps_geometry.laplacian_uniform(verts, faces).to_dense()
    assert torch.equal(combinatorial_laplacian(meshes).to_dense(), theirs)
    theirs = largesteps_geometry.laplacian_cot(verts, faces).to_dense()
    torch.testing.assert_close(2 * cotangent_laplacian(meshes).to_dense(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["suzanne", "cow", "spot"])
def test_real_meshes(name, device):
    verts, faces = double(real_mesh(name).to(device))
    for matrix in (combinatorial_laplacian(verts, faces), cotangent_laplacian(verts, faces)):
        x = torch.randn(len(verts), 4, dtype=torch.float64, device=device)
        assert ((x * (matrix @ x)).sum(0) >= 0).all()
        assert (matrix @ torch.ones_like(x)).abs().max() <= 1e-9 * matrix.values().abs().max()


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 12), st.data())
def test_any_soup_of_faces(device, num_verts, data):
    index = st.integers(0, num_verts - 1)
    faces = torch.tensor(data.draw(st.lists(st.tuples(index, index, index), min_size=1, max_size=20)))
    coordinate = st.integers(-3, 3)  # coincident and collinear points are frequent
    verts = torch.tensor(
        data.draw(st.lists(st.tuples(*[coordinate] * 3), min_size=num_verts, max_size=num_verts)), dtype=torch.float64
    )
    verts, faces = verts.to(device), faces.to(device)
    for matrix in (combinatorial_laplacian(verts, faces), cotangent_laplacian(verts, faces)):
        dense = matrix.to_dense()
        scale = dense.abs().max().clamp_min(1)
        assert torch.isfinite(dense).all()
        assert torch.equal(dense, dense.T)
        # A row has up to 12 entries, and the diagonal is the sum of the others, in any order.
        assert (dense.sum(1).abs() <= 12 * torch.finfo(torch.float64).eps * dense.abs().sum(1)).all()
        assert (torch.linalg.eigvalsh(dense) >= -1e-13 * scale).all()


def test_laplacian_from_edges_is_linear_in_the_weights(device):
    edges = torch.tensor([[0, 1], [1, 2], [0, 3]], device=device)
    weights = torch.rand(3, dtype=torch.float64, device=device)
    x = torch.randn(5, dtype=torch.float64, device=device)
    energy = x @ laplacian_from_edges(edges, weights, 5).to_dense() @ x
    torch.testing.assert_close(energy, (weights * (x[edges[:, 0]] - x[edges[:, 1]]) ** 2).sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, device):
    meshes = ico_sphere(1).to(device)
    verts, faces = meshes.verts_packed().to(dtype), meshes.faces_packed()
    assert torch.equal(combinatorial_laplacian(verts, faces).to_dense().float(), combinatorial_laplacian(meshes).to_dense())
    half = cotangent_laplacian(verts, faces).to_dense()
    assert half.dtype == dtype
    expected = cotangent_laplacian(verts.float(), faces).to_dense()
    assert_equal_to_rounding(half, expected, 7, expected.abs())  # a weight is rounded once, and up to six are added up


class TestErrors:
    VERTS = torch.zeros(3, 3)

    @pytest.mark.parametrize("bad", [[[0, 1, 3]], [[0, 1, -1]]])
    def test_index_out_of_range(self, bad, device):
        with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 3\), got .* in face 1 "):
            combinatorial_laplacian(self.VERTS.to(device), torch.tensor([[0, 1, 2], *bad], device=device))

    def test_index_out_of_range_names_the_mesh_that_it_would_leave(self, device):
        # 3 is a vertex of the next mesh of the batch, where PyTorch3D would silently look for it
        good, bad = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2], [0, 1, 3]])
        batch = Meshes([self.VERTS] * 3, [good, bad, good]).to(device)
        with pytest.raises(ValueError, match=r"in face 1 of mesh 1 \(1 faces are out of range\)"):
            combinatorial_laplacian(batch)

    @pytest.mark.parametrize(
        ("verts", "faces", "error", "message"),
        [
            (torch.zeros(3, 2), torch.zeros(1, 3, dtype=torch.int64), ValueError, "verts: expected packed positions"),
            (torch.zeros(3, 3), torch.zeros(1, 4, dtype=torch.int64), ValueError, "faces: expected packed vertex indices"),
            (torch.zeros(3, 3), torch.zeros(1, 3), TypeError, "faces: expected integer vertex indices"),
            (
                torch.zeros(3, 3, dtype=torch.int64),
                torch.zeros(1, 3, dtype=torch.int64),
                TypeError,
                "verts: expected a real float",
            ),
            (torch.zeros(3, 3), None, TypeError, "faces: expected packed faces"),
            ("mesh.obj", None, TypeError, "verts: expected Meshes or packed positions"),
            (empty(), torch.zeros(1, 3, dtype=torch.int64), TypeError, "faces: expected none beside Meshes"),
        ],
    )
    def test_wrong_arguments(self, verts, faces, error, message):
        with pytest.raises(error, match=message):
            combinatorial_laplacian(verts, faces)

    def test_positions_that_are_not_finite(self, device):
        sphere = ico_sphere(0).to(device)
        verts = sphere.verts_packed().clone()
        verts[4, 1] = math.nan
        with pytest.raises(ValueError, match=r"verts: expected finite numbers, got nan at index \(4, 1\)"):
            cotangent_laplacian(verts, sphere.faces_packed())


def test_empty_batches(device):
    assert combinatorial_laplacian(empty().to(device)).shape == (0, 0)
    assert cotangent_laplacian(join_meshes_as_batch([empty(), empty()]).to(device)).shape == (0, 0)
