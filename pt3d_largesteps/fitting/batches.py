"""How many targets fit into memory together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pt3d_largesteps.reconstruction.optimization import PLAIN_VERTS
from pt3d_largesteps.reconstruction.settings import Settings

# Measured on a CPU and rounded up: the memory of a step per rendered pixel, and per vertex.
_BYTES_PER_PIXEL = 250
_BYTES_PER_VERTEX = 2_500


def bytes_per_target(settings: Settings) -> int:
    """Memory of the given pictures, and of a step at the finest stage."""
    pixels = settings.resolution**2
    num_verts = max([PLAIN_VERTS, *(stage.num_verts or 0 for stage in settings.config().stages)])
    return settings.views * pixels * 16 + 4 * pixels * _BYTES_PER_PIXEL + num_verts * _BYTES_PER_VERTEX


def memory_limit(gibibytes: float | None, device: str, num_workers: int) -> float:
    """Bytes for each worker: its share of the given memory, or of half of the free memory."""
    if gibibytes is not None:
        return gibibytes * 2**30 / num_workers
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2  # each worker has a device
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return (available[0] if available else 4 * 2**30) / 2 / num_workers


def fits(size: int, limit: float, settings: Settings) -> int:
    """How many of ``size`` targets fit into this many bytes; at least one, so that the run proceeds."""
    return max(1, min(size, int(limit / bytes_per_target(settings))))


def make_batches(names: Sequence[str], size: int) -> list[list[str]]:
    """In the order of the names; the same for any number of workers."""
    return [list(names[begin : begin + size]) for begin in range(0, len(names), size)]
