"""The short examples, in small: each does what it says it does."""

import pytest
from pytorch3d.io import load_obj

import from_pictures
import many_meshes
import pytorch3d_loop
import texture_from_pictures


def test_from_pictures(tmp_path, capsys):
    before, after = from_pictures.main(steps=15, resolution=48, out=tmp_path)
    assert after < before  # the result is nearer to the target than the visual hull
    printed = capsys.readouterr().out
    verts, faces, _ = load_obj(tmp_path / "pretzel.obj", load_textures=False)
    assert f"12 pictures, 15 steps, {len(verts)} vertices" in printed
    euler = len(verts) - len(faces.verts_idx) // 2
    assert euler == -4  # of genus 3: the three holes are there
    assert (tmp_path / "pictures.png").exists()


def test_many_meshes(tmp_path, capsys):
    distances = many_meshes.main(steps=15, points=500, out=tmp_path)
    assert all(last < 0.7 * first for first, last in zip(distances[0], distances[-1], strict=True))
    printed = capsys.readouterr().out
    for name, num_verts in (("coarse_sphere", 642), ("fine_sphere", 2562), ("torus", 1800)):
        assert f"{name}: chamfer distance" in printed
        assert len(load_obj(tmp_path / f"{name}.obj", load_textures=False)[0]) == num_verts


def test_texture_from_pictures(tmp_path, capsys):
    before, after = texture_from_pictures.main(steps=15, num_views=8, resolution=64, out=tmp_path)
    assert after < 0.85 * before
    assert f"{before:.4f} at first, {after:.4f} at the end" in capsys.readouterr().out
    assert (tmp_path / "maps.png").exists()


def test_pytorch3d_loop(tmp_path, capsys):
    results = pytorch3d_loop.main(steps=30, level=3, points=500, out=tmp_path)
    assert max(distance for distance, _ in results.values()) < 0.01  # of the sphere: 0.057
    assert results["large_steps"][1] < 0.1 * results["plain"][1]
    assert len(capsys.readouterr().out.splitlines()) == 3
    for name in results:
        assert len(load_obj(tmp_path / f"{name}.obj", load_textures=False)[0]) == 642


@pytest.mark.parametrize("example", [from_pictures, many_meshes, texture_from_pictures, pytorch3d_loop])
def test_how_to_run_it_is_told(example):
    name = example.__name__
    assert f"    python examples/{name}.py\n" in example.__doc__
    assert example.main.__defaults__[-1].as_posix() == f"out/{name}"
