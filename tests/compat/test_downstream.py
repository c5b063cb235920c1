"""A script written for the ``largesteps`` package runs when its imports change, and goes the same way."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import largesteps.geometry
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "from_largesteps"
SMALL = {"level": 2, "points": 300}


def load(name):
    spec = importlib.util.spec_from_file_location(f"from_largesteps_{name}", FOLDER / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def builders_on_cpu(monkeypatch):
    """The released package asks for CUDA by name where it makes its matrix: give it a torch that stays on the CPU."""

    def on_cpu(function):
        return lambda *args, **kwargs: function(*args, **{**kwargs, "device": "cpu"})

    names = {name: getattr(torch, name) for name in dir(torch) if not name.startswith("__")}
    names |= {name: on_cpu(getattr(torch, name)) for name in ("arange", "ones", "sparse_coo_tensor")}
    monkeypatch.setattr(largesteps.geometry, "torch", SimpleNamespace(**names))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_only_imports_differ():
    before, after = ((FOLDER / f"{name}.py").read_text().splitlines() for name in ("before", "after"))
    changed = set(before) ^ set(after)
    assert all(re.match(r"from (pt3d_largesteps\.compat|largesteps)\.\w+ import ", line) for line in changed), changed
    assert len(changed) == 6
    rest = [[line for line in lines if line and line not in changed] for lines in (before, after)]
    assert rest[0] == rest[1]
    renamed = {line.replace("from largesteps.", "from pt3d_largesteps.compat.") for line in changed}
    assert renamed == changed - set(before)


@pytest.mark.slow
def test_after_runs_by_itself():
    options = ["--steps", "40", "--level", "2", "--points", "300"]
    command = [sys.executable, "-W", "error::UserWarning:pt3d_largesteps", str(FOLDER / "after.py"), *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    first, last = map(float, re.findall(r"0\.\d+", result.stdout))
    assert last < 0.6 * first


def test_it_goes_the_way_of_the_released_package(builders_on_cpu):
    verts, faces, losses = load("before").optimize(30, **SMALL)
    our_verts, our_faces, our_losses = load("after").optimize(30, **SMALL)
    assert torch.equal(our_faces, faces)
    torch.testing.assert_close(torch.tensor(our_losses), torch.tensor(losses), rtol=1e-3, atol=0)
    torch.testing.assert_close(our_verts, verts, rtol=0, atol=1e-4)
    assert losses[-1] < 0.75 * losses[0]
