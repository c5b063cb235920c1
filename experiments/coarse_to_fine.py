"""From an icosahedron to a detailed shape: twelve vertices, then more after each remeshing, and a picture of each stage.

    python experiments/coarse_to_fine.py                           # a shape made in code
    python experiments/coarse_to_fine.py --target FILE.obj --out DIR

The idea of Fig. 3 of Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021): coarse meshes find the
large forms in few and large steps, and each remeshing gives room for finer ones. It writes to the output folder

    stages.png     the shape at the end of each stage, with its triangles, and the target
    result.obj     the reconstructed mesh
    loss.png       the loss of every step, with the remeshings
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytorch3d.io import save_obj
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from tqdm import tqdm

from pt3d_largesteps.commands.options import device, positive_int, refuse, seed
from pt3d_largesteps.optimization import Optimization, OptimizationConfig, Stage, optimize
from pt3d_largesteps.reconstruction.loading import TargetError, into_unit_ball, load_target
from pt3d_largesteps.reconstruction.pictures import save_row
from pt3d_largesteps.reconstruction.shapes import animal
from pt3d_largesteps.reconstruction.views import fibonacci_cameras
from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight

STAGES = (
    Stage(0.0, lambda_=1.0),
    Stage(0.1, lambda_=4.0, num_verts=100),
    Stage(0.2, lambda_=7.0, num_verts=400),
    Stage(0.35, lambda_=7.0, num_verts=1500),
    Stage(0.5, lambda_=4.0, num_verts=5000),
    Stage(0.7, lambda_=2.0, num_verts=12000),
)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for wrong arguments, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        target = (load_target(options.target) if options.target else into_unit_ball(animal())).to(options.device)
        shapes = fit(target, options)
        save_row(options.out / "stages.png", {**shapes, "target": target})
        result = list(shapes.values())[-1]
        save_obj(options.out / "result.obj", result.verts_packed().cpu(), result.faces_packed().cpu())
    except TargetError as error:
        return refuse(str(error))
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except ValueError as error:  # a seed or a loss that only shows itself at work
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted", status=130)
    print(f"written to {options.out}: stages.png, result.obj, loss.png")
    return 0


def fit(target: Meshes, options: argparse.Namespace) -> dict[str, Meshes]:
    """The shape at the beginning and at the end of each stage, by title."""
    cameras = fibonacci_cameras(options.views, options.device)
    renderer = PyTorch3DRenderer(options.resolution, SphericalHarmonicsLight.default())
    loss = ImageLoss.of_meshes(target, renderer, cameras)
    start = ico_sphere(0, device=options.device).scale_verts(0.6)
    config = OptimizationConfig(steps=options.steps, stages=STAGES, seed=options.seed)
    shapes = {"start": start}
    every = 0.1 if sys.stderr.isatty() else 5.0
    with tqdm(total=config.steps, unit="step", mininterval=every) as progress:

        def after_step(run: Optimization) -> None:
            progress.set_postfix(loss=f"{run.history.mean_losses[-1]:.4f}", verts=run.history.stages[-1][1], refresh=False)
            progress.update()
            if run.stage_ends and run.step < config.steps:
                shapes[f"step {run.step}"] = run.meshes()

        result = optimize(start, loss, config, callbacks=[after_step])
    shapes[f"step {config.steps}"] = result.meshes
    result.history.plot(options.out / "loss.png")
    return shapes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the head of this file for the output.")
    parser.add_argument("--target", type=Path, help="OBJ or PLY file; a shape made in code unless given")
    parser.add_argument("--out", type=Path, default=Path("out/coarse_to_fine"), help="output folder (default: %(default)s)")
    parser.add_argument("--steps", type=positive_int, default=1000, help="default: %(default)s")
    parser.add_argument("--views", type=positive_int, default=64, help="of the target (default: %(default)s)")
    parser.add_argument("--resolution", type=positive_int, default=128, help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of the order of the views (default: %(default)s)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
