"""Finds the examples and benchmarks, in the checkout or as the wheel carries them, and runs them.

An example runs in this process, by its ``main``. A benchmark runs as a program of its own, as it is written to: it reads its
command line and starts processes of itself.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CARRIED = _PACKAGE / "_scripts"  # in a wheel; setup.py puts them there
RESULTS = Path("out/benchmarks")


class ScriptError(Exception):
    """There is no such script here; the message is one sentence, and ``status`` the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def folder(name: str) -> Path:
    """Where the ``examples`` or the ``benchmarks`` lie.

    Raises:
        ScriptError: nowhere.
    """
    places = [root / name for root in (_CARRIED, _PACKAGE.parent)]
    for place in places:
        if place.is_dir():
            return place
    raise ScriptError(
        f"the {name} are not here: expected them in {places[0]}, which a wheel has, or in {places[1]}, which a checkout has;"
        " install again, from a checkout: pip install --no-build-isolation .",
        status=1,
    )


def run_example(name: str, program: str, arguments: list[str]) -> int:
    """Runs ``examples/NAME.py`` in this process; its help calls it ``program``."""
    path = folder("examples") / f"{name}.py"
    if not path.is_file():
        raise ScriptError(f"the example is not here: expected the file {path}", status=1)
    with _first_on_path(path.parent), _called(program):
        return importlib.import_module(name).main(arguments)


def run_benchmark(program: str, arguments: list[str]) -> int:
    """Runs ``benchmarks/bm_NAME.py`` with the arguments that follow the name; without a name, prints which there are.

    A benchmark that writes files writes them to ``RESULTS`` unless its arguments say where.
    """
    found = benchmarks()
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        lines = [f"  {name:<13}{_first_line(path)}" for name, path in found.items()]
        print("\n".join([f"usage: {program} name [arguments]", "", "names:", *lines]))
        print(f"\nEach tells its own arguments: {program} {next(iter(found))} --help")
        print(f"Tables are printed; files go to {RESULTS}.")
        return 0
    if name not in found:
        raise ScriptError(f"expected the name of a benchmark, one of {', '.join(found)}, got {name!r}", status=2)
    path = found[name]
    if "--out-dir" in path.read_text() and not any(text.split("=")[0] == "--out-dir" for text in rest):
        rest = [*rest, "--out-dir", str(RESULTS)]
        RESULTS.mkdir(parents=True, exist_ok=True)
    return _run([sys.executable, str(path), *rest])


def benchmarks() -> dict[str, Path]:
    """The files by the names of the benchmarks."""
    found = {path.stem.removeprefix("bm_"): path for path in sorted(folder("benchmarks").glob("bm_*.py"))}
    if not found:
        raise ScriptError(f"the benchmarks are not here: expected files bm_*.py in {folder('benchmarks')}", status=1)
    return found


def _first_line(path: Path) -> str:
    """What a script says of itself, read without running it."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n")[0].rstrip(".")


def _run(command: list[str]) -> int:
    """A process to its end. Ctrl-C reaches it too; what it does then is its own affair."""
    environment = dict(os.environ)
    if _PACKAGE.parent.joinpath("examples").is_dir():  # a checkout, which need not be installed
        paths = [str(_PACKAGE.parent), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    with subprocess.Popen(command, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


@contextlib.contextmanager
def _first_on_path(place: Path) -> Iterator[None]:
    sys.path.insert(0, str(place))
    try:
        yield
    finally:
        sys.path.remove(str(place))


@contextlib.contextmanager
def _called(program: str) -> Iterator[None]:
    """What argparse shows in front of the usage."""
    before, sys.argv = sys.argv, [program]
    try:
        yield
    finally:
        sys.argv = before
