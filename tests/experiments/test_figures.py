"""The paper's experiments: each script in a tiny configuration, and what they share."""

import csv
import math
import resource
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from pytorch3d.io import save_obj
from pytorch3d.utils import ico_sphere

import bm_figures
import comparison
import influence_of_lambda
import multiscale
import optimizers
import paper.descent
import paper.targets
import regularization
import remeshing
import shape_and_color
import solver_cost
import teaser
import views
from paper.descent import OPTIMIZERS, Recipe, descend
from paper.measures import measures
from paper.output import table
from paper.scene import SceneSpec, scene
from paper.setup import Scale, Setup
from paper.setup import main as run_main
from pt3d_largesteps import combinatorial_laplacian
from pt3d_largesteps.reconstruction.loading import TargetError

TINY = ["--views", "2", "--resolution", "16", "--level", "1", "--steps", "4", "--jobs", "1"]
FAST = (teaser, regularization)
FOLDER = Path(teaser.__file__).parent
SPEC = SceneSpec("star", views=3, resolution=32)


@pytest.fixture(autouse=True)
def _without_files(monkeypatch):
    """Shapes made in code, whatever the machine has."""
    monkeypatch.delenv(paper.targets.MESHES, raising=False)
    paper.targets.load.cache_clear()


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> list[str]:
    """A small shape as a file, as arguments."""
    path = tmp_path_factory.mktemp("target") / "egg.obj"
    sphere = ico_sphere(2)
    save_obj(path, sphere.verts_packed() * torch.tensor([0.6, 1.0, 0.7]), sphere.faces_packed())
    return ["--target", str(path)]


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(script, tmp_path, *arguments: str) -> list[dict[str, str]]:
    """Runs ``main`` of a script; returns the lines of its table after a look at its pictures."""
    name = Path(script.__file__).stem
    options = {"target": script.TARGET, **getattr(script, "SCENE", {})}
    status = run_main(script.experiment, script.__doc__, script.SCALES, [*arguments, "--out", str(tmp_path)], **options)
    assert status == 0
    assert iio.imread(tmp_path / f"{name}.png").std() > 5  # not blank
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    return lines_of(tmp_path / f"{name}.csv")


SCRIPTS = [teaser, multiscale, remeshing, regularization, comparison, views, influence_of_lambda, optimizers, shape_and_color]


def test_every_script_is_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == {Path(script.__file__).stem for script in [*SCRIPTS, solver_cost]}


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, marks=() if script in FAST else pytest.mark.slow) for script in SCRIPTS],
    ids=lambda script: script.__name__,
)
def test_a_tiny_run_writes_pictures_and_a_table(script, tmp_path, target, capsys):
    lines, printed = run(script, tmp_path, *TINY, *target), capsys.readouterr().out
    assert len(lines) >= 3
    for line in lines:
        assert f"| {line['method']} |" in printed
        assert 0 < float(line["image loss"]) < 1
        assert all(math.isfinite(float(line[name])) for name in ("chamfer / noise", "Hausdorff to target", "normals"))
    if script is influence_of_lambda:
        assert [lines[0]["method"], lines[-1]["method"]] == ["lambda 0", "lambda 999"]
    if script is optimizers:
        assert {line["method"] for line in lines} == {f"{name} on {what}" for name in OPTIMIZERS for what in "xu"}
        assert len(OPTIMIZERS) == 6


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_at_the_papers_scale_but_for_its_size(script, tmp_path, target):
    assert len(run(script, tmp_path, "--scale", "paper", *TINY, *target)) >= 3


class TestExperiments:
    @pytest.mark.slow
    def test_remeshing_changes_the_vertices_where_it_is_asked_for(self, tmp_path, target):
        lines = run(remeshing, tmp_path, *TINY[:-6], "--level", "2", "--steps", "4", "--jobs", "1", *target)
        vertices = {line["method"].split(", ")[1]: int(line["vertices"]) for line in lines if "large" in line["method"]}
        assert vertices["not remeshed"] == 162
        assert vertices["at the start"] > 400
        assert vertices["in the middle"] > 400

    def test_fewer_views_get_more_steps(self):
        setup = Setup("", Scale(49, 1, 1, 100), False, "star", SPEC, Path(), 1)
        assert [views._steps(setup, number, 0) for number in (49, 25, 9, 1)] == [100, 182, 398, 1027]
        assert views._steps(setup, 1, 1) == 1298  # of the regularised run, which is cheaper

    @pytest.mark.slow
    def test_colors_are_found(self, tmp_path, target):
        small = [*target, "--views", "4", "--resolution", "32", "--level", "3", "--jobs", "1"]
        before = run(shape_and_color, tmp_path, *small, "--steps", "1")
        after = run(shape_and_color, tmp_path, *small, "--steps", "60")
        for index in range(2):
            gain = float(after[index]["PSNR, held-out views"]) - float(before[index]["PSNR, held-out views"])
            assert gain > 3, after[index]["method"]

    def test_solvers_of_the_cost_agree(self):
        fits = [solver_cost.Fit(solver, 2, 19.0, "cpu") for solver in ("cholesky", "conjugate_gradient")]
        for fit in fits:
            for _ in range(5):
                assert fit.iterate() > 0
        positions = [fit.steps.verts_packed().detach() for fit in fits]
        assert torch.allclose(*positions, atol=1e-4)


