"""Pictures of the options of LargeSteps: pinned vertices, lambda per vertex, and a learned lambda.

    python experiments/pins_and_lambda.py --out docs/images

It writes to the output folder

    pinned.png       a sheet that is pulled up at one vertex, free and with a pinned border
    per_vertex.png   a sheet that is pulled at five vertices, with lambda from 0.1 on the left to 300 on the right
    learned.png      lambda found from a rough sphere and its smoothed copy, starting from 1 and from 100
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import LargeSteps, UniformAdam, compute_matrix, from_differential
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/pins_and_lambda"), help="output folder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of each optimisation (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    save_pinned(options.out / "pinned.png", options.steps)
    save_per_vertex(options.out / "per_vertex.png", options.steps)
    save_learned(options.out / "learned.png", options.steps)
    print(f"written to {options.out}: pinned.png, per_vertex.png, learned.png")


def save_pinned(path: Path, num_steps: int) -> None:
    """The vertex in the middle is drawn to a point above the sheet."""
    sheet = square(49)
    x, _, z = sheet.verts_packed().unbind(1)
    border = torch.maximum(x.abs(), z.abs()) > 0.999
    middle = int((x.square() + z.square()).argmin())

    def loss(verts: torch.Tensor) -> torch.Tensor:
        return (verts[middle, 1] - 0.8) ** 2

    shapes = {
        "the sheet": sheet,
        "free: it follows as a whole": pulled(LargeSteps(sheet, lambda_=200.0), loss, num_steps),
        "border pinned": pulled(LargeSteps(sheet, lambda_=200.0, pinned=border), loss, num_steps),
    }
    _save_row(path, shapes, "One vertex pulled up by 0.8, λ = 200")


def save_per_vertex(path: Path, num_steps: int) -> None:
    """Five vertices in a row are pulled up; the local lambda decides how far their neighbours follow."""
    sheet = square(61)
    verts = sheet.verts_packed()
    along = (verts[:, 0] + 1) / 2
    grown = 0.1 * (300 / 0.1) ** along  # from 0.1 to 300
    spots = [int(((verts[:, 0] - x) ** 2 + verts[:, 2] ** 2).argmin()) for x in (-0.7, -0.35, 0.0, 0.35, 0.7)]

    def loss(moved: torch.Tensor) -> torch.Tensor:
        return ((moved[spots, 1] - 0.3) ** 2).sum()

    shapes = {
        "λ = 0.1": pulled(LargeSteps(sheet, lambda_=0.1), loss, num_steps),
        "λ = 300": pulled(LargeSteps(sheet, lambda_=300.0), loss, num_steps),
        "λ from 0.1 (left) to 300 (right)": pulled(LargeSteps(sheet, lambda_=grown), loss, num_steps),
    }
    _save_row(path, shapes, "Five vertices pulled up by 0.3")


def save_learned(path: Path, num_steps: int, true_lambda: float = 12.0) -> None:
    """Lambda is a parameter like any other: its gradient goes through the solve."""
    sphere = ico_sphere(4)
    rough = sphere.offset_verts(0.03 * torch.randn(sphere.verts_packed().shape, generator=torch.Generator().manual_seed(0)))
    smoothed = from_differential(compute_matrix(sphere, lambda_=true_lambda), rough.verts_packed())
    curves, found = {}, 0.0
    for start in (1.0, 100.0):
        logarithm = torch.tensor(start).log().requires_grad_()
        optimizer = torch.optim.Adam([logarithm], lr=0.1)
        curve = []
        for _ in range(num_steps):
            optimizer.zero_grad()
            matrix = compute_matrix(sphere, lambda_=logarithm.exp())
            ((from_differential(matrix, rough.verts_packed()) - smoothed) ** 2).sum().backward()
            optimizer.step()
            curve.append(logarithm.detach().exp().item())
        curves[f"from λ = {start:g}"], found = curve, curve[-1]
    again = from_differential(compute_matrix(sphere, lambda_=found), rough.verts_packed())
    shapes = {
        "u: rough": rough,
        f"x given: smoothed, λ = {true_lambda:g}": sphere.update_padded(smoothed[None]),
        f"x by the λ learned, {found:.3g}": sphere.update_padded(again[None]),
    }
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.5), layout="constrained")
    for axis, (title, shape) in zip(axes, shapes.items(), strict=False):
        _draw(axis, shape, title, (2.9, 20.0, 30.0))
    for label, curve in curves.items():
        axes[3].semilogy(curve, label=label)
    axes[3].axhline(true_lambda, color="0.6", linestyle="--", linewidth=1, label="what it was smoothed with")
    axes[3].set(xlabel="step", title="λ")
    axes[3].legend(frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def pulled(steps: LargeSteps, loss: Callable[[torch.Tensor], torch.Tensor], num_steps: int) -> Meshes:
    """The shape after an optimisation with a step size that falls to a hundredth."""
    optimizer = UniformAdam(steps.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / num_steps))
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss(steps.verts_packed()).backward()
        optimizer.step()
        scheduler.step()
    return steps().detach()


def square(side: int) -> Meshes:
    """A flat sheet from -1 to 1 in x and z."""
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.cat([torch.stack([a, c, b], -1).view(-1, 3), torch.stack([b, c, d], -1).view(-1, 3)])
    z, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    return Meshes([torch.stack([x, torch.zeros_like(x), z], dim=-1).view(-1, 3)], [faces])


def _save_row(path: Path, shapes: dict[str, Meshes], title: str) -> None:
    figure, axes = plt.subplots(1, len(shapes), figsize=(4.2 * len(shapes), 3.3), layout="constrained")
    for axis, (name, shape) in zip(axes, shapes.items(), strict=True):
        _draw(axis, shape, name, (3.0, 28.0, 20.0))
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


@torch.no_grad()
def _draw(axis: plt.Axes, shape: Meshes, title: str, view: tuple[float, float, float]) -> None:
    rotation, translation = look_at_view_transform(*view)
    cameras = FoVPerspectiveCameras(R=rotation, T=translation, fov=42.0, znear=0.1)
    renderer = PyTorch3DRenderer((300, 400), SphericalHarmonicsLight.default(), background=(1.0, 1.0, 1.0))
    axis.imshow(renderer(shape, cameras)[0, ..., :3].clamp(0, 1).numpy())
    axis.set_title(title, fontsize=10)
    axis.axis("off")


if __name__ == "__main__":
    main()
