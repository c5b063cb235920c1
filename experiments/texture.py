"""A high-resolution texture of which each step sees a random hundredth of the texels, with and without large steps.

    python experiments/texture.py                          # texels of an image
    python experiments/texture.py --on-mesh                # pictures of a textured mesh

The experiment on textures of Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry" (2021): the solve spreads
what a step learns at few texels to the others. The start is grey. The script writes to the output folder

    texture.png    the texture on its way, and the PSNR against the steps
    texture.csv    for each method and step size the steps to given PSNRs

and with --on-mesh

    mesh.png       a mesh with two uv maps, one that wraps around it and an atlas, and the PSNR against the steps
    mesh.csv       the same table, with the jumps across the seams
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from fields import seam
from fields.descent import Descent, Recipe, decibels_on_sight, descend, random_values
from fields.report import best, best_of_each, curves, progress, ratios, rows, show, table, write_table
from fields.targets import texture
from pt3d_largesteps.commands import options as command_line
from pt3d_largesteps.commands.options import device, fraction, non_negative, positive, positive_int, refuse

PLAIN = (("Adam", 0.01), ("Adam", 0.02), ("UniformAdam", 0.05), ("UniformAdam", 0.1))
LAMBDAS = (0.25, 1.0, 4.0, 16.0)
# Like coarse-to-fine on meshes: lambda and the step size fall over the first fifth of the steps, then stay constant.
FALLING_LAMBDA, FALLING_STEPS, LAST_STEP, FALL = (8.0, 0.125), (0.3, 0.7), 1 / 7, 0.2
STEPS = 400
DETAIL = (0.46, 0.3)  # where the enlarged part begins: across and down
DETAIL_SIZE = 0.25


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for wrong arguments, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        written = seam.fit(options) if options.on_mesh else fit(options)
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except ValueError as error:  # a step size that only shows itself at work
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted", status=130)
    print(f"written to {options.out}: {', '.join(written)}")
    return 0


def fit(options: argparse.Namespace) -> list[str]:
    """All methods on the texels of one image; returns the names of the files."""
    steps = options.steps or STEPS
    target = texture(options.size, options.size).to(options.device)
    recipes = [Recipe(name, lr) for name, lr in PLAIN]
    recipes += [Recipe(name, lr, last_lr=LAST_STEP * lr) for name, lr in PLAIN]
    lambdas = LAMBDAS if options.lambdas is None else options.lambdas
    recipes += [Recipe("UniformAdam", lr, lambda_) for lambda_ in lambdas for lr in options.step_sizes]
    first, last = FALLING_LAMBDA
    recipes += [Recipe("UniformAdam", lr, first, LAST_STEP * lr, last, FALL) for lr in FALLING_STEPS]
    moments = sorted({max(1, round(steps * share)) for share in (0.025, 0.1, 0.25, 1)})
    descents = []
    with progress(len(recipes) * steps) as bar:
        for recipe in recipes:
            loss = random_values(target, options.fraction, options.seed)
            descents.append(descend(target, recipe, steps, loss, moments, on_step=bar.update))
    write_table(options.out / "texture.csv", rows(descents))
    chosen = best_of_each(descents)
    _save(options.out / "texture.png", chosen, target.cpu(), moments, options)
    print(table(rows(chosen)))
    on_sight = decibels_on_sight(descents[0].decibels[0], options.fraction, 10 * steps)
    share = f"{100 * options.fraction:.3g} % of the texels"
    print(f"\nfewest steps of all runs, {share} at each:\n{table(ratios(descents, on_sight))}")
    return ["texture.png", "texture.csv"]


def _save(path: Path, chosen: list[Descent], target: Tensor, moments: list[int], options: argparse.Namespace) -> None:
    """Two rows for the best run without solves and two for the best with: the whole, and a part of it enlarged."""
    pair = [best(chosen, large=False), best(chosen, large=True)]
    columns = len(moments) + 1
    figure = Figure(figsize=(2.3 * columns, 9.6 + 3.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(9.6, 3.2))
    axes = above.subplots(4, columns, squeeze=False)
    for column in range(columns):
        for row, descent in enumerate(pair):
            last = column == len(moments)
            image = (target if last else descent.fields[moments[column]])[0]
            psnr = "" if last else f", {descent.decibels[moments[column]]:.1f} dB"
            show(axes[2 * row, column], image, "target" if last else f"step {moments[column]}{psnr}")
            show(axes[2 * row + 1, column], _detail(image), interpolation="nearest")
    for row, descent in enumerate(pair):
        axes[2 * row, 0].set_ylabel(descent.recipe.method)
        axes[2 * row + 1, 0].set_ylabel("detail")
    axis = below.subplots()
    curves(axis, chosen, decibels_on_sight(chosen[0].decibels[0], options.fraction, moments[-1]))
    axis.set_title(f"{options.size} x {options.size} texels, {100 * options.fraction:.3g} % of them at each step", fontsize=10)
    figure.savefig(path, dpi=110)


def _detail(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    top, left = int(DETAIL[1] * height), int(DETAIL[0] * width)
    return image[:, top : top + max(1, int(DETAIL_SIZE * height)), left : left + max(1, int(DETAIL_SIZE * width))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the head of this file for the output.")
    parser.add_argument("--out", type=Path, default=Path("out/texture"), help="output folder (default: %(default)s)")
    parser.add_argument(
        "--size", type=positive_int, default=512, help="texels of a row; a mesh has half as many rows (default: %(default)s)"
    )
    steps_help = f"of each run (default: {STEPS}, on a mesh {seam.STEPS})"
    parser.add_argument("--steps", type=positive_int, help=steps_help)
    parser.add_argument("--fraction", type=fraction, default=0.01, help="of the texels at a step (default: %(default)s)")
    lambdas_help = f"of large steps (default: {LAMBDAS}, on a mesh {seam.LAMBDAS})"
    parser.add_argument("--lambdas", type=non_negative, nargs="+", help=lambdas_help)
    parser.add_argument("--step-sizes", type=positive, nargs="+", default=[0.3], help="of large steps (default: %(default)s)")
    parser.add_argument("--on-mesh", action="store_true", help="see the texture on a mesh, in pictures, instead of its texels")
    parser.add_argument("--views", type=positive_int, default=2, help="at a step, with --on-mesh (default: %(default)s)")
    parser.add_argument("--resolution", type=positive_int, default=24, help="pixels, with --on-mesh (default: %(default)s)")
    parser.add_argument("--seed", type=command_line.seed, default=0, help="of what is seen when (default: %(default)s)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
