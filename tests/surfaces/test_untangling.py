"""Untangling: what is repaired, what stays bit-identical, and what is returned if a repair is impossible."""

import sys

import numpy as np
import pytest
import torch
from pytorch3d.renderer import TexturesUV, TexturesVertex
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps.metrics import self_intersecting_faces
from pt3d_largesteps.surfaces.untangling import untangle
from support.shapes import empty, grid, join, shapes


def moved_to(meshes: Meshes, verts: torch.Tensor) -> Meshes:
    return Meshes([verts], meshes.faces_list())


def spike(level: int = 3) -> Meshes:
    """A sphere with vertex 0 pulled through the opposite side."""
    sphere = ico_sphere(level)
    verts = sphere.verts_packed().clone()
    verts[0] *= -1.5
    return moved_to(sphere, verts)


def swapped(meshes: Meshes, edge: int) -> Meshes:
    """A fold: the two ends of an edge have changed places."""
    verts, ends = meshes.verts_packed().clone(), meshes.edges_packed()[edge]
    verts[ends] = verts[ends.flip(0)]
    return moved_to(meshes, verts)


def noisy(meshes: Meshes, center: int, radius: float, amplitude: float) -> tuple[Meshes, torch.Tensor]:
    verts = meshes.verts_packed()
    near = (verts - verts[center]).norm(dim=1) < radius
    noise = amplitude * torch.randn(verts.shape, generator=torch.Generator().manual_seed(0))
    return moved_to(meshes, torch.where(near[:, None], verts + noise, verts)), near


def intersecting(meshes: Meshes) -> list[int]:
    """The number of self-intersecting faces by the measure, which rounds a fraction in float32."""
    fractions = self_intersecting_faces(meshes).tolist()
    return [round(fraction * len(faces)) for fraction, faces in zip(fractions, meshes.faces_list(), strict=True)]


def moved(untangled, meshes: Meshes) -> torch.Tensor:
    return (untangled.meshes.verts_packed() != meshes.verts_packed()).any(dim=1)


def rings(meshes: Meshes, start: torch.Tensor, number: int) -> torch.Tensor:
    """``start`` and so many rings of neighbours."""
    for _ in range(number):
        touched = start[meshes.faces_packed()].any(dim=1)
        start = start.clone()
        start[meshes.faces_packed()[touched]] = True
    return start


class TestRepairs:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_vertex_through_the_other_side(self, device, dtype):
        tangled = moved_to(spike(), spike().verts_packed().to(dtype)).to(device)
        untangled = untangle(tangled)
        assert untangled.before.tolist() == intersecting(tangled) != [0]
        assert untangled.after.tolist() == intersecting(untangled.meshes) == [0]
        assert untangled.before.dtype == untangled.after.dtype == torch.int64
        verts = untangled.meshes.verts_packed()
        assert (verts.dtype, verts.device) == (dtype, tangled.device)
        torch.testing.assert_close(verts.norm(dim=1).cpu(), torch.ones(642, dtype=dtype), rtol=0, atol=0.05)
        assert torch.equal(untangled.meshes.faces_packed(), tangled.faces_packed())

    @pytest.mark.parametrize("edge", [0, 200, 1000])
    def test_a_fold(self, edge):
        sphere = ico_sphere(3)
        tangled = swapped(sphere, edge)
        untangled = untangle(tangled)
        assert untangled.before.item() > 0 == untangled.after.item()
        assert intersecting(untangled.meshes) == [0]
        ends = torch.zeros(642, dtype=torch.bool)
        ends[sphere.edges_packed()[edge]] = True
        assert not bool((moved(untangled, tangled) & ~rings(sphere, ends, 2)).any())
        assert float((untangled.meshes.verts_packed() - sphere.verts_packed()).norm(dim=1).max()) < 0.1

    @pytest.mark.parametrize(("shape", "amplitude"), [(ico_sphere(4), 0.05), (torus(0.3, 1.0, 24, 60), 0.05)])
    def test_local_noise(self, shape, amplitude):
        tangled, near = noisy(shape, 5, 0.3, amplitude)
        untangled = untangle(tangled)
        assert untangled.before.item() > 10
        assert untangled.after.tolist() == intersecting(untangled.meshes) == [0]
        changed = moved(untangled, tangled)
        assert 0 < int(changed.sum()) < len(changed) // 10
        assert not bool((changed & ~rings(shape, near, 3)).any())

    def test_a_border_stays_a_border(self):
        flat = grid(12, 12)
        heights = torch.arange(144.0)[:, None].sin() / 2  # of random ones, not all would make the two cross others
        tangled = moved_to(flat, flat.verts_packed() + torch.tensor([0.0, 0, 1]) * heights)
        verts = tangled.verts_packed().clone()
        verts[[5, 6]] = verts[[6, 5]]  # neighbours on the border y = 0
        untangled = untangle(moved_to(flat, verts))
        assert untangled.before.item() > 0 == untangled.after.item()
        assert float(untangled.meshes.verts_packed()[:12, 1].abs().max()) == 0.0
        assert not torch.equal(untangled.meshes.verts_packed()[5:7], verts[5:7])

    def test_the_same_every_time(self):
        tangled, _ = noisy(ico_sphere(4), 5, 0.3, 0.05)
        assert torch.equal(untangle(tangled).meshes.verts_packed(), untangle(tangled).meshes.verts_packed())

    def test_no_gradient(self):
        verts = spike().verts_packed().clone().requires_grad_()
        untangled = untangle(moved_to(spike(), verts)).meshes.verts_packed()
        assert not untangled.requires_grad
        assert torch.equal(verts, spike().verts_packed())  # the given ones are left alone


