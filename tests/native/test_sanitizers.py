"""The compiled code under the sanitizers of g++, the solver against numpy on random systems, and what it leaves in memory."""

import os
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import compute_matrix
from pt3d_largesteps.native.library import is_compiled
from pt3d_largesteps.solvers import analyze, factorize, solve
from support.memory import resident_bytes, tells_memory

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sanitizers")]  # which share the programs that they compile

SOURCES = Path(__file__).resolve().parents[2] / "csrc"
LAYERS = ("threads", "dissection", "structure", "cpu", "renderer")  # of csrc, which all programs are made with
RENDERER_TESTS = ("test_renderer", "test_renderer_gradients")
TESTS = ("test_analysis", "test_cholesky", "test_cuda", "test_ordering", "test_parallel", *RENDERER_TESTS)
# What the kernels of csrc can be held to, below the best set of this processor, which is that of no choice.
INSTRUCTION_SETS = {"AVX512": ("baseline", "avx2", ""), "AVX2": ("baseline", "")}.get(
    torch.backends.cpu.get_cpu_capability(), ("",)
)
# Those with the inner loops on every instruction set; the longest first.
ADDRESS_RUNS = [
    *((name, chosen) for name in ("test_cholesky", *RENDERER_TESTS) for chosen in INSTRUCTION_SETS),
    *((name, "") for name in ("test_cuda", "test_parallel", "test_ordering", "test_analysis")),
]
THREAD_TESTS = ("test_cholesky", "test_cuda", "test_parallel", *RENDERER_TESTS)
NUM_AT_ONCE = 2  # a compiler takes half a gigabyte
SOLVED = -1


