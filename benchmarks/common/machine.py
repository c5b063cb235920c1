"""The heading of a benchmark's results: machine, versions, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from pt3d_largesteps.native.library import is_compiled


def heading() -> str:
    """Several lines of text, without any path of this machine."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    packages = {
        "torch": ("torch",),
        "PyTorch3D": ("pytorch3d", "easypytorch3d"),
        "cholespy": ("cholespy",),
        "gpytoolbox": ("gpytoolbox",),
        "SciPy": ("scipy",),
        "scikit-sparse": ("scikit-sparse",),
        "pymetis": ("pymetis",),
    }
    versions = [f"{label} {version}" for label, names in packages.items() if (version := _version(names))]
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return (
        f"machine: {processor}, {os.cpu_count()} logical cores, load {os.getloadavg()[0]:.1f}\n"
        f"versions: Python {platform.python_version()}, {', '.join(versions)}\n"
        f"command: {command}"
    )


def gpu_heading(device: torch.device) -> str:
    """Two lines on the CUDA device, its driver and the libraries that only it needs."""
    properties = torch.cuda.get_device_properties(device)
    packages = {"nvmath-python": ("nvmath-python",), "cuDSS": ("nvidia-cudss-cu13", "nvidia-cudss-cu12")}
    versions = [f"{label} {version}" for label, names in packages.items() if (version := _version(names))]
    return (
        f"device: {torch.cuda.get_device_name(device)}, {properties.multi_processor_count} multiprocessors,"
        f" {properties.total_memory / 2**30:.0f} GiB\n"
        f"driver {_driver()}, {', '.join([f'CUDA {torch.version.cuda}', *versions])};"
        f" {torch.get_num_threads()} threads on the host{'' if is_compiled() else '; THE SOLVER IS NOT COMPILED'}"
    )


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