class TestWhatStays:
    @pytest.mark.parametrize("name", shapes())
    def test_every_shape_comes_back(self, name):
        meshes = shapes()[name]
        untangled = untangle(meshes)
        assert untangled.before.tolist() == intersecting(meshes)
        assert untangled.after.tolist() == intersecting(untangled.meshes)
        assert bool((untangled.after <= untangled.before).all())
        assert bool(torch.isfinite(untangled.meshes.verts_packed()).all())
        if not untangled.before.any():
            assert torch.equal(untangled.meshes.verts_packed(), meshes.verts_packed())

    def test_kept_vertices(self):
        tangled, near = noisy(ico_sphere(4), 5, 0.3, 0.05)
        free = moved(untangle(tangled), tangled)
        keep = free & (torch.arange(len(free)) % 3 == 0)
        assert bool(keep.any())
        untangled = untangle(tangled, keep=keep)
        changed = moved(untangled, tangled)
        assert bool(changed.any())
        assert not bool((changed & keep).any())
        assert untangled.after.item() < untangled.before.item()
        assert not bool(moved(untangle(tangled, keep=near), tangled)[near].any())

    def test_what_has_no_such_face_stays_while_others_are_repaired(self):
        tip = torch.arange(642) == 0
        held = rings(spike(), tip, 1)  # rings around them may move, but there is nothing to be gained by it
        rough = moved_to(spike(), spike().verts_packed() + 0.01 * torch.randn(642, 3))
        sphere = ico_sphere(4).offset_verts(torch.tensor([9.0, 0, 0]))
        tangled = join([rough, sphere, sphere.offset_verts(torch.tensor([1.9, 0.1, 0.0]))])
        untangled = untangle(tangled, keep=torch.cat([held, torch.zeros(5124, dtype=torch.bool)]))
        assert untangled.after.tolist() == intersecting(rough) != untangled.before.tolist()
        assert not bool(moved(untangled, tangled)[:642].any())

    def test_a_hole_does_not_close(self):
        sphere = ico_sphere(4)
        tip = torch.arange(2562) == 5
        faces = sphere.faces_packed()
        faces = faces[~tip[faces].any(dim=1)]
        rim = rings(sphere, tip, 1) & ~tip
        tangled = Meshes([noisy(sphere, 5, 0.3, 0.05)[0].verts_packed()], [faces])
        untangled = untangle(tangled)
        assert untangled.after.item() < untangled.before.item()
        corners = untangled.meshes.verts_packed()[rim]
        assert torch.equal(corners, tangled.verts_packed()[rim])

    def test_all_kept(self):
        untangled = untangle(spike(), keep=torch.ones(642, dtype=torch.bool))
        assert untangled.after.tolist() == untangled.before.tolist() != [0]
        assert torch.equal(untangled.meshes.verts_packed(), spike().verts_packed())

    def test_a_batch(self, device):
        parts = [ico_sphere(2), spike(2), empty(), swapped(ico_sphere(3), 200), grid()]
        batch = join_meshes_as_batch(parts).to(device)
        keep = torch.zeros(len(batch.verts_packed()), dtype=torch.bool, device=device)
        keep[162] = True  # the spike's tip
        untangled = untangle(batch, keep=keep)
        assert (untangled.before > 0).tolist() == [False, True, False, True, False]
        assert (untangled.after > 0).tolist() == [False, True, False, False, False]
        for mesh, part in enumerate(parts):
            alone = untangle(part, keep=keep[162:324].cpu() if mesh == 1 else None)
            assert torch.equal(untangled.meshes.verts_list()[mesh].cpu(), alone.meshes.verts_packed())
            assert torch.equal(untangled.meshes.faces_list()[mesh].cpu(), part.faces_packed())

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_nothing_at_all(self, number):
        untangled = untangle(Meshes([torch.zeros(0, 3)] * number, [torch.zeros(0, 3, dtype=torch.int64)] * number))
        assert len(untangled.meshes) == number
        assert untangled.before.tolist() == untangled.after.tolist() == [0] * number

    def test_textures(self):
        tangled = spike()
        tangled.textures = TexturesVertex([torch.rand(642, 3)])
        assert torch.equal(untangle(tangled).meshes.textures.verts_features_packed(), tangled.textures.verts_features_packed())
        tangled.textures = TexturesUV(torch.rand(1, 4, 4, 3), [tangled.faces_packed()], [torch.rand(642, 2)])
        assert torch.equal(untangle(tangled).meshes.textures.maps_padded(), tangled.textures.maps_padded())


