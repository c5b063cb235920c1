"""Interleaved timings on a CUDA device by its events, CUDA graphs, and lower bounds for the time of any solver."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from common.timing import US, Times

_BIG = 2**30  # bytes; far above the cache of any device
_CHAIN = 1000  # kernels in a graph, one after the other
_SLOW = 1.0  # seconds; what takes longer needs no warm-up


class Clock(Protocol):
    def __call__(self, function: Callable[[], Any], calls: int) -> float:
        """Seconds of a call, the mean of so many that follow each other."""
        ...


def event_clock(function: Callable[[], Any], calls: int) -> float:
    """By CUDA events on the current stream. The device is idle before, so the host's work between the first and the last event
    counts whenever the device waits for it."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        result = function()
    stop.record()
    stop.synchronize()
    del result  # kept until here: freeing the last one is not timed
    return start.elapsed_time(stop) * 1e-3 / calls


def wall_clock(function: Callable[[], Any], calls: int) -> float:
    """The same on a device that is waited for anyway."""
    start = time.perf_counter()
    for _ in range(calls):
        result = function()
    stop = time.perf_counter()
    del result
    return (stop - start) / calls


def clock_of(device: torch.device) -> Clock:
    return event_clock if device.type == "cuda" else wall_clock


def interleave(
    functions: dict[str, Callable[[], Any]], seconds: float, clock: Clock, least: int = 5, turn: int = 1
) -> dict[str, Times]:
    """Turns of each function in order, after a warm-up, so that other load of the machine affects all equally.

    A turn of more than one call has a first call, timed separately, when the cache holds the data of the other functions, and
    as many more, of which the mean counts. If a round takes long there are fewer calls, at least two.
    """
    once = {}
    for name, function in functions.items():
        once[name] = clock(function, 1)
        if once[name] < _SLOW:
            once[name] = clock(function, 1)
    least = min(least, max(2, int(3 * seconds / max(sum(once.values()), 1e-9))))
    share = seconds / (least * len(functions))  # of a turn
    calls_of = {name: max(1, min(turn, int(share / max(value, 1e-9)))) for name, value in once.items()}
    first: dict[str, list[float]] = {name: [] for name in functions}
    later: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    while len(next(iter(first.values()))) < least or time.perf_counter() < end:
        for name, function in functions.items():
            first[name].append(clock(function, 1))
            if turn > 1:
                later[name].append(clock(function, calls_of[name]))
    result = {}
    for name, values in first.items():
        counted = later[name] or values
        result[name] = Times(min(counted), statistics.median(counted), statistics.median(values), len(values))
    return result


def captured(function: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """A function that replays a CUDA graph of this one; what it returns is overwritten by the next replay."""
    if device.type != "cuda":
        return function
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries create handles and workspaces at the first call, which a graph must not contain
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


class Limits(NamedTuple):
    """Lower bounds for the time of a solve: its steps follow each other, and each byte is transferred at least once.

    A solve goes up a tree of so many levels and down again, 2 levels - 1 steps, each of which costs a kernel that follows
    another one in a graph; a factorisation only goes up. Bytes are those of the stored factor, of the right-hand side and
    of the solution; what fits half the cache is taken at the cache's speed. Arithmetic is not counted.
    """

    latency: float  # seconds of an empty kernel in a graph
    memory: float  # bytes a second of a copy, read and written ones together
    cache: float
    cache_bytes: int

    def solve(self, levels: int, nbytes: int) -> float:
        return (2 * levels - 1) * self.latency + nbytes / self._bandwidth(nbytes)

    def factorization(self, levels: int, nbytes: int) -> float:
        return levels * self.latency + nbytes / self._bandwidth(nbytes)

    def _bandwidth(self, nbytes: int) -> float:
        return self.cache if nbytes < self.cache_bytes / 2 else self.memory

    def __str__(self) -> str:
        return (
            f"an empty kernel in a graph of {_CHAIN}: {self.latency / US:.2f} us; copies, bytes read and written, GB/s:"
            f" memory {self.memory / 1e9:,.0f}, cache of {self.cache_bytes / 2**20:.0f} MiB {self.cache / 1e9:,.0f}"
        )


def measured_limits(device: torch.device) -> Limits:
    def chain() -> None:
        for _ in range(_CHAIN):
            torch.cuda._sleep(0)  # the emptiest kernel that torch has: one thread that looks at the clock

    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    replay = captured(chain, device)
    latency = min(event_clock(replay, 1) for _ in range(20)) / _CHAIN
    return Limits(latency, _copy_bandwidth(_BIG, 2, device), _copy_bandwidth(cache_bytes // 8, 50, device), cache_bytes)


def _copy_bandwidth(nbytes: int, copies: int, device: torch.device) -> float:
    source, target = (torch.rand(nbytes // 4, device=device) for _ in range(2))  # zeros could be faster than numbers

    def copy() -> None:
        for _ in range(copies):
            target.copy_(source)

    replay = captured(copy, device)
    return 2 * copies * source.nbytes / min(event_clock(replay, 1) for _ in range(20))


def cuda_device() -> torch.device:
    """The current CUDA device; without one a sentence on stderr, and the exit status of a wrong option."""
    if not torch.cuda.is_available():
        print(f"an NVIDIA GPU is needed, and torch {torch.__version__} sees none on this machine", file=sys.stderr)
        raise SystemExit(2)
    return torch.device("cuda", torch.cuda.current_device())
