"""No mesh of a batch reaches another; what meshes have in common is found and used."""

import copy
import io
import pickle

import pytest
import torch
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import BatchSystem, LargeSteps, UniformAdam, combinatorial_laplacian, compute_matrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers import available_solvers
from pt3d_largesteps.systems.groups import find_groups
from support.comparing import assert_equal_to_rounding, assert_same_sums, gradcheck, gradgradcheck
from support.optimising import double, optimise
from support.shapes import empty, grid, ragged, real_mesh, with_isolated_vertices

SPHERE, TORUS, PATCH = ico_sphere(1), torus(0.3, 1.0, 6, 9), grid()
BATCHES = {
    "one mesh": ([SPHERE], "1 topology, one factor"),
    "one topology": ([SPHERE, SPHERE.scale_verts(2.0), SPHERE], "1 topology x 3 meshes, one factor"),
    "all differ": ([SPHERE, TORUS, PATCH], "3 topologies, one factor"),
    "in turn": ([SPHERE, TORUS, SPHERE, TORUS], "2 topologies x 2 meshes, one factor"),
    "one after the other": ([SPHERE, SPHERE, TORUS, TORUS], "2 topologies x 2 meshes, one factor"),
    "uneven": ([TORUS, SPHERE, SPHERE, SPHERE, PATCH], "2 topologies, one factor; 1 topology x 3 meshes, one factor"),
    "with empty ones": ([empty(), SPHERE, empty(), SPHERE], "1 topology x 2 meshes, one factor"),
    "empty": ([empty()], "nothing to solve"),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("options", [{}, {"laplacian": "cotangent", "lambda_": 3.0}], ids=["combinatorial", "cotangent"])
def test_200_steps_of_a_mixed_batch_are_those_of_each_mesh_alone(dtype, options, device):
    shapes = [ico_sphere(2), real_mesh("bunny"), real_mesh("suzanne"), grid(12, 9), empty(), with_isolated_vertices()]
    shapes = [shape.to(device) for shape in shapes]
    together = optimise(join_meshes_as_batch(shapes), dtype, 200, **options)
    for index, shape in enumerate(shapes):
        alone = optimise(shape, dtype, 200, **options)
        for step in range(200):
            # The loss is convex, so that a descent forgets errors rather than to amplify them: one for each step adds up.
            assert_equal_to_rounding(together[step][index], alone[step][0], roundings=200)
    assert (together[-1][0] - together[0][0]).abs().max() > 0.2  # they moved


@pytest.mark.parametrize("order", [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 2, 2], [2, 0, 1, 1, 0, 0, 0]])
@pytest.mark.parametrize("solver", available_solvers())
def test_repeated_topologies_go_their_ways_too(order, solver, device):
    shapes = [ico_sphere(2), torus(0.3, 1.0, 8, 12), grid(6, 7)]
    shapes = [shapes[kind].scale_verts(1.0 + 0.1 * place).to(device) for place, kind in enumerate(order)]
    num_steps, tolerance = (5, 1e-9) if solver == "conjugate_gradient" else (20, 1e-12)
    together = optimise(join_meshes_as_batch(shapes), torch.float64, num_steps, solver=solver)
    for index, shape in enumerate(shapes):
        alone = optimise(shape, torch.float64, num_steps, solver=solver)
        torch.testing.assert_close(together[-1][index], alone[-1][0], rtol=0, atol=tolerance)


def test_one_topology_is_solved_to_the_same_bits_as_alone(device):
    shapes = [ico_sphere(4).scale_verts(scale).to(device) for scale in (0.5, 1.0, 2.0)]
    together = optimise(join_meshes_as_batch(shapes), torch.float32, 5)
    for index, shape in enumerate(shapes):
        alone = optimise(shape, torch.float32, 5)
        assert_same_sums(together[-1][index], alone[-1][0])