class TestWhatCannotBeRepaired:
    def test_two_spheres_deep_in_each_other(self):
        sphere = ico_sphere(4)
        two = join([sphere, sphere.offset_verts(torch.tensor([0.7, 0.1, 0.0]))])
        untangled = untangle(two)
        assert untangled.after.tolist() == untangled.before.tolist() == intersecting(two) != [0]
        assert torch.equal(untangled.meshes.verts_packed(), two.verts_packed())  # rather than smoothed in vain

    def test_a_tangle_beside_them_is_repaired(self):
        sphere = ico_sphere(4)
        fold = swapped(sphere, 200)
        far = fold.offset_verts(torch.tensor([9.0, 0, 0]))
        untangled = untangle(join([sphere, sphere.offset_verts(torch.tensor([0.7, 0.1, 0.0])), far]))
        assert untangled.after.item() == untangled.before.item() - untangle(fold).before.item()
        changed = (untangled.meshes.verts_packed()[5124:] != far.verts_packed()).any(dim=1)
        assert 0 < int(changed.sum()) < 30

    def test_tangled_all_over(self):
        tangled, _ = noisy(ico_sphere(3), 0, 9.0, 0.3)
        untangled = untangle(tangled)
        assert untangled.after.item() == untangled.before.item() > 1000
        assert torch.equal(untangled.meshes.verts_packed(), tangled.verts_packed())

    def test_a_tangle_that_holds_the_shape(self):
        tangled, _ = noisy(ico_sphere(4), 5, 1.0, 0.2)  # a third of the sphere; a membrane over it would cut it off
        untangled = untangle(tangled)
        assert untangled.after.item() > 500
        assert float((untangled.meshes.verts_packed() - tangled.verts_packed()).norm(dim=1).max()) < 0.5

    def test_rounds(self):
        sphere = ico_sphere(4)
        touching, far = sphere.offset_verts(torch.tensor([1.9, 0.1, 0.0])), spike().offset_verts(torch.tensor([9.0, 0, 0]))
        tangled = join([sphere, touching, far])  # the spike needs no rings around it, the others do
        first, last = untangle(tangled, rounds=1), untangle(tangled)
        assert first.before.item() - first.after.item() == untangle(far).before.item()
        assert last.after.item() == 0


class TestErrors:
    def test_no_meshes(self):
        with pytest.raises(TypeError, match=r"meshes: expected pytorch3d.structures.Meshes, got a tensor of shape \(4, 3\)"):
            untangle(torch.zeros(4, 3))

    @pytest.mark.parametrize("rounds", [1.0, True, None, "10"])
    def test_rounds_of_a_wrong_type(self, rounds):
        with pytest.raises(TypeError, match=r"rounds: expected an integer of at least 1, got"):
            untangle(ico_sphere(0), rounds=rounds)

    def test_no_rounds(self):
        with pytest.raises(ValueError, match=r"rounds: expected an integer of at least 1, got 0"):
            untangle(ico_sphere(0), rounds=0)

    @pytest.mark.parametrize("keep", [torch.zeros(11, dtype=torch.bool), torch.zeros(12), np.zeros(12, dtype=bool), 3])
    def test_masks(self, keep):
        with pytest.raises(ValueError, match=r"keep: expected a mask \(bool\) of shape \(12,\), got"):
            untangle(ico_sphere(0), keep=keep)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_positions_that_are_not_finite(self, device, value):
        verts = ico_sphere(0).verts_packed().clone()
        verts[3, 1] = value
        with pytest.raises(ValueError, match="meshes: expected finite numbers, got"):
            untangle(moved_to(ico_sphere(0), verts).to(device))

    def test_without_libigl(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "igl", None)
        monkeypatch.setitem(sys.modules, "igl.predicates", None)
        with pytest.raises(ImportError, match=r"untangle needs libigl: pip install 'pt3d_largesteps\[metrics\]'"):
            untangle(ico_sphere(0))
