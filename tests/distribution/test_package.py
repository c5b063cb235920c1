"""What the package says of itself: its names, its requirements, its layers, its sentence without PyTorch3D."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pt3d_largesteps

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_public_names_are_there_and_documented():
    for name in pt3d_largesteps.__all__:
        assert getattr(pt3d_largesteps, name).__doc__, name


def test_requirements_are_torch_numpy_and_scipy():
    required = [line for line in importlib.metadata.requires("pt3d_largesteps") if "extra ==" not in line]
    assert sorted(re.match(r"[\w-]+", line).group() for line in required) == ["numpy", "scipy", "torch"]


def test_without_pytorch3d_one_sentence_says_how_to_get_it():
    result = run("import sys; sys.modules['pytorch3d'] = None; from pt3d_largesteps import visual_hull")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: pt3d_largesteps needs PyTorch3D, which is not installed here")
    assert "INSTALL.md" in last
    assert "pip install torch==2.11.0 easypytorch3d==0.7.9.post1" in last


def test_optional_packages_are_imported_only_where_they_are_used():
    result = run(
        "import sys\n"
        "for name in ('cholespy', 'igl', 'gpytoolbox', 'nvdiffrast', 'matplotlib', 'imageio', 'tqdm', 'trimesh', 'skimage'):\n"
        "    sys.modules[name] = None\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import importlib.util\n"
        "find_spec = importlib.util.find_spec\n"
        "hidden = lambda name: name in sys.modules and sys.modules[name] is None\n"
        "importlib.util.find_spec = lambda name, *a: None if hidden(name) else find_spec(name, *a)\n"
        "import pt3d_largesteps, pt3d_largesteps.renderers, pt3d_largesteps.metrics\n"
        "from pytorch3d.utils import ico_sphere\n"
        "print(pt3d_largesteps.available_solvers(), pt3d_largesteps.LargeSteps(ico_sphere(1))().verts_packed().shape)\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "['cholesky', 'conjugate_gradient'] torch.Size([42, 3])\n"


def test_quiet():
    # no warning of torch's sparse tensors at work, no complaint of cholespy's bindings at exit
    pytest.importorskip("cholespy")
    result = run(
        "import warnings\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore')\n"
        "    from pytorch3d.utils import ico_sphere\n"
        "    import pt3d_largesteps as p\n"
        "for solver in p.available_solvers():\n"
        "    steps = p.LargeSteps(ico_sphere(1), solver=solver)\n"
        "    loss = steps().verts_packed().sum(); loss.backward()\n"
        "p.cotangent_laplacian(ico_sphere(1))\n"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_version_is_that_of_the_changelog_and_the_citation():
    version = pt3d_largesteps.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    heading = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading[1] == version
    released = re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)
    assert heading[2] == ("unreleased" if released is None else released[1])
    assert importlib.metadata.version("pt3d_largesteps") == version
