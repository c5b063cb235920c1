"""How much memory a process takes at most while something runs."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path


def restart_peak_memory() -> int:
    """Bytes that the process holds now; :func:`peak_memory` then counts from here, where Linux lets it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would hide as much of what comes
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        pass
    return peak_memory()


def peak_memory() -> int:
    """Bytes. ru_maxrss alone would do, but on Linux a child inherits in it the peak of the process that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
