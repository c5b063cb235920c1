"""What ``torch.compile`` needs in order to write code for the processor."""

import os

import pytest

# torch.compile writes for the instructions that this variable names, and of "default" its own code does not compile (2.11).
needs_inductor = pytest.mark.skipif(
    os.environ.get("ATEN_CPU_CAPABILITY") == "default", reason="torch.compile writes no code for ATEN_CPU_CAPABILITY=default"
)
