"""Without PyTorch3D: the tensor core works, and what needs PyTorch3D says so in one sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = "ImportError: pt3d_largesteps needs PyTorch3D, which is not installed here: see https://"


def run(code):
    """A fresh process in which ``import pytorch3d`` fails; other modules of the tests may have imported it here."""
    code = f"import sys\nsys.modules['pytorch3d'] = None\nimport torch\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_compat_takes_a_step():
    result = run("""
import pt3d_largesteps.compat
from pt3d_largesteps.compat.geometry import compute_matrix
from pt3d_largesteps.compat.optimize import AdamUniform
from pt3d_largesteps.compat.parameterize import from_differential, to_differential

verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
matrix = compute_matrix(verts, faces, 2.0)
u = to_differential(matrix, verts).requires_grad_()
optimizer = AdamUniform([u], 0.1)
before = from_differential(matrix, u)
assert torch.allclose(before, verts, atol=1e-6), before
before.square().sum().backward()
optimizer.step()
after = from_differential(matrix, u.detach())
assert after.square().sum() < before.square().sum()
print(torch.round(matrix.to_dense()).tolist())
""")
    assert result.returncode == 0, result.stderr
    assert (
        result.stdout
        == "[[7.0, -2.0, -2.0, -2.0], [-2.0, 7.0, -2.0, -2.0], [-2.0, -2.0, 7.0, -2.0], [-2.0, -2.0, -2.0, 7.0]]\n"
    )


WORKS = [
    "from pt3d_largesteps import LargeSteps, LargeStepsGrid, UniformAdam, compute_matrix, optimize, remesh, untangle",
    "from pt3d_largesteps.metrics import peak_signal_to_noise_ratio as psnr; psnr(torch.zeros(1, 2), torch.ones(1, 2))",
    "from pt3d_largesteps.report import Report",
]
NEEDS_IT = [
    "import pt3d_largesteps.renderers",
    "from pt3d_largesteps.renderers import PyTorch3DRenderer",
    "import pt3d_largesteps.renderers.texturing",
    "from pt3d_largesteps import visual_hull",
    "import pt3d_largesteps.surfaces.hull",
    "from pt3d_largesteps import LargeStepsTexture",
    "import pt3d_largesteps.steps.textures",
    "import pt3d_largesteps.uv",
    "from pt3d_largesteps import metrics; metrics.surface_distance(None, None)",
]


@pytest.fixture(scope="module")
def outcomes():
    """What each of these statements does: "" or its error."""
    result = run(f"""
import json
outcomes = {{}}
for code in {WORKS + NEEDS_IT}:
    try:
        exec(code)
        outcomes[code] = ""
    except Exception as error:
        outcomes[code] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(outcomes))
""")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("code", WORKS)
def test_what_works_without(outcomes, code):
    assert outcomes[code] == ""


@pytest.mark.parametrize("code", NEEDS_IT)
def test_what_needs_it_says_so(outcomes, code):
    assert outcomes[code].startswith(SENTENCE)
