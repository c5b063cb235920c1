"""The distributions: what the sdist and the wheels hold, what they are called, and that they work where they are installed."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import pt3d_largesteps

pytest.importorskip("setuptools")

ROOT = Path(__file__).resolve().parents[2]
NAME = f"pt3d_largesteps-{pt3d_largesteps.__version__}"
# As a frontend calls it; without torch nothing is compiled.
BUILD = "import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
BUILD_WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
)
SOLVE = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from pytorch3d.utils import ico_sphere
    import pt3d_largesteps as package
    from pt3d_largesteps.native import library
    meshes = ico_sphere(2)
    verts = package.LargeSteps(meshes, solver="cholesky")().verts_packed()
print(package.__file__, library.is_compiled(), float((verts - meshes.verts_packed()).abs().max()) < 1e-5)
print(*(warning.message for warning in caught if "pt3d_largesteps" in str(warning.message)))
"""


def run(code, *args, cwd, **environment):
    """In a fresh process that finds this checkout only if it is told where."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PT3D_LARGESTEPS"))}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False)


def build(sources, hook, out, code=BUILD_WITHOUT_TORCH, **environment):
    result = run(code.format(hook=hook), out, cwd=sources, **environment)
    assert result.returncode == 0, result.stderr
    (path,) = out.iterdir()
    return path


def install(wheel, target):
    options = ["--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True, capture_output=True)


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def is_compiled(name):
    return name.endswith((".so", ".pyd", ".o", ".pyc"))


@pytest.fixture(scope="module")
def tracked():
    """The files of this repository, as they are now."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture
def sources(tracked, tmp_path):
    """A copy of them, with the files of earlier builds."""
    folder = tmp_path / "sources"
    leavings = [
        "pt3d_largesteps/_C.abi3.so",
        "pt3d_largesteps/optim/__pycache__/packed.cpython-311.pyc",
        "tests/__pycache__/a.pyc",
    ]
    for name in [*tracked, *leavings]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name in leavings:
            (folder / name).write_bytes(b"of an earlier build")
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def test_the_sdist_holds_the_repository_and_no_build_products(tracked, sources, tmp_path):
    sdist = build(sources, "build_sdist", tmp_path / "out")
    assert sdist.name == f"{NAME}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames() if archive.getmember(name).isfile()}
    of_the_repository = {name for name in tracked if not name.startswith(".")}
    assert of_the_repository <= names, sorted(of_the_repository - names)
    others = names - of_the_repository
    assert all(name in ("PKG-INFO", "setup.cfg") or name.startswith("pt3d_largesteps.egg-info/") for name in others), others


def test_a_wheel_without_compiled_code_is_for_every_platform_and_works(tracked, sources, tmp_path):
    wheel = build(sources, "build_wheel", tmp_path / "out")
    assert wheel.name == f"{NAME}-py3-none-any.whl"
    names = names_in(wheel)
    assert {name.split("/")[0] for name in names} == {"pt3d_largesteps", f"{NAME}.dist-info"}
    assert {name for name in tracked if name.startswith("pt3d_largesteps/")} <= set(names)
    assert "pt3d_largesteps/py.typed" in names
    assert not any(map(is_compiled, names))
    install(wheel, tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    result = run(SOLVE, cwd=tmp_path / "elsewhere", PYTHONPATH=str(tmp_path / "site"), PATH=str(tmp_path / "elsewhere"))
    assert result.returncode == 0, result.stderr
    solved, warning = result.stdout.splitlines()
    assert solved == f"{tmp_path / 'site/pt3d_largesteps/__init__.py'} False True"
    assert "the compiled code is not here (it was not built)" in warning


def test_without_torch_the_build_fails_where_compiled_code_is_required(sources, tmp_path):
    code = BUILD_WITHOUT_TORCH.format(hook="build_wheel")
    result = run(code, tmp_path / "out", cwd=sources, PT3D_LARGESTEPS_REQUIRE_EXTENSION="1")
    assert result.returncode != 0
    assert "pt3d_largesteps: the compiled solver is not built: torch is not here at build time" in result.stderr


def test_an_old_setuptools_is_told_in_one_sentence(sources, tmp_path):
    old = "import sys, setuptools; setuptools.__version__ = '65.5.0'; sys.argv = ['setup.py', '--version']"
    result = run(f"{old}; import runpy; runpy.run_path('setup.py', run_name='__main__')", cwd=sources)
    assert result.returncode == 1
    (message,) = result.stderr.splitlines()
    assert "setuptools 77 or newer" in message
    assert "got 65.5.0" in message
    assert "pip install 'setuptools>=77,<82' ninja" in message


@pytest.mark.slow
def test_a_wheel_is_for_every_platform_too_where_the_compiler_fails(sources, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("c++", "g++", "ninja"):
        (programs / name).write_text("#!/bin/sh\necho no such luck >&2; exit 1\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "CXX": "c++", "NO_CUDA": "1"}
    wheel = build(sources, "build_wheel", tmp_path / "out", BUILD, **environment)
    assert wheel.name == f"{NAME}-py3-none-any.whl"
    assert not any(map(is_compiled, names_in(wheel)))
    with zipfile.ZipFile(wheel) as archive:
        assert "Root-Is-Purelib: true" in archive.read(f"{NAME}.dist-info/WHEEL").decode()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler here")
def test_a_compiled_wheel_from_the_sdist(sources, tmp_path):
    with tarfile.open(build(sources, "build_sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    environment = {"NO_CUDA": "1", "PT3D_LARGESTEPS_REQUIRE_EXTENSION": "1"}
    wheel = build(tmp_path / "unpacked" / NAME, "build_wheel", tmp_path / "out", BUILD, **environment)
    assert re.fullmatch(rf"{re.escape(NAME)}-cp310-abi3-\w+\.whl", wheel.name)
    assert [name for name in names_in(wheel) if is_compiled(name)] == ["pt3d_largesteps/_C.abi3.so"]
    install(wheel, tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    inside = {"cwd": tmp_path / "elsewhere", "PYTHONPATH": str(tmp_path / "site"), "PATH": str(tmp_path / "elsewhere")}
    result = run(SOLVE, **inside)
    assert result.stdout.splitlines() == [f"{tmp_path / 'site/pt3d_largesteps/__init__.py'} True True", ""], result.stderr
    run_file = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    checked = run(run_file, ROOT / "tools/check_wheel.py", **inside)
    assert "compiled solve of 5,000 vertices off by" in checked.stdout, checked.stderr
