"""Pinned vertices, lambda per mesh and per vertex, learned lambda, weights that follow the surface."""

import math

import pytest
import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import BatchSystem, LargeSteps, UniformAdam, combinatorial_laplacian, compute_matrix, from_differential
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers import available_solvers
from support.comparing import assert_comes_back, gradcheck, gradgradcheck
from support.optimising import double
from support.shapes import empty, grid, ragged, with_degenerate_faces

TWINS = [ico_sphere(1), torus(0.3, 1.0, 6, 9), ico_sphere(1).scale_verts(1.5)]


def no_analysis(*arguments):
    raise AssertionError("analysed again")


class TestPins:
    @pytest.mark.parametrize("solver", available_solvers())
    def test_they_stay_exactly_and_their_neighbours_feel_them(self, solver, device):
        batch = double(join_meshes_as_batch(TWINS).to(device))
        pinned = torch.tensor([0, 7, 50, 100, 137], device=device)
        steps = LargeSteps(batch, lambda_=4.0, solver=solver, pinned=pinned)
        u = steps.u.detach() + torch.randn_like(steps.u)
        with torch.no_grad():
            steps.u.copy_(u)
        x = steps.verts_packed()
        assert torch.equal(x[pinned], batch.verts_packed()[pinned])
        matrix = compute_matrix(batch, lambda_=4.0).to_dense()
        free = torch.ones(len(u), dtype=torch.bool, device=device).index_fill(0, pinned, False)
        boundary = matrix[free][:, ~free] @ batch.verts_packed()[pinned]
        expected = torch.linalg.solve(matrix[free][:, free], u[free] - boundary)
        torch.testing.assert_close(x[free], expected, rtol=1e-8, atol=1e-8)
        (x**2).sum().backward()
        assert (steps.u.grad[pinned] == 0).all()
        assert (steps.u.grad[free] != 0).any(1).all()

    def test_over_an_optimisation_in_a_batch(self, device):
        batch = join_meshes_as_batch(TWINS).to(device)
        pinned = torch.rand(138, device=device) < 0.1
        steps = LargeSteps(batch, pinned=pinned)
        optimizer = UniformAdam(steps.parameters(), lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            ((steps().verts_packed() - 3.0) ** 2).sum().backward()
            optimizer.step()
        moved = steps().verts_packed() - batch.verts_packed()
        assert (moved[pinned] == 0).all()
        assert moved[~pinned].abs().amax(1).min() > 0

    def test_a_pinned_mesh_of_a_batch_goes_its_way_alone(self, device):
        def run(meshes, pinned):
            steps = LargeSteps(double(meshes.to(device)), pinned=pinned)
            optimizer = UniformAdam(steps.parameters(), lr=0.1)
            for _ in range(20):
                optimizer.zero_grad()
                ((steps().verts_packed() - 3.0) ** 2).sum().backward()
                optimizer.step()
            return steps().verts_list()

        pins = [torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64), torch.arange(42) == 5]
        pins = [pin.to(device) for pin in pins]
        together = run(join_meshes_as_batch(TWINS), pins)
        for verts, shape, pin in zip(together, TWINS, pins, strict=True):
            torch.testing.assert_close(verts, run(shape, pin)[0], rtol=0, atol=1e-12)

    @pytest.mark.parametrize("shape", [(138,), (138, 1), (138, 3), (2, 138, 3)])
    @pytest.mark.parametrize("lambda_", [3.0, torch.nn.Parameter(torch.tensor(3.0, dtype=torch.float64))])
    def test_numbers_of_every_shape_and_held_ones(self, shape, lambda_, device):
        lambda_ = lambda_ if isinstance(lambda_, float) else torch.nn.Parameter(lambda_.detach().to(device))
        batch = double(join_meshes_as_batch(TWINS).to(device))
        system = BatchSystem(batch, lambda_=lambda_)
        pinned = torch.arange(138, device=device) % 40 == 3
        system.set_pinned(pinned)
        x = torch.randn(*shape, dtype=torch.float64, device=device)
        u = system.multiply(x)
        u = torch.where(pinned if len(shape) == 1 else pinned[:, None], math.nan, u)  # there it does not matter
        for anchors in (x, system.hold(x)):
            back = system.from_differential(u, anchors)
            assert back.shape == shape
            # M has condition 40 here, and the positions are of size 1
            torch.testing.assert_close(back, x, rtol=0, atol=40 * 138 * torch.finfo(x.dtype).eps)
        if len(shape) > 1:
            with pytest.raises(ValueError, match="anchors: expected the shape of u"):
                system.from_differential(u[..., :1].expand(*u.shape[:-1], 5), x)

    def test_nothing_to_hold(self):
        system = BatchSystem(ico_sphere(1))
        with pytest.raises(ValueError, match="anchors: expected pinned vertices"):
            system.hold(torch.zeros(42, 3))

    @pytest.mark.parametrize("given", [torch.tensor([3, 45]), torch.arange(138) % 42 == 3, [torch.tensor([3])] * 3])
    def test_masks_indices_and_lists(self, given, device):
        given = given.to(device) if isinstance(given, torch.Tensor) else [pins.to(device) for pins in given]
        steps = LargeSteps(join_meshes_as_batch(TWINS).to(device), pinned=given)
        assert steps.pinned[[3, 45]].tolist() == [True, True]
        assert f"pinned={int(steps.pinned.sum())}" in repr(steps)

    def test_pins_that_change_keep_the_shape_and_need_no_analysis(self, monkeypatch, device):
        batch = double(join_meshes_as_batch([grid(9, 4), torus(0.3, 1.0, 7, 8)]).to(device))
        steps = LargeSteps(batch, pinned=torch.tensor([0, 1], device=device))
        with torch.no_grad():
            steps.u.add_(torch.randn_like(steps.u))
        shape = steps().verts_packed().detach()
        monkeypatch.setattr(operators, "analyze", no_analysis)
        for pinned in (torch.tensor([40, 41]), torch.arange(92) < 30, None, torch.tensor([91])):
            pinned = None if pinned is None else pinned.to(device)
            steps.set_pinned(pinned)
            torch.testing.assert_close(steps().verts_packed(), shape, rtol=0, atol=1e-11)
            with torch.no_grad():
                steps.u.add_(1.0)
            if pinned is not None:
                assert torch.equal(steps().verts_packed()[pinned], shape[pinned])
            steps.set_verts(shape)
            shape = steps().verts_packed().detach()

    def test_a_mesh_that_is_pinned_as_a_whole(self, device):
        batch = join_meshes_as_batch([ico_sphere(1), ico_sphere(2)]).to(device)
        steps = LargeSteps(batch, pinned=[torch.ones(42, dtype=torch.bool, device=device), torch.tensor([0], device=device)])
        optimizer = UniformAdam(steps.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (steps().verts_packed() ** 2).sum().backward()
            optimizer.step()
        moved = (steps().verts_packed() - batch.verts_packed()).detach().abs().amax(1)
        assert (moved[:43] == 0).all()
        assert (moved[43:] > 0).all()

    def test_the_same_pins_on_one_topology_share_a_factor(self, device):
        twins, pins = join_meshes_as_batch([ico_sphere(1)] * 3).to(device), torch.tensor([3], device=device)
        assert "one factor" in repr(LargeSteps(twins, pinned=[pins] * 3))
        assert "a factor for each" in repr(LargeSteps(twins, pinned=pins))

    def test_gradcheck(self, device):
        batch, pins = double(join_meshes_as_batch([ico_sphere(0)] * 2).to(device)), torch.tensor([2, 13, 14], device=device)
        steps = LargeSteps(batch, lambda_=0.7, pinned=pins)
        u = torch.randn(24, 2, dtype=torch.float64, device=device, requires_grad=True)
        anchors = torch.randn(24, 2, dtype=torch.float64, device=device, requires_grad=True)
        assert gradcheck(steps.system.from_differential, (u, anchors))
        assert gradgradcheck(steps.system.from_differential, (u, anchors))

    @pytest.mark.parametrize(
        ("pinned", "error", "message"),
        [
            (torch.tensor([138]), ValueError, r"pinned: expected vertex indices in \[0, 138\), got 138"),
            (torch.tensor([-1]), ValueError, r"pinned: expected vertex indices in \[0, 138\), got -1"),
            (torch.zeros(137, dtype=torch.bool), ValueError, r"pinned: expected a mask of shape \(138,\), got"),
            (torch.ones(138, dtype=torch.bool), ValueError, "pinned: expected at least one free vertex, got all 138 pinned"),
            (torch.arange(138), ValueError, "pinned: expected at least one free vertex"),
            (torch.zeros(3), TypeError, r"pinned: expected a mask \(bool\) or indices \(int64\), got .* torch.float32"),
            (torch.zeros(3, 1, dtype=torch.int64), ValueError, r"pinned: expected indices of shape \(K,\), got"),
            (torch.zeros(3, dtype=torch.int64, device="meta"), ValueError, "pinned: expected it on {device}, as the meshes"),
            ("feet", TypeError, "pinned: expected a tensor, a mask .* got str 'feet'"),
            ([torch.tensor([0])], ValueError, "pinned: expected one mask or list of indices per mesh, 3, got 1"),
            ([torch.tensor([0]), torch.tensor([54]), torch.tensor([0])], ValueError, r"pinned\[1\]: .* in \[0, 54\), got 54"),
        ],
    )
    def test_errors(self, pinned, error, message, device):
        batch, message = join_meshes_as_batch(TWINS).to(device), message.replace("{device}", str(device))
        if isinstance(pinned, torch.Tensor) and not pinned.is_meta:
            pinned = pinned.to(device)
        elif isinstance(pinned, list):
            pinned = [pins.to(device) for pins in pinned]
        with pytest.raises(error, match=message):
            LargeSteps(batch, pinned=pinned)
        steps = LargeSteps(batch)
        with pytest.raises(error, match=message):
            steps.set_pinned(pinned)
        assert steps.pinned is None

    def test_errors_of_the_system(self, device):
        system = BatchSystem(ragged().to(device))
        for wrong in (torch.zeros(115, dtype=torch.bool), torch.zeros(116), torch.tensor([3]), [3]):
            with pytest.raises(ValueError, match=r"pinned: expected a mask \(bool\) of shape \(116,\), got"):
                system.set_pinned(wrong)
        system.set_pinned(torch.arange(116, device=device) < 3)
        with pytest.raises(ValueError, match="anchors: expected the positions of the pinned vertices, got None"):
            system.from_differential(torch.zeros(116, 3, device=device))


class TestLambda:
    def test_per_mesh(self, device):
        batch, lambda_ = double(join_meshes_as_batch(TWINS).to(device)), torch.tensor([1.0, 19.0, 50.0], device=device)
        whole = compute_matrix(batch, lambda_=lambda_).to_dense()
        blocks = [compute_matrix(mesh, lambda_=float(one)).to_dense() for mesh, one in zip(batch, lambda_, strict=True)]
        torch.testing.assert_close(whole, torch.block_diag(*blocks))
        steps = LargeSteps(batch, lambda_=lambda_)
        torch.testing.assert_close(steps.matrix.to_dense(), whole)
        torch.testing.assert_close(steps().verts_packed(), batch.verts_packed())

    @pytest.mark.parametrize("name", ["lambda_", "alpha"])
    def test_per_vertex(self, name, device):
        batch = double(join_meshes_as_batch([*TWINS, empty(), with_degenerate_faces()]).to(device))
        strength = torch.rand(145, dtype=torch.float64, device=device)
        laplacian = combinatorial_laplacian(batch).to_dense()
        edges = -(laplacian - torch.diag(laplacian.diagonal())) * (strength[:, None] + strength) / 2
        identity = torch.ones_like(strength) if name == "lambda_" else 1 - strength
        expected = torch.diag(identity + edges.sum(1)) - edges
        torch.testing.assert_close(compute_matrix(batch, **{name: strength}).to_dense(), expected)
        steps = LargeSteps(batch, **{name: strength})
        torch.testing.assert_close(steps.matrix.to_dense(), expected)
        torch.testing.assert_close(steps().verts_packed(), batch.verts_packed())
        own = compute_matrix(batch, laplacian=combinatorial_laplacian(batch), **{name: strength})
        torch.testing.assert_close(own.to_dense(), expected)
        assert torch.linalg.eigvalsh(expected).min() > 0

    def test_what_own_rows_sum_to_takes_the_vertex_s_strength(self, device):
        laplacian, strength = torch.diag(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([1.0, 10.0, 100.0], device=device)
        triangle = Meshes([torch.rand(3, 3)], [torch.tensor([[0, 1, 2]])]).to(device)
        matrix = compute_matrix(triangle, laplacian=laplacian.to(device), lambda_=strength)
        assert torch.equal(matrix.to_dense().cpu(), torch.diag(torch.tensor([2.0, 21.0, 301.0])))

    def test_a_step_is_smooth_where_lambda_is_large_only(self, device):
        strip = grid(3, 41).to(device)
        lambda_ = torch.where(strip.verts_packed()[:, 0] < 20, 0.01, 100.0)
        steps = LargeSteps(strip, lambda_=lambda_)
        middle, there = 41 + 5, 41 + 35
        steps.verts_packed()[[middle, there], 2].sum().backward()
        steps.u.data.sub_(steps.u.grad)
        moved = (steps().verts_packed() - strip.verts_packed())[41:82, 2].detach().abs()
        assert moved[6] / moved[5] < 0.1
        assert moved[36] / moved[35] > 0.7

    @pytest.mark.parametrize("size", [(), (3,), (138,)])
    @pytest.mark.parametrize("name", ["lambda_", "alpha"])
    @pytest.mark.parametrize("laplacian", ["combinatorial", "cotangent", "own"])
    def test_gradients_with_respect_to_it(self, size, name, laplacian, device):
        batch = double(join_meshes_as_batch(TWINS).to(device))
        own = combinatorial_laplacian(batch)
        strength = torch.rand(size, dtype=torch.float64, device=device).mul(0.8).requires_grad_()
        u = torch.randn(138, 1, dtype=torch.float64, device=device, requires_grad=True)
        chosen = {"laplacian": own if laplacian == "own" else laplacian}

        def positions(strength, u):
            return from_differential(compute_matrix(batch, **{name: strength}, **chosen), u)[::7]

        assert gradcheck(positions, (strength, u), fast_mode=True)
        assert gradgradcheck(positions, (strength, u), fast_mode=True)

        def through_the_system(strength, u):
            return BatchSystem(batch, **{name: strength}, **chosen).solve(u)[::7]

        assert gradcheck(through_the_system, (strength, u), fast_mode=True)

    def test_gradients_with_respect_to_the_vertices_of_cotangent_weights(self, device):
        sphere = double(ico_sphere(0).to(device))
        verts, faces = sphere.verts_packed(), sphere.faces_packed()
        verts = (verts + 0.1 * torch.randn_like(verts)).requires_grad_()
        u = torch.randn(12, 1, dtype=torch.float64, device=device, requires_grad=True)

        def positions(verts, u):
            return from_differential(compute_matrix(verts, faces, lambda_=0.5, laplacian="cotangent"), u)

        assert gradcheck(positions, (verts, u))
        assert gradgradcheck(positions, (verts, u))

    @pytest.mark.parametrize("size", [(), (3,), (138,)])
    def test_it_is_learned(self, size, monkeypatch, device):
        batch = double(join_meshes_as_batch(TWINS).to(device))
        lambda_ = torch.nn.Parameter(torch.full(size, 2.0, dtype=torch.float64, device=device))
        steps = LargeSteps(batch, lambda_=lambda_)
        assert list(dict(steps.named_parameters())) == ["lambda_", "u"]
        # Of a roughened sphere: how smooth was the thing it was made from?
        true = LargeSteps(batch, lambda_=5.0)
        with torch.no_grad():
            steps.u.add_(torch.randn_like(steps.u))
            true.u.copy_(steps.u)
        goal = true().verts_packed().detach()
        steps()
        monkeypatch.setattr(operators, "analyze", no_analysis)
        optimizer = torch.optim.Adam([lambda_], lr=0.1)
        for _ in range(400):
            optimizer.zero_grad()
            loss = ((steps().verts_packed() - goal) ** 2).sum()
            loss.backward()
            optimizer.step()
        if size != (138,):  # of single vertices it is not determined
            torch.testing.assert_close(lambda_.detach(), torch.full_like(lambda_, 5.0), rtol=0.02, atol=0)
        assert loss < 1e-3
        monkeypatch.undo()
        state = steps.state_dict()
        other = LargeSteps(batch, lambda_=torch.nn.Parameter(torch.ones_like(lambda_)))
        other.load_state_dict(state)
        torch.testing.assert_close(other().verts_packed(), steps().verts_packed())
        with torch.no_grad():
            lambda_.fill_(-1.0)
        with pytest.raises(ValueError, match="lambda_: expected"):
            steps()

    def test_another_one_keeps_the_shape_and_needs_no_analysis(self, monkeypatch, device):
        batch = double(join_meshes_as_batch([grid(9, 5), torus(0.3, 1.0, 7, 9)]).to(device))
        steps = LargeSteps(batch, pinned=torch.tensor([4], device=device))
        with torch.no_grad():
            steps.u.add_(torch.randn_like(steps.u))
        shape = steps().verts_packed().detach()
        monkeypatch.setattr(operators, "analyze", no_analysis)
        for options in (
            {"lambda_": 1.0},
            {"alpha": 0.9},
            {"lambda_": torch.tensor([1.0, 40.0], device=device)},
            {"lambda_": torch.rand(108, device=device)},
            {},
        ):
            steps.set_lambda(**options)
            torch.testing.assert_close(steps().verts_packed(), shape, rtol=0, atol=1e-11)
        assert "lambda_=19" in repr(steps)
        assert "lambda_=1 to 40" in repr(LargeSteps(batch, lambda_=torch.tensor([1.0, 40.0], device=device)))

    @pytest.mark.parametrize("name", ["lambda_", "alpha"])
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (torch.rand(2), ValueError, r"expected a number, or a tensor of shape \(3,\), one per mesh, or \(138,\), one per"),
            (torch.rand(137), ValueError, "expected a number, or a tensor of shape"),
            (torch.rand(138, 1), ValueError, "expected a number, or a tensor of shape"),
            (torch.tensor([0.1, math.nan, 0.1]), ValueError, r"expected finite numbers in .*, got nan at index \(1,\)"),
            (torch.tensor([0.1, 0.2, -0.1]), ValueError, r"expected finite numbers in .*, got -0.1.* at index \(2,\)"),
            (torch.ones(3, dtype=torch.complex64), TypeError, "expected real numbers, got"),
            (torch.ones(3, dtype=torch.bool), TypeError, "expected real numbers, got"),
            (
                torch.rand(3, dtype=torch.float64, requires_grad=True),
                TypeError,
                "expected torch.float32, the dtype of the vertices",
            ),
            (torch.rand(3, device="meta"), ValueError, "expected it on {device}, as the vertices, got .* on meta"),
        ],
    )
    def test_errors(self, name, value, error, message, device):
        batch, message = join_meshes_as_batch(TWINS).to(device), message.replace("{device}", str(device))
        value = value if value.is_meta else value.detach().to(device).requires_grad_(value.requires_grad)
        steps = LargeSteps(batch)
        for function in (lambda **options: compute_matrix(batch, **options), steps.set_lambda):
            with pytest.raises(error, match=f"{name}: {message}"):
                function(**{name: value})
        assert_comes_back(steps.matrix, batch.verts_packed(), steps().verts_packed())

    def test_one_that_a_group_refuses_changes_none(self, device):
        batch = join_meshes_as_batch([ico_sphere(1), ico_sphere(1), grid()]).to(device)
        steps = LargeSteps(batch)
        for wrong in ([1.0, 2.0, 1e9], [1e9, 2.0, 1.0]):
            with pytest.raises(ValueError, match="expected a lambda whose lambda L leaves the identity visible"):
                steps.set_lambda(torch.tensor(wrong, device=device))
        assert "lambda_=19" in repr(steps)
        torch.testing.assert_close(steps.matrix.to_dense(), compute_matrix(batch).to_dense())

    def test_a_mask_that_is_changed_in_place(self, device):
        system, mask = BatchSystem(ragged().to(device)), torch.arange(116, device=device) < 3
        system.set_pinned(mask)
        mask[50] = True
        assert int(system.pinned.sum()) == 3

    def test_numbers_do_not_take_the_place_of_what_is_learned(self):
        steps = LargeSteps(ico_sphere(0), lambda_=torch.nn.Parameter(torch.tensor(3.0)))
        with pytest.raises(ValueError, match="lambda_: cannot replace a learned lambda_ or alpha"):
            steps.set_lambda(5.0)


