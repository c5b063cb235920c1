"""The nvdiffrast renderer against the PyTorch3D renderer on a CUDA device: equality of the images, and speed.

    python benchmarks/bm_renderers.py
    python benchmarks/bm_renderers.py --levels 5 --sizes 512 --views 8

Icospheres pulled to an egg, seen by several cameras at once. IoU is that of the pixels that are covered by more than half, the
least of all views. The cosine is between the gradients of the vertex positions of one weighted sum of the images, with smooth
weights; the ratio is of their lengths: below 1 where nvdiffrast finds fewer of the outlines. ms are of a forward and a backward
pass by CUDA events, calls in turns; minimum and median. The exit status is 2 without a GPU or without nvdiffrast.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from torch import Tensor

from common.machine import gpu_heading, heading
from common.report import Report
from common.timing import MS, pair, single
from on_cuda.timing import clock_of, cuda_device, interleave
from pt3d_largesteps.renderers import NvdiffrastRenderer, PyTorch3DRenderer, Renderer, SphericalHarmonicsLight

TURN = 10


def main() -> None:
    options = _options()
    device = cuda_device()
    try:
        NvdiffrastRenderer(8)
    except ImportError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    run(options, device)


def run(options: argparse.Namespace, device: torch.device) -> None:
    report = Report(options.out_dir / "renderers_cuda", f"{heading()}\n{_device_heading(device)}")
    head = ["vertices", "pixels", "views", "images", "IoU", "cosine", "length ratio"]
    report.table([*head, "nvdiffrast min / median, ms", "PyTorch3D min / median, ms", "PyTorch3D / nvdiffrast"])
    for level in options.levels:
        for size in options.sizes:
            for light in (None, SphericalHarmonicsLight.default().to(device)):
                _row(level, size, light, options, report, device)
    report.close()


def _row(level: int, size: int, light, options: argparse.Namespace, report: Report, device: torch.device) -> None:
    sphere = ico_sphere(level).to(device)
    verts = sphere.verts_packed() * torch.tensor([0.7, 1.0, 0.6], device=device)
    azimuths = torch.arange(options.views) * (360 / options.views) + 20
    rotation, translation = look_at_view_transform(2.7, 15.0, azimuths)
    cameras = FoVPerspectiveCameras(R=rotation, T=translation, fov=45.0, device=device)
    renderers = {"nvdiffrast": NvdiffrastRenderer(size, light), "PyTorch3D": PyTorch3DRenderer(size, light)}
    weights = _smooth_weights(options.views, 1 if light is None else 4, size, device)
    steps = {name: _step(renderer, verts, sphere.faces_list(), cameras, weights) for name, renderer in renderers.items()}
    images, gradients = zip(*(step() for step in steps.values()), strict=True)
    covered = [image[..., -1] > 0.5 for image in images]
    iou = ((covered[0] & covered[1]).sum((1, 2)) / (covered[0] | covered[1]).sum((1, 2)).clamp_min(1)).min().item()
    cosine = torch.nn.functional.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0).item()
    length = (gradients[0].norm() / gradients[1].norm()).item()
    times = interleave(steps, options.seconds, clock_of(device), turn=TURN)
    ours, theirs = times["nvdiffrast"], times["PyTorch3D"]
    ratio, kind = theirs.min / ours.min, "silhouettes" if light is None else "shaded"
    numbers = {"vertices": len(verts), "pixels": size, "views": options.views, "images": kind, "IoU": iou, "cosine": cosine}
    numbers |= {"length ratio": length, "PyTorch3D / nvdiffrast": ratio, "rounds": ours.rounds}
    numbers |= {f"{name} {key} ms": getattr(time, key) / MS for name, time in times.items() for key in ("min", "median")}
    cells = [f"{len(verts):,}", size, options.views, kind, f"{iou:.4f}", f"{cosine:.3f}", f"{length:.2f}"]
    report.row([*cells, pair(ours, MS), pair(theirs, MS), single(ratio)], numbers)


def _step(renderer: Renderer, verts: Tensor, faces, cameras, weights: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    def step() -> tuple[Tensor, Tensor]:
        leaf = verts.clone().requires_grad_()
        images = renderer(Meshes([leaf], faces), cameras)
        (gradient,) = torch.autograd.grad((images * weights).sum(), leaf)
        return images.detach(), gradient

    return step


def _smooth_weights(views: int, channels: int, size: int, device: torch.device) -> Tensor:
    """(views, size, size, channels): images have finest differences along the outlines that are not to count."""
    coarse = torch.randn(views, channels, 6, 6, generator=torch.Generator().manual_seed(0)).to(device)
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
    return fine.permute(0, 2, 3, 1).contiguous()


def _device_heading(device: torch.device) -> str:
    for name in ("nvdiffrast", "diffrp-nvdiffrast"):
        try:
            return f"{gpu_heading(device)}; {name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{gpu_heading(device)}; nvdiffrast of unknown version"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 4, 5, 6], help="subdivisions of the icosphere")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512], help="pixels along both sides")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row, at least (default: %(default)s)")
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).resolve().parent / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
