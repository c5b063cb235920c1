"""A picture of why the solves are cheap: the elimination order of nested dissection, and the remaining fill-in.

    python experiments/solver_structure.py --out docs/images

It writes to the output folder

    solver_structure.png    the factor's entries in the order of the mesh and in that of the solver, and on the sphere the
                            separators of the first cuts with the parts that they leave
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from pytorch3d.renderer import FoVPerspectiveCameras, TexturesVertex, look_at_view_transform
from pytorch3d.utils import ico_sphere
from torch import Tensor

from pt3d_largesteps import compute_matrix
from pt3d_largesteps.native import reference
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.solvers import SymbolicFactor, analyze

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NUM_CUTS = 4  # levels that are shown: up to 15 separators and 16 parts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/solver_structure"), help="output folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    sphere = ico_sphere(3)
    order = section(analyze(compute_matrix(sphere), sphere.verts_packed()), reference.OLD_FROM_NEW)
    _draw_fill(axes[0], sphere, torch.arange(len(order)), "in the order of the mesh")
    _draw_fill(axes[1], sphere, order, "by nested dissection")
    _draw_cuts(axes[2])
    figure.savefig(options.out / "solver_structure.png", dpi=100)
    plt.close(figure)
    print(f"written to {options.out}: solver_structure.png")


def section(symbolic: SymbolicFactor, number: int) -> Tensor:
    """A section of the structure's buffer."""
    start, end = symbolic.index[reference.SECTION_OFFSETS + number :][:2].tolist()
    return symbolic.index[start:end].long()


def factor_pattern(meshes, order: Tensor) -> np.ndarray:
    """(V, V) bool, the entries of the Cholesky factor of the reordered matrix."""
    matrix = compute_matrix(meshes, lambda_=19.0).to_dense().double()
    return torch.linalg.cholesky(matrix[order][:, order]).ne(0).numpy()


def parts(symbolic: SymbolicFactor, num_cuts: int) -> tuple[Tensor, Tensor]:
    """(V,) the number of cut levels until a vertex is reached, at most ``num_cuts``, and (V,) the supernode that reaches it."""
    order, first = section(symbolic, reference.OLD_FROM_NEW), section(symbolic, reference.FIRST)
    parent = section(symbolic, reference.PARENT).tolist()
    depth, place = [0] * len(parent), list(range(len(parent)))
    for node in reversed(range(len(parent))):  # parents come after their children
        if parent[node] >= 0:
            depth[node] = depth[parent[node]] + 1
            place[node] = node if depth[node] <= num_cuts else place[parent[node]]
    node_of = torch.repeat_interleave(torch.arange(len(parent)), first.diff())
    depths, places = torch.empty_like(order), torch.empty_like(order)
    depths[order] = torch.tensor(depth)[node_of].clamp(max=num_cuts)
    places[order] = torch.tensor(place)[node_of]
    return depths, places


def _draw_fill(axis, meshes, order: Tensor, title: str) -> None:
    pattern = factor_pattern(meshes, order)
    axis.imshow(pattern, cmap="Greys", interpolation="antialiased", interpolation_stage="rgba")
    axis.set(title=f"{title}: {pattern.sum():,} entries", xticks=[], yticks=[])


def _draw_cuts(axis) -> None:
    sphere = ico_sphere(5)
    depths, places = parts(analyze(compute_matrix(sphere), sphere.verts_packed()), NUM_CUTS)
    hues = {int(place): 0.61803 * number % 1 for number, place in enumerate(places[depths == NUM_CUTS].unique())}
    separators = plt.get_cmap("inferno")(np.linspace(0.1, 0.75, NUM_CUTS))[:, :3]
    colors = [
        tuple(separators[depth]) if depth < NUM_CUTS else colorsys.hsv_to_rgb(hues[place], 0.25, 0.97)
        for depth, place in zip(depths.tolist(), places.tolist(), strict=True)
    ]
    sphere.textures = TexturesVertex(torch.tensor(colors, dtype=torch.float32)[None])
    R, T = look_at_view_transform(dist=2.9, elev=25.0, azim=35.0)
    renderer = PyTorch3DRenderer(460, light=SphericalHarmonicsLight.ambient())
    image = renderer(sphere, FoVPerspectiveCameras(R=R, T=T, fov=45.0))[0]
    axis.imshow((image[..., :3] * image[..., 3:] + 1 - image[..., 3:]).clamp(0, 1).numpy())
    axis.set(title=f"{NUM_CUTS} levels of cuts, dark to light")
    axis.axis("off")


if __name__ == "__main__":
    main()
