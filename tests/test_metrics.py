"""Each measure on a case whose value is known."""

import math

import pytest
import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.metrics import (
    flipped_faces,
    hausdorff_distance,
    intersection_over_union,
    peak_signal_to_noise_ratio,
    self_intersecting_faces,
    surface_distance,
)
from support.shapes import empty, join


def test_two_spheres(device):
    sphere = ico_sphere(5).to(device)
    larger = sphere.scale_verts(1.2)
    distance = surface_distance(sphere, larger)
    # 0.2 apart everywhere, up to the distance between samples
    assert distance.forward == pytest.approx(0.04, rel=0.05)
    assert distance.backward == pytest.approx(0.04, rel=0.05)
    assert distance.chamfer == distance.forward + distance.backward
    assert distance.normal_consistency == pytest.approx(1.0, abs=0.01)


def test_sampling_noise():
    # points of density n / area: the mean squared distance to the nearest is area / (pi n)
    sphere = ico_sphere(5)
    expected = 2 * (4 * math.pi) / (math.pi * 10_000)
    assert surface_distance(sphere, sphere).chamfer == pytest.approx(expected, rel=0.05)


def test_one_direction_sees_what_the_other_does_not():
    sphere = ico_sphere(3)
    two = join([sphere, sphere.offset_verts(torch.tensor([5.0, 0, 0]))])
    distance = surface_distance(sphere, two)
    assert distance.forward < 0.01 < 5 < distance.backward


def test_inverted_normals():
    sphere = ico_sphere(3)
    inverted = Meshes(sphere.verts_list(), [sphere.faces_packed().flip(1)])
    assert surface_distance(inverted, sphere).normal_consistency == pytest.approx(-1.0, abs=0.01)


