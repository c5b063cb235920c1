"""The renderer on a CPU beside PyTorch3D's rasteriser: one forward and backward pass of silhouettes.

    python benchmarks/bm_render.py

PyTorch3D's side is ``MeshRasterizer`` at one face per pixel without blur, and the backward pass through its barycentric
coordinates and depths: the least that a differentiable picture needs of it, without any antialiasing. Runs interleaved;
minimum and median.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from pytorch3d.renderer import FoVPerspectiveCameras, MeshRasterizer, RasterizationSettings, look_at_view_transform
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from common.machine import heading
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(heading())
    columns = (
        "vertices",
        "pixels",
        "views",
        "ours min / median, ms",
        "PyTorch3D min / median, ms",
        "ratio",
        "faces that differ",
    )
    print(f"\n| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|")
    views = look_at_view_transform(2.7, torch.tensor([10.0, -30.0]), torch.tensor([20.0, 200.0]))
    cameras = FoVPerspectiveCameras(R=views[0], T=views[1], fov=45.0)
    for level, size in ((3, 64), (4, 64), (4, 128), (5, 128), (5, 256)):
        sphere = ico_sphere(level)
        renderer = PyTorch3DRenderer(size, SphericalHarmonicsLight.default())
        rasterizer = MeshRasterizer(cameras, RasterizationSettings(image_size=size, faces_per_pixel=1))
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(options.repeat):
            seconds["ours"].append(_timed(sphere, lambda meshes: renderer(meshes, cameras).square().sum()))
            seconds["theirs"].append(_timed(sphere, lambda meshes: _loss(rasterizer(meshes.extend(2)))))
        differ = renderer.visible_faces(sphere, cameras).pix_to_face != rasterizer(sphere.extend(2)).pix_to_face[..., 0]
        cells = [f"{1e3 * min(s):.1f} / {1e3 * statistics.median(s):.1f}" for s in seconds.values()]
        ratio = min(seconds["theirs"]) / min(seconds["ours"])
        print(
            f"| {len(sphere.verts_packed()):,} | {size} | 2 | {cells[0]} | {cells[1]} | {ratio:.0f} | {int(differ.sum())} |",
            flush=True,
        )


def _timed(sphere: Meshes, loss_of) -> float:
    verts = sphere.verts_packed().clone().requires_grad_()
    start = time.perf_counter()
    loss_of(Meshes([verts], sphere.faces_list())).backward()
    return time.perf_counter() - start


def _loss(fragments) -> torch.Tensor:
    return fragments.bary_coords.square().sum() + fragments.zbuf.sum()


if __name__ == "__main__":
    main()
