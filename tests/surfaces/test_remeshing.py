"""Remeshing: results, kept vertices, meshes returned unchanged, and the transfer of the module and its optimiser."""

import copy

import numpy as np
import pytest
import torch
from pytorch3d.renderer import TexturesUV, TexturesVertex
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus
from torch import nn

from pt3d_largesteps import LargeSteps, UniformAdam, combinatorial_laplacian, remesh, replace_parameter
from pt3d_largesteps.surfaces.manifold import clean
from support.comparing import assert_comes_back
from support.shapes import book, empty, grid, join, ragged, shapes, with_degenerate_faces, with_isolated_vertices

PASSED_OVER = {"not_manifold": "more than two faces", "degenerate": "opposite orientation"}


def edge_lengths(meshes) -> torch.Tensor:
    verts, edges = meshes.verts_packed(), meshes.edges_packed()
    return (verts[edges[:, 0]] - verts[edges[:, 1]]).norm(dim=1)


class TestRemesh:
    @pytest.mark.parametrize("name", shapes())
    @pytest.mark.filterwarnings("ignore:remesh")
    def test_every_shape_comes_back(self, name):
        meshes = shapes()[name]
        remeshed = remesh(meshes, num_verts=200)
        assert len(remeshed.meshes) == len(meshes)
        assert {mesh for mesh, verts in enumerate(meshes.verts_list()) if len(verts) == 0} == {
            mesh for mesh, verts in enumerate(remeshed.meshes.verts_list()) if len(verts) == 0
        }
        assert all(PASSED_OVER[name] in reason for reason in remeshed.passed_over.values())
        assert bool(remeshed.passed_over) == (name in PASSED_OVER)
        if name in PASSED_OVER:
            assert torch.equal(remeshed.meshes.verts_packed(), meshes.verts_packed())
            assert torch.equal(remeshed.meshes.faces_packed(), meshes.faces_packed())
        elif not meshes.isempty():
            assert not torch.equal(remeshed.meshes.num_verts_per_mesh(), meshes.num_verts_per_mesh()) or name == "sphere"
        torch.testing.assert_close(  # positions are carried to where the new vertices lie
            remeshed.transfer(meshes.verts_packed()), remeshed.meshes.verts_packed(), rtol=0, atol=1e-5
        )

    @pytest.mark.parametrize("num_verts", [300, 2000, 5000])
    def test_vertex_budget(self, num_verts):
        sphere = remesh(ico_sphere(3), num_verts=num_verts).meshes
        assert 0.85 * num_verts < len(sphere.verts_packed()) < 1.15 * num_verts
        lengths = edge_lengths(sphere)
        assert float(lengths.std() / lengths.mean()) < 0.2
        assert float((sphere.verts_packed().norm(dim=1) - 1).abs().max()) < 0.02

    def test_edge_length_and_scale_ask_for_the_same(self):
        start = torus(0.3, 1.0, 16, 40)
        mean = float(np.mean([edge_lengths(start)[start.faces_packed_to_edges_packed()].mean()]))
        by_scale, by_length = remesh(start, edge_scale=0.6).meshes, remesh(start, edge_length=0.6 * mean).meshes
        torch.testing.assert_close(by_scale.verts_packed(), by_length.verts_packed())
        assert abs(float(edge_lengths(by_scale).mean()) / (0.6 * mean) - 1) < 0.25

    def test_dtype_and_the_given_meshes(self):
        meshes = ico_sphere(2)
        meshes = Meshes([meshes.verts_packed().double()], meshes.faces_list())
        before = meshes.verts_packed().clone()
        assert remesh(meshes, num_verts=300).meshes.verts_packed().dtype == torch.float64
        assert torch.equal(meshes.verts_packed(), before)

    def test_boundaries_and_kept_vertices_stay(self):
        meshes = join_meshes_as_batch([grid(6, 6), ico_sphere(2)])
        keep = torch.zeros(198, dtype=torch.bool)
        keep[[14, 15, 100, 101]] = True
        remeshed = remesh(meshes, num_verts=400, keep=keep)
        assert torch.equal(remeshed.meshes.verts_packed()[remeshed.kept], meshes.verts_packed()[keep])
        new = remeshed.meshes.verts_list()[0]
        x, y = grid(6, 6).verts_packed()[:, :2].T
        border = grid(6, 6).verts_packed()[(x == 0) | (x == 5) | (y == 0) | (y == 5)]
        assert float(torch.cdist(border, new).min(dim=1).values.max()) == 0.0

    def test_creases_stay_sharp(self):
        cube = Meshes(
            [torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])],
            [torch.tensor([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                           [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])],
        )  # fmt: skip

        def distance_to_faces(**options) -> float:
            verts = remesh(cube, edge_length=0.12, **options).meshes.verts_packed()
            return float(torch.minimum(verts, 1 - verts).abs().min(dim=1).values.max())

        def furthest_corner(**options) -> float:
            verts = remesh(cube, edge_length=0.12, **options).meshes.verts_packed()
            return float(torch.cdist(cube.verts_packed(), verts).min(dim=1).values.max())

        assert distance_to_faces(feature_angle=45.0) < 1e-6
        assert furthest_corner(feature_angle=45.0) < 0.02 < furthest_corner()

    def test_transfer(self):
        sphere = ico_sphere(3)
        x = sphere.verts_packed()
        remeshed = remesh(sphere, num_verts=1500)
        new = remeshed.meshes.verts_packed()
        colors = torch.stack([x[:, 0], x.prod(dim=1)], dim=1).double().requires_grad_()
        carried = remeshed.transfer(colors)
        assert carried.dtype == torch.float64
        torch.testing.assert_close(carried.detach()[:, 0], new[:, 0].double(), rtol=0, atol=1e-6)
        carried.sum().backward()
        torch.testing.assert_close(colors.grad.sum(), torch.tensor(2.0 * len(new), dtype=torch.float64))
        upper = remeshed.transfer(x[:, 2] > 0.1)
        assert upper.dtype == torch.bool
        assert bool(upper[new[:, 2] > 0.25].all())
        assert not bool(upper[new[:, 2] < -0.05].any())
        labels = remeshed.transfer(torch.arange(642))
        assert float((x[labels] - new).norm(dim=1).max()) < 0.1

    def test_colours_are_carried_and_images_left_behind(self):
        sphere = ico_sphere(2)
        sphere.textures = TexturesVertex([sphere.verts_packed()])
        remeshed = remesh(sphere, num_verts=500).meshes
        colors = remeshed.textures.verts_features_packed()
        torch.testing.assert_close(colors, remeshed.verts_packed(), rtol=0, atol=1e-5)
        faces = sphere.faces_list()
        sphere.textures = TexturesUV(torch.rand(1, 4, 4, 3), faces, [torch.rand(162, 2)])
        with pytest.warns(UserWarning, match="TexturesUV belong to the old faces and are dropped"):
            assert remesh(sphere, num_verts=500).meshes.textures is None


