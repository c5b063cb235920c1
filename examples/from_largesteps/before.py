"""A sphere becomes a bent ellipsoid, in tensors and in the names of the ``largesteps`` package.

before.py imports that package, whose ``compute_matrix`` needs CUDA; after.py imports ``pt3d_largesteps.compat``, and runs
anywhere. Nothing else differs.

    python examples/from_largesteps/after.py
"""

import argparse

import torch
from largesteps.geometry import compute_matrix
from largesteps.optimize import AdamUniform
from largesteps.parameterize import from_differential, to_differential
from pytorch3d.loss import chamfer_distance
from pytorch3d.ops import sample_points_from_meshes
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere


def optimize(steps, level=4, points=2000, lambda_=19, step_size=3e-2):
    """The vertices (V, 3) at the end, the faces (F, 3), and the loss of each step."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    v_src, f_src = ico_sphere(level, device).get_mesh_verts_faces(0)
    x, y, z = v_src.unbind(1)
    target = Meshes([torch.stack([x, 0.6 * y + 0.3 * x**2, 0.5 * z], dim=1)], [f_src])

    # I + lambda L, and the coordinates that are optimised
    M = compute_matrix(v_src, f_src, lambda_)
    u = to_differential(M, v_src)
    u.requires_grad = True
    opt = AdamUniform([u], step_size)

    losses = []
    for _ in range(steps):
        # The vertices of the step, by a solve
        v_opt = from_differential(M, u, "Cholesky")
        samples = sample_points_from_meshes(Meshes([v_opt], [f_src]), points)
        loss, _ = chamfer_distance(samples, sample_points_from_meshes(target, points))

        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return from_differential(M, u.detach(), "Cholesky"), f_src, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--level", type=int, default=4, help="of the sphere (default: %(default)s, 2,562 vertices)")
    parser.add_argument("--points", type=int, default=2000, help="sampled on each mesh (default: %(default)s)")
    options = parser.parse_args()
    _, _, losses = optimize(options.steps, options.level, options.points)
    print(f"chamfer distance: {losses[0]:.6f} at first, {losses[-1]:.6f} after {options.steps} steps")


if __name__ == "__main__":
    main()
