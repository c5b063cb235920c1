"""The three lines that change in a plain loop of PyTorch3D: a sphere becomes another shape by the chamfer distance.

    python examples/pytorch3d_loop.py

Runs the loop both ways, with no regulariser in either: with offsets of the vertices and Adam, which crumple the surface on
their way to the points, and with large steps, which keep it smooth. Writes out/pytorch3d_loop/plain.obj and large_steps.obj.
"""

from pathlib import Path

import torch
from pytorch3d.io import save_obj
from pytorch3d.loss import chamfer_distance, mesh_normal_consistency
from pytorch3d.ops import sample_points_from_meshes
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import LargeSteps, UniformAdam
from pt3d_largesteps.reconstruction.loading import into_unit_ball
from pt3d_largesteps.reconstruction.shapes import SHAPES


def plain(start, target, steps, points):
    offsets = torch.zeros_like(start.verts_packed(), requires_grad=True)
    optimizer = torch.optim.Adam([offsets], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        meshes = start.offset_verts(offsets)
        loss, _ = chamfer_distance(sample_points_from_meshes(meshes, points), sample_points_from_meshes(target, points))
        loss.backward()
        optimizer.step()
    return start.offset_verts(offsets).detach()


def large_steps(start, target, steps, points):
    module = LargeSteps(start, lambda_=5.0)  # 1: instead of the offsets
    optimizer = UniformAdam(module.parameters(), lr=0.05)  # 2: instead of Adam on the offsets
    for _ in range(steps):
        optimizer.zero_grad()
        meshes = module()  # 3: instead of start.offset_verts(offsets)
        loss, _ = chamfer_distance(sample_points_from_meshes(meshes, points), sample_points_from_meshes(target, points))
        loss.backward()
        optimizer.step()
    return module().detach()


def main(steps=100, level=4, points=2000, out=Path("out/pytorch3d_loop")):
    start, target = ico_sphere(level), into_unit_ball(SHAPES["star"]())
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for run in (plain, large_steps):
        torch.manual_seed(0)
        meshes = run(start, target, steps, points)
        torch.manual_seed(1)  # the same samples to measure both
        distance, _ = chamfer_distance(sample_points_from_meshes(meshes, 10000), sample_points_from_meshes(target, 10000))
        results[run.__name__] = distance.item(), mesh_normal_consistency(meshes).item()
        save_obj(out / f"{run.__name__}.obj", *meshes.get_mesh_verts_faces(0))
        print(f"{run.__name__}: chamfer distance {results[run.__name__][0]:.5f}, roughness {results[run.__name__][1]:.4f}")
    print(f"roughness is 1 - cos of the angles between neighbouring faces, in the mean; written to {out}")
    return results


if __name__ == "__main__":
    main()