class TestRepairs:
    def test_unused_vertices_and_bad_faces_go(self):
        assert len(remesh(with_isolated_vertices(), edge_scale=0.5).meshes.verts_packed()) >= 4
        sphere = ico_sphere(1)
        faces = torch.cat(
            [sphere.faces_packed(), torch.tensor([[3, 3, 5], [7, 7, 7]]), sphere.faces_packed()[:2].roll(1, dims=1)]
        )
        repaired = remesh(Meshes([sphere.verts_packed()], [faces]), num_verts=150)
        clean_one = remesh(sphere, num_verts=150)
        assert not repaired.passed_over
        assert torch.equal(repaired.meshes.verts_packed(), clean_one.meshes.verts_packed())

    def test_a_kept_vertex_of_two_fans_becomes_two_kept_ones(self):
        sphere, lifted = ico_sphere(2), ico_sphere(2).offset_verts(torch.tensor([0.0, 0.0, 2.0]).expand(162, 3))
        top = int(sphere.verts_packed()[:, 2].argmax())
        bottom = int(lifted.verts_packed()[:, 2].argmin())
        faces = lifted.faces_packed() + 162
        faces[faces == bottom + 162] = top
        touching = Meshes(
            [torch.cat([sphere.verts_packed(), lifted.verts_packed()])], [torch.cat([sphere.faces_packed(), faces])]
        )
        low = int(touching.verts_packed()[:, 2].argmin())
        keep = torch.zeros(324, dtype=torch.bool)
        keep[[top, low]] = True
        remeshed = remesh(touching, num_verts=300, keep=keep)
        kept = remeshed.meshes.verts_packed()[remeshed.kept]
        expected = touching.verts_packed()[[top, top, low]]
        torch.testing.assert_close(kept[kept[:, 2].argsort()], expected[expected[:, 2].argsort()])

    def test_fans_that_meet_in_a_vertex_become_two(self):
        spheres = join([ico_sphere(1), ico_sphere(1)])
        verts = torch.cat([ico_sphere(1).verts_packed(), ico_sphere(1).verts_packed() * torch.tensor([-1.0, -1, 1])])
        faces = spheres.faces_packed().clone()
        faces[faces == 42] = 0  # the first vertices of both
        verts[42:] += verts[0] - verts[42]
        remeshed = remesh(Meshes([verts], [faces]), num_verts=400)
        assert not remeshed.passed_over
        new_faces, old = clean(faces.numpy(), 84)
        assert len(old) == 84
        assert len(np.unique(new_faces)) == 84
        assert np.array_equal(old[new_faces], faces.numpy())

    def test_what_is_passed_over_is_said_once(self):
        meshes = join_meshes_as_batch([book(), ico_sphere(1), with_degenerate_faces()])
        reasons = r"2 of 3 meshes .*: mesh 0: 1 of its edges belong to more .*; mesh 2: "
        with pytest.warns(UserWarning, match=reasons) as record:
            remeshed = remesh(meshes, num_verts=200)
        assert len([warning for warning in record if "remesh" in str(warning.message)]) == 1
        assert set(remeshed.passed_over) == {0, 2}
        assert remeshed.meshes.num_verts_per_mesh().tolist()[::2] == [5, 7]

    def test_a_mesh_without_area(self):
        line = Meshes([torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])], [torch.tensor([[0, 1, 2]])])
        with pytest.warns(UserWarning, match="mesh 0: its area is 0"):
            remesh(line, num_verts=100)

    def test_a_kept_vertex_of_no_face(self):
        keep = torch.tensor([True, False, False, False, False, False])
        with pytest.warns(UserWarning, match="vertex 0 must be kept, but belongs to no face"):
            assert bool(remesh(with_isolated_vertices(), num_verts=50, keep=keep).kept[0])


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "num_verts: expected one of num_verts, edge_length and edge_scale, got none"),
            ({"num_verts": 100, "edge_length": 0.1}, "num_verts: expected one of"),
            ({"num_verts": 3}, r"num_verts: expected an integer in \[4, 5000000\], got int 3"),
            ({"num_verts": 100.0}, "num_verts: expected an integer"),
            ({"num_verts": 10**9}, "num_verts: expected an integer"),
            ({"edge_length": 0.0}, "edge_length: expected a finite number"),
            ({"edge_length": float("nan")}, "edge_length: expected a finite number"),
            ({"edge_length": 1e-5}, "edge_length: expected one that leaves at most 5,000,000 vertices"),
            ({"edge_scale": 1e-5}, "edge_scale: expected one that leaves at most 5,000,000 vertices"),
            ({"num_verts": 100, "iterations": 0}, "iterations: expected an integer of at least 1"),
            ({"num_verts": 100, "feature_angle": 200.0}, "feature_angle: expected a finite number"),
            ({"num_verts": 100, "keep": torch.ones(3, dtype=torch.bool)}, r"keep: expected a mask \(bool\) of shape \(42,\)"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            remesh(ico_sphere(1), **options)

    def test_meshes(self):
        with pytest.raises(TypeError, match=r"meshes: expected pytorch3d\.structures\.Meshes, got"):
            remesh(torch.zeros(3, 3), num_verts=100)
        verts = ico_sphere(1).verts_packed().clone()
        verts[3, 1] = float("nan")
        with pytest.raises(ValueError, match=r"meshes: expected finite numbers, got nan at index \(3, 1\)"):
            remesh(Meshes([verts], ico_sphere(1).faces_list()), num_verts=100)

    def test_transfer(self):
        with pytest.raises(ValueError, match="values: expected one row for each of the 42 old vertices"):
            remesh(ico_sphere(1), num_verts=100).transfer(torch.zeros(41))


def step_towards(steps, optimizer, target, num_steps=3) -> None:
    for _ in range(num_steps):
        optimizer.zero_grad()
        (steps().verts_packed().mean(0) - target).square().sum().backward()
        optimizer.step()


class TestLargeSteps:
    def test_the_shape_stays_and_the_optimiser_goes_on(self):
        steps = LargeSteps(ragged(), lambda_=7.0, laplacian="cotangent")
        optimizer = UniformAdam(steps.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        step_towards(steps, optimizer, torch.ones(3))
        scheduler.step()
        new = steps.remeshed(edge_scale=0.6, optimizer=optimizer)
        assert optimizer.param_groups[0]["params"] == [new.u]
        assert not optimizer.state
        assert_comes_back(new.matrix, new.remeshing.meshes.verts_packed(), new.verts_packed())
        before = new.verts_packed().detach().clone()
        step_towards(new, optimizer, torch.ones(3))
        assert float((new.verts_packed().detach() - before).abs().max()) > 1e-3
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)
        assert (new.lambda_, new.laplacian) == (7.0, "cotangent")
        assert new.u.num_verts_per_mesh == tuple(new.remeshing.meshes.num_verts_per_mesh().tolist())

    def test_moments_are_interpolated(self):
        steps = LargeSteps(ico_sphere(2))
        optimizer = UniformAdam(steps.parameters(), lr=0.05)
        step_towards(steps, optimizer, torch.ones(3))
        old = copy.deepcopy(optimizer.state[steps.u])
        new = steps.remeshed(num_verts=400, optimizer=optimizer, moments="interpolate")
        state = optimizer.state[new.u]
        assert float(state["step"]) == 3.0
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(state[name], new.remeshing.transfer(old[name]))

    def test_pins_and_lambda_of_vertices(self):
        num_verts = len(ragged().verts_packed())
        learned = nn.Parameter(torch.linspace(1, 9, num_verts))
        steps = LargeSteps(ragged(), learned, pinned=torch.arange(0, num_verts, 9))
        optimizer = UniformAdam(steps.parameters(), lr=0.01)
        step_towards(steps, optimizer, torch.ones(3))
        new = steps.remeshed(edge_scale=0.5, optimizer=optimizer)
        assert torch.equal(new.verts_packed()[new.pinned], steps.verts_packed()[steps.pinned])
        assert {id(parameter) for parameter in optimizer.param_groups[0]["params"]} == {id(new.u), id(new.lambda_)}
        torch.testing.assert_close(new.lambda_.detach(), new.remeshing.transfer(learned.detach()))
        step_towards(new, optimizer, torch.ones(3))
        assert torch.equal(new.verts_packed()[new.pinned], steps.verts_packed()[steps.pinned])

    def test_lambda_of_meshes_and_alpha(self):
        assert torch.equal(
            LargeSteps(ragged(), torch.tensor([1.0, 2, 3])).remeshed(num_verts=99).lambda_, torch.tensor([1.0, 2, 3])
        )
        assert LargeSteps(ragged(), alpha=0.9).remeshed(num_verts=99).alpha == 0.9

    def test_an_empty_batch(self):
        assert LargeSteps(empty()).remeshed(num_verts=99).u.shape == (0, 3)

    def test_copies(self):
        new = LargeSteps(ico_sphere(1)).remeshed(num_verts=200)
        again = copy.deepcopy(new)
        assert torch.equal(again.verts_packed(), new.verts_packed())
        assert torch.equal(again.remeshing.transfer(torch.arange(42.0)), new.remeshing.transfer(torch.arange(42.0)))

    def test_refusals(self):
        steps = LargeSteps(ico_sphere(1))
        with pytest.raises(ValueError, match="moments: expected 'reset' or 'interpolate', got str 'keep'"):
            steps.remeshed(num_verts=100, moments="keep")
        with pytest.raises(TypeError, match="keep: expected no mask here"):
            steps.remeshed(num_verts=100, keep=torch.zeros(42, dtype=torch.bool))
        with pytest.raises(ValueError, match="optimizer: expected one with the parameter u"):
            steps.remeshed(num_verts=100, optimizer=UniformAdam([nn.Parameter(torch.zeros(3))]))
        own = LargeSteps(ico_sphere(1), laplacian=combinatorial_laplacian(ico_sphere(1)))
        with pytest.raises(ValueError, match="laplacian: expected one by name"):
            own.remeshed(num_verts=100)


def test_replace_parameter_in_any_optimiser():
    one, two, three = (nn.Parameter(torch.zeros(3)) for _ in range(3))
    optimizer = torch.optim.Adam([{"params": [one]}, {"params": [two], "lr": 0.5}], lr=0.1)
    (one.sum() + two.sum()).backward()
    optimizer.step()
    replace_parameter(optimizer, two, three, lambda values: 2 * values)
    assert optimizer.param_groups[1]["params"] == [three]
    torch.testing.assert_close(optimizer.state[three]["exp_avg"], torch.full((3,), 0.2))
    assert float(optimizer.state[three]["step"]) == 1.0
    assert optimizer.param_groups[0]["params"] == [one]
