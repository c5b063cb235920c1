"""The solver's threads: the cores that they run on, and the memory that they keep."""

import os
import subprocess
import sys

import pytest
import torch

from pt3d_largesteps import SystemMatrix
from pt3d_largesteps.native.library import is_compiled
from pt3d_largesteps.solvers import analyze, factorize
from support.memory import resident_bytes, tells_memory

pytestmark = pytest.mark.skipif(not is_compiled(), reason="nothing is compiled here")

# Helpers are started with all cores. Then the calling thread, and only that, is held to one of them.
ON_ONE_CORE = """
import os, time
from pathlib import Path
import torch
from pytorch3d.utils import ico_sphere
from pt3d_largesteps import compute_matrix
from pt3d_largesteps.solvers import analyze, factorize

def others():
    return [path for path in Path("/proc/self/task").iterdir() if int(path.name) != os.getpid()]

def times():  # nanoseconds that they have run
    return {path.name: int((path / "schedstat").read_text().split()[0]) for path in others()}

def sleep():
    return all((path / "stat").read_text().rpartition(")")[2].split()[0] == "S" for path in others())

def run(number):
    before = times()
    for _ in range(number):
        factor.solve(rhs)
    return sum(ran - before.get(thread, 0) for thread, ran in times().items())

torch.set_num_threads(2)
sphere = ico_sphere(5)
matrix = compute_matrix(sphere)
factor = factorize(analyze(matrix, sphere.verts_packed()), matrix)
rhs = torch.randn(matrix.shape[0], 3)
factor.solve(rhs)
cores = os.sched_getaffinity(0)
end, with_all = time.monotonic() + 60, 0
while with_all == 0 and time.monotonic() < end:  # where all cores are busy, a helper may come late
    with_all = run(20)
os.sched_setaffinity(0, {min(cores)})
factor.solve(rhs)
while not sleep():
    time.sleep(0.01)
print(with_all > 0, run(200))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the system does not say how long threads have run")
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", set)(0)) < 2, reason="there is one core")
def test_no_helper_runs_beside_a_caller_held_to_one_core():
    result = subprocess.run([sys.executable, "-c", ON_ONE_CORE], capture_output=True, text=True, check=False, timeout=300)
    assert result.stdout.split() == ["True", "0"], result.stdout + result.stderr


@pytest.fixture(params=[1, 2])
def _num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@tells_memory
@pytest.mark.usefixtures("_num_threads")
def test_the_scratch_memory_of_a_large_solve_is_freed():
    size = 600_000

    def identity(size):
        ones, rows = torch.ones(size, dtype=torch.float64), torch.arange(size)
        return SystemMatrix(torch.arange(size + 1), rows, ones)

    large, small = identity(size), identity(10)
    large_factor, small_factor = (factorize(analyze(matrix, reuse=False), matrix) for matrix in (large, small))
    large_rhs, small_rhs = (torch.ones(2, matrix.shape[0], 8, dtype=torch.float64) for matrix in (large, small))
    small_factor.solve(small_rhs)
    before = resident_bytes()
    large_factor.solve(large_rhs)  # a thread has 8 columns of at least 600,000 rows, 38 MB
    small_factor.solve(small_rhs)
    assert resident_bytes() - before < 16 * 2**20
