"""The code of the README runs, and does what the README says; its links and commands are looked at in test_docs.py."""

import pytest
import torch
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from common.readme import README, marked_block, python_blocks
from pt3d_largesteps.metrics import self_intersecting_faces, surface_distance


def bent_ellipsoid() -> Meshes:
    """A target that a sphere becomes in few steps."""
    x, y, z = ico_sphere(4).verts_packed().unbind(1)
    return Meshes([torch.stack([x, 0.6 * y + 0.3 * x**2, 0.5 * z], dim=1)], ico_sphere(4).faces_list())


def run(block: str, num_steps: int) -> dict:
    torch.manual_seed(0)
    names = {"trg_mesh": bent_ellipsoid(), "num_steps": num_steps}
    exec(compile(block, str(README), "exec"), names)
    return names


def test_every_block_but_the_first_runs(monkeypatch):
    monkeypatch.chdir(README.parent)  # the repository of torch.hub's block
    _, *blocks = python_blocks()
    assert len(blocks) == 3
    for block in blocks:
        run(block, num_steps=2)


def test_the_first_block_optimises():
    names = run(python_blocks()[0].replace("range(50)", "range(150)"), num_steps=0)
    distance = surface_distance(names["meshes"].detach(), ico_sphere(4).scale_verts(0.8))
    start = surface_distance(ico_sphere(3).scale_verts(0.6), ico_sphere(4).scale_verts(0.8))
    assert distance.chamfer < 0.1 * start.chamfer


def test_three_lines_change():
    before, after = (
        [line.split("#")[0].rstrip() for line in marked_block(f"deform: {name}").splitlines() if "import" not in line]
        for name in ("before", "after")
    )
    regularizers = [line for line in before if line.strip().startswith("loss = loss + ")]
    assert len(regularizers) == 3
    changed = [line for line in after if line not in before]
    assert len(changed) == 3
    gone = [line for line in before if line not in after and line not in regularizers]
    assert len(gone) == 3


@pytest.mark.slow
def test_deforming_a_sphere_before_and_after():
    # The plain recipe without its regularisers tangles; with them it does not; large steps do without them.
    unregularized = "\n".join(line for line in marked_block("deform: before").splitlines() if "loss = loss" not in line)
    blocks = {"plain": unregularized, "before": marked_block("deform: before"), "after": marked_block("deform: after")}
    target = bent_ellipsoid()
    results = {name: run(block, num_steps=150)["new_src_mesh"].detach() for name, block in blocks.items()}
    intersecting = {name: self_intersecting_faces(meshes).item() for name, meshes in results.items()}
    normals = {name: surface_distance(meshes, target).normal_consistency for name, meshes in results.items()}
    assert intersecting["after"] == 0
    assert intersecting["plain"] > 0.01
    assert normals["after"] > normals["plain"] + 0.1
    assert normals["after"] > normals["before"] - 0.02
