"""A density of 128^3 voxels from a random hundredth of them at each step, or from rays, with and without large steps.

    python experiments/volume.py                           # voxels
    python experiments/volume.py --lines                   # the mean density along rays parallel to the axes

The solves are those of :class:`~pt3d_largesteps.LargeStepsGrid`: cosine transforms, without a factorisation. The start is grey.
The script writes to the output folder

    volume.png    slices of the density on its way, and the PSNR against the steps
    volume.csv    for each method and step size the steps to given PSNRs
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from fields.descent import Descent, Loss, Recipe, decibels_on_sight, descend, random_index, random_values
from fields.report import best, best_of_each, curves, progress, ratios, rows, show, table, write_table
from fields.targets import density
from pt3d_largesteps import GridMatrix, from_differential
from pt3d_largesteps.commands import options as command_line
from pt3d_largesteps.commands.options import device, fraction, non_negative, positive, positive_int, refuse

PLAIN = (("Adam", 0.05), ("UniformAdam", 0.1), ("UniformAdam", 0.2))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for wrong arguments, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        fit(options)
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except ValueError as error:  # a step size that only shows itself at work
        return refuse(str(error))
    except KeyboardInterrupt:
        return refuse("interrupted", status=130)
    print(f"written to {options.out}: volume.png, volume.csv")
    return 0


def fit(options: argparse.Namespace) -> None:
    """All methods on one density."""
    target = density(options.size).to(options.device)
    recipes = [Recipe(name, lr) for name, lr in PLAIN]
    recipes += [Recipe("UniformAdam", lr, lambda_) for lambda_ in options.lambdas for lr in options.step_sizes]
    moments = sorted({max(1, round(options.steps * share)) for share in (0.1, 0.3, 1)})
    descents = []
    with progress(len(recipes) * options.steps) as bar:
        for recipe in recipes:
            loss = (random_rays if options.lines else random_values)(target, options.fraction, options.seed)
            descents.append(descend(target, recipe, options.steps, loss, moments, on_step=bar.update))
    write_table(options.out / "volume.csv", rows(descents))
    chosen, start = best_of_each(descents), descents[0].decibels[0]
    on_sight = [] if options.lines else decibels_on_sight(start, options.fraction, 10 * options.steps)
    _save(options.out / "volume.png", chosen, target.cpu(), moments, on_sight[: options.steps + 1], _seen(options))
    print(table(rows(chosen)))
    print(f"\nfewest steps of all runs, {_seen(options)} at each:\n{table(ratios(descents, on_sight))}")
    seconds = solve_seconds(target)
    print(
        f"\none solve of {options.size}^3 voxels: {1e3 * seconds:.1f} ms, {torch.get_num_threads()} threads, {options.device}"
    )


def random_rays(target: Tensor, fraction: float, seed: int) -> Loss:
    """The squared difference of the means along a random fraction of the rays through each face, redrawn at each call.

    Rays in three directions do not determine a density, however many there are: no method comes as close as with voxels.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(values: Tensor) -> Tensor:
        total = values.new_zeros(())
        for axis in (2, 3, 4):
            difference = (values - target).mean(axis).flatten()
            index = random_index(len(difference), fraction, generator).to(target.device)
            total = total + difference.index_select(0, index).square().mean()
        return total

    return loss


@torch.no_grad()
def solve_seconds(target: Tensor, repeats: int = 5) -> float:
    """The fastest of some solves."""
    matrix = GridMatrix(target.shape[2:], 4.0)
    seconds = []
    for _ in range(repeats + 1):  # the first one also makes tables
        begin = time.perf_counter()
        from_differential(matrix, target)
        if target.is_cuda:
            torch.cuda.synchronize(target.device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def _seen(options: argparse.Namespace) -> str:
    return f"{100 * options.fraction:.3g} % of the {'rays along the axes' if options.lines else 'voxels'}"


def _save(path: Path, chosen: list[Descent], target: Tensor, moments: list[int], on_sight: Sequence[float], seen: str) -> None:
    """Rows of two slices each, for the best run without solves and the best with."""
    pair = [best(chosen, large=False), best(chosen, large=True)]
    columns = len(moments) + 1
    figure = Figure(figsize=(2.5 * columns + 1.5, 10.4 + 3.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(10.4, 3.2))
    axes = above.subplots(4, columns, squeeze=False)
    style = {"cmap": "magma", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    for column in range(columns):
        for row, descent in enumerate(pair):
            last = column == len(moments)
            values = (target if last else descent.fields[moments[column]])[0, 0]
            title = "target" if last else f"step {moments[column]}, {descent.decibels[moments[column]]:.1f} dB"
            across, along = values[len(values) // 2], values[:, values.shape[1] // 4]
            show(axes[2 * row, column], across[None], title, **style)
            show(axes[2 * row + 1, column], along[None], **style)
    for row, descent in enumerate(pair):
        axes[2 * row, 0].set_ylabel(f"{descent.recipe.method}\nz in the middle")
        axes[2 * row + 1, 0].set_ylabel("y at a quarter")
    axis = below.subplots()
    curves(axis, chosen, on_sight)
    axis.set_title(f"{len(target[0, 0])}³ voxels, {seen} at each step", fontsize=10)
    figure.savefig(path, dpi=110)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the head of this file for the output.")
    parser.add_argument("--out", type=Path, default=Path("out/volume"), help="output folder (default: %(default)s)")
    parser.add_argument("--size", type=positive_int, default=128, help="voxels of a side (default: %(default)s)")
    parser.add_argument("--steps", type=positive_int, default=100, help="of each run (default: %(default)s)")
    parser.add_argument("--lines", action="store_true", help="see means along rays instead of voxels")
    parser.add_argument(
        "--fraction", type=fraction, default=0.01, help="of the voxels, or rays, at a step (default: %(default)s)"
    )
    parser.add_argument(
        "--lambdas", type=non_negative, nargs="+", default=[1.0, 4.0, 16.0], help="of large steps (default: %(default)s)"
    )
    parser.add_argument(
        "--step-sizes", type=positive, nargs="+", default=[0.3, 1.0], help="of large steps (default: %(default)s)"
    )
    parser.add_argument("--seed", type=command_line.seed, default=0, help="of what is seen when (default: %(default)s)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
