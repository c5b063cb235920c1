"""Finding the compiled operators: which are loaded, and what is said where none are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pt3d_largesteps.native import library

ROOT = Path(__file__).resolve().parents[2]
SOLVE = """
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
    result = subprocess.run([sys.executable, "-c", SOLVE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    solved, (warning,) = json.loads(result.stdout)
    assert solved == [[pytest.approx(1.0)] * 3] * 3  # constants lie in the kernel of the Laplacian
    assert "the compiled solver is not here (it needs torch 2.11 or newer, got 2.10.1+cpu)" in warning
