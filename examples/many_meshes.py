"""Many meshes at once: a batch with other triangles in each mesh, one parameter, one factorisation, one solve per step.

    python examples/many_meshes.py

Two spheres and a torus become three shapes, by the chamfer distance of sampled points. UniformAdam scales the steps of each
mesh by itself, so that none feels the others. Writes out/many_meshes/*.obj.
"""

from pathlib import Path

import torch
from pytorch3d.io import save_obj
from pytorch3d.loss import chamfer_distance
from pytorch3d.ops import sample_points_from_meshes
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import LargeSteps, UniformAdam


def bent(meshes):
    """What the meshes are to become: flatter, and bent upwards."""
    x, y, z = meshes.verts_packed().unbind(1)
    return Meshes([torch.stack([x, 0.6 * y + 0.3 * x**2, 0.5 * z], dim=1)], meshes.faces_list())


def main(steps=100, points=1000, out=Path("out/many_meshes")):
    torch.manual_seed(0)
    names = ["coarse_sphere", "fine_sphere", "torus"]
    start = join_meshes_as_batch([ico_sphere(3), ico_sphere(4), torus(0.3, 0.8, 30, 60)])
    target = join_meshes_as_batch([bent(ico_sphere(4)), bent(ico_sphere(4)), bent(torus(0.3, 0.8, 30, 60))])

    meshes = LargeSteps(start, lambda_=19.0)
    print(meshes)  # what the batch has in common
    optimizer = UniformAdam(meshes.parameters(), lr=0.03)
    distances = []
    for _ in range(steps):
        optimizer.zero_grad()
        samples = sample_points_from_meshes(meshes(), points), sample_points_from_meshes(target, points)
        distance, _ = chamfer_distance(*samples, batch_reduction=None)  # (3,), one for each mesh
        distance.sum().backward()
        optimizer.step()
        distances.append(distance.tolist())

    out.mkdir(parents=True, exist_ok=True)
    result = meshes().detach()
    for index, name in enumerate(names):
        save_obj(out / f"{name}.obj", *result.get_mesh_verts_faces(index))
        print(f"{name}: chamfer distance {distances[0][index]:.4f} at first, {distances[-1][index]:.4f} after {steps} steps")
    print(f"written to {out}")
    return distances


if __name__ == "__main__":
    main()
