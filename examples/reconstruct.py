"""Reconstructs a mesh from pictures of it: a sphere is moved until its pictures are those of the target.

    python examples/reconstruct.py                                   # a shape made in code
    python examples/reconstruct.py --target FILE.obj --out DIR       # a shape of your own, OBJ or PLY
    python examples/reconstruct.py --method laplacian --reg 0.1      # the methods to compare with

The target is put into the unit ball and rendered from views all around it, in a soft coloured light; the images are all
that the optimisation sees. In the output folder it leaves

    result.obj        the reconstructed mesh
    comparison.png    target, start and result side by side, with wireframes
    turntable.gif     the sphere becoming the shape, then the result, turning
    loss.png          the loss of every step
    metrics.json      the numbers that are printed as a table at the end

Ctrl-C ends the optimisation early; what it has is measured and written all the same.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from pytorch3d.io import save_obj
from reconstruction.loading import TargetError, into_unit_ball, load_target
from reconstruction.measures import measure, table
from reconstruction.methods import DEFAULT_LR, METHODS
from reconstruction.optimization import Run, Settings, reconstruct, start_meshes
from reconstruction.pictures import save_comparison, save_loss_curve, save_turntable
from reconstruction.shapes import animal
from tqdm import tqdm

from pt3d_largesteps import available_solvers


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        return _refuse(f"--device: expected a device of this machine, got {options.device}, and CUDA is not available")
    settings = Settings(
        method=options.method,
        steps=options.steps,
        views=options.views,
        resolution=options.resolution,
        lambda_=options.lambda_,
        lr=options.lr,
        reg=options.reg,
        seed=options.seed,
        device=options.device,
        remesh=options.remesh,
        solver=options.solver,
    )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        target = (load_target(options.target) if options.target else into_unit_ball(animal())).to(options.device)
    except TargetError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"--out: expected a folder to write to, got {options.out} ({error.strerror})")
    name = options.target.name if options.target else "a shape made in code"
    print(f"target: {name}, {len(target.verts_packed()):,} vertices; method: {settings.method}")

    with tqdm(total=settings.steps, desc=settings.method, unit="step") as progress:

        def show(step: int, run: Run) -> None:
            progress.set_postfix(loss=f"{run.losses[-1]:.4f}", verts=len(run.meshes.verts_packed()), refresh=False)
            progress.update()

        run = reconstruct(target, settings, show)
    if run.interrupted:
        print(f"interrupted after {len(run.losses)} of {settings.steps} steps; writing what there is")
    measures = measure(run, target, settings)
    save_obj(options.out / "result.obj", run.meshes.verts_packed().cpu(), run.meshes.faces_packed().cpu())
    written = {"target": str(options.target) if options.target else None, **asdict(settings), **measures}
    (options.out / "metrics.json").write_text(json.dumps(written, indent=2) + "\n")
    caption = (
        f"{name}: {measures['method']}, {measures['steps']} steps, {settings.views} views"
        f" — chamfer {measures['chamfer_over_noise']:.2f} × noise, IoU {measures['iou']:.3f},"
        f" {measures['self_intersecting_percent']:.2f} % self-intersecting"
    )
    save_comparison(options.out / "comparison.png", target, start_meshes(settings), run.meshes, caption)
    save_loss_curve(options.out / "loss.png", run, settings)
    save_turntable(options.out / "turntable.gif", run, target)
    print(table(measures))
    print(f"written to {options.out}: result.obj, comparison.png, turntable.gif, loss.png, metrics.json")
    return 130 if run.interrupted else 0


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the head of this file for the output.")
    parser.add_argument("--target", type=Path, help="OBJ or PLY file; a shape made in code unless given")
    parser.add_argument("--out", type=Path, default=Path("out/reconstruct"), help="output folder (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, default=defaults.method, help="default: %(default)s")
    parser.add_argument("--views", type=_positive_int, default=defaults.views, help="given views (default: %(default)s)")
    parser.add_argument("--resolution", type=_positive_int, default=defaults.resolution, help="pixels (default: %(default)s)")
    parser.add_argument("--steps", type=_positive_int, default=defaults.steps, help="default: %(default)s")
    parser.add_argument(
        "--lambda", dest="lambda_", type=_non_negative, default=defaults.lambda_,
        help="of large steps, in the first stage (default: %(default)s)",
    )  # fmt: skip
    lr_help = ", ".join(f"{DEFAULT_LR[method]} for {method}" for method in METHODS)
    parser.add_argument("--lr", type=_non_negative, help=f"step size in mean edge lengths (default: {lr_help})")
    parser.add_argument("--reg", type=_non_negative, default=defaults.reg, help="weight of --method laplacian (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of the order of the views (default: %(default)s)")
    parser.add_argument("--device", default=defaults.device, help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--solver", choices=["auto", *available_solvers()], default=defaults.solver, help="default: %(default)s")
    parser.add_argument("--no-remesh", dest="remesh", action="store_false", help="keep the sphere's 2,562 vertices to the end")
    return parser


def _positive_int(text: str) -> int:
    value = int(text) if text.lstrip("+-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def _non_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return value


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
