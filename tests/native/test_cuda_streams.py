"""What a GPU does while nobody waits for it: streams, graphs, compiled code, no synchronisation, and memory."""

import contextlib
import gc

import pytest
import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import BatchSystem, LargeSteps, LargeStepsAdam, UniformAdam, compute_matrix
from pt3d_largesteps.native import operators
from pt3d_largesteps.solvers import CholeskyFactor, analyze, factorize
from support.matrices import backward_error
from support.shapes import grid, ragged

if not torch.cuda.is_available():
    pytest.skip("needs CUDA", allow_module_level=True)

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def sphere_factor(level: int = 4, dtype=torch.float32) -> CholeskyFactor:
    sphere = ico_sphere(level).to(CUDA)
    matrix = compute_matrix(sphere.verts_packed().to(dtype), sphere.faces_packed())
    return factorize(analyze(matrix, matrix.positions), matrix)


def sphere_rhs(factor: CholeskyFactor, num_columns: int = 3) -> torch.Tensor:
    return torch.randn(factor.symbolic.num_verts, num_columns, dtype=factor.dtype, device=CUDA)


def captured(function):
    """A graph of one call, and what it returns; calls on a stream of their own come before, as torch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result


class Optimisation:
    """Vertices that go to a goal, in one of the ways; every step without anything new on the host."""

    def __init__(self, way: str, batch: Meshes, **options) -> None:
        self.lr = torch.tensor(0.05, device=CUDA)
        self.goal = torch.zeros_like(batch.verts_packed())
        if way == "LargeStepsAdam":
            self.leaf = batch.verts_packed().clone().requires_grad_()
            self.verts = lambda: self.leaf
            self.optimizer = LargeStepsAdam([self.leaf], BatchSystem(batch), lr=self.lr, capturable=True, **options)
        else:
            steps = LargeSteps(batch, pinned=torch.tensor([2, 7], device=CUDA) if way == "pinned" else None)
            self.verts = steps.verts_packed  # Meshes of PyTorch3D, as they are made, look at numbers of the device
            self.optimizer = UniformAdam(steps.parameters(), lr=self.lr, capturable=True, **options)

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = (self.verts() - self.goal).square().sum()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


BATCHES = {
    "sphere": lambda: ico_sphere(2),
    "ragged": lambda: join_meshes_as_batch([*ragged(), ico_sphere(0), grid(3, 3), grid(4, 7)]),
    "copies": lambda: join_meshes_as_batch([ico_sphere(1).scale_verts(1 + 0.1 * k) for k in range(16)]),
}


class TestGraphs:
    @pytest.mark.parametrize("num_columns", [1, 3, 24])
    @BOTH_DTYPES
    def test_a_solve(self, dtype, num_columns):
        factor = sphere_factor(4, dtype)
        rhs = sphere_rhs(factor, num_columns)
        graph, solution = captured(lambda: factor.solve(rhs))
        for _ in range(3):
            rhs.copy_(torch.randn_like(rhs))
            graph.replay()
            assert torch.equal(solution, factor.solve(rhs))

    def test_a_batch_of_factors(self):
        matrix = compute_matrix(ico_sphere(2).to(CUDA))
        factor = factorize(analyze(matrix), torch.stack([matrix.values, 2 * matrix.values]))
        rhs = torch.randn(2, 162, 3, device=CUDA)
        graph, solution = captured(lambda: factor.solve(rhs))
        rhs.copy_(torch.randn_like(rhs))
        graph.replay()
        assert torch.equal(solution, factor.solve(rhs))

    @pytest.mark.parametrize("options", [{}, {"amsgrad": True, "weight_decay": 0.1}], ids=["plain", "options"])
    @pytest.mark.parametrize("way", ["LargeSteps", "pinned", "LargeStepsAdam"])
    @pytest.mark.parametrize("name", BATCHES)
    def test_a_whole_step(self, name, way, options):
        batch = BATCHES[name]().to(CUDA)
        ours, theirs = (Optimisation(way, batch, **options) for _ in range(2))
        graph, loss = captured(ours.step)
        for _ in range(3):
            theirs.step()
        for _ in range(10):
            goal = torch.randn_like(ours.goal)
            for each in (ours, theirs):
                each.goal.copy_(goal)
                each.lr.mul_(0.9)  # a schedule reaches into the graph
            graph.replay()
            torch.testing.assert_close(loss, theirs.step(), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(ours.verts(), theirs.verts(), rtol=0, atol=1e-5)
        assert (ours.verts() - batch.verts_packed()).abs().max() > 1e-2


class TestCompiled:
    @pytest.fixture(autouse=True)
    def _anew(self):
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()

    @pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
    @BOTH_DTYPES
    def test_in_one_graph(self, dtype, mode):
        factor = sphere_factor(2, dtype)

        def smooth(u):
            return 2 * factor.solve(u.sin()) + 1

        compiled = torch.compile(smooth, fullgraph=True, mode=mode)
        for _ in range(4):
            torch.compiler.cudagraph_mark_step_begin()
            u = sphere_rhs(factor).requires_grad_()
            loss = compiled(u).pow(2).sum()
            (gradient,) = torch.autograd.grad(loss, u)
            expected = smooth(u).pow(2).sum()
            torch.testing.assert_close(loss.clone(), expected)
            torch.testing.assert_close(gradient.clone(), torch.autograd.grad(expected, u)[0])
        assert torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] == 0


class TestStreams:
    def test_a_stream_of_ones_own(self):
        factor = sphere_factor()
        expected_of, rhs = sphere_rhs(factor), torch.full((2562, 3), float("nan"), device=CUDA)
        expected = factor.solve(expected_of)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(100_000_000)  # what does not run on this stream is done before the numbers are there
            rhs.copy_(expected_of)
            solution = factor.solve(rhs.requires_grad_())
            solution.sum().backward()
        stream.synchronize()
        assert torch.equal(solution, expected)
        torch.testing.assert_close(rhs.grad, torch.ones_like(rhs), rtol=1e-4, atol=1e-4)  # M 1 = 1

    def test_a_factorisation_on_a_stream_of_ones_own(self):
        matrix = compute_matrix(ico_sphere(4).to(CUDA))
        symbolic = analyze(matrix, matrix.positions)
        expected = factorize(symbolic, 2 * matrix.values).values
        values, stream = matrix.values.clone(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(100_000_000)
            values.mul_(2)
            numbers, _ = operators.factorize(values, symbolic.index, False, symbolic.factor_plan)
        stream.synchronize()
        assert torch.equal(numbers, expected)

    def test_two_at_once_with_one_factor(self):
        factor = sphere_factor(5)
        given = [sphere_rhs(factor, num_columns) for num_columns in (3, 24)]
        expected = [factor.solve(rhs) for rhs in given]
        streams = [torch.cuda.Stream() for _ in given]
        torch.cuda.synchronize()
        solutions = []
        for _ in range(50):
            for stream, rhs in zip(streams, given, strict=True):
                with torch.cuda.stream(stream):
                    solutions.append(factor.solve(rhs))
        torch.cuda.synchronize()
        for k, solution in enumerate(solutions):
            assert torch.equal(solution, expected[k % 2])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast(self, dtype):
        steps = LargeSteps(ico_sphere(2).to(CUDA))
        expected = steps.verts_packed()
        with torch.autocast("cuda", dtype=dtype):
            verts = steps.verts_packed()
            rotated = verts @ torch.eye(3, device=CUDA)  # as a renderer would go on
            rotated.float().square().sum().backward()
        assert (verts.dtype, rotated.dtype, steps.u.grad.dtype) == (torch.float32, dtype, torch.float32)
        assert torch.equal(verts, expected)
        torch.testing.assert_close(steps.u.grad, steps.system.solve(2 * expected.detach()), rtol=0.05, atol=0.05)


@contextlib.contextmanager
def nobody_waits():
    """Raises where the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class TestNobodyWaits:
    def test_it_would_be_noticed(self):
        with pytest.raises(RuntimeError, match="synchroniz"), nobody_waits():
            torch.ones(1, device=CUDA).item()

    @pytest.mark.parametrize("way", ["LargeSteps", "pinned", "LargeStepsAdam"])
    @pytest.mark.parametrize("name", BATCHES)
    def test_in_a_step(self, name, way):
        optimisation = Optimisation(way, BATCHES[name]().to(CUDA))
        first = float(optimisation.step())
        with nobody_waits():
            for _ in range(5):
                loss = optimisation.step()
        assert float(loss) < first

    @pytest.mark.parametrize("options", [{}, {"amsgrad": True, "weight_decay": 0.1, "maximize": True}, {"foreach": False}])
    def test_in_a_step_whose_count_is_on_the_host(self, options):
        steps = LargeSteps(BATCHES["ragged"]().to(CUDA))
        optimizer = UniformAdam(steps.parameters(), lr=torch.linspace(0.1, 0.6, 6, device=CUDA), **options)

        def step():
            optimizer.zero_grad()
            steps.verts_packed().square().sum().backward()
            optimizer.step()

        step()
        before = steps.u.detach().clone()
        with nobody_waits():
            step()
        assert (steps.u != before).any()

    @pytest.mark.parametrize("shape", [(2562,), (2562, 3), (4, 2562, 3)])
    def test_in_a_solve_and_its_derivatives(self, shape):
        factor = sphere_factor()
        u = torch.randn(shape, device=CUDA, requires_grad=True)
        with nobody_waits():
            for refine in (0, 1):
                (gradient,) = torch.autograd.grad(factor.solve(u, refine=refine).pow(3).sum(), u, create_graph=True)
                (second,) = torch.autograd.grad(gradient.sum(), u)
        assert torch.isfinite(second).all()


