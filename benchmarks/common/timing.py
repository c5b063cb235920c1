"""Interleaved timings, the machine's read bandwidth, and how the numbers are written down."""

from __future__ import annotations

import csv
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from common.peers import set_threads

US, MS = 1e-6, 1e-3  # seconds
PAUSE = 0.04  # seconds, longer than threads of OpenBLAS wait
_BIG = 512 * 2**20  # bytes; far above the caches of a server
_SMALL = 4 * 2**20  # bytes; within them, and long enough to hide the cost of a call


class Times(NamedTuple):
    """Seconds."""

    min: float
    median: float
    first: float  # median of the first calls of the turns
    rounds: int


def interleave(
    functions: dict[str, Callable[[], Any]], seconds: float, least: int = 5, turn: int = 1, pause: float = 0
) -> dict[str, Times]:
    """Some calls of each in turn, so that other load of the machine affects all equally.

    At the first call of a turn the caches hold the data of the other functions, at later calls the function's own data, as far
    as it fits. The first round is a warm-up; it counts only if it takes so long that warming up does not matter. The pause
    after each round, which is not part of the seconds, is for threads that wait for more work without sleeping: those of
    OpenBLAS do so for tens of milliseconds and take part of the core of the next function.
    """
    first = {name: timed(function) for name, function in functions.items()}
    samples = {name: [[value]] if sum(first.values()) > max(seconds, 1.0) else [] for name, value in first.items()}
    # Slow functions get few calls: a turn of all functions takes no longer than its share of the seconds.
    share = seconds / (least * len(functions))
    calls_of = {name: max(1, min(turn, int(share / max(value, 1e-9)))) for name, value in first.items()}
    end = time.perf_counter() + seconds
    names = list(functions)
    while len(samples[names[0]]) < least or time.perf_counter() < end:
        for name in names:
            samples[name].append([timed(functions[name]) for _ in range(calls_of[name])])
        names.append(names.pop(0))  # so that a different function wakes the threads after each pause
        if pause:
            time.sleep(pause)
            end += pause
    result = {}
    for name, turns in samples.items():
        values = [value for calls in turns for value in calls]
        result[name] = Times(min(values), statistics.median(values), statistics.median(calls[0] for calls in turns), len(turns))
    return result


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    result = function()
    stop = time.perf_counter()
    del result  # kept until here: freeing it is not timed
    return stop - start


class Bandwidth:
    """Bytes a second at which torch.sum reads memory and cache, by the number of threads."""

    def __init__(self, threads: Iterable[int]) -> None:
        self._cache = _last_level_cache()
        big, small = (torch.ones(size // 4) for size in (_BIG, _SMALL))
        self.memory, self.cache = {}, {}
        for number in threads:
            set_threads(number)
            self.memory[number] = _BIG / min(timed(big.sum) for _ in range(5))
            self.cache[number] = _SMALL / min(timed(small.sum) for _ in range(50))

    def of(self, footprint: float, threads: int) -> float:
        """The bandwidth for repeated reads of this many bytes."""
        return (self.cache if footprint < self._cache else self.memory)[threads]

    def __str__(self) -> str:
        cells = [f"{threads_text(n)} {self.memory[n] / 1e9:.1f} / {self.cache[n] / 1e9:.1f}" for n in self.memory]
        return (
            f"read bandwidth from memory / from a cached {_SMALL // 2**20} MiB, GB/s: {', '.join(cells)};"
            f" last-level cache {self._cache / 2**20:.0f} MiB"
        )


def _last_level_cache() -> int:
    """Bytes; a guess where Linux does not tell."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * 1024 for size in sizes if size.endswith("K")), default=8 * 2**20)


def load_line() -> str:
    """Call it first: later the load includes the benchmark itself."""
    load = os.getloadavg()[0]
    state = "busy: timings are not to be trusted" if load > 0.5 else "quiet"
    return f"load of the machine at the start: {load:.2f} ({state})"


def table_head(columns: Iterable[str]) -> str:
    columns = list(columns)
    return f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def pair(times: Times | None, unit: float) -> str:
    return f"{_digits(times.min / unit)} / {_digits(times.median / unit)}" if times else "-"


def single(value: float | None) -> str:
    return "-" if value is None else _digits(value)


def threads_text(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def plot_sizes(path: Path, rows: list[dict[str, Any]], series: dict[str, Callable], ylabel: str, title: str) -> None:
    """Vertices against time; spheres joined by lines, other meshes as points.

    Args:
        series: for each label, a function from a row to its value, or None where it has none.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.8), layout="constrained")
    styles = zip(("#d95f02", "#1f4e9c", "#5aa0e0", "#2a9d6f"), "sovd", strict=True)
    for (label, value_of), (colour, marker) in zip(series.items(), styles, strict=False):
        points = sorted((row["vertices"], value, row["mesh"]) for row in rows if (value := value_of(row)) is not None)
        spheres = [point[:2] for point in points if point[2].startswith("sphere")]
        others = [point[:2] for point in points if not point[2].startswith("sphere")]
        if spheres:
            axes.plot(*zip(*spheres, strict=True), color=colour, marker=marker, markersize=5, label=label)
        if others:
            hollow = {"facecolors": "none", "edgecolors": colour, "marker": marker, "s": 28, "alpha": 0.8}
            axes.scatter(*zip(*others, strict=True), **hollow, label=None if spheres else label)
    axes.set(xscale="log", yscale="log", xlabel="vertices", ylabel=ylabel)
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
