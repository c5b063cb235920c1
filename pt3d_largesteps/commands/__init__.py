"""The command line, ``python -m pt3d_largesteps``: reconstructs, fits folders, runs benchmarks, shows what is installed.

Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._version import __version__
from pt3d_largesteps.commands import benchmarks, fit_many, info, reconstruct

PROGRAM = "python -m pt3d_largesteps"

_HELP = {
    "reconstruct": "a mesh from pictures of a generated shape or of a file",
    "fit-many": "a folder of meshes, each from pictures of it, in batches",
    "benchmark": "runs a benchmark; without a name, lists them",
    "info": "versions, what is compiled, GPUs and what is missing, for bug reports",
}
_MAIN = {"reconstruct": reconstruct.main, "fit-many": fit_many.main, "benchmark": benchmarks.main, "info": info.main}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 2 for wrong arguments, 1 for a missing package."""
    options = _parser().parse_args(arguments)
    program, given = f"{PROGRAM} {options.command}", options.arguments
    try:
        return _MAIN[options.command](given, program)
    except ImportError as error:
        print(f"{program}: {_what_is_missing(error)}", file=sys.stderr)
        return 1


def _what_is_missing(error: ImportError) -> str:
    """PyTorch3D first, the likely reason."""
    try:
        _pytorch3d.check()
    except ImportError as reason:
        return str(reason)
    return f"{error}; what the commands use comes with pip install 'pt3d_largesteps[examples]'"


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<13}{text}" for name, text in _HELP.items())
    parser = argparse.ArgumentParser(
        PROGRAM,
        usage=f"{PROGRAM} [--version] command [arguments]",
        description=f"Large steps in inverse rendering of geometry, for PyTorch3D.\n\ncommands:\n{commands}",
        epilog=f"For the arguments of a command: {PROGRAM} reconstruct --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pt3d_largesteps {__version__}")
    parser.add_argument("command", choices=list(_HELP), help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
