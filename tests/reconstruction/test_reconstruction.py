"""The demo as a user runs it: small runs, bad files, bad options, Ctrl-C."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from pytorch3d.io import load_obj
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

import coarse_to_fine
import cuda_graph
from pt3d_largesteps.commands import reconstruct
from pt3d_largesteps.metrics import intersection_over_union, self_intersecting_faces, surface_distance
from pt3d_largesteps.reconstruction.loading import TargetError, into_unit_ball, load_target
from pt3d_largesteps.reconstruction.optimization import reconstruct as optimize
from pt3d_largesteps.reconstruction.settings import Settings
from pt3d_largesteps.reconstruction.shapes import SHAPES, animal
from pt3d_largesteps.reconstruction.views import fibonacci_cameras
from pt3d_largesteps.renderers import PyTorch3DRenderer
from support.shapes import real_mesh

WRITTEN = {"result.obj", "comparison.png", "turntable.gif", "loss.png", "metrics.json"}
REMESHED = ["--steps", "5", "--views", "4", "--resolution", "24"]
SMALL = [*REMESHED, "--no-remesh"]

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
CUBE = (
    "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
    + "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
)

POINT_PLY = (
    "ply\nformat ascii 1.0\nelement vertex 1\n" + "".join(f"property float {c}\n" for c in "xyz") + "end_header\n0 0 0\n"
)


class TestRuns:
    @pytest.mark.parametrize(
        "options",
        [
            [],
            ["--method", "adam", "--no-remesh"],
            pytest.param(
                ["--method", "laplacian", "--reg", "0.1", "--start", "sphere", "--solver", "conjugate_gradient"],
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_a_small_run_writes_everything(self, tmp_path, capsys, options):
        assert reconstruct.main([*REMESHED, *options, "--out", str(tmp_path / "new" / "folder")]) == 0
        out = tmp_path / "new" / "folder"
        assert {path.name for path in out.iterdir()} == WRITTEN
        numbers = json.loads((out / "metrics.json").read_text())
        assert numbers["steps"] == 5
        assert all(math.isfinite(value) for value in numbers.values() if isinstance(value, float))
        parts = sum(numbers[f"seconds_per_step_{part}"] for part in ("solve", "render", "optimizer"))
        assert parts == pytest.approx(numbers["seconds_per_step"])
        assert (numbers["seconds_per_step_solve"] > 0) == (numbers["method"] == "large-steps")
        verts, faces, _ = load_obj(out / "result.obj")
        assert (len(verts), len(faces.verts_idx)) == (numbers["vertices"], numbers["faces"])
        for name in ("comparison.png", "loss.png"):
            assert iio.imread(out / name).std() > 5  # something is drawn
        frames = iio.imread(out / "turntable.gif")
        assert len(frames) > 40
        assert np.abs(frames[-1].astype(float) - frames[-11]).mean() > 1  # and it turns
        printed = capsys.readouterr().out
        for label in (
            "chamfer distance",
            "normal consistency",
            "IoU",
            "self-intersecting",
            "flipped",
            "solve",
            "render",
            "optimiser",
        ):
            assert label in printed

    @pytest.mark.parametrize(("text", "suffix"), [(CUBE, ".obj"), pytest.param(CUBE, ".OBJ", marks=pytest.mark.slow)])
    def test_quads_become_triangles(self, tmp_path, text, suffix):
        path = tmp_path / f"cube{suffix}"
        path.write_text(text)
        assert len(load_target(path).faces_packed()) == 12
        assert reconstruct.main([*SMALL, "--target", str(path), "--out", str(tmp_path)]) == 0

    def test_several_components(self, tmp_path):
        sphere = ico_sphere(1)
        lines = []
        for part in range(3):
            lines += [f"v {x + 3 * part} {y} {z}" for x, y, z in sphere.verts_packed().tolist()]
        for part in range(3):
            lines += ["f " + " ".join(str(i + 1 + 42 * part) for i in face) for face in sphere.faces_packed().tolist()]
        path = tmp_path / "three.obj"
        path.write_text("\n".join(lines))
        assert reconstruct.main([*SMALL, "--target", str(path), "--out", str(tmp_path)]) == 0

    @pytest.mark.parametrize("scale", [1e-20, 1e20, 1e30])
    def test_huge_and_tiny_coordinates(self, tmp_path, scale):
        path = tmp_path / "far.obj"
        shift = 1e3 * scale
        path.write_text(
            "".join(
                f"v {x * scale + shift:.9e} {y * scale:.9e} {z * scale:.9e}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1)
            )
            + CUBE[CUBE.index("f") :]
        )
        verts = load_target(path).verts_packed()
        assert verts.norm(dim=1).max().item() == pytest.approx(1.0, abs=1e-5)
        assert verts.mean(0).abs().max() < 1e-3

    def test_ply(self, tmp_path):
        import trimesh

        sphere = ico_sphere(2)
        mesh = trimesh.Trimesh(sphere.verts_packed().numpy(), sphere.faces_packed().numpy(), process=False)
        for encoding in ("ascii", "binary"):
            path = tmp_path / f"{encoding}.ply"
            mesh.export(path, encoding=encoding)
            torch.testing.assert_close(load_target(path).verts_packed(), sphere.verts_packed(), atol=1e-5, rtol=0)

    def test_formats_that_only_trimesh_reads(self, tmp_path):
        import trimesh

        path = tmp_path / "box.stl"
        trimesh.creation.box().export(path)
        assert len(load_target(path).faces_packed()) == 12

    def test_unused_vertices_do_not_count(self, tmp_path):
        path = tmp_path / "unused.obj"
        path.write_text("v 1000 1000 1000\n" + TRIANGLE + "f 2 3 4\n")
        assert load_target(path).verts_packed().shape == (3, 3)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("missing.obj", None, "does not exist"),
            ("empty.obj", "", "no faces"),
            ("points.obj", TRIANGLE, "no faces"),
            ("points.ply", POINT_PLY, ""),
            ("range.obj", TRIANGLE + "f 1 2 9\n", ""),
            ("nan.obj", TRIANGLE.replace("1 0 0", "nan 0 0") + "f 1 2 3\n", "NaN or infinity"),
            ("inf.obj", TRIANGLE.replace("1 0 0", "1e999 0 0") + "f 1 2 3\n", "NaN or infinity"),
            ("same.obj", "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "coincide"),
            ("line.obj", "v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "no area"),
            ("garbage.obj", b"\x00\xff\xfe garbage \x80" * 50, ""),
            ("garbage.ply", b"\x00\xff\xfe garbage \x80" * 50, "cannot be read"),
            ("cut.ply", "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\n", "cannot be read"),
            ("table.csv", "a,b\n1,2\n", "cannot be read"),
        ],
    )  # fmt: skip
    def test_files(self, tmp_path, capsys, name, content, reason):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            path.write_text(content)
        assert reconstruct.main([*SMALL, "--target", str(path), "--out", str(tmp_path / "out")]) == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("target: expected ")
        assert reason in message
        assert name in message
        assert len(message.splitlines()) == 1

    def test_a_folder(self, tmp_path, capsys):
        assert reconstruct.main(["--target", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
        assert "is not a regular file" in capsys.readouterr().err

    def test_an_output_that_is_a_file(self, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert reconstruct.main([*SMALL, "--out", str(tmp_path / "file")]) == 2
        assert "cannot read or write" in capsys.readouterr().err

    def test_a_lambda_too_large(self, tmp_path, capsys):
        assert reconstruct.main([*SMALL, "--lambda", "1e9", "--out", str(tmp_path)]) == 2
        assert "expected a lambda" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            ("--steps", "0", "whole number of at least 1"),
            ("--views", "-3", "whole number of at least 1"),
            ("--resolution", "many", "whole number of at least 1"),
            ("--lambda", "-1", "finite number of at least 0"),
            ("--lr", "nan", "finite number of at least 0"),
            ("--reg", "inf", "finite number of at least 0"),
            ("--seed", "-1", "whole number in"),
            ("--device", "banana", "cpu or a CUDA device"),
            ("--device", "cuda:99", "device of this machine"),
            ("--method", "magic", "invalid choice"),
        ],
    )
    def test_options(self, capsys, option, value, expected):
        with pytest.raises(SystemExit) as stop:
            reconstruct.main([f"{option}={value}"])
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert option in message
        assert expected in message


@pytest.mark.slow
def test_ctrl_c_writes_what_there_is(tmp_path):
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-u",
        "-m",
        "pt3d_largesteps",
        "reconstruct",
        "--steps",
        "100000",
        "--views",
        "4",
        "--resolution",
        "24",
        "--out",
        str(tmp_path / "out"),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # Where the tests run in the background of a shell, Ctrl-C is ignored, and that would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            deadline = time.monotonic() + 120
            while "loss=" not in log.read_text():  # the progress bar has something to say
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 130
        finally:
            process.kill()
    assert "interrupted after" in log.read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert numbers["interrupted"]
    assert 0 < numbers["steps"] < 100000


@pytest.mark.slow
def test_ctrl_c_before_the_first_step(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pt3d_largesteps.optimization.driver.Optimization._take_step", interrupt)
    assert reconstruct.main([*SMALL, "--out", str(tmp_path)]) == 130
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 0


@pytest.mark.slow
def test_one_step_of_one_view(tmp_path):
    with pytest.warns(UserWarning, match="the start is a sphere"):  # one view bounds no hull
        assert reconstruct.main(["--steps", "1", "--views", "1", "--resolution", "8", "--out", str(tmp_path)]) == 0


def test_coarse_to_fine(tmp_path):
    options = ["--steps", "12", "--views", "4", "--resolution", "24", "--out", str(tmp_path / "new")]
    assert coarse_to_fine.main(options) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"stages.png", "result.obj", "loss.png"}
    assert iio.imread(tmp_path / "new" / "stages.png").std() > 5
    assert len(load_obj(tmp_path / "new" / "result.obj")[0]) > 6000
    assert coarse_to_fine.main(["--target", str(tmp_path / "no.obj"), "--out", str(tmp_path)]) == 2


def test_a_run_goes_on(tmp_path):
    settings, target = Settings(steps=9, views=8, resolution=24, remesh=False), ico_sphere(2)

    def interrupt(run) -> None:
        if run.step == 5:
            raise KeyboardInterrupt

    whole = optimize(target, settings)
    run = optimize(target, settings, interrupt, tmp_path / "run.pt", checkpoint_every=2)
    assert run.interrupted
    assert len(run.history.losses) == 5
    resumed = optimize(target, settings, checkpoint=tmp_path / "run.pt")
    assert resumed.history.losses == whole.history.losses
    assert torch.equal(resumed.meshes.verts_packed(), whole.meshes.verts_packed())


def test_a_start_where_there_is_no_hull():
    with pytest.warns(UserWarning, match="the start is a sphere, because making the hull failed: center"):
        run = optimize(ico_sphere(2), Settings(steps=1, views=1, resolution=16, remesh=False))
    assert torch.equal(run.start.verts_packed(), ico_sphere(4).scale_verts(0.6).verts_packed())


class TestParts:
    def test_the_animal_is_closed_and_of_genus_0(self):
        meshes = animal(64)
        counts = torch.bincount(meshes.faces_packed_to_edges_packed().flatten())
        assert (counts == 2).all()
        assert len(meshes.verts_packed()) - len(meshes.edges_packed()) + len(meshes.faces_packed()) == 2
        assert self_intersecting_faces(meshes).item() == 0
        corners = meshes.verts_packed()[meshes.faces_packed()]
        assert torch.linalg.det(corners).sum() > 0  # its normals look out

    def test_the_animal_is_neither_sphere_nor_convex(self):
        verts = into_unit_ball(animal(64)).verts_packed()
        assert verts.norm(dim=1).min() < 0.25
        assert verts.norm(dim=1).max() == pytest.approx(1.0)

    def test_held_out_views_are_others(self):
        given = fibonacci_cameras(32).get_camera_center()
        held_out = fibonacci_cameras(16, turn=1.0).get_camera_center()
        torch.testing.assert_close(given.norm(dim=1), torch.full((32,), 2.7))
        assert torch.cdist(given, held_out).min() > 0.05

    def test_the_seed_decides(self):
        settings = Settings(steps=4, views=8, resolution=24, seed=3, remesh=False)
        target = ico_sphere(2)
        runs = [optimize(target, settings) for _ in range(2)]
        assert runs[0].history.losses == runs[1].history.losses
        other = optimize(target, replace(settings, seed=4))
        assert other.history.losses != runs[0].history.losses

    def test_unreadable_target_is_an_error_of_its_own(self, tmp_path):
        with pytest.raises(TargetError):
            load_target(tmp_path / "nothing.obj")


def judged(target: Meshes, settings: Settings) -> dict[str, float]:
    run = optimize(target, settings)
    result = run.meshes
    cameras = fibonacci_cameras(16, turn=1.0)
    silhouettes = PyTorch3DRenderer(256)
    distance, noise = surface_distance(result, target), surface_distance(target, target)
    return {
        "chamfer": distance.chamfer / noise.chamfer,
        "normals": noise.normal_consistency - distance.normal_consistency,
        "iou": intersection_over_union(silhouettes(result, cameras), silhouettes(target, cameras)).mean().item(),
        "intersections": self_intersecting_faces(result).item(),
        "repaired": run.repaired / len(result.faces_packed()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["animal", "links", "spot"])
def test_the_main_job(name):
    """Of genus 0, of two parts of genus 1, and a real one."""
    target = into_unit_ball(SHAPES[name]() if name in SHAPES else real_mesh(name))
    numbers = judged(target, Settings())
    assert numbers["chamfer"] < 1.1
    assert numbers["iou"] >= 0.99
    assert numbers["intersections"] == 0
    assert numbers["normals"] < 0.02


@pytest.mark.slow
def test_the_same_mesh_tangles_without_large_steps():
    target = into_unit_ball(animal())
    settings = Settings(steps=300, remesh=False, start="sphere")
    large = judged(target, settings)
    plain = judged(target, replace(settings, method="adam", lr=0.1))
    assert large["repaired"] < 0.3 * plain["repaired"]
    assert large["normals"] < 0.5 * plain["normals"]


class TestCudaGraph:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
    def test_it_says_what_it_needs(self, capsys):
        assert cuda_graph.main([]) == 2
        assert "needs CUDA" in capsys.readouterr().err

    def test_the_step_that_is_captured(self):
        fit = cuda_graph.Fit(3, "cpu")
        before = float(fit.loss().detach())
        for _ in range(100):
            fit.step()
        assert float(fit.loss().detach()) < 0.1 * before
