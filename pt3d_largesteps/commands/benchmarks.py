"""Runs the benchmarks of a checkout.

A benchmark runs as a separate program: it reads its command line and starts copies of itself. A wheel has no benchmarks,
because they compare with other packages and read files of the repository.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = Path("out/benchmarks")


def main(arguments: list[str], program: str) -> int:
    """Runs ``benchmarks/bm_NAME.py`` with the arguments that follow the name; without a name, lists the benchmarks.

    A benchmark writes its files to ``RESULTS`` unless its arguments name another folder. Returns its exit status; 1 if there
    are no benchmarks, 2 for an unknown name.
    """
    found = benchmarks()
    if not found:
        return _refuse(program, f"expected a checkout of the sources, with a folder {_CHECKOUT / 'benchmarks'}", 1)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        lines = [f"  {name:<13}{_first_line(path)}" for name, path in found.items()]
        print("\n".join([f"usage: {program} name [arguments]", "", "names:", *lines]))
        print(f"\nFor the arguments of one: {program} {next(iter(found))} --help")
        print(f"Tables are printed; files go to {RESULTS}.")
        return 0
    if name not in found:
        return _refuse(program, f"expected the name of a benchmark, one of {', '.join(found)}, got {name!r}", 2)
    path = found[name]
    if "--out-dir" in path.read_text() and not any(text.split("=")[0] == "--out-dir" for text in rest):
        rest = [*rest, "--out-dir", str(RESULTS)]
        RESULTS.mkdir(parents=True, exist_ok=True)
    return _run([sys.executable, str(path), *rest])


def benchmarks() -> dict[str, Path]:
    """The files by the names of the benchmarks; empty outside a checkout."""
    return {path.stem.removeprefix("bm_"): path for path in sorted((_CHECKOUT / "benchmarks").glob("bm_*.py"))}


def _first_line(path: Path) -> str:
    """The docstring of a benchmark, read without running it."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n")[0].rstrip(".")


def _refuse(program: str, message: str, status: int) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return status


def _run(command: list[str]) -> int:
    """Runs a process with the package of this checkout until it ends. Ctrl-C also reaches the process, which handles it."""
    paths = [str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
