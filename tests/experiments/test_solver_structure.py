"""The picture of the solver's structure shows what is there."""

import pytest
import torch
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import compute_matrix
from pt3d_largesteps.native import reference
from pt3d_largesteps.solvers import analyze
from solver_structure import factor_pattern, main, parts, section


def test_the_fill_is_that_of_the_factor():
    sphere = ico_sphere(2)
    symbolic = analyze(compute_matrix(sphere), sphere.verts_packed())
    assert factor_pattern(sphere, section(symbolic, reference.OLD_FROM_NEW)).sum() == symbolic.nnz


def test_no_edge_leads_from_one_part_to_another():
    sphere = ico_sphere(3)
    depths, places = parts(analyze(compute_matrix(sphere), sphere.verts_packed()), num_cuts=2)
    inner = depths == 2
    assert len(places[inner].unique()) > 2
    ends = sphere.edges_packed()
    ends = ends[inner[ends].all(1)]
    assert len(ends) > 100
    assert torch.equal(places[ends[:, 0]], places[ends[:, 1]])


@pytest.mark.slow
def test_the_picture(tmp_path, capsys):
    main(["--out", str(tmp_path)])
    assert (tmp_path / "solver_structure.png").stat().st_size > 10_000
    assert "solver_structure.png" in capsys.readouterr().out
