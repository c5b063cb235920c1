"""Which compiled libraries are loaded: those of this version, so that none gives wrong results or crashes."""

import hashlib
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pt3d_largesteps.native import jit, library
from pt3d_largesteps.native.library_version import VERSION, version_of

PACKAGE = Path(library.__file__).parents[1]
BINDINGS = PACKAGE.parent / "csrc" / "bindings"

# A digest of what a version promises. Has it changed on purpose, then the version goes up, here, in version.h and in
# library_version.py, and this is the digest of the new one.
DIGESTS = {1: "d69ecbc4c793229d", 2: "e81dde5bf27fdc7f"}


def marked(number: int) -> bytes:
    return b"\0\1pt3d_largesteps library version %d;\0" % number


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where libraries are looked for, as if the package were there; what would be loaded is in the list."""
    loaded = []
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(library, "__file__", str(folder / "native" / "library.py"))
    monkeypatch.setattr(library, "LIBRARIES", {})
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    monkeypatch.delenv("PT3D_LARGESTEPS_NO_EXTENSION", raising=False)
    monkeypatch.delenv("PT3D_LARGESTEPS_EXTENSION", raising=False)
    return folder, loaded


@pytest.mark.parametrize("name", ["_C", "_cuda"])
class TestLoad:
    def test_one_of_this_version(self, folder, name):
        folder, loaded = folder
        path = folder / f"{name}.abi3.so"
        path.write_bytes(marked(VERSION))
        assert library._load(name) is None
        assert loaded == [path]
        assert {name: path} == library.LIBRARIES

    @pytest.mark.parametrize(
        "content", [marked(VERSION + 1), marked(VERSION * 10), b"pt3d_largesteps library version 1", b"built before", b""]
    )
    def test_others_are_refused_before_they_register_anything(self, folder, name, content):
        folder, loaded = folder
        path = folder / f"{name}.abi3.so"
        path.write_bytes(content)
        assert library._load(name) == f"{path} was built for another version of this package; build it again"
        assert loaded == []
        assert library.LIBRARIES == {}

    def test_a_stale_one_does_not_hide_another(self, folder, name, tmp_path, monkeypatch):
        folder, loaded = folder
        (folder / f"{name}.abi3.so").write_bytes(b"built before")
        path = tmp_path / "elsewhere" / f"{name}.so"
        path.parent.mkdir()
        path.write_bytes(marked(VERSION))
        monkeypatch.setenv("PT3D_LARGESTEPS_EXTENSION", str(path.parent))
        assert library._load(name) is None
        assert loaded == [path]


SOLVES = """
import json, warnings
import torch
from pytorch3d.utils import ico_sphere
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import pt3d_largesteps
    meshes = ico_sphere(1)
    steps = pt3d_largesteps.LargeSteps(meshes, solver="cholesky")
    difference = float((steps().verts_packed() - meshes.verts_packed()).abs().max())