@pytest.mark.slow
class TestMemory:
    def test_10_000_small_meshes(self):
        def fit(k: int) -> None:
            steps = LargeSteps(grid(3 + k % 40, 4 + k // 40 % 30).to(CUDA))
            optimizer = UniformAdam(steps.parameters(), lr=0.1)
            steps().verts_packed().square().sum().backward()
            optimizer.step()

        used = []
        for k in range(10_000):
            fit(k)
            if k in (2_000, 9_999):  # by then all that is kept has been filled
                gc.collect()
                used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
        (allocated, reserved), (allocated_later, reserved_later) = used
        assert allocated_later < allocated + 2**24
        assert reserved_later < reserved + 2**26

    @BOTH_DTYPES
    def test_a_million_vertices(self, dtype):
        sheet = grid(1000, 1000).to(CUDA)
        matrix = compute_matrix(sheet.verts_packed().to(dtype), sheet.faces_packed())
        before = torch.cuda.memory_allocated()
        factor = factorize(analyze(matrix, matrix.positions, reuse=False), matrix)
        assert torch.cuda.memory_allocated() - before < 2 * factor.nbytes + 2 * factor.symbolic.nbytes
        rhs = torch.randn(1_000_000, 3, dtype=dtype, device=CUDA)
        solution = factor.solve(rhs)
        bound = 1e-6 if dtype == torch.float32 else 1e-14
        assert backward_error(matrix.to(torch.float64), solution.double(), rhs.double()) < bound
        assert torch.equal(solution, factor.refactorize(matrix.values).solve(rhs))
        del factor
        gc.collect()
        assert torch.cuda.memory_allocated() < before + 4 * rhs.nbytes + 2 * matrix.values.nbytes
