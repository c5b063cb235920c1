"""The experiments with textures and volumes: tiny runs, and what they show."""

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
from fields.globe import MAPS, Globe, pictures
from fields.report import best_of_each, ratios, table
from fields.targets import density
from fields.targets import texture as target_texture

FEW = ["--steps", "3", "--lambdas", "1", "--step-sizes", "0.3"]


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestRuns:
    @pytest.mark.parametrize(
        ("script", "arguments", "name", "methods"),
        [
            (texture, ["--size", "32"], "texture", 11),
            pytest.param(
                *(texture, ["--size", "32", "--on-mesh", "--resolution", "12", "--views", "1"], "mesh", 8),
                marks=pytest.mark.slow,
            ),
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
            assert all(
                value == "" or math.isfinite(float(value)) for key, value in line.items() if key not in ("method", "map")
            )
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


class TestFalling:
    def test_lambda_and_the_step_size_fall_and_stay(self):
        recipe = Recipe("UniformAdam", 0.8, 16.0, last_lr=0.2, last_lambda=0.25, fall=0.5)
        start = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        module, optimizer = recipe.begin(start)
        assert recipe.method == "large steps, falling lambda"
        seen = []
        for share in (0.0, 0.25, 0.5, 1.0):
            recipe.adjust(module, optimizer, share)
            seen.append((module.lambda_, optimizer.param_groups[0]["lr"]))
            torch.testing.assert_close(module().detach(), start, rtol=1e-4, atol=1e-5)
        assert seen == [pytest.approx(pair) for pair in ((16.0, 0.8), (2.0, 0.4), (0.25, 0.2), (0.25, 0.2))]

    def test_they_begin_as_a_large_lambda_and_end_as_a_small_one(self):
        target = target_texture(64, 64)
        recipes = [Recipe("UniformAdam", 0.7, 8.0, 0.1, 0.125, 0.5), *(Recipe("UniformAdam", 0.3, one) for one in (0.25, 8.0))]
        falling, small, large = (descend(target, recipe, 60, random_values(target, 0.02, 0)) for recipe in recipes)
        assert falling.decibels[5] > small.decibels[5] + 0.5
        assert falling.decibels[-1] > large.decibels[-1] + 0.5

    def test_what_the_psnr_is_of(self):
        target = torch.zeros(1, 3, 4, 4)
        target[..., 2:, :] = 1
        where = torch.zeros(4, 4, dtype=torch.bool)
        where[2:] = True
        target[..., 0, 0] = 0.25
        some = descend(target, Recipe("Adam", 0.1), 1, lambda values: values.sum(), where=where)
        assert some.decibels[0] == pytest.approx(10 * math.log10(1 / 0.25), abs=1e-3)


class TestSeam:
    @pytest.mark.parametrize("name", MAPS)
    def test_across_seams_there_is_none(self, name):
        globe = Globe(name, 64)
        jumps = {}
        for surface in (None, globe.meshes):
            recipe = Recipe("UniformAdam", 0.3, 4.0, surface=surface)
            result = descend(globe.target, recipe, 5, pictures(globe, 1, 12, 0)).result
            jumps[surface is None] = globe.jump(result)
        assert jumps[False] < 1.3
        assert jumps[True] > 1.5 * jumps[False]

    @pytest.mark.parametrize("name", MAPS)
    def test_a_picture_of_one_colour_shows_no_seam(self, name):
        globe = Globe(name, 64)
        camera = globe.cameras(torch.tensor([[0.0, 0.0, 1.0]]))
        values = torch.full((len(globe.graph.positions), 3), 0.25)
        picture = globe(globe.graph.scatter(values).permute(0, 3, 1, 2), camera, 32)[0]
        seen = picture[picture > 0]
        assert float((seen - 0.25).abs().max()) < 1e-5
        assert 0.3 < float((picture[0] > 0).float().mean()) < 0.9
        assert bool((picture[0, 12:20, 12:20] > 0.2499).all())  # no hole where the columns close

    def test_both_maps_show_the_same_picture(self):
        one, other = (Globe(name, 512) for name in MAPS)
        camera = one.cameras(torch.tensor([[0.0, 0.0, 1.0]]))
        assert float((one(one.target, camera, 48) - other(other.target, camera, 48)).abs().mean()) < 0.02

    @pytest.mark.parametrize("name", MAPS)
    def test_the_ball_is_closed(self, name):
        faces = Globe(name, 64).meshes.faces_packed()
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        assert len(edges.unique(dim=0)) == len(edges)  # each edge once in each direction
        assert len(edges.sort(dim=1).values.unique(dim=0)) * 2 == len(edges)

    def test_the_picture_goes_on_across_the_seams(self):
        for name in MAPS:
            globe = Globe(name, 512)
            assert globe.jump(globe.target) < 1.3

    def test_a_map_too_small_for_its_islands(self, tmp_path, capsys):
        assert texture.main(["--on-mesh", "--size", "16", "--out", str(tmp_path)]) == 2
        assert "size: expected at least 32 texels in a row" in capsys.readouterr().err


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