def test_the_seed_decides_and_the_global_state_is_left_alone(device):
    sphere = ico_sphere(2).to(device)
    state = torch.random.get_rng_state()
    assert surface_distance(sphere, sphere, seed=1) == surface_distance(sphere, sphere, seed=1)
    assert surface_distance(sphere, sphere, seed=1) != surface_distance(sphere, sphere, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_intersection_over_union(device):
    masks, references = torch.zeros(2, 3, 10, 10, device=device)
    masks[0, :6], references[0, 3:] = 1, 1  # 3 rows of 10 in common
    masks[1, :5], references[1, :5] = 1, 0.9
    iou = intersection_over_union(masks, references)
    assert iou.tolist() == pytest.approx([0.3, 1.0, 1.0])  # two empty ones agree
    assert torch.equal(intersection_over_union(masks[..., None], references[..., None]), iou)


class TestHausdorff:
    def test_two_spheres(self, device):
        sphere = ico_sphere(4).to(device)
        distance = hausdorff_distance(sphere, sphere.scale_verts(1.5))
        # of the vertices to the larger sphere, whose faces lie a little within it
        assert distance.forward == pytest.approx(0.5, abs=2e-3)
        assert distance.backward == pytest.approx(0.5, abs=2e-3)
        assert distance.symmetric == max(distance.forward, distance.backward)

    def test_of_itself(self):
        assert hausdorff_distance(ico_sphere(3), ico_sphere(3)).symmetric < 1e-6

    def test_directions(self):
        sphere = ico_sphere(3)
        two = join([sphere, sphere.offset_verts(torch.tensor([5.0, 0, 0]))])
        distance = hausdorff_distance(sphere, two)
        assert distance.forward < 1e-6
        assert distance.backward == pytest.approx(5.0, abs=0.02)  # from (6, 0, 0) to (1, 0, 0)

    def test_a_spike_that_no_sample_meets(self):
        sphere = ico_sphere(3)
        verts = sphere.verts_packed().clone()
        verts[0] *= 3
        spiky = Meshes([verts], sphere.faces_list())
        assert hausdorff_distance(spiky, sphere, num_samples=1).forward == pytest.approx(2.0, abs=1e-3)

    def test_errors(self):
        with pytest.raises(ValueError, match="reference: expected Meshes of one mesh with at least one face"):
            hausdorff_distance(ico_sphere(0), empty())


class TestPeakSignalToNoiseRatio:
    def test_known(self, device):
        images = torch.zeros(3, 4, 5, 3, device=device)
        references = images.clone()
        references[0] += 0.1
        references[1, 0, 0, 0] = 1.0  # one of 60 numbers
        expected = [20.0, 10 * math.log10(60), math.inf]
        assert peak_signal_to_noise_ratio(images, references).tolist() == pytest.approx(expected, rel=1e-5)
        louder = peak_signal_to_noise_ratio(images, references, peak=10.0)
        assert louder[0].item() == pytest.approx(40.0, rel=1e-5)

    def test_errors(self):
        with pytest.raises(ValueError, match="images: expected two equal shapes"):
            peak_signal_to_noise_ratio(torch.zeros(1, 4), torch.zeros(1, 5))
        with pytest.raises(ValueError, match="references: expected finite numbers, got nan"):
            peak_signal_to_noise_ratio(torch.zeros(1, 4), torch.full((1, 4), math.nan))
        with pytest.raises(ValueError, match="peak: expected"):
            peak_signal_to_noise_ratio(torch.zeros(1, 4), torch.zeros(1, 4), peak=0.0)


class TestSelfIntersections:
    def test_none(self, device):
        batch = join_meshes_as_batch([ico_sphere(3), torus(0.3, 1.0, 12, 20), empty()]).to(device)
        assert self_intersecting_faces(batch).tolist() == [0, 0, 0]

    def test_two_tetrahedra_through_each_other(self, device):
        tetrahedron = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
        star = join([Meshes([tetrahedron], [faces]), Meshes([-tetrahedron], [faces])])
        apart = join([Meshes([tetrahedron], [faces]), Meshes([tetrahedron + 3], [faces])])
        assert self_intersecting_faces(star.to(device)).item() == 1.0
        assert self_intersecting_faces(apart.to(device)).item() == 0.0

    def test_two_faces_of_many(self):
        sphere = ico_sphere(3)
        verts = sphere.verts_packed().clone()
        verts[0] *= -1.5  # one vertex pulled through the opposite side
        fraction = self_intersecting_faces(Meshes([verts], sphere.faces_list())).item()
        assert 0 < fraction < 0.1

    def test_triangles_that_share_a_vertex_and_cross(self):
        verts = torch.tensor([[0.0, 0, 0], [2, 1, 0], [2, -1, 0], [2, 0, 1], [2, 0, -1]])
        crossing = Meshes([verts], [torch.tensor([[0, 1, 2], [0, 3, 4]])])
        assert self_intersecting_faces(crossing).item() == 1.0

    def test_positions_that_are_not_finite(self, device):
        verts = ico_sphere(0).verts_packed().clone()
        verts[3] = math.nan
        with pytest.raises(ValueError, match="vertices of mesh 0: expected finite numbers, got nan"):
            self_intersecting_faces(Meshes([verts], ico_sphere(0).faces_list()).to(device))


def test_float64_meshes(device):
    sphere = ico_sphere(2).to(device)
    double = Meshes([sphere.verts_packed().double()], sphere.faces_list())
    assert surface_distance(double, sphere).chamfer == surface_distance(sphere, sphere).chamfer


def test_float64_meshes_far_from_the_origin():
    # In float32 numbers near 1e7 are 1 apart: spheres of radius 1 and 1.2 would be the same few points.
    verts, faces = ico_sphere(3).verts_packed().double(), ico_sphere(3).faces_packed()
    near = [Meshes([radius * verts], [faces]) for radius in (1.0, 1.2)]
    far = [Meshes([radius * verts + 1e7], [faces]) for radius in (1.0, 1.2)]
    # The sums round to 2e-9 at 1e7, and the samples to 1e-7 of their distance to the centre.
    assert hausdorff_distance(*far).forward == pytest.approx(hausdorff_distance(*near).forward, abs=1e-6)
    assert surface_distance(*far).chamfer == pytest.approx(surface_distance(*near).chamfer, abs=1e-6)


class TestFlippedFaces:
    def test_some(self, device):
        sphere = ico_sphere(2).to(device)
        faces = sphere.faces_packed().clone()
        faces[:32] = faces[:32].flip(1)
        flipped = Meshes(sphere.verts_list(), [faces])
        assert flipped_faces(flipped, sphere).item() == pytest.approx(32 / 320)

    def test_batches(self, device):
        sphere = ico_sphere(2).to(device)
        inverted = Meshes(sphere.verts_list(), [sphere.faces_packed().flip(1)])
        batch = join_meshes_as_batch([sphere, inverted, empty().to(device)])
        assert flipped_faces(batch, sphere).tolist() == [0, 1, 0]


class TestErrors:
    def test_more_than_one_mesh(self):
        with pytest.raises(ValueError, match="meshes: expected Meshes of one mesh with at least one face"):
            surface_distance(ico_sphere(0).extend(2), ico_sphere(0))
        with pytest.raises(ValueError, match="reference: expected Meshes of one mesh with at least one face"):
            flipped_faces(ico_sphere(0), empty())

    def test_unequal_masks(self):
        with pytest.raises(ValueError, match="masks: expected two equal shapes"):
            intersection_over_union(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))

    def test_without_libigl(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "igl", None)
        monkeypatch.setitem(sys.modules, "igl.predicates", None)
        with pytest.raises(ImportError, match="this measure needs libigl: pip install libigl"):
            self_intersecting_faces(ico_sphere(0))
