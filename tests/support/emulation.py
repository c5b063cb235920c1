"""The operators of CUDA on the CPU: csrc/cuda compiled with an emulation of CUDA, for tests where there is no GPU."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

from pt3d_largesteps.native.library import is_compiled

SOURCES = Path(__file__).resolve().parents[2] / "csrc"


@functools.cache
def load_emulation() -> None:
    """Registers ``factorize_levels`` and ``solve_levels`` for tensors on the CPU; skips where they cannot be compiled."""
    compiler = shutil.which("g++")
    if compiler is None or not is_compiled():
        pytest.skip("there is no g++ here, or nothing is compiled")
    flags = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    flags += [f"-I{path}" for path in (SOURCES / "tests", *include_paths())]
    with tempfile.TemporaryDirectory() as folder:

        def compile_one(source: Path) -> str:
            result = Path(folder) / f"{source.stem}.o"
            run([compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(result)])
            return str(result)

        sources = [*(SOURCES / "cuda").glob("*.cu"), SOURCES / "bindings" / "cholesky_cuda.cpp"]
        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compile_one, sources))
        library = Path(folder) / "emulation.so"
        libraries = [f"-L{path}" for path in library_paths()] + ["-ltorch", "-ltorch_cpu", "-lc10"]
        run([compiler, "-shared", *objects, *libraries, "-o", str(library)])
        torch.ops.load_library(library)


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
