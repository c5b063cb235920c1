"""The examples of textures and volumes: tiny runs, and what they show."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

import texture
import volume
from fields.descent import Descent, Recipe, decibels_on_sight, descend, random_index, random_values
from fields.globe import Globe, jump, pictures
from fields.report import best_of_each, ratios, table
from fields.targets import density
from fields.targets import texture as target_texture

FEW = ["--steps", "3", "--lambdas", "1", "--step-sizes", "0.3"]
PERIODIC = ("natural", "periodic")


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestRuns:
    @pytest.mark.parametrize(
        ("script", "arguments", "name", "methods"),
        [
            (texture, ["--size", "32"], "texture", 5),
            (texture, ["--size", "32", "--on-mesh", "--resolution", "12", "--views", "1"], "mesh", 5),
            (volume, ["--size", "8", "--fraction", "0.1"], "volume", 4),
            (volume, ["--size", "8", "--lines"], "volume", 4),
        ],
    )
    def test_a_tiny_run_leaves_a_picture_and_a_table(self, tmp_path, capsys, script, arguments, name, methods):
        out = tmp_path / "new" / "folder"
        assert script.main([*arguments, *FEW, "--out", str(out)]) == 0
        assert {path.name for path in out.iterdir()} == {f"{name}.png", f"{name}.csv"}
        assert iio.imread(out / f"{name}.png").std() > 5  # not blank
        lines, printed = lines_of(out / f"{name}.csv"), capsys.readouterr().out
        assert len(lines) == methods
        for line in lines:
            assert line["method"] in printed
            assert line["steps"] == "3"
            assert 0 < float(line["PSNR"]) < 100
            assert 0 < float(line["ms per step"]) < math.inf
            assert all(value == "" or math.isfinite(float(value)) for key, value in line.items() if key != "method")
        assert f"written to {out}: {name}.png, {name}.csv" in printed
        assert ("ms, " in printed) == (script is volume)  # of a solve

    def test_one_step_of_one_texel(self, tmp_path):
        assert texture.main(["--size", "1", *FEW[2:], "--steps", "1", "--out", str(tmp_path)]) == 0
        assert volume.main(["--size", "1", *FEW[2:], "--steps", "1", "--fraction", "1", "--out", str(tmp_path)]) == 0

    @pytest.mark.parametrize("script", [texture, volume])
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--size", "0"], "expected a whole number of at least 1"),
            (["--steps", "-1"], "expected a whole number of at least 1"),
            (["--fraction", "0"], "expected a number in (0, 1]"),
            (["--fraction", "nan"], "expected a number in (0, 1]"),
            (["--lambdas", "-1"], "expected a finite number of at least 0"),
            (["--step-sizes", "0"], "expected a finite number larger than 0"),
            (["--seed", "-3"], "expected a whole number in [0, 2^63)"),
        ],
    )
    def test_what_is_refused(self, capsys, script, arguments, message):
        with pytest.raises(SystemExit) as stop:
            script.main(arguments)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(("script", "size"), [(texture, "8"), (volume, "4")])
    def test_a_step_size_that_leaves_the_range_of_the_numbers(self, tmp_path, capsys, script, size):
        arguments = ["--size", size, "--steps", "6", "--lambdas", "1", "--step-sizes", "1e38", "--out", str(tmp_path)]
        assert script.main(arguments) == 2
        assert "expected" in capsys.readouterr().err

    def test_a_folder_that_cannot_be_made(self, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert texture.main(["--out", str(tmp_path / "file" / "folder")]) == 2
        assert "cannot read or write" in capsys.readouterr().err

    @pytest.mark.parametrize("script", [texture, volume])
    def test_ctrl_c(self, tmp_path, capsys, monkeypatch, script):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(script, "descend", interrupt)
        assert script.main(["--size", "4", "--out", str(tmp_path)]) == 130
        assert "interrupted" in capsys.readouterr().err

    @pytest.mark.slow
    def test_as_a_user_runs_it(self, tmp_path):
        command = [sys.executable, volume.__file__, "--size", "8", *FEW, "--out", "here"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert result.returncode == 0, result.stderr
        assert "written to here: volume.png, volume.csv" in result.stdout


class TestDescents:
    @pytest.mark.parametrize(
        ("target", "steps"), [(target_texture(128, 128), 40), (density(32), 20)], ids=["texture", "volume"]
    )
    def test_large_steps_are_nearer_after_as_many_steps(self, target, steps):
        recipes = [Recipe("Adam", 0.02), Recipe("UniformAdam", 0.1), Recipe("UniformAdam", 0.3, 1.0)]
        *plain, large = (descend(target, recipe, steps, random_values(target, 0.01, 0)) for recipe in recipes)
        reached = max(one.decibels[-1] for one in plain)
        assert large.decibels[-1] > reached + 3
        assert large.steps_to(reached) < steps / 3
        assert reached < decibels_on_sight(large.decibels[0], 0.01, steps)[-1] + 0.1

    def test_what_is_kept(self):
        target = target_texture(8, 8)
        descent = descend(target, Recipe("UniformAdam", 0.1, 1.0), 4, random_values(target, 1.0, 0), record_at=(2,))
        assert sorted(descent.fields) == [2, 4]
        assert len(descent.decibels) == 5
        assert all(0 <= float(one.min()) <= float(one.max()) <= 1 for one in descent.fields.values())

    def test_the_same_texels_are_seen_by_all(self):
        target = target_texture(16, 16)
        losses = [random_values(target, 0.1, seed)(torch.zeros_like(target)) for seed in (0, 0, 1)]
        assert losses[0] == losses[1] != losses[2]

    def test_texels_that_are_right_when_first_seen(self):
        assert decibels_on_sight(10.0, 0.9, 2) == pytest.approx([10.0, 20.0, 30.0])
        assert decibels_on_sight(10.0, 1.0, 1) == [10.0, math.inf]

    @pytest.mark.parametrize("fraction", [1e-9, 0.3, 1.0])
    def test_a_fraction_is_that_of_all_but_never_nothing(self, fraction):
        index = random_index(10_000, fraction, torch.Generator().manual_seed(0))
        assert len(index) == pytest.approx(max(1, 10_000 * fraction), rel=0.1)
        assert len(index.unique()) == len(index)


class TestSeam:
    def test_a_periodic_boundary_leaves_none(self):
        target, globe = target_texture(32, 64), Globe()
        jumps = {}
        for boundary in ("natural", PERIODIC):
            loss = pictures(globe, target, 2, 8, 0)
            result = descend(target, Recipe("UniformAdam", 0.3, 4.0, boundary), 15, loss).result
            jumps[boundary] = jump(result)
        assert jumps[PERIODIC] < 1.5
        assert jumps["natural"] > 2 * jumps[PERIODIC]

    def test_a_texture_of_columns_of_one_colour_shows_no_seam_in_pictures(self):
        globe = Globe()
        camera = globe.cameras(torch.tensor([[0.0, 0.0, 1.0]]))
        picture = globe(torch.full((1, 3, 8, 16), 0.25), camera, 32)[0]
        seen = picture[picture > 0]
        assert float((seen - 0.25).abs().max()) < 1e-5
        assert 0.3 < float((picture[0] > 0).float().mean()) < 0.9
        assert bool((picture[0, 12:20, 12:20] > 0.2499).all())  # no hole where the columns close

    def test_the_ball_is_closed(self):
        globe = Globe()
        edges = torch.cat([globe.faces[:, [0, 1]], globe.faces[:, [1, 2]], globe.faces[:, [2, 0]]])
        assert len(edges.unique(dim=0)) == len(edges)  # each edge once in each direction
        assert len(edges.sort(dim=1).values.unique(dim=0)) * 2 == len(edges)

    def test_the_texture_goes_on_where_its_columns_close(self):
        for width in (64, 512):
            assert jump(target_texture(width // 2, width)) < 2


class TestTables:
    def test_the_fewest_steps_of_any_run(self):
        runs = [
            Descent(Recipe("Adam", 0.1), [10.0, 18.5, 19.0, 20.5]),
            Descent(Recipe("UniformAdam", 0.1), [10.0, 11.0, 18.0, 19.0]),
            Descent(Recipe("UniformAdam", 0.1, 4.0), [10.0, 21.0, 21.0, 23.0]),
        ]
        assert ratios(runs, levels=(18, 20, 22, 30)) == [
            {"PSNR": 18, "no solve": 1, "large steps": 1, "ratio": "1.00"},
            {"PSNR": 20, "no solve": 3, "large steps": 1, "ratio": "0.33"},
            {"PSNR": 22, "no solve": "", "large steps": 3, "ratio": ""},
        ]
        assert ratios(runs, [10.0, 17.0, 24.0], levels=(20,))[0]["when first seen"] == 2

    def test_one_run_of_each_method(self):
        runs = [Descent(Recipe("Adam", lr), [10.0, 10.0 + lr]) for lr in (1.0, 3.0, 2.0)]
        assert [one.recipe.lr for one in best_of_each(runs)] == [3.0]

    def test_markdown(self):
        assert table([{"a": 1, "bc": 0.123456}]) == "| a | bc     |\n|---|--------|\n| 1 | 0.1235 |"
        assert table([]) == ""