class TestDescent:
    def test_all_recipes_begin_with_the_same_loss_and_end_with_a_lower_one(self):
        start = ico_sphere(2).scale_verts(0.6)
        recipes = [
            Recipe("u", 40, 0.05, lambda_=5.0, translation=False),
            Recipe("alpha", 40, 0.05 / 6, alpha=5 / 6, translation=False),
            Recipe("x", 40, 1e-2, weight=0.1),
            Recipe("Laplacian", 40, 1e-2, weight=0.1, regularizer="laplacian"),
        ]
        descents = [descend(SPEC, recipe, start) for recipe in recipes]
        for descent in descents:
            assert descent.losses[0] == pytest.approx(descents[0].losses[0], rel=1e-4)
            assert descent.losses[-1] < 0.4 * descent.losses[0]
            assert len(descent.losses) == len(descent.seconds) == 41
            assert all(a <= b for a, b in zip(descent.seconds, descent.seconds[1:], strict=False))
            assert sorted(descent.shapes) == [0, 40]
        # the step of the alpha form is that of the lambda form, times 1 - alpha
        assert descents[1].losses == pytest.approx(descents[0].losses, rel=0.05)

    def test_shapes_are_kept_where_they_are_asked_for(self):
        descent = descend(SPEC, Recipe("u", 6, 0.05, lambda_=5.0, remesh_at=(4,)), ico_sphere(2), record_at=(1, 4))
        assert sorted(descent.shapes) == [0, 1, 4, 6]
        assert len(descent.shapes[4].verts_packed()) == 162 < len(descent.result.verts_packed())
        assert descent.step_at(descent.seconds[4]) == 4
        assert descent.step_at(0.0) == 0

    def test_a_translation_moves_the_whole(self):
        away = ico_sphere(2).scale_verts(0.6).offset_verts(torch.tensor([0.3, 0.0, 0.0]))
        recipes = [Recipe("u", 1, 0.01, lambda_=19.0, translation=moves) for moves in (True, False)]
        moved, unmoved = (descend(SPEC, recipe, away).result.verts_packed() for recipe in recipes)
        # the first step of UniformAdam is as long as it is told to be, in the largest component; that of the form with alpha
        # M^-1 of the form with alpha carries a rounding of u, which is below 1, over to the solution 20-fold
        rounding = 20 * torch.finfo(torch.float32).eps
        assert (moved - unmoved).std(dim=0).max() < rounding
        assert (moved - unmoved).abs().max() == pytest.approx(0.01 / 20, abs=rounding)
        assert (moved - unmoved)[0, 0] < -0.003 / 20  # back to the middle

    @pytest.mark.parametrize("kind", ["laplacian", "bilaplacian"])
    def test_regularizers_are_the_papers(self, kind):
        meshes = ico_sphere(1)
        verts = torch.randn_like(meshes.verts_packed())
        laplacian = combinatorial_laplacian(meshes)
        verts.requires_grad_()
        moved = meshes.update_padded(verts[None])
        csr = paper.descent._SymmetricCSR.of(meshes)
        energy = paper.descent._energy(Recipe("", 1, 1.0, regularizer=kind), csr, moved)
        product = laplacian.to_dense() @ verts
        expected = (product**2).mean() if kind == "bilaplacian" else (verts * product).mean()
        assert float(energy) == pytest.approx(float(expected), rel=1e-5)
        torch.testing.assert_close(*(torch.autograd.grad(one, verts)[0] for one in (energy, expected)))

    @pytest.mark.parametrize("recipe", [Recipe("u", 30, 1e38, alpha=0.9), Recipe("x", 30, 1e30, weight=1.0)])
    def test_steps_that_are_too_large_end_a_run_with_what_there_is(self, recipe):
        descent = descend(SPEC, recipe, ico_sphere(1), record_at=(20,))
        assert "expected finite numbers" in descent.failed
        assert len(descent.losses) <= 20
        assert descent.last_step(20) == len(descent.losses) - 1
        assert descent.result.verts_packed().isfinite().all()

    def test_the_measures_of_the_target_itself(self):
        descent = descend(SPEC, Recipe("x", 0, 1e-3), scene(SPEC).target)
        found = measures(descent, scene(SPEC).target)
        assert found["image loss"] == 0
        assert found["Hausdorff to target"] < 1e-6
        assert found["chamfer / noise"] == pytest.approx(1.0)


