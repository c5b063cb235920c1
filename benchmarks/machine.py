"""What stands above the numbers of a benchmark: machine, versions, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path


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


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
