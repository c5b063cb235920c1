"""Reconstructs a mesh from pictures of it: moves a start until its pictures match those of the target.

    python -m pt3d_largesteps reconstruct                                   # a shape made in code
    python -m pt3d_largesteps reconstruct --shape links                     # another: of two parts
    python -m pt3d_largesteps reconstruct --target FILE.obj --out DIR       # a shape of your own, OBJ or PLY
    python -m pt3d_largesteps reconstruct --method laplacian --reg 0.1      # the methods to compare with

The target is scaled into the unit ball and rendered from views all around it, in a soft coloured light; the optimisation sees
only these images. It starts from a sphere or from the visual hull: the space inside all silhouettes, which has the handles and
parts of the target that the views show. The output folder then has

    result.obj        the reconstructed mesh
    comparison.png    target, start and result side by side, with wireframes
    turntable.gif     the start becoming the shape, then the result, turning
    loss.png          the loss of every step
    metrics.json      the numbers that are printed as a table at the end

and with --report FILE.html a page for a browser, with the shapes on a slider. Its viewer, three.js, is fetched once.

Ctrl-C ends the optimisation early; the result so far is still measured and written. With --checkpoint FILE a killed run resumes
when it is started again.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from pt3d_largesteps.commands.options import add_settings, non_negative, refuse
from pt3d_largesteps.reconstruction.settings import DEFAULT_LR, METHODS, SHAPES, Settings

_OUTPUT = """The output folder gets result.obj, the reconstructed mesh, comparison.png, turntable.gif, loss.png, and
metrics.json, the numbers that are printed at the end. Ctrl-C ends the optimisation early; the result so far is still measured
and written."""


def main(arguments: list[str], program: str = "reconstruct") -> int:
    """Runs the demo; returns the exit status: 0, 2 for wrong arguments, 130 after Ctrl-C."""
    options = _parser(program).parse_args(arguments)
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    from pt3d_largesteps.reconstruction.demo import run_demo
    from pt3d_largesteps.report import ThreeError  # torch and PyTorch3D, which --help does not need

    try:
        return run_demo(options, settings)
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except (ThreeError, ValueError) as error:  # ValueError: from the target, or from a setting such as a lambda too large
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted; finished files are in the output folder", status=130)


def _parser(program: str) -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(program, description=__doc__.split("\n\n")[0], epilog=_OUTPUT)
    parser.add_argument("--target", type=Path, help="OBJ or PLY file; a shape made in code unless given")
    parser.add_argument("--shape", choices=SHAPES, default="animal", help="made in code (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/reconstruct"), help="output folder (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, default=defaults.method, help="default: %(default)s")
    report_help = "page with the shapes on a slider, losses and numbers, such as run.html; the first one fetches three.js"
    parser.add_argument("--report", type=Path, metavar="FILE", help=report_help)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint file, from which the run can resume")
    add_settings(parser, ", ".join(f"{DEFAULT_LR[method]} for {method}" for method in METHODS))
    parser.add_argument(
        "--reg", type=non_negative, default=defaults.reg, help="weight of --method laplacian (default: %(default)s)"
    )
    return parser