class TestRefactorize:
    def test_weights_follow_the_surface_without_another_analysis(self, monkeypatch, device):
        batch = double(join_meshes_as_batch([grid(6, 8), torus(0.3, 1.0, 6, 8), grid(6, 8)]).to(device))
        steps = LargeSteps(batch, lambda_=2.0, laplacian="cotangent")
        optimizer = UniformAdam(steps.parameters(), lr=0.05)
        steps()
        monkeypatch.setattr(operators, "analyze", no_analysis)
        for step in range(12):
            if step % 4 == 3:
                before = steps().verts_packed().detach()
                steps.refactorize()
                torch.testing.assert_close(steps().verts_packed(), before)
                expected = compute_matrix(steps(), lambda_=2.0, laplacian="cotangent")
                torch.testing.assert_close(steps.matrix.to_dense(), expected.to_dense())
            optimizer.zero_grad()
            (steps().verts_packed() ** 2 * torch.tensor([1.0, 2.0, 3.0], device=device)).sum().backward()
            optimizer.step()

    def test_one_that_moved_no_more_has_a_matrix_of_its_own(self, device):
        steps = LargeSteps(join_meshes_as_batch([ico_sphere(1)] * 2).to(device), laplacian="cotangent")
        assert "one factor" in repr(steps)
        with torch.no_grad():
            steps.u[:42] *= 1.5
            steps.u[5] += 1.0
        steps.refactorize()
        assert "a factor for each" in repr(steps)

    def test_nothing_to_follow(self, device):
        steps = LargeSteps(ico_sphere(1).to(device))
        matrix = steps.matrix.to_dense()
        steps.refactorize()
        assert torch.equal(steps.matrix.to_dense(), matrix)
