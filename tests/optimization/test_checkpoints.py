"""Checkpoints of optimize: bit-identical results after a kill, and refusal of other runs and other files."""

import copy
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from pytorch3d.renderer import TexturesUV, TexturesVertex
from pytorch3d.structures import join_meshes_as_batch
from pytorch3d.utils import ico_sphere, torus

from pt3d_largesteps import Stage, optimize
from support.descents import SHORT, SMALL, NoisyViews, to_ellipsoid


class TestCheckpoints:
    def test_gone_on_with_to_the_same_bits(self, tmp_path):
        path = tmp_path / "new" / "run.pt"
        start = join_meshes_as_batch([ico_sphere(2), torus(0.2, 0.7, 8, 12)])
        start.textures = TexturesVertex([verts.clone() for verts in start.verts_list()])
        for stop in (4, 8):  # before the second stage begins, and after
            torch.manual_seed(0)
            whole = optimize(start, NoisyViews(), SMALL)
            torch.manual_seed(0)
            optimize(
                start,
                NoisyViews(),
                SMALL,
                checkpoint=path,
                callbacks=[lambda run, stop=stop: run.stop() if run.step == stop else None],
            )
            torch.manual_seed(1)
            resumed = optimize(start, NoisyViews(), SMALL, checkpoint=path)
            assert resumed.history.losses == whole.history.losses
            assert resumed.history.stages == whole.history.stages
            assert torch.equal(resumed.meshes.verts_packed(), whole.meshes.verts_packed())
            assert torch.equal(resumed.meshes.faces_packed(), whole.meshes.faces_packed())
            torch.testing.assert_close(
                resumed.meshes.textures.verts_features_packed(), whole.meshes.textures.verts_features_packed(), rtol=0, atol=0
            )
            again = optimize(start, NoisyViews(), SMALL, checkpoint=path)  # there is nothing left to do
            assert torch.equal(again.meshes.verts_packed(), whole.meshes.verts_packed())
            path.unlink()

    def test_a_stage_that_keeps_its_triangles(self, tmp_path):
        """A stage that keeps its triangles is analysed at the positions of its beginning; so is one that resumes."""
        stages = (Stage(0.0, lambda_=9.0), Stage(0.3, lambda_=4.0, num_verts=3000), Stage(0.6, lambda_=2.0))
        config, path = dataclasses.replace(SMALL, stages=stages), tmp_path / "run.pt"

        def fresh(**options) -> torch.Tensor:
            return optimize(ico_sphere(3), to_ellipsoid, config, **options).meshes.verts_packed()

        whole = fresh()
        fresh(checkpoint=path, callbacks=[lambda run: run.stop() if run.step == 10 else None])
        assert torch.equal(fresh(checkpoint=path), whole)

    @pytest.mark.slow
    def test_killed_in_mid_run(self, tmp_path):
        program = textwrap.dedent("""
            import sys, time, torch
            sys.path.insert(0, sys.argv[2])
            from pytorch3d.utils import ico_sphere
            import dataclasses
            from support.descents import NoisyViews, SMALL
            from pt3d_largesteps import optimize
            torch.manual_seed(0)
            config = dataclasses.replace(SMALL, steps=60)

            class Slow(NoisyViews):
                def __call__(self, meshes, views):
                    time.sleep(float(sys.argv[3]))
                    return super().__call__(meshes, views)

            result = optimize(ico_sphere(2), Slow(), config, checkpoint=sys.argv[1], checkpoint_every=3)
            torch.save((result.history.losses, result.meshes.verts_packed()), sys.argv[1] + ".result")
        """)
        tests = os.path.dirname(os.path.dirname(__file__))

        def command(name: str, seconds: float) -> list[str]:
            return [sys.executable, "-c", program, str(tmp_path / name), tests, str(seconds)]

        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command("killed", 0.1), env=one_thread, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed").exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        at = torch.load(tmp_path / "killed", weights_only=True)["step"]
        assert 0 < at < 60
        for name in ("killed", "whole"):
            subprocess.run(command(name, 0), env=one_thread, check=True, capture_output=True)
        resumed, whole = (torch.load(tmp_path / f"{name}.result") for name in ("killed", "whole"))
        assert resumed[0] == whole[0]
        assert torch.equal(resumed[1], whole[1])
        assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
            "killed", "whole", "killed.result", "whole.result",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"config": dataclasses.replace(SHORT, seed=1)}, "seed 0 instead of 1"),
            ({"start": ico_sphere(1).scale_verts(2.0)}, "another start"),
            ({"start": ico_sphere(2)}, "another start"),
            ({"pinned": torch.tensor([3])}, "another start"),
            ({"loss": NoisyViews()}, "number of views 0 instead of 5"),
            ({"checkpoint_label": "other"}, "label '' instead of 'other'"),
        ],
    )
    def test_of_another_run(self, tmp_path, changes, message):
        run = {"start": ico_sphere(1), "loss": to_ellipsoid, "config": SHORT, "checkpoint": tmp_path / "run.pt"}
        optimize(**run)
        with pytest.raises(ValueError, match=f"checkpoint: expected one of the same run, .*{message}"):
            optimize(**{**run, **changes})
        optimize(**{**run, "config": dataclasses.replace(SHORT, min_improvement=0.01)})

    def test_textures_that_no_remesher_has_seen(self, tmp_path):
        start, stages = ico_sphere(1), (Stage(0.0, lambda_=9.0), Stage(0.5, lambda_=1.0))
        start.textures = TexturesUV(torch.rand(1, 4, 4, 3), start.faces_padded(), torch.rand(1, 42, 2))
        run = {"config": dataclasses.replace(SHORT, stages=stages), "checkpoint": tmp_path / "run.pt"}
        optimize(start, to_ellipsoid, **run)
        again = optimize(start, to_ellipsoid, **run).meshes
        assert torch.equal(again.textures.maps_padded(), start.textures.maps_padded())

    def test_a_folder_in_its_place(self, tmp_path):
        with pytest.raises(ValueError, match="checkpoint: expected a file, got the folder"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=tmp_path)
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=tmp_path / "file" / "run.pt")

    @pytest.mark.parametrize("content", [b"", b"garbage", b"hello", None])
    def test_no_checkpoint_of_ours(self, tmp_path, content):
        path = tmp_path / "run.pt"
        if content is None:
            torch.save({"x": 1}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint: expected a file that optimize has written"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)

    def test_of_another_version(self, tmp_path):
        path = tmp_path / "run.pt"
        optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)
        saved = torch.load(path, weights_only=True)
        names = [*saved, "run_of.config.lr_unit", "run_of.label", "progress.index", "views.left", "history.held_out"]
        names = [name for name in names if name != "format"]
        assert len(names) > 15
        for name in names:
            for changed in ("without", "with"):
                state = copy.deepcopy(saved)
                *parts, last = name.split(".")
                inner = functools.reduce(dict.__getitem__, parts, state)
                if changed == "without":
                    inner.pop(last)
                else:
                    name, inner[f"{last}_too"] = f"{name}_too", 1
                torch.save(state, path)
                message = f"checkpoint: expected one that this version .*, got {path} of another version, {changed} {name};"
                with pytest.raises(ValueError, match=f"{message} resume it with that version, or remove it to begin anew"):
                    optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)

    @pytest.mark.parametrize("part", ["module", "optimizer"])
    def test_whose_parameters_are_others(self, tmp_path, part):
        path = tmp_path / "run.pt"
        optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)
        state = torch.load(path, weights_only=True)
        state[part] = {}
        torch.save(state, path)
        with pytest.raises(ValueError, match=f"checkpoint: expected one of the same parameterization, got {path}, which"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)

    def test_a_cut_one(self, tmp_path):
        path = tmp_path / "run.pt"
        optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match="checkpoint: expected a file that optimize has written"):
            optimize(ico_sphere(1), to_ellipsoid, SHORT, checkpoint=path)