@pytest.mark.parametrize("name", BATCHES)
class TestPolicy:
    def test_what_was_found_is_told(self, name, device):
        shapes, description = BATCHES[name]
        batch = join_meshes_as_batch(shapes).to(device)
        assert repr(LargeSteps(batch)).endswith(f"solver=auto; {description})")
        assert description in repr(BatchSystem(batch))

    @pytest.mark.parametrize("num_columns", [1, 3, 7])
    def test_products_and_solves_are_those_of_the_whole_matrix(self, name, num_columns, device):
        batch = double(join_meshes_as_batch(BATCHES[name][0]).to(device))
        system, whole = BatchSystem(batch, lambda_=5.0), compute_matrix(batch, lambda_=5.0)
        torch.testing.assert_close(system.to_matrix().to_dense(), whole.to_dense())
        size = len(batch.verts_packed())
        x = torch.randn(4, size, num_columns, dtype=system.dtype, device=device)  # of an empty batch torch's default dtype
        for packed in (x[0], x[0, :, 0], x):
            expected = whole.to_dense() @ packed
            torch.testing.assert_close(system.multiply(packed), expected)
            torch.testing.assert_close(system.solve(expected), packed)

    def test_frames_of_matrices_that_differ(self, name, device):
        batch = double(join_meshes_as_batch(BATCHES[name][0]).to(device))
        lambda_ = torch.rand(len(batch.verts_packed())).to(batch.verts_packed())
        system, whole = BatchSystem(batch, lambda_=lambda_), compute_matrix(batch, lambda_=lambda_)
        x = torch.randn(4, len(lambda_), 3, dtype=system.dtype, device=device)
        torch.testing.assert_close(system.multiply(x), whole.to_dense() @ x)
        torch.testing.assert_close(system.solve(whole.to_dense() @ x), x)

    def test_a_matrix_of_ones_own_is_one_block(self, name, device):
        batch = double(join_meshes_as_batch(BATCHES[name][0]).to(device))
        own, named = LargeSteps(batch, laplacian=combinatorial_laplacian(batch)), LargeSteps(batch)
        torch.testing.assert_close(own.u, named.u)
        torch.testing.assert_close(own().verts_packed(), named().verts_packed())


def test_each_topology_is_analysed_and_factorised_once(monkeypatch, device):
    analysed, factorised = [], []

    def analyze(crow_indices, *arguments, original=operators.analyze):
        analysed.append(len(crow_indices) - 1)
        return original(crow_indices, *arguments)

    def factorize(values, *arguments, original=operators.factorize):
        factorised.append(tuple(values.shape))
        return original(values, *arguments)

    monkeypatch.setattr(operators, "analyze", analyze)
    monkeypatch.setattr(operators, "factorize", factorize)
    shapes = [grid(7, 5), torus(0.3, 1.0, 5, 11), grid(7, 5), torus(0.3, 1.0, 5, 11), grid(3, 13)]
    steps = LargeSteps(join_meshes_as_batch(shapes).to(device))
    steps(), steps()
    assert sorted(analysed) == [39, 35 + 55]
    assert len(factorised) == 2
    steps.set_lambda(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], device=device))
    steps()
    assert len(analysed) == 2, "lambda needs no new analysis"
    assert factorised[2:] in ([(2, factorised[0][0]), factorised[1]], [factorised[0], (2, factorised[1][0])])


def test_an_iterative_solver_takes_no_two_topologies_together(device):
    batch = ragged().to(device)
    assert len(find_groups(batch, join=False)) == 3
    assert "1 topology, one factor; 1 topology" in repr(LargeSteps(batch, solver="conjugate_gradient"))


def test_gradients_reach_every_group(device):
    batch = double(join_meshes_as_batch(BATCHES["uneven"][0]).to(device))
    system = BatchSystem(batch, lambda_=0.7)
    u = torch.randn(len(batch.verts_packed()), 1, dtype=torch.float64, device=device, requires_grad=True)
    weights = torch.randn_like(u)
    (gradient,) = torch.autograd.grad((system.solve(u) * weights).sum(), u)
    torch.testing.assert_close(gradient, system.solve(weights))
    small = BatchSystem(double(join_meshes_as_batch([ico_sphere(0), grid(2, 3), ico_sphere(0)]).to(device)), lambda_=0.7)
    u = torch.randn(30, 1, dtype=torch.float64, device=device, requires_grad=True)
    assert gradcheck(small.solve, u)
    assert gradgradcheck(small.solve, u)


