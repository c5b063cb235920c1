"""Finds the compiled operators: ``_C`` for the CPU, ``_cuda`` for CUDA. If they are not built, the package works without
them and warns once."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from pt3d_largesteps.native.library_version import VERSION, version_of

HOW_TO_BUILD = (
    'from a clone, with torch 2.11 or newer and a C++ compiler: pip install --no-build-isolation "setuptools>=77,<82" ninja .'
)
HOW_TO_BUILD_CUDA = f"with nvcc of torch's CUDA version, {HOW_TO_BUILD}"
_NO_EXTENSION = "PT3D_LARGESTEPS_NO_EXTENSION"  # if 1, the package behaves as if nothing were compiled
_FOLDER = "PT3D_LARGESTEPS_EXTENSION"  # searched for the libraries after the package's folder

LIBRARIES: dict[str, Path] = {}  # the loaded ones
_warned = False


def _load(name: str) -> str | None:
    """Registers the operators of one library. Returns None, or the reason why it could not."""
    if os.environ.get(_NO_EXTENSION, "0") == "1":
        return f"{_NO_EXTENSION}=1"
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 11):  # whose stable interface the libraries use
        return f"it needs torch 2.11 or newer, got {torch.__version__}"
    folders = [Path(__file__).parents[1], *(Path(folder) for folder in [os.environ.get(_FOLDER)] if folder)]
    paths = [path for folder in folders for path in sorted(folder.glob(f"{name}.*"))]
    libraries = [path for path in paths if path.suffix in (".so", ".pyd")]
    if not libraries:
        return "it was not built"
    try:
        library = next((path for path in libraries if version_of(path) == VERSION), None)
        if library is None:
            return f"{libraries[0]} was built for another version of this package; build it again"
        torch.ops.load_library(library)
    except OSError as error:  # built for another system, or for another version of torch
        return str(error)
    LIBRARIES[name] = library
    return None


WHY_NOT = _load("_C")
WHY_NO_CUDA = _load("_cuda") if torch.version.cuda is not None else "this torch is built without CUDA"


def is_compiled() -> bool:
    """Whether the compiled operators for the CPU are available."""
    return WHY_NOT is None


def has_cuda() -> bool:
    """Whether the compiled operators for CUDA are available. They need the analysis of the CPU library."""
    return WHY_NOT is None and WHY_NO_CUDA is None


def warn_not_compiled() -> None:
    """Warns once per process that solves and pictures are slow, and says how to make them fast."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"pt3d_largesteps: the compiled code is not here ({WHY_NOT}); solves and pictures are made in plain torch, which is"
            f" many times slower. To build it, {HOW_TO_BUILD}",
            RuntimeWarning,
            stacklevel=2,
        )