from pt3d_largesteps.native import library
print(json.dumps({
    "folder": library.__file__,
    "why": [library.WHY_NOT, library.LIBRARIES],
    "difference": difference,
    "warnings": [str(w.message) for w in caught if "pt3d_largesteps" in str(w.message)],
}))
"""


@pytest.mark.skipif(not library.is_compiled(), reason="nothing is compiled here")
def test_with_the_library_of_another_version_solves_run_in_plain_torch(tmp_path):
    package = tmp_path / "pt3d_largesteps"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    content = library.LIBRARIES["_C"].read_bytes()
    assert marked(VERSION)[2:-1] in content  # with debugging symbols, it is there twice
    stale = package / "_C.abi3.so"
    stale.write_bytes(content.replace(marked(VERSION)[2:-1], marked(VERSION + 1)[2:-1]))
    result = subprocess.run(
        [sys.executable, "-c", SOLVES], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    assert Path(told["folder"]).is_relative_to(package)
    assert told["why"] == [f"{stale} was built for another version of this package; build it again", {}]
    assert told["difference"] < 1e-5
    (warning,) = told["warnings"]
    assert told["why"][0] in warning
    assert "pip install --no-build-isolation" in warning


def test_a_checkout_with_a_stale_library_gets_another(tmp_path):
    """Where torch.hub looks: the same code with a library of another version, which is passed over."""
    package = tmp_path / "pt3d_largesteps"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    (package / "another.py").touch()  # so that no installation has the same code
    compiled_folder = runpy.run_path(str(package / "native" / "jit.py"))["compiled_folder"]
    (package / "_C.so").write_bytes(marked(VERSION + 1))
    assert compiled_folder(tmp_path) == f"there are no sources in {tmp_path / 'csrc'}"
    (package / "_C.so").write_bytes(marked(VERSION))
    assert compiled_folder(tmp_path) == package


@pytest.mark.skipif(not library.is_compiled(), reason="nothing is compiled here")
def test_the_operators_tell_the_version():
    assert version_of(library.LIBRARIES["_C"]) == VERSION
    assert torch.ops.pt3d_largesteps.version() == VERSION
    if library.has_cuda():
        assert torch.ops.pt3d_largesteps.cuda_version() == VERSION


class TestTheSources:
    def test_have_the_version_of_the_python_code(self):
        (number,) = re.findall(
            r"^#define LARGESTEPS_LIBRARY_VERSION (\d+)$", (BINDINGS / "version.h").read_text(), re.MULTILINE
        )
        assert int(number) == VERSION

    def test_no_two_have_one_name(self):
        # torch, which compiles a checkout, puts the objects of all folders into one
        names = [source.stem for source in jit.sources(BINDINGS.parent)]
        assert sorted(set(names)) == sorted(names)

    def test_of_one_version_have_the_same_schemas_and_formats(self):
        bindings = [
            (BINDINGS / name).read_text()
            for name in ("cholesky.cpp", "cholesky_cuda.cpp", "render_points.cpp", "render_pictures.cpp")
        ]
        definitions = [text for binding in bindings for text in re.findall(r'library\.def\(((?:\s*"[^"]*")+)\)', binding)]
        schemas = ["".join(re.findall(r'"([^"]*)"', text)) for text in definitions]
        assert len(schemas) == sum(text.count("library.def(") for text in bindings)
        files = ("structure/index_buffer.h", "structure/level_index.h", "renderer/mesh_index.h")
        headers = [(BINDINGS.parent / name).read_text() for name in files]
        formats = [number for text in headers for number in re.findall(r"constexpr int32_t k\w*Magic = (\w+);", text)]
        assert len(formats) == 3
        assert hashlib.sha256("\n".join(schemas + formats).encode()).hexdigest()[:16] == DIGESTS[VERSION]


OLDER_TORCH = """
import json, warnings
import torch
torch.__version__ = "2.10.1+cpu"
from pt3d_largesteps import compute_matrix, from_differential
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    matrix = compute_matrix(torch.eye(3), torch.tensor([[0, 1, 2]]), lambda_=1.0)
    solved = from_differential(matrix, torch.ones(3, 3), solver="cholesky")
print(json.dumps([solved.tolist(), [str(warning.message) for warning in caught]]))
"""


@pytest.mark.skipif(not library.is_compiled(), reason="nothing is compiled here")
def test_a_torch_older_than_the_stable_interface_solves_in_plain_torch():
    """A library that older torch cannot load may leave operators behind, half registered: it is not even tried."""
    result = subprocess.run(
        [sys.executable, "-c", OLDER_TORCH], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    solved, (warning,) = json.loads(result.stdout)
    assert solved == [[pytest.approx(1.0)] * 3] * 3  # constants lie in the kernel of the Laplacian
    assert "the compiled code is not here (it needs torch 2.11 or newer, got 2.10.1+cpu)" in warning
