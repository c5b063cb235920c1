"""The matrices of ``largesteps``: the same numbers as the released package, and none of its traps."""

import pytest
import torch
from pytorch3d.utils import ico_sphere, torus

import pt3d_largesteps
from pt3d_largesteps.compat.geometry import compute_matrix, laplacian_cot, laplacian_uniform
from pt3d_largesteps.compat.parameterize import from_differential, to_differential
from support.comparing import assert_same_sums, gradcheck
from support.compat_cases import DTYPES, packed
from support.shapes import grid, with_degenerate_faces, with_isolated_vertices


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
            ({"lambda_": None}, TypeError, r"lambda_: expected a number of at least 0 \(or None with alpha=.*, got None"),
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
