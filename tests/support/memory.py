"""How much memory this process has."""

import gc
import os
from pathlib import Path

import pytest

STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

tells_memory = pytest.mark.skipif(not STATM.exists(), reason="the system does not say how much memory is in use")


def resident_bytes() -> int:
    gc.collect()
    return int(STATM.read_text().split()[1]) * PAGE
