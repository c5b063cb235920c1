"""The command fit-many: a folder of targets, killed, resumed, shared among workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pytorch3d.io import save_obj
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus
from tqdm import tqdm

import pt3d_largesteps.fitting.folder
from pt3d_largesteps.commands import fit_many
from pt3d_largesteps.fitting.batches import bytes_per_target, fits, make_batches
from pt3d_largesteps.reconstruction.loading import into_unit_ball
from pt3d_largesteps.reconstruction.optimization import reconstruct, reconstruct_together
from pt3d_largesteps.reconstruction.settings import Settings

COMMAND = ["-m", "pt3d_largesteps", "fit-many"]
SMALL = ["--steps", "6", "--views", "3", "--resolution", "16", "--no-remesh"]
SUFFIXES = (".json", ".obj", ".png")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    for name, scale in (("flat", 0.4), ("round", 1.0), ("tall", 2.0)):
        sphere = ico_sphere(2)
        save_obj(folder / f"{name}.obj", sphere.verts_packed() * torch.tensor([1.0, scale, 1.0]), sphere.faces_packed())
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def uneven(meshes: Meshes) -> Meshes:
    """Without symmetry. At a symmetric shape rounding decides between equals: which face a pixel sees, or the sign of a
    difference of colours that is zero; and rounding differs with the length of the arrays."""
    verts = meshes.verts_packed()
    return meshes.offset_verts(0.05 * torch.rand(verts.shape, generator=torch.Generator().manual_seed(0)))


def test_each_mesh_goes_the_way_it_goes_alone():
    # From a sphere: in a hull rounding decides which edges are split.
    settings = Settings(steps=6, views=3, resolution=24, remesh=False, start="sphere")
    shapes = [into_unit_ball(uneven(mesh)) for mesh in (ico_sphere(2), torus(0.4, 1.0, 12, 20), ico_sphere(3))]
    together = reconstruct_together(shapes, settings)
    for shape, run in zip(shapes, together, strict=True):
        alone = reconstruct(shape, settings)
        torch.testing.assert_close(run.meshes.verts_packed(), alone.meshes.verts_packed(), rtol=0, atol=1e-5)
        assert run.history.mean_losses == pytest.approx(alone.history.mean_losses, rel=1e-4)


def test_a_folder_with_a_bad_file_and_what_is_done_already(targets, tmp_path, capsys):
    folder = tmp_path / "targets"
    folder.mkdir()
    for path in targets.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "bad.obj").write_text("v 0 0 0\n")
    (folder / "notes.txt").write_text("no mesh\n")
    out = tmp_path / "out"
    assert fit_many.main(["--targets", str(folder), "--out", str(out), *SMALL, "--batch", "2"]) == 1
    printed = capsys.readouterr()
    assert "skipped: bad: target: expected a surface" in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()] == ["target", "flat", "round", "tall"]
    assert names(out) == {f"{name}{suffix}" for name in ("flat", "round", "tall") for suffix in SUFFIXES}
    measures = json.loads((out / "flat.json").read_text())
    assert measures["steps"] == 6
    assert measures["chamfer_over_noise"] > 0
    (folder / "bad.obj").unlink()
    before = (out / "flat.obj").stat().st_mtime_ns
    (out / "tall.json").unlink()  # as if it had been killed just then
    assert fit_many.main(["--targets", str(folder), "--out", str(out), *SMALL]) == 0
    assert "2 of 3 targets are done already" in capsys.readouterr().out
    assert (out / "flat.obj").stat().st_mtime_ns == before
    assert "tall.json" in names(out)


def test_two_files_of_one_stem(targets, tmp_path):
    folder = tmp_path / "targets"
    folder.mkdir()
    for suffix in (".obj", ".OBJ"):
        (folder / f"a{suffix}").write_bytes((targets / "flat.obj").read_bytes())
    assert fit_many.main(["--targets", str(folder), "--out", str(tmp_path / "out"), *SMALL]) == 0
    assert {"a_obj.json", "a_OBJ.json"} <= names(tmp_path / "out")


@pytest.mark.slow
def test_what_fails_together_is_tried_apart(targets, tmp_path, monkeypatch, capsys):
    original = pt3d_largesteps.fitting.folder.reconstruct_together

    def fails_with_the_flat_one(shapes, settings, on_step):
        heights = [float(shape.verts_packed()[:, 1].amax() - shape.verts_packed()[:, 1].amin()) for shape in shapes]
        if min(heights) < 1:
            raise RuntimeError("remeshing: no luck")
        return original(shapes, settings, on_step)

    monkeypatch.setattr(pt3d_largesteps.fitting.folder, "reconstruct_together", fails_with_the_flat_one)
    folder = tmp_path / "targets"
    folder.mkdir()
    for path in targets.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "a_bad_one.obj").write_text("v 0 0 0\n")
    assert fit_many.main(["--targets", str(folder), "--out", str(tmp_path / "out"), *SMALL, "--batch", "2"]) == 1
    printed = capsys.readouterr().err
    assert "skipped: flat: remeshing: no luck" in printed
    assert "skipped: a_bad_one: target: expected a surface" in printed
    assert {"round.json", "tall.json"} <= names(tmp_path / "out")


@pytest.mark.slow
def test_killed_and_started_again(targets, tmp_path):
    command = [sys.executable, *COMMAND, "--targets", str(targets), "--out", str(tmp_path / "out"), *SMALL, "--batch", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_THREAD)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "out").glob("*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    finished = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json")}
    assert subprocess.run(command, env=ONE_THREAD, capture_output=True, check=False).returncode == 0
    assert {f"{name}{suffix}" for name in ("flat", "round", "tall") for suffix in SUFFIXES} <= names(tmp_path / "out")
    for name, content in finished.items():
        assert (tmp_path / "out" / name).read_bytes() == content


@pytest.mark.slow
def test_workers_of_torchrun_write_the_same_files(targets, tmp_path):
    arguments = ["--targets", str(targets), *SMALL[:-1]]
    shared = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *COMMAND, *arguments]
    result = subprocess.run(
        [*shared, "--out", str(tmp_path / "two")], env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("chamfer / noise") == 1, "one table, of all workers"
    alone = [sys.executable, *COMMAND, *arguments, "--out", str(tmp_path / "one"), "--batch", "2"]
    assert subprocess.run(alone, env=ONE_THREAD, capture_output=True, check=False).returncode == 0
    for name in ("flat", "round", "tall"):
        for suffix in (".obj", ".png"):
            assert (tmp_path / "one" / (name + suffix)).read_bytes() == (tmp_path / "two" / (name + suffix)).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets", "nowhere"], "argument --targets: expected a folder, got nowhere"),
        (["--batch", "0"], "argument --batch: expected a whole number of at least 1, got 0"),
        (["--memory", "-1"], "argument --memory: expected a finite number of at least 0, got -1"),
        (["--device", "tpu"], "argument --device: expected cpu or a CUDA device, got tpu"),
    ],
)
def test_refused_arguments(arguments, message, targets, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        fit_many.main(["--targets", str(targets), "--out", str(tmp_path), *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_refused_folders(targets, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert fit_many.main(["--targets", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "--targets: expected a folder with mesh files" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert fit_many.main(["--targets", str(targets), "--out", str(tmp_path / "file")]) == 2
    assert "cannot read or write" in capsys.readouterr().err
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "flat.json").write_text(json.dumps({"settings": {"steps": 5}}))
    assert fit_many.main(["--targets", str(targets), "--out", str(tmp_path / "out"), *SMALL]) == 2
    assert "--out: expected results of the same settings, got flat.json of steps 5" in capsys.readouterr().err


def test_results_beside_the_targets(targets, capsys):
    assert fit_many.main(["--targets", str(targets), "--out", str(targets / "." / ""), *SMALL]) == 2
    assert "--out: expected another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_progress_bar_that_draws_at_every_step(targets, tmp_path, monkeypatch):
    """What it returns then must not end the fits."""

    class Eager(tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **{**options, "mininterval": 0.0})

        def update(self, number):
            assert super().update(number) or number == 0
            return True

    monkeypatch.setattr(pt3d_largesteps.fitting.folder, "tqdm", Eager)
    assert fit_many.main(["--targets", str(targets), "--out", str(tmp_path), *SMALL]) == 0
    measures = json.loads((tmp_path / "flat.json").read_text())
    assert measures["steps"] == measures["settings"]["steps"] == 6


def test_batches_fit_into_memory():
    settings = Settings()
    one = bytes_per_target(settings)
    assert fits(8, 3.5 * one, settings) == 3
    assert fits(8, 100 * one, settings) == 8
    assert fits(8, 0.0, settings) == 1
    assert bytes_per_target(Settings(resolution=512)) > 1.5 * one > one > bytes_per_target(Settings(views=8))
    assert make_batches(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert make_batches([], 2) == []


@pytest.mark.slow
def test_remeshed_ones_go_on_together():
    """The meshes of one stage share their topology until they are remeshed: then none does, and all are solved together."""
    runs = reconstruct_together([into_unit_ball(ico_sphere(2))] * 2, Settings(steps=9, views=2, resolution=16))
    first, second = (run.meshes for run in runs)
    assert torch.equal(first.verts_packed(), second.verts_packed())
    assert len(join_meshes_as_batch([first, second])) == 2
