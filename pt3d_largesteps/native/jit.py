"""Finds the compiled operators for a checkout that is not installed, or compiles those for the CPU into torch's extension
folder.

``import pt3d_largesteps`` never does this. ``hubconf.py`` does it before it imports the package, because operators are
registered at the import. So this file stands alone: it is read and run, not imported as a part of the package. The folder's
name depends on the sources and the flags. The folder contains

    _C.so        the library, moved there when it is complete
    lock         held by the process that compiles; the system releases it when that process ends, for whatever reason
    build/       objects, from which an interrupted build resumes, and log.txt, the output of the compiler
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import platform
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

# The same names as in library.py.
FOLDER, NO_EXTENSION = "PT3D_LARGESTEPS_EXTENSION", "PT3D_LARGESTEPS_NO_EXTENSION"

# The same values as in setup.py.
LAYERS = ("threads", "dissection", "structure", "cpu", "renderer")
BINDINGS = ("cholesky", "render_points", "render_pictures")
TORCH_TARGET_VERSION = "0x020b000000000000"
CXX_ARGUMENTS = ("-O3", "-fno-wrapv", "-fvisibility=hidden")
SECONDS = 900  # for a build; one core takes two minutes


def import_package(root: Path) -> ModuleType:
    """Imports ``pt3d_largesteps`` from the checkout ``root``, which is first on the path, with compiled operators if possible.
    If not, one warning says why."""
    why_not, given = None, os.environ.get(FOLDER)
    if os.environ.get(NO_EXTENSION, "0") != "1" and not given:
        found = compiled_folder(root)
        if isinstance(found, str):
            why_not = found
        else:
            os.environ[FOLDER] = str(found)
    try:
        package = importlib.import_module("pt3d_largesteps")
        importlib.import_module("pt3d_largesteps.native.operators")
    finally:
        if not given:  # only for this import: other processes may import another version
            os.environ.pop(FOLDER, None)
    extension: Any = importlib.import_module("pt3d_largesteps.native.library")
    if not extension.is_compiled():
        extension.WHY_NOT = why_not or extension.WHY_NOT
        extension.warn_not_compiled()
    return package


def compiled_folder(root: Path) -> Path | str:
    """The folder of the library for the code in ``root``, or the reason why there is none. It is in the checkout, in an
    installation of exactly the same code, or in torch's extension folder, where it is compiled if necessary. A library of
    another version does not count."""
    here = root / "pt3d_largesteps"
    for folder in (here, _installed(root)):
        if folder is not None and _same_code(folder, here) and _has_library(folder):
            return folder
    return build(root / "csrc")


def _installed(root: Path) -> Path | None:
    """The folder of the ``pt3d_largesteps`` that an import would find without this checkout."""
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if Path(entry).resolve() != root]
    try:
        spec = importlib.util.find_spec("pt3d_largesteps")
    finally:
        sys.path[:] = path
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _has_library(folder: Path) -> bool:
    """Whether there is one of the version that the code asks for."""
    code = runpy.run_path(str(folder / "native" / "library_version.py"))
    return any(code["version_of"](path) == code["VERSION"] for path in folder.glob("_C.*"))


def _same_code(folder: Path, other: Path) -> bool:
    """Whether all Python files are equal. A version number is not enough: it does not change between two releases."""

    def files(folder: Path) -> dict[Path, bytes]:
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.py")}

    return folder == other or files(folder) == files(other)


def sources(csrc: Path) -> list[Path]:
    """The files to compile."""
    return [
        *(path for layer in LAYERS for path in sorted((csrc / layer).glob("*.cpp"))),
        *(csrc / f"bindings/{name}.cpp" for name in BINDINGS),
    ]


def folder_of(csrc: Path) -> Path:
    """The folder for the library of these sources. Other sources or flags have another folder."""
    digest = hashlib.sha256(repr((platform.system(), platform.machine(), TORCH_TARGET_VERSION, CXX_ARGUMENTS)).encode())
    for path in sorted(path for layer in (*LAYERS, "bindings") for path in (csrc / layer).glob("*.*")):
        digest.update(path.name.encode() + path.read_bytes())
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        from torch.utils.cpp_extension import get_default_build_root

        root = get_default_build_root()
    return Path(root) / f"pt3d_largesteps_{digest.hexdigest()[:16]}"


def build(csrc: Path) -> Path | str:
    """The folder with the library, which is compiled if it does not exist yet; or, as a string, the reason why it cannot be.

    If several processes call this, one compiles and the others wait. Nothing is written next to the sources. Only one line is
    printed, which explains the wait.
    """
    if not (csrc / "bindings/cholesky.cpp").is_file():
        return f"there are no sources in {csrc}"
    try:
        folder = folder_of(csrc)
        if (folder / "_C.so").is_file():
            return folder
        reason = _what_is_missing()
        return reason if reason else _build_locked(csrc, folder)
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def _what_is_missing() -> str | None:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 11):
        return f"it needs torch 2.11 or newer, got {torch.__version__}"
    compiler = os.environ.get("CXX", "c++")
    for program, how in ((compiler.split()[0], "a C++ compiler"), ("ninja", "ninja, which pip installs")):
        if shutil.which(program, path=_environment()["PATH"]) is None:
            return f"to compile it takes {how}, and there is no {program} here"
    return None


def _environment() -> dict[str, str]:
    """Adds the programs of this Python's environment to PATH: that environment may not be active."""
    return {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])}


def _build_locked(csrc: Path, folder: Path) -> Path | str:
    try:
        import fcntl
    except ImportError:
        return "it is compiled on Linux and macOS only"
    work = folder / "build"
    work.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "_C.so").is_file():  # another process has built it
            return folder
        print(f"pt3d_largesteps: compiling the solver and the renderer into {folder}, once, in about a minute", file=sys.stderr)
        (work / "lock").unlink(missing_ok=True)  # torch's own lock: a killed build leaves it, and torch would wait for it
        # A separate process: torch imports much only to compile, and its output goes to the log.
        run_this = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
        command = [sys.executable, "-c", run_this, str(Path(__file__).resolve()), str(csrc.resolve()), str(work)]
        with (work / "log.txt").open("w") as log:
            try:
                status = subprocess.run(
                    command, env=_environment(), stdout=log, stderr=log, timeout=SECONDS, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                return f"compiling took more than {SECONDS} s, see {work / 'log.txt'}"
        if status:
            return f"compiling failed, see {work / 'log.txt'}"
        (work / "_C.so").replace(folder / "_C.so")
    return folder


def _compile(csrc: Path, work: Path) -> None:
    from torch.utils.cpp_extension import load

    flags = [*CXX_ARGUMENTS, f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}", f"-fmacro-prefix-map={csrc.parent}/="]
    load(
        "_C",
        [str(path) for path in sources(csrc)],
        extra_cflags=flags,
        extra_include_paths=[str(csrc)],
        build_directory=str(work),
        is_python_module=False,
        verbose=True,
    )


if __name__ == "__main__":
    _compile(*map(Path, sys.argv[-2:]))
