"""Reconstructs a mesh from pictures of it: a start is moved until its pictures are those of the target.

    python examples/reconstruct.py                                   # a shape made in code
    python examples/reconstruct.py --shape links                     # another: of two parts
    python examples/reconstruct.py --target FILE.obj --out DIR       # a shape of your own, OBJ or PLY
    python examples/reconstruct.py --method laplacian --reg 0.1      # the methods to compare with

The target is put into the unit ball and rendered from views all around it, in a soft coloured light; the images are all
that the optimisation sees. It starts from the visual hull, what the silhouettes leave of space, which has the handles and parts
of the target where the views show them; or from a sphere. In the output folder it leaves

    result.obj        the reconstructed mesh
    comparison.png    target, start and result side by side, with wireframes
    turntable.gif     the start becoming the shape, then the result, turning
    loss.png          the loss of every step
    metrics.json      the numbers that are printed as a table at the end

Ctrl-C ends the optimisation early; what it has is measured and written all the same. With --checkpoint FILE a run that was
killed goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path

from pytorch3d.io import save_obj
from pytorch3d.structures import Meshes
from tqdm import tqdm

from command_line import add_settings, non_negative, refuse
from pt3d_largesteps.optimization import Optimization
from reconstruction.loading import TargetError, into_unit_ball, load_target
from reconstruction.measures import measure, table
from reconstruction.methods import DEFAULT_LR, METHODS
from reconstruction.optimization import Run, Settings, reconstruct
from reconstruction.pictures import save_comparison, save_turntable
from reconstruction.shapes import SHAPES


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status: 0, 2 for what it was given, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        target = (load_target(options.target) if options.target else into_unit_ball(SHAPES[options.shape]())).to(
            settings.device
        )
        name = options.target.name if options.target else f"{options.shape}, made in code"
        print(f"target: {name}, {len(target.verts_packed()):,} vertices; method: {settings.method}")
        run = _reconstruct(target, settings, options.checkpoint)
        _write(run, target, name, settings, options)
    except TargetError as error:
        return refuse(str(error))
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except ValueError as error:  # a setting that only shows itself at work, such as a lambda too large for float32
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted; what was complete by then is in the output folder", status=130)
    return 130 if run.interrupted else 0


def _reconstruct(target: Meshes, settings: Settings, checkpoint: Path | None) -> Run:
    """Runs the optimisation behind a progress bar."""
    every = 0.1 if sys.stderr.isatty() else 5.0  # seconds between two looks; a log file needs fewer
    with tqdm(total=settings.steps, desc=settings.method, unit="step", mininterval=every, maxinterval=2 * every) as progress:

        def show(run: Optimization) -> None:
            history = run.history
            progress.set_postfix(loss=f"{history.mean_losses[-1]:.4f}", verts=history.stages[-1][1], refresh=False)
            progress.update(run.step - progress.n)  # a run that goes on begins with those that were done

        run = reconstruct(target, settings, show, checkpoint)
    if run.interrupted:
        print(f"interrupted after {len(run.history.losses)} of {settings.steps} steps; writing what there is")
    return run


def _write(run: Run, target: Meshes, name: str, settings: Settings, options: argparse.Namespace) -> None:
    """The result first, then what is said of it."""
    out = options.out
    save_obj(out / "result.obj", run.meshes.verts_packed().cpu(), run.meshes.faces_packed().cpu())
    measures = measure(run, target, settings)
    written = {"target": str(options.target) if options.target else options.shape, **asdict(settings), **measures}
    (out / "metrics.json").write_text(json.dumps(written, indent=2) + "\n")
    caption = (
        f"{name}: {measures['method']}, {measures['steps']} steps, {settings.views} views"
        f" — chamfer {measures['chamfer_over_noise']:.2f} × noise, IoU {measures['iou']:.3f},"
        f" {measures['self_intersecting_percent']:.2f} % self-intersecting"
    )
    save_comparison(out / "comparison.png", target, run.start, run.meshes, caption)
    run.history.plot(out / "loss.png")
    save_turntable(out / "turntable.gif", run, target)
    print(table(measures))
    print(f"written to {out}: result.obj, comparison.png, turntable.gif, loss.png, metrics.json")


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the head of this file for the output.")
    parser.add_argument("--target", type=Path, help="OBJ or PLY file; a shape made in code unless given")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="animal", help="made in code (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/reconstruct"), help="output folder (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, default=defaults.method, help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, help="file that the run can go on from")
    add_settings(parser, ", ".join(f"{DEFAULT_LR[method]} for {method}" for method in METHODS))
    parser.add_argument(
        "--reg", type=non_negative, default=defaults.reg, help="weight of --method laplacian (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
