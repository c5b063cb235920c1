"""What a bug report needs: versions, what is compiled and where, GPUs, threads, and what is missing.

It works without PyTorch3D and without torch; a broken package is reported as broken, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._version import __version__

# What is imported, under which names it may be installed, what it is for, and how to get it.
_OPTIONAL = (
    ("cholespy", ("cholespy",), "a solver to compare with", "pip install cholespy"),
    ("gpytoolbox", ("gpytoolbox",), "remeshing", "pip install gpytoolbox"),
    ("igl", ("libigl",), "repair of self-intersections, and counting them", "pip install 'libigl>=2.6'"),
    ("skimage", ("scikit-image",), "visual hulls", "pip install scikit-image"),
    ("matplotlib", ("matplotlib",), "plots", "pip install matplotlib"),
    ("nvdiffrast", ("nvdiffrast", "diffrp-nvdiffrast"), "NvdiffrastRenderer, on CUDA", "pip install diffrp-nvdiffrast"),
    ("imageio", ("imageio",), "the commands", "pip install imageio"),
    ("tqdm", ("tqdm",), "the commands", "pip install tqdm"),
    ("trimesh", ("trimesh",), "the commands: files other than OBJ and PLY", "pip install trimesh"),
)
_NEEDS_CUDA = ("nvdiffrast",)
_VARIABLES = ("PT3D_LARGESTEPS", "OMP_", "MKL_NUM", "CUDA_VISIBLE")  # prefixes of the environment variables that matter


def main(arguments: list[str], program: str) -> int:
    """Prints the report; the exit status is 1 if the package cannot be used."""
    argparse.ArgumentParser(program, description=__doc__.split("\n")[0]).parse_args(arguments)
    advice: list[str] = []
    _line("pt3d_largesteps", f"{__version__}, in {Path(__file__).resolve().parents[1]}")
    _line("Python", f"{platform.python_version()}, {platform.platform()}, in {sys.prefix}")
    torch = _torch(advice)
    usable = _pytorch3d_line(advice) and torch is not None
    for name in ("numpy", "scipy"):
        usable = _required(name, advice) and usable
    if torch is not None:
        _compiled(advice)
        _machine(torch)
    for name, distributions, what_for, how in _OPTIONAL:
        error = _import(name)
        if error is None:
            _line(name, _version(distributions))
        elif isinstance(error, ModuleNotFoundError) and error.name == name:
            _line(name, f"not installed; for {what_for}")
            if name not in _NEEDS_CUDA or (torch is not None and torch.cuda.is_available()):
                advice.append(f"{name}, for {what_for}: {how}")
        else:
            _line(name, f"BROKEN: {_said(error)}")
            advice.append(f"{name}, for {what_for}: {how} --force-reinstall")
    for name in sorted(os.environ):
        if name.startswith(_VARIABLES):
            _line(name, os.environ[name])
    print("\nhow to install what is missing:" if advice else "\nnothing is missing")
    for text in advice:
        print(f"  {text}")
    return 0 if usable else 1


def _torch(advice: list[str]) -> ModuleType | None:
    error = _import("torch")
    if error is not None:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        _line("torch", "NOT INSTALLED" if missing else f"BROKEN: {_said(error)}")
        advice.append("torch: pip install torch==2.11.0, or see https://pytorch.org")
        return None
    torch = sys.modules["torch"]
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    _line("torch", f"{torch.__version__}, {cuda}")
    return torch


def _pytorch3d_line(advice: list[str]) -> bool:
    error = _pytorch3d.why_not()
    if error is None:
        _line("PyTorch3D", f"{sys.modules['pytorch3d'].__version__}, in {Path(str(sys.modules['pytorch3d'].__file__)).parent}")
        return True
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        _line("PyTorch3D", "not tried, because torch is missing")
        return False
    _line("PyTorch3D", "NOT INSTALLED" if _pytorch3d.is_missing(error) else f"BROKEN: {_said(error)}")
    advice.append(f"PyTorch3D, which pt3d_largesteps needs: {_pytorch3d.HOW_TO_GET}")
    return False


def _required(name: str, advice: list[str]) -> bool:
    error = _import(name)
    _line(name, _version((name,)) if error is None else f"NOT INSTALLED OR BROKEN: {_said(error)}")
    if error is not None:
        advice.append(f"{name}: pip install {name}")
    return error is None


def _compiled(advice: list[str]) -> None:
    """The solvers of this package that are compiled."""
    extension = importlib.import_module("pt3d_largesteps.native.library")
    for name, label, why_not, how in (
        ("_C", "solver, CPU", extension.WHY_NOT, extension.HOW_TO_BUILD),
        ("_cuda", "solver, CUDA", extension.WHY_NO_CUDA, extension.HOW_TO_BUILD_CUDA),
    ):
        if why_not is None:
            _line(label, f"compiled, {extension.LIBRARIES[name]}")
        else:
            _line(label, f"not compiled: {why_not}")
            if name == "_C" or sys.modules["torch"].cuda.is_available():
                advice.append(f"{label}, which makes solves many times faster: {how}")


def _machine(torch: ModuleType) -> None:
    _line("processor", f"{_processor()}, {os.cpu_count()} logical cores")
    _line("threads", f"{torch.get_num_threads()} of torch")
    if not torch.cuda.is_available():
        _line("GPU", "none that torch can use")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        _line(f"GPU {index}", f"{properties.name}, {memory}, compute capability {properties.major}.{properties.minor}")
    _line("driver", _driver())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown, nvidia-smi is missing"


def _import(name: str) -> Exception | None:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation may raise anything
        return error
    return None


def _version(distributions: tuple[str, ...]) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "installed, of unknown version"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _line(label: str, text: str) -> None:
    print(f"{label:<16} {text}")
