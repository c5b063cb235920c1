"""``torch.hub`` on this checkout, from another folder, in fresh processes, as a bare checkout and as a built one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.comparing import BACKWARD_ERROR

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = [
    "compute_matrix",
    "large_steps",
    "large_steps_adam",
    "optimize",
    "package",
    "reconstruct",
    "renderer",
    "uniform_adam",
    "visual_hull",
]
# Where the package is installed in place, an import would find it, with what is compiled there.
HIDE_INSTALLED = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""
PRELUDE = """
import json, sys, warnings
import torch
from pytorch3d.utils import ico_sphere
repo = sys.argv[1]
def load(name, *args, **kwargs):
    return torch.hub.load(repo, name, *args, source="local", **kwargs)
"""


def run(code, folder, repo=ROOT, prelude=PRELUDE, **environment):
    """Runs code in a fresh process in another folder, without this checkout on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PT3D_LARGESTEPS"))}
    environment = {**kept, "OMP_NUM_THREADS": "1", "TORCH_EXTENSIONS_DIR": str(folder / "extensions"), **environment}
    return subprocess.run(
        [sys.executable, "-c", prelude + code, str(repo)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def checked(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def git_status(repo):
    if not (repo / ".git").exists():
        pytest.skip("this is no checkout")
    return subprocess.run(["git", "status", "--short"], cwd=repo, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A checkout of the files as they are now, without what is compiled."""
    git_status(ROOT)
    repo = tmp_path_factory.mktemp("bare") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, repo / name)
    me = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    for command in (["init", "--quiet"], ["add", "--all"], [*me, "commit", "--quiet", "--message", "as it is"]):
        subprocess.run(["git", *command], cwd=repo, check=True)
    return repo


@pytest.fixture
def no_compiler(tmp_path):
    """A PATH without any program but those beside Python."""
    if (Path(sys.executable).parent / "c++").exists():
        pytest.skip("this Python has a compiler of its own")
    (tmp_path / "no_programs").mkdir()
    return {"PATH": str(tmp_path / "no_programs"), "CXX": "c++"}


class TestNames:
    @pytest.fixture
    def cached(self, tmp_path, monkeypatch):
        """The checkout where torch.hub would have put it, which it then finds without the network."""
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub" / "someone_pt3d_largesteps_main").symlink_to(ROOT)
        return {"github": "someone/pt3d_largesteps:main", "skip_validation": True, "trust_repo": True}

    def test_list(self, cached):
        assert sorted(torch.hub.list(**cached, verbose=False)) == ENTRY_POINTS

    @pytest.mark.parametrize("name", ENTRY_POINTS)
    def test_help(self, cached, name):
        text = torch.hub.help(model=name, **cached)
        assert f'torch.hub.load(repo, "{name}"' in text
        assert "Returns:" in text or "Args:" in text

    def test_neither_imports_nor_compiles(self, tmp_path):
        code = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("hubconf", sys.argv[1] + "/hubconf.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(json.dumps("pt3d_largesteps" in sys.modules))
"""
        assert checked(run(code, tmp_path, prelude="")) is False
        assert not (tmp_path / "extensions").exists()

    def test_dependencies(self):
        names = {}
        exec(compile((ROOT / "hubconf.py").read_text(), str(ROOT / "hubconf.py"), "exec"), {"__file__": "hubconf.py"}, names)
        assert names["dependencies"] == ["torch", "numpy", "scipy", "pytorch3d"]


EVERYTHING = """
meshes = ico_sphere(1)
steps = load("large_steps", meshes, lambda_=5.0)
optimizer = load("uniform_adam", steps.parameters(), lr=1e-2)
steps().verts_packed().sum().backward()
optimizer.step()
verts = meshes.verts_packed().clone().requires_grad_()
behind = load("large_steps_adam", [verts], meshes, lr=1e-2, lambda_=5.0)
verts.sum().backward()
behind.step()
matrix = load("compute_matrix", meshes, lambda_=5.0)
package = load("package")
import pt3d_largesteps
assert package is pt3d_largesteps
assert isinstance(steps, package.LargeSteps) and isinstance(optimizer, package.UniformAdam)
back = package.from_differential(matrix, package.to_differential(matrix, meshes.verts_packed()))
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
R, T = look_at_view_transform(2.7, 0.0, torch.tensor([0.0, 90.0]))
cameras = FoVPerspectiveCameras(R=R, T=T)
config = {"steps": 3, "stages": (package.OptimizationConfig().stages[0],), "untangle": False}
result = load("optimize", meshes, lambda meshes: meshes.verts_packed().square().mean(), config)
images = [load("renderer", 16)(meshes, cameras), load("renderer", (8, 9), light=None)(meshes, cameras)]
errors = []
for name, args, kwargs in (
    ("large_steps_adam", ([verts], matrix), {"lambda_": 1.0}),
    ("renderer", (16, "dark"), {}),
    ("reconstruct", (), {"stpes": 3}),
    ("reconstruct", (), {"start": "cube"}),
):
    try:
        load(name, *args, **kwargs)
    except (TypeError, ValueError) as error:
        errors.append(str(error))
print(json.dumps({
    "file": package.__file__,
    "compiled": package.native.library.is_compiled(),
    "path": repo in sys.path,
    "same": float((steps().verts_packed() - verts).abs().max()),
    "back": float((back - meshes.verts_packed()).abs().max()),
    "images": [list(image.shape) for image in images],
    "ended": result.ended,
    "errors": errors,
}))
"""


def rounding(lambda_: float) -> float:
    """How far a unit sphere comes back from M x and a solve in float32, at most: support.comparing.assert_comes_back.

    ||M|| is 1 + 2 lambda for each of up to six neighbours, ||M^-1|| is 1, and a row has up to seven entries.
    """
    return 2 * (1 + 12 * lambda_) * (BACKWARD_ERROR + 7) * torch.finfo(torch.float32).eps


class TestLoad:
    def test_every_entry_point_but_the_demo(self, tmp_path):
        before = git_status(ROOT)
        told = checked(run(EVERYTHING, tmp_path, MAX_JOBS="1"))
        assert Path(told["file"]).parents[1] == ROOT
        assert told["path"] is False  # torch.hub takes it off again
        assert told["same"] < rounding(lambda_=5)
        assert told["back"] < rounding(lambda_=5)
        assert told["images"] == [[2, 16, 16, 4], [2, 8, 9, 1]]
        assert told["ended"] == "steps"
        assert [error.split(":")[0] for error in told["errors"]] == ["lambda_", "light", "settings", "start"]
        assert "got 'stpes'" in told["errors"][2]
        assert git_status(ROOT) == before

    def test_reconstruct_of_meshes_and_of_images(self, tmp_path):
        for package in ("igl", "skimage"):
            pytest.importorskip(package)
        code = """
load("package")
from pytorch3d.renderer import FoVPerspectiveCameras, look_at_view_transform
from pytorch3d.structures import join_meshes_as_batch
target = ico_sphere(2).scale_verts(0.8)
settings = {"steps": 15, "views": 6, "resolution": 32, "remesh": False, "start": "sphere"}
seen = []
runs = [load("reconstruct", **settings)(target, on_step=lambda run: seen.append(run.step))]
R, T = look_at_view_transform(2.7, torch.tensor([0.0, 0, 60]), torch.tensor([0.0, 90, 0]))
cameras = FoVPerspectiveCameras(R=R, T=T, fov=45.0)
for light in ("default", None):
    images = load("renderer", 32, light=light)(target.extend(3), cameras)
    runs.append(load("reconstruct", **settings)(images, cameras))
errors = []
for args in ((images,), (target, cameras), (join_meshes_as_batch([target, target]),), (images[..., :0], cameras), ("cow.obj",)):
    try:
        load("reconstruct", **settings)(*args)
    except (TypeError, ValueError) as error:
        errors.append(str(error))
print(json.dumps([seen, [[run.history.losses[0][0], run.loss] for run in runs], errors]))
"""
        seen, losses, errors = checked(run(code, tmp_path, MAX_JOBS="1"))
        assert seen == list(range(1, 16))
        assert all(after < 0.7 * before for before, after in losses), losses
        for error, expected in zip(
            errors,
            (
                "cameras: expected the cameras of the images, got None",
                "cameras: expected None with meshes",
                "target: expected Meshes of one mesh, or images and their cameras, got 2 meshes",
                "images: expected a tensor (views, H, W, 4) or (views, H, W, 1), got (3, 32, 32, 0)",
                "target: expected Meshes of one mesh, or images and their cameras, got str",
            ),
            strict=True,
        ):
            assert error.startswith(expected)

    def test_another_version_that_is_imported_already(self, tmp_path):
        code = """
sys.path.insert(0, repo); import pt3d_largesteps; sys.path.pop(0)
pt3d_largesteps.__version__ = "0.0.1"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert load("package") is pt3d_largesteps
print(json.dumps([str(w.message) for w in caught if "pt3d_largesteps" in str(w.message)]))
"""
        (message,) = checked(run(code, tmp_path, MAX_JOBS="1"))
        assert message.startswith("pt3d_largesteps 0.0.1 is imported already, from ")
        assert message.endswith("is not used")


SOLVES = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    meshes = ico_sphere(2)
    steps = load("large_steps", meshes, solver="cholesky")
    load("uniform_adam", steps.parameters())
    difference = float((steps().verts_packed() - meshes.verts_packed()).abs().max())
package = load("package")
print(json.dumps({
    "file": package.__file__,
    "compiled": package.native.library.is_compiled(),
    "difference": difference,
    "warnings": [str(w.message) for w in caught if "pt3d_largesteps" in str(w.message)],
    "environment": [name for name in __import__("os").environ if name.startswith("PT3D_LARGESTEPS")],
}))
"""


class TestBareCheckout:
    def test_without_a_compiler_one_warning(self, bare, no_compiler, tmp_path):
        result = run(SOLVES, tmp_path, bare, HIDE_INSTALLED + PRELUDE, **no_compiler)
        told = checked(result)
        assert Path(told["file"]).parents[1] == bare
        assert told["compiled"] is False
        assert told["difference"] < rounding(lambda_=19)
        (warning,) = told["warnings"]
        assert "the compiled code is not here (to compile it takes a C++ compiler, and there is no c++ here)" in warning
        assert "compiling" not in result.stderr
        assert git_status(bare) == ""

    @pytest.mark.slow
    def test_a_compiler_that_fails(self, bare, tmp_path):
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("c++", "ninja"):
            (programs / name).write_text("#!/bin/sh\necho no such luck >&2; exit 1\n")
            (programs / name).chmod(0o755)
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "CXX": "c++"}
        told = checked(run(SOLVES, tmp_path, bare, HIDE_INSTALLED + PRELUDE, **environment))
        assert told["compiled"] is False
        (warning,) = told["warnings"]
        log = Path(re.search(r"\(compiling failed, see (.*?)\)", warning).group(1))
        assert log.is_file()
        assert log.is_relative_to(tmp_path / "extensions")

    def test_asked_to_do_without(self, bare, tmp_path):
        told = checked(run(SOLVES, tmp_path, bare, HIDE_INSTALLED + PRELUDE, PT3D_LARGESTEPS_NO_EXTENSION="1"))
        (warning,) = told["warnings"]
        assert "(PT3D_LARGESTEPS_NO_EXTENSION=1)" in warning
        assert not (tmp_path / "extensions").exists()

    @pytest.mark.skipif(not any((ROOT / "pt3d_largesteps").glob("_C.*")), reason="nothing is compiled here")
    @pytest.mark.slow
    def test_an_installation_of_the_same_code_lends_its_library(self, bare, no_compiler, tmp_path):
        installed = tmp_path / "installed"
        installed.mkdir()
        ignore = shutil.ignore_patterns("__pycache__", "_cuda.*")
        shutil.copytree(ROOT / "pt3d_largesteps", installed / "pt3d_largesteps", ignore=ignore)
        for same in (True, False):
            if not same:
                with (installed / "pt3d_largesteps" / "optim" / "uniform_adam.py").open("a") as file:
                    file.write("# another one\n")
            told = checked(run(SOLVES, tmp_path, bare, HIDE_INSTALLED + PRELUDE, **no_compiler, PYTHONPATH=str(installed)))
            assert Path(told["file"]).parents[1] == bare
            assert told["compiled"] is same
            assert len(told["warnings"]) == (not same)
            assert told["environment"] == []

    def test_a_plain_import_does_not_compile(self, bare, tmp_path):
        code = HIDE_INSTALLED + "import sys; sys.path.insert(0, sys.argv[1])\nimport json, pt3d_largesteps.native.library\n"
        code += "print(json.dumps(pt3d_largesteps.native.library.WHY_NOT))"
        assert checked(run(code, tmp_path, bare, prelude="")) == "it was not built"
        assert not (tmp_path / "extensions").exists()

    @pytest.mark.slow
    def test_compiled_once_for_two_processes_at_the_same_time(self, bare, tmp_path):
        if (
            shutil.which("c++") is None
            or shutil.which("ninja", path=os.environ["PATH"] + f":{Path(sys.executable).parent}") is None
        ):
            pytest.skip("there is no compiler here")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PT3D_LARGESTEPS"))}
        environment = {**kept, "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", HIDE_INSTALLED + PRELUDE + SOLVES, str(bare)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, "env": environment}
        processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
        outputs = [process.communicate(timeout=600) for process in processes]
        for process, (stdout, stderr) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, stderr
            told = json.loads(stdout.splitlines()[-1])
            assert told["compiled"] is True
            assert told["warnings"] == []
            assert told["difference"] < rounding(lambda_=19)
        assert sum(stderr.count("compiling the solver and the renderer into") for _, stderr in outputs) == 1
        (library,) = (tmp_path / "extensions").glob("*/_C.so")
        made = library.stat().st_mtime_ns
        again = run(SOLVES, tmp_path, bare, HIDE_INSTALLED + PRELUDE)
        assert checked(again)["compiled"] is True
        assert "compiling" not in again.stderr
        assert library.stat().st_mtime_ns == made
        assert git_status(bare) == ""


def test_the_flags_are_those_of_setup():
    text = (ROOT / "setup.py").read_text()
    names = {}
    jit = (ROOT / "pt3d_largesteps" / "native" / "jit.py").read_text()
    exec(re.search(r"^LAYERS.*?^SECONDS", jit, re.DOTALL | re.MULTILINE).group(0).rsplit("\n", 1)[0], names)
    assert f"LAYERS = {names['LAYERS']}".replace("'", '"') in text
    assert f'TORCH_TARGET_VERSION = "{names["TORCH_TARGET_VERSION"]}"' in text
    block = re.search(r"^CXX_ARGUMENTS = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    assert tuple(re.findall(r'^ +"(-.*?)",', block, re.MULTILINE)) == names["CXX_ARGUMENTS"]
