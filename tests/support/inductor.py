"""What ``torch.compile`` needs in order to write code for the processor."""

import getpass
import os
import tempfile
from pathlib import Path

import pytest

# torch.compile writes for the instructions that this variable names, and of "default" its own code does not compile (2.11).
needs_inductor = pytest.mark.skipif(
    os.environ.get("ATEN_CPU_CAPABILITY") == "default", reason="torch.compile writes no code for ATEN_CPU_CAPABILITY=default"
)


def keep_code_apart() -> None:
    """Gives each value of ``ATEN_CPU_CAPABILITY`` a cache of its own.

    torch (2.11) keeps compiled code from run to run and finds it again where it should write it for other vectors. Then it
    crashes, or computes something else.
    """
    capability = os.environ.get("ATEN_CPU_CAPABILITY")
    if capability is not None:
        folder = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}_{capability}"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
