"""Finds the compiled operators for a checkout that nobody has installed, or compiles those for the CPU into torch's folder for
extensions.

``import pt3d_largesteps`` never does this: ``hubconf.py`` does, before it imports the package, because operators are
registered at the import. So this file stands alone, and is not imported but read. In the folder, which is named after
the sources and the flags, there are

    _C.so        the library, put there when it is complete
    lock         of the process that compiles; the system lets go of it when that process ends, however it ends
    build/       objects, from which a build that was interrupted goes on, and log.txt, what the compiler said
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

# Of library.py.
FOLDER, NO_EXTENSION = "PT3D_LARGESTEPS_EXTENSION", "PT3D_LARGESTEPS_NO_EXTENSION"

# As setup.py has them.
LAYERS = ("threads", "dissection", "structure", "cpu")
TORCH_TARGET_VERSION = "0x020b000000000000"
CXX_ARGUMENTS = ("-O3", "-fno-wrapv", "-fvisibility=hidden")
SECONDS = 900  # for a build; one core takes less than a minute


def import_package(root: Path) -> ModuleType:
    """``pt3d_largesteps`` of the checkout ``root``, which is first on the path, with the compiled operators if there can be
    any; if not, one warning says why."""
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
        if not given:  # it is meant for this import: what other processes import may be another version
            os.environ.pop(FOLDER, None)
    extension: Any = importlib.import_module("pt3d_largesteps.native.library")
    if not extension.is_compiled():
        extension.WHY_NOT = why_not or extension.WHY_NOT
        extension.warn_not_compiled()
    return package


def compiled_folder(root: Path) -> Path | str:
    """Where the library lies for the code in ``root``, or why there is none: in the checkout, in an installation of the very
    same code, or in torch's folder for extensions, where it is compiled if need be. A library of another version is passed
    over."""
    here = root / "pt3d_largesteps"
    for folder in (here, _installed(root)):
        if folder is not None and _same_code(folder, here) and _has_library(folder):
            return folder
    return build(root / "csrc")


def _installed(root: Path) -> Path | None:
    """The folder of the ``pt3d_largesteps`` that an import would find if it were not for this checkout."""
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
    """Whether all files of Python are the same; a version number says less, between two releases."""

    def files(folder: Path) -> dict[Path, bytes]:
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.py")}

    return folder == other or files(folder) == files(other)


def sources(csrc: Path) -> list[Path]:
    """What is compiled."""
    return [
        *(path for layer in LAYERS for path in sorted((csrc / layer).glob("*.cpp"))),
        csrc / "bindings/cholesky.cpp",
    ]


def folder_of(csrc: Path) -> Path:
    """Where the library of these sources belongs; other sources or flags have another folder."""
    digest = hashlib.sha256(repr((platform.system(), platform.machine(), TORCH_TARGET_VERSION, CXX_ARGUMENTS)).encode())
    for path in sorted(path for layer in (*LAYERS, "bindings") for path in (csrc / layer).glob("*.*")):
        digest.update(path.name.encode() + path.read_bytes())
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        from torch.utils.cpp_extension import get_default_build_root

        root = get_default_build_root()
    return Path(root) / f"pt3d_largesteps_{digest.hexdigest()[:16]}"


def build(csrc: Path) -> Path | str:
    """The folder with the library, which is compiled if it is not there yet; or, as a string, why it cannot be.

    Of several processes one compiles and the others wait. Nothing is written beside the sources, and nothing is printed but one
    line that says what takes so long.
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
    """With the programs of this Python's own environment, which need not be the active one."""
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
        if (folder / "_C.so").is_file():  # another process was here first
            return folder
        print(f"pt3d_largesteps: compiling the solver into {folder}, once, in about half a minute", file=sys.stderr)
        (work / "lock").unlink(missing_ok=True)  # torch's own, which a build that was killed leaves behind, and waits for
        # In a process of its own: what torch needs to compile, it needs nowhere else, and what it prints goes to the log.
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