def compile_programs(folder: Path, programs: tuple[str, ...], sanitizers: str = "") -> Path:
    """Compiles the layers and then, each with them, the programs; skips without a compiler that has these sanitizers."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++ here")
    flags = ["-std=c++17", "-O1", "-pthread"]
    if sanitizers:  # a memcpy that g++ expands by itself is not looked at
        flags += ["-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-builtin"]

    def run(arguments: list[str]) -> None:
        result = subprocess.run([compiler, *flags, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr

    def made_of(source: Path) -> Path:  # there are files of one name in the layers
        return folder / f"{source.parent.name}_{source.name}.o"

    probe = folder / "probe.cpp"
    probe.write_text("int main() {}\n")
    run([str(probe), "-o", str(folder / "probe")])
    if (result := run_program(folder / "probe")).returncode != 0:  # there are kernels it cannot place its memory in
        pytest.skip(f"-fsanitize={sanitizers} does not work here: {result.stderr.strip()}")
    library = [path for layer in LAYERS for path in (SOURCES / layer).glob("*.cpp")]
    emulated = list((SOURCES / "cuda").glob("*.cu")) if "test_cuda" in programs else []  # whose threads are contexts of one
    sources = sorted(
        [*library, *emulated, *(SOURCES / "tests" / f"{name}.cpp" for name in programs)], key=lambda path: path.stem
    )
    sources.sort(key=lambda path: not path.stem.startswith("kernels_"))  # what takes longest first
    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        include = [f"-I{SOURCES / 'tests'}"]
        list(pool.map(lambda path: run([*include, "-x", "c++", "-c", str(path), "-o", str(made_of(path))]), sources))
        objects = [str(made_of(path)) for path in (*library, *emulated)]
        list(pool.map(lambda name: run([str(folder / f"tests_{name}.cpp.o"), *objects, "-o", str(folder / name)]), programs))
    return folder


def run_program(path: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([path], capture_output=True, text=True, check=False, timeout=1800, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def address_programs(tmp_path_factory) -> Path:
    return compile_programs(tmp_path_factory.mktemp("address"), (*TESTS, "solve_stdin"), "address,undefined")


@pytest.fixture(scope="module")
def address_results(address_programs):
    """Of all programs that tests ask for, several of which run at once."""
    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        yield {
            (name, chosen): pool.submit(run_program, address_programs / name, PT3D_LARGESTEPS_INSTRUCTION_SET=chosen)
            for name, chosen in ADDRESS_RUNS
        }


@pytest.mark.parametrize(("name", "instruction_set"), ADDRESS_RUNS)
def test_address_and_undefined_behaviour(address_results, name, instruction_set):
    result = address_results[name, instruction_set].result()
    assert result.returncode == 0, result.stdout + result.stderr


def test_threads(tmp_path):
    compile_programs(tmp_path, THREAD_TESTS, "thread")
    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        for result in pool.map(lambda name: run_program(tmp_path / name), THREAD_TESTS):
            assert result.returncode == 0, result.stdout + result.stderr


def test_without_sanitizer(tmp_path):
    """Forks, since those of the sanitizers leave a child with locks that nobody holds; and what else is quick without one."""
    programs = ("test_cuda", "test_parallel", *RENDERER_TESTS)
    compile_programs(tmp_path, programs)
    for name in programs:
        result = run_program(tmp_path / name)
        assert result.returncode == 0, result.stdout + result.stderr


class Solver:
    """The program ``solve_stdin``, kept alive from one system to the next and started again if it has died."""

    def __init__(self, path: Path, log: Path) -> None:
        self.path, self.log, self.process = path, log, None

    def solve(self, crow, columns, values, positions, rhs, num_threads) -> list[tuple[int, np.ndarray | None]]:
        """Status and x, for float64, float32, and float32 with a factor in float64."""
        if self.process is None:
            with self.log.open("w") as stderr:
                self.process = subprocess.Popen([self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        header = np.array([len(crow) - 1, len(columns), positions is not None, rhs.shape[1], num_threads], np.int64)
        arrays = [header, crow, columns, values, *([] if positions is None else [positions]), rhs]
        try:
            self.process.stdin.write(b"".join(array.tobytes() for array in arrays))
            self.process.stdin.flush()
            return [self._answer(rhs) for _ in range(3)]
        except (OSError, struct.error):
            self.close()
            raise AssertionError(f"solve_stdin ended: {self.log.read_text()}") from None

    def _answer(self, rhs: np.ndarray) -> tuple[int, np.ndarray | None]:
        (status,) = struct.unpack("q", self.process.stdout.read(8))
        if status != SOLVED:
            return status, None
        return status, np.frombuffer(self.process.stdout.read(rhs.nbytes)).reshape(rhs.shape)

    def close(self) -> int:
        process, self.process = self.process, None
        process.communicate()  # closes its input, which ends it, and reads what is left
        return process.returncode


@pytest.fixture(scope="module")
def solver(address_programs, tmp_path_factory):
    solver = Solver(address_programs / "solve_stdin", tmp_path_factory.mktemp("log") / "stderr")
    yield solver
    if solver.process is not None:
        assert solver.close() == 0, solver.log.read_text()  # not 0 with memory that it has not freed


@st.composite
def systems(draw):
    """A dense symmetric positive definite matrix with its weights and pattern, positions or None, the right-hand side."""
    size = draw(st.one_of(*[st.integers(0, 60)] * 9, st.integers(200, 400)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["random", "near", "path", "star", "complete"]))
    one, two = np.triu_indices(size, 1)
    chosen = {
        "random": random.random(len(one)) < draw(st.floats(0, 0.5)) * min(1, 60 / (size + 1)),
        "near": (two - one <= 4) & (random.random(len(one)) < 0.7),
        "path": two - one == 1,
        "star": one == 0,
        "complete": np.full(len(one), size <= 60),
    }[kind]
    renumbered = random.permutation(size)
    one, two = renumbered[one[chosen]], renumbered[two[chosen]]
    span = draw(st.sampled_from([0, 1, 6, 12]))  # weights from 10^-span to 10^span
    weights = 10 ** random.uniform(-span, span, len(one))
    pattern = np.eye(size, dtype=bool)
    pattern[one, two] = pattern[two, one] = True
    matrix = np.zeros((size, size))
    matrix[one, two] = matrix[two, one] = -weights
    # With a diagonal that outweighs the rest by a hundredth, what a solve may lose does not depend on the weights.
    np.fill_diagonal(matrix, 1.01 * -matrix.sum(1) + 10 ** random.uniform(-span, span, size))
    positions = draw(st.sampled_from([None, "spread", "coinciding", "equal"]))
    if positions is not None:
        steps = {"spread": 10**6, "coinciding": 3, "equal": 1}[positions]
        positions = random.integers(0, steps, (size, 3)) * 10.0 ** draw(st.integers(-9, 9))
    return matrix, pattern, positions, random.standard_normal((size, draw(st.integers(1, 20))))


def scaled_errors(matrix, rhs, solution):
    """Of each column the error, and what it is measured by, after scaling the diagonal to 1, which no factorisation feels."""
    scale = np.sqrt(np.diag(matrix))
    scaled_rhs = rhs / scale[:, None]
    expected = np.linalg.solve(matrix / np.outer(scale, scale), scaled_rhs)
    error = np.linalg.norm(solution * scale[:, None] - expected, axis=0)
    return error, np.linalg.norm(scaled_rhs, axis=0) + np.linalg.norm(expected, axis=0)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(system=systems(), num_threads=st.integers(1, 3), data=st.data())
def test_random_systems(solver, system, num_threads, data):
    matrix, pattern, positions, rhs = system
    broken = data.draw(st.integers(0, len(rhs) - 1)) if len(rhs) and data.draw(st.integers(0, 9)) == 9 else None
    if broken is not None:
        matrix[broken, broken] = -matrix[broken, broken]
    crow = np.concatenate([[0], pattern.sum(1).cumsum()]).astype(np.int64)
    columns = np.nonzero(pattern)[1].astype(np.int64)
    answers = solver.solve(crow, columns, matrix[pattern], positions, rhs, num_threads)
    for (status, solution), dtype, tolerance in zip(
        answers, [np.float64, np.float32, np.float32], [1e-12, 1e-4, 1e-6], strict=True
    ):
        if broken is not None:
            assert status == broken
            continue
        assert status == SOLVED
        error, size = scaled_errors(matrix.astype(dtype).astype(float), rhs.astype(dtype).astype(float), solution)
        assert (error <= tolerance * size).all(), (error / size, dtype)


@tells_memory
@pytest.mark.skipif(not is_compiled(), reason="the compiled solver is not built")
@pytest.mark.parametrize("through", ["factorize", "solve"])
def test_memory_does_not_grow(through):
    mesh = ico_sphere(3)
    matrix = compute_matrix(mesh.verts_packed(), mesh.faces_packed())
    rhs = torch.randn(matrix.shape[0], 3)
    symbolic = analyze(matrix, mesh.verts_packed())

    def cycle() -> None:
        if through == "factorize":
            factorize(symbolic, matrix).solve(rhs)
        else:
            matrix.values.mul_(1)  # makes the kept factorisation stale
            solve(matrix, rhs, "cholesky")

    for _ in range(500):
        cycle()
    before = resident_bytes()
    for _ in range(10000):
        cycle()
    assert resident_bytes() - before < 8 * 2**20
