"""Fits many targets: every mesh of a folder is reconstructed from pictures of it, several at a time.

    python -m pt3d_largesteps fit-many --targets FOLDER --out FOLDER
    python -m pt3d_largesteps fit-many --targets FOLDER --out FOLDER --batch 4 --memory 8
    torchrun --nproc_per_node=2 -m pt3d_largesteps fit-many --targets FOLDER --out FOLDER

Each target of the folder (OBJ, PLY or any format that trimesh reads) is scaled into the unit ball and rendered. Starting from
the hull of its silhouettes, large steps reconstruct it, as in reconstruct.py. Targets run in ragged batches, of at most --batch
and of no more than fit into --memory; they do not affect each other. With torchrun the workers share the batches. As soon as a
batch is done, the output folder gets for each of its targets

    NAME.obj      the reconstructed mesh
    NAME.png      target and result
    NAME.json     its measures; written last, so a target with this file is complete

It can be killed at any moment; started again, it resumes with the missing targets. A file that cannot be used is reported and
skipped; the exit status is then 1, after all others are done.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pt3d_largesteps.commands.options import add_settings, non_negative, positive_int, refuse

_OUTPUT = """For each target the output folder gets NAME.obj, the reconstructed mesh, NAME.png, target and result, and
NAME.json, its measures. Started again, the command resumes with the missing targets. A file that cannot be used is reported and
skipped; the exit status is then 1."""


def main(arguments: list[str], program: str = "fit-many") -> int:
    """Fits the folder; returns the exit status: 0, 1 if a target failed, 2 for wrong arguments, 130 after Ctrl-C."""
    options = _parser(program).parse_args(arguments)
    from pt3d_largesteps.fitting.folder import fit_folder  # torch and PyTorch3D, which --help does not need
    from pt3d_largesteps.fitting.workers import Workers

    try:
        with Workers(options.device) as workers:  # an error leaves the block, so that no worker waits for this one
            return fit_folder(options, workers)
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except ValueError as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted; finished results are in the output folder, start again to resume", status=130)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program, description=__doc__.split("\n\n")[0], epilog=_OUTPUT)
    parser.add_argument("--targets", type=_folder, required=True, help="folder of mesh files")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--batch", type=positive_int, default=8, help="targets at a time, at most (default: %(default)s)")
    parser.add_argument("--memory", type=non_negative, help="GiB for all workers together (default: half of what is free)")
    add_settings(parser, "1.3, of each mesh")
    return parser


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got {text}")
    return path
