"""The command line: it finds the examples and benchmarks and hands over to them, and tells what is installed.

Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._command import scripts
from pt3d_largesteps._command.info import print_info
from pt3d_largesteps._version import __version__

PROGRAM = "python -m pt3d_largesteps"

_HELP = {
    "reconstruct": "a mesh from pictures of it: of a shape made in code, or of a file",
    "fit-many": "a folder of meshes, each from pictures of it, in batches",
    "benchmark": "one of the benchmarks; without a name, which there are",
    "info": "versions, what is compiled, GPUs and what is missing, for bug reports",
}
_EXAMPLES = {"reconstruct": "reconstruct", "fit-many": "fit_many"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 2 for what it was given, 1 for what is not here."""
    options = _parser().parse_args(arguments)
    program, given = f"{PROGRAM} {options.command}", options.arguments
    try:
        if options.command == "info":
            return print_info(program, given)
        if options.command == "benchmark":
            return scripts.run_benchmark(program, given)
        return scripts.run_example(_EXAMPLES[options.command], program, given)
    except scripts.ScriptError as error:
        return _refuse(program, str(error), error.status)
    except ImportError as error:
        return _refuse(program, _what_is_missing(error), 1)


def _what_is_missing(error: ImportError) -> str:
    """PyTorch3D first, which an example may have been the first to import."""
    try:
        _pytorch3d.check()
    except ImportError as reason:
        return str(reason)
    return f"{error}; what the examples use comes with pip install 'pt3d_largesteps[examples]'"


def _refuse(program: str, message: str, status: int) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<13}{text}" for name, text in _HELP.items())
    parser = argparse.ArgumentParser(
        PROGRAM,
        usage=f"{PROGRAM} [--version] command [arguments]",
        description=f"Large steps in inverse rendering of geometry, for PyTorch3D.\n\ncommands:\n{commands}",
        epilog=f"Each command tells its own arguments: {PROGRAM} reconstruct --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pt3d_largesteps {__version__}")
    parser.add_argument("command", choices=list(_HELP), help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