class TestCopies:
    @pytest.mark.parametrize("name", ["one topology", "uneven", "with empty ones"])
    @pytest.mark.parametrize("through", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
    def test_module_and_optimiser_together(self, name, through, device):
        batch = join_meshes_as_batch(BATCHES[name][0]).to(device)
        steps = LargeSteps(batch, pinned=torch.tensor([0, 5], device=device))
        optimizer = UniformAdam(steps.parameters())

        def three_steps(steps, optimizer):
            for _ in range(3):
                optimizer.zero_grad()
                (steps().verts_packed() ** 2).sum().backward()
                optimizer.step()
            return steps().verts_packed().detach()

        three_steps(steps, optimizer)
        other, other_optimizer = through((steps, optimizer))
        assert other_optimizer.param_groups[0]["params"][0] is other.u
        assert other.u.num_verts_per_mesh == steps.u.num_verts_per_mesh
        before = steps.u.detach().clone()
        moved = three_steps(other, other_optimizer)
        assert torch.equal(steps.u, before)
        assert_same_sums(moved, three_steps(steps, optimizer))

    def test_double_and_back(self, device):
        batch = join_meshes_as_batch(BATCHES["uneven"][0]).to(device)
        steps = LargeSteps(batch, pinned=torch.tensor([3], device=device), lambda_=torch.rand(5, device=device))
        steps.double()
        assert steps.system.dtype == steps().verts_padded().dtype == torch.float64
        # lambda is at most 1, so that the condition is that of 1 + 2 x 6
        verts = batch.verts_packed()
        assert_equal_to_rounding(steps.float()().verts_packed(), verts, 16 + 7, 13 * verts.abs().max())
        assert steps.u.num_verts_per_mesh == (54, 42, 42, 42, 20)

    def test_the_state_takes_pins_along(self, device):
        batch = join_meshes_as_batch(BATCHES["uneven"][0]).to(device)
        steps, other = LargeSteps(batch, pinned=torch.tensor([3, 70], device=device)), LargeSteps(batch)
        with torch.no_grad():
            steps.u.add_(torch.randn_like(steps.u))
        file = io.BytesIO()
        torch.save(steps.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other.pinned, steps.pinned)
        assert_same_sums(other().verts_packed(), steps().verts_packed())


def test_shapes_dtypes_and_devices_that_do_not_fit(device):
    system = BatchSystem(ragged().to(device))
    for function in (system.solve, system.multiply):
        with pytest.raises(ValueError, match=r"expected a packed tensor of shape \(116,\), \(116, C\) or \(T, 116, C\), got"):
            function(torch.zeros(3, 42, 3, device=device))
        with pytest.raises(TypeError, match=r"expected torch.float32, the dtype of the meshes, got .* torch.float64"):
            function(torch.zeros(116, 3, dtype=torch.float64, device=device))
        with pytest.raises(ValueError, match=rf"expected it on {device}, as the meshes, got .* on meta"):
            function(torch.zeros(116, 3, device="meta"))
    with pytest.raises(TypeError, match=r"meshes: expected pytorch3d.structures.Meshes, got list"):
        BatchSystem([])
    with pytest.raises(ValueError, match="laplacian: expected one of"):
        BatchSystem(ragged(), laplacian="uniform")
    with pytest.raises(ValueError, match="laplacian: expected a matrix of 116 rows"):
        BatchSystem(ragged(), laplacian=torch.eye(3))


def test_the_mesh_that_is_not_positive_definite_is_named(device):
    batch = join_meshes_as_batch([grid(), SPHERE, grid(), SPHERE]).to(device)
    laplacian = combinatorial_laplacian(batch).to_dense()
    laplacian[90, 90] = -30.0
    with pytest.raises(ValueError, match=r"\(vertex 8 of mesh 3\)"):
        LargeSteps(batch, laplacian=laplacian)()
