"""Runs the benchmarks of a checkout.

A benchmark runs as a program of its own: it reads its command line and starts processes of itself. A wheel has none, since
they compare with packages and read files that belong to the repository.
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
    """Runs ``benchmarks/bm_NAME.py`` with the arguments that follow the name; without a name, prints which there are.

    A benchmark that writes files writes them to ``RESULTS`` unless its arguments say where. Returns its exit status; 1 where
    there are no benchmarks, 2 for a name that none has.
    """
    found = benchmarks()
    if not found:
        return _refuse(program, f"expected a checkout of the sources, with a folder {_CHECKOUT / 'benchmarks'}", 1)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        lines = [f"  {name:<13}{_first_line(path)}" for name, path in found.items()]
        print("\n".join([f"usage: {program} name [arguments]", "", "names:", *lines]))
        print(f"\nEach tells its own arguments: {program} {next(iter(found))} --help")
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
    """The files by the names of the benchmarks; none where this is no checkout."""
    return {path.stem.removeprefix("bm_"): path for path in sorted((_CHECKOUT / "benchmarks").glob("bm_*.py"))}


def _first_line(path: Path) -> str:
    """What a benchmark says of itself, read without running it."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n")[0].rstrip(".")


def _refuse(program: str, message: str, status: int) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return status


def _run(command: list[str]) -> int:
    """A process to its end, with the package of this checkout. Ctrl-C reaches it too, and it decides what to do then."""
    paths = [str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