class TestSetup:
    def test_alpha_reaches_equally_far_on_every_sphere(self):
        lambdas = []
        for level in (4, 5):
            setup = Setup("", Scale(1, 1, level, 1), False, "star", SPEC, Path(), 1)
            alpha = setup.alpha(0.95)
            lambdas.append(alpha / (1 - alpha))
        assert lambdas == pytest.approx([19 / 4, 19])

    @pytest.mark.slow
    def test_many_shapes_come_back_where_few_files_may_be_open(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            setup = Setup("", Scale(1, 8, 1, 1), False, "star", SceneSpec("star", 1, 8), Path(), 2)
            descents = setup.descend([Recipe("x", 150, 1e-3)] * 2, record_at=range(150))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert [len(descent.shapes) for descent in descents] == [151, 151]

    @pytest.mark.slow
    def test_two_processes_give_what_one_gives(self):
        recipes = [Recipe("u", 3, 0.05, lambda_=5.0), Recipe("x", 3, 1e-2)]
        found = [Setup("", Scale(3, 32, 1, 3), False, "star", SPEC, Path(), jobs).descend(recipes) for jobs in (1, 2)]
        for alone, apart in zip(*found, strict=True):
            assert apart.losses == pytest.approx(alone.losses, rel=1e-4)

    def test_table(self):
        assert table([{"a": 1, "b": 0.123456}]) == "| a | b |\n|---|---|\n| 1 | 0.1235 |"


class TestReport:
    def test_tables_in_one_file(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "views.csv").write_text("method,steps,loss\nlarge steps,100,0.123456\n")
        (tmp_path / "views.txt").write_text("bunny, small\n")
        monkeypatch.setattr(sys, "argv", ["bm_figures.py", str(tmp_path)])
        assert bm_figures.main() == 0
        printed = capsys.readouterr().out
        assert printed.startswith("machine: ")
        assert printed.endswith(
            "## views: bunny, small\n\n| method | steps | loss |\n|---|---|---|\n| large steps | 100 | 0.1235 |\n"
        )

    def test_a_folder_without_tables(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["bm_figures.py", str(tmp_path)])
        assert bm_figures.main() == 2
        assert "expected a folder with the tables of experiments" in capsys.readouterr().err


class TestTargets:
    def test_a_file_is_taken_where_there_is_one(self, tmp_path, monkeypatch):
        assert paper.targets.label("bunny") == "star"
        (tmp_path / "bunny.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
        monkeypatch.setenv(paper.targets.MESHES, str(tmp_path))
        assert paper.targets.label("bunny") == "bunny"
        assert len(paper.targets.load("bunny").verts_packed()) == 3

    def test_no_such_shape(self):
        with pytest.raises(TargetError, match=r"target: expected a mesh file or one of .*'bunny'.*, got rabbit"):
            paper.targets.load("rabbit")

    @pytest.mark.parametrize("name", ["star", "hand", "sphere"])
    def test_shapes_made_in_code_are_spheres_in_the_unit_ball(self, name):
        meshes = paper.targets.load(name)
        vertices, edges, faces = len(meshes.verts_packed()), len(meshes.edges_packed()), len(meshes.faces_packed())
        assert vertices - edges + faces == 2
        assert 2 * edges == 3 * faces
        assert 0.85 < float(meshes.verts_packed().norm(dim=1).max()) <= 1.0001


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--target", "rabbit"], "target: expected a mesh file or one of"),
            (["--target", "rabbit.obj"], "which does not exist"),
        ],
    )
    def test_what_is_refused(self, tmp_path, capsys, arguments, message):
        options = {"target": teaser.TARGET}
        status = run_main(teaser.experiment, teaser.__doc__, teaser.SCALES, [*arguments, "--out", str(tmp_path)], **options)
        assert status == 2
        assert message in capsys.readouterr().err

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
    def test_nvdiffrast_without_cuda(self, tmp_path, capsys):
        arguments = [*TINY, "--renderer", "nvdiffrast", "--out", str(tmp_path)]
        assert run_main(teaser.experiment, teaser.__doc__, teaser.SCALES, arguments, target=teaser.TARGET) == 2
        assert "renders only on CUDA" in capsys.readouterr().err

    @pytest.mark.slow
    def test_the_only_script_without_a_scene(self, tmp_path):
        command = [sys.executable, str(FOLDER / "solver_cost.py"), "--level", "3", "--iterations", "1", "--out", "here"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert result.returncode == 0, result.stderr
        assert "written to here: solver_cost.png, solver_cost.pdf, solver_cost.csv" in result.stdout
        lines = lines_of(tmp_path / "here" / "solver_cost.csv")
        assert {line["solver"] for line in lines} >= {"Cholesky, ours", "conjugate gradients"}
        assert all(float(line["median"]) > 0 for line in lines)
        assert iio.imread(tmp_path / "here" / "solver_cost.png").std() > 5

    def test_as_a_user_runs_it(self, tmp_path):
        command = [sys.executable, str(FOLDER / "multiscale.py"), *TINY[:4], "--steps", "3", "--jobs", "1", "--out", "here"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert result.returncode == 0, result.stderr
        assert "written to here: multiscale.png, multiscale.pdf, multiscale.csv" in result.stdout
