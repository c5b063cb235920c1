"""The renderer on a CPU: a forward and a backward pass of four views, with an L1 loss to given pictures.

    python benchmarks/bm_render.py
    python benchmarks/bm_render.py --quick           # 10,242 vertices and 128 x 128 pixels alone
    python benchmarks/bm_render.py --step            # the parts of a whole step of a reconstruction

"fused" is ImageLoss, which compares while it draws; "pictures" draws them and takes torch's L1; "torch" is the path without
compiled code. Icospheres of which a smaller one is the target, shaded. Calls in turns; minimum / median; ratios are of minima.

"bound" is the larger of two times of N images, below which no renderer of this kind can be:
  bytes       N (H W (16 + 2 x 8) + V 4 x 32) + 24 V + 12 F, each moved once: the target, depth and face of a pixel written and
              read, the points and their gradients written and read, positions, their gradient, faces; over the bandwidth at
              which as many threads read, from the cache if all of it fits;
  arithmetic  N (80 V + 30 F + 175 pixels) + 140 V + 80 F, over the speed of a float32 matrix product of as many threads:
              projection and back; area and box of a face; at a covered pixel the edge functions, weights, depth, colour,
              difference and their derivatives, as if each were drawn once; the light; the normals, and back.
That speed is one of fused multiplications and additions from registers, which code that gathers corners by an index, divides,
and must round as PyTorch3D does cannot come near: the share says how far from the machine's limits it is, not what is left.

Memory is the peak growth of a process in a step; in that of pictures their gradient is given, for torch's L1 takes more than
the renderer. The promise is the pictures, if any, and 64 bytes for each pixel and 200 for each vertex of each image. Bytes by
pixel are those of a small mesh, by vertex those of small pictures.

The other renderers are described in common/render_peers.py; what is not installed is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from pytorch3d.structures import Meshes

from common.machine import heading
from common.memory import peak_memory, restart_peak_memory
from common.peers import set_threads
from common.render_case import Case
from common.render_peers import available_render_peers
from common.timing import (
    MS,
    PAUSE,
    Bandwidth,
    Times,
    interleave,
    load_line,
    pair,
    single,
    table_head,
    threads_text,
    timed,
    write_csv,
)
from pt3d_largesteps import LargeSteps, UniformAdam
from pt3d_largesteps.renderers import ImageLoss

VIEWS = 4
LEVELS, SIZES = [4, 5, 6], [128, 512]
PEER_LEVEL = 5  # 10,242 vertices
TURN, SECONDS = 5, 1.0  # calls in a turn, if they are short; for each row, at least
LR = 1e-3


def main() -> None:
    load = load_line()
    options = _options()
    if options.memory_here:
        set_threads(options.threads[0])
        _print_memory()
        return
    print(f"{heading()}\n{load}", flush=True)
    if options.step:
        for threads in options.threads:
            _print_parts(threads, options.repeat)
        return
    levels, sizes = ([PEER_LEVEL], SIZES[:1]) if options.quick else (LEVELS, SIZES)
    # Blocks of 64 KiB and more are given back at once, so that nothing that was freed hides what is taken.
    command = [sys.executable, __file__, "--memory-here", "--threads", str(options.threads[0])]
    subprocess.run(command, env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}, check=True)
    rows = _print_paths(levels, sizes, options)
    if not options.no_peers:
        rows += _print_peers(sizes, options)
    if options.csv:
        write_csv(options.csv, rows)
    print(f"\n{load}")


def _print_paths(levels: list[int], sizes: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    bandwidth = Bandwidth(options.threads)
    speed = {threads: _speed(threads) for threads in options.threads}
    print(f"\n{bandwidth}\nmatrix product, GFLOP/s: " + ", ".join(f"{threads_text(n)} {v / 1e9:.0f}" for n, v in speed.items()))
    head = ["vertices", "pixels", "threads", "fused, ms", "pictures, ms", "torch, ms", "pictures / fused", "torch / fused"]
    print(table_head([*head, "bytes, ms", "arithmetic, ms", "bound / fused, %"]))
    rows = []
    for level in levels:
        for size in sizes:
            case = Case(level, size, VIEWS)
            for threads in options.threads:
                set_threads(threads)
                times = interleave(case.steps(), SECONDS, options.repeat, TURN, _pause(threads))
                least = {name: time.min for name, time in times.items()}
                moving = case.num_bytes() / bandwidth.of(case.num_bytes(), threads)
                computing = case.num_operations() / speed[threads]
                bound = max(moving, computing) / least["fused"]
                cells = [f"{case.num_verts:,}", str(size), str(threads), *(pair(time, MS) for time in times.values())]
                cells += [single(least[name] / least["fused"]) for name in ("pictures", "torch")]
                print(
                    f"| {' | '.join([*cells, single(moving / MS), single(computing / MS), single(100 * bound)])} |", flush=True
                )
                sizes_of_row = {"vertices": case.num_verts, "pixels": size, "threads": threads}
                rows.append(sizes_of_row | _numbers(times) | {"bound over fused": bound})
    return rows


def _print_peers(sizes: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    peers, missing = available_render_peers()
    print("\nother renderers, at most three turns each" + "".join(f"\n{line}" for line in missing))
    print(table_head(["renderer", "pixels", "threads", "min / median, ms", "by fused", "faces that differ"]))
    rows, slow = [], []
    for size in sizes:
        case, differ = Case(PEER_LEVEL, size, VIEWS), {}
        steps = {name: step for name, step in case.steps().items() if name != "torch"}
        for name, (make, largest) in peers.items():
            if size > largest:
                slow.append(f"{name} is left out of {size} pixels: it takes too long")
                continue
            peer = make(case.meshes, case.cameras, size)
            steps |= peer.steps(name)
            if hasattr(peer, "faces"):
                ours = case.renderer.visible_faces(case.meshes, case.cameras).pix_to_face
                differ[name] = int((ours != peer.faces()).sum())
        for threads in options.threads:
            set_threads(threads)
            times = interleave(steps, SECONDS, min(options.repeat, 3), TURN, _pause(threads))
            for name, time in times.items():
                cells = [name, str(size), str(threads), pair(time, MS), single(time.min / times["fused"].min)]
                print(f"| {' | '.join([*cells, str(differ.get(name, '-'))])} |", flush=True)
            rows.append({"vertices": case.num_verts, "pixels": size, "threads": threads} | _numbers(times))
    print("\n".join(["", *slow]))
    return rows


def _print_memory() -> None:
    level, size = LEVELS[-1], SIZES[-1]
    print("\npeak memory of a step beyond what is held before")
    print(table_head(["step", "vertices", "pixels", "views", "MB", "promise, MB", "bytes by pixel", "bytes by vertex"]))
    for views in (1, VIEWS):
        case, of_pixels, of_verts = Case(level, size, views), Case(1, size, views), Case(level, 16, views)
        for name, of_pixel in (("fused", 64), ("pictures", 64 + 16)):
            growth = _growth(case, name)
            by_pixel = _growth(of_pixels, name) / (views * size**2)
            by_vertex = _growth(of_verts, name) / (views * case.num_verts)
            promise = views * (of_pixel * size**2 + 200 * case.num_verts)
            cells = [name, f"{case.num_verts:,}", size, views, *(single(value / 1e6) for value in (growth, promise))]
            print(f"| {' | '.join(map(str, [*cells, single(by_pixel), single(by_vertex)]))} |", flush=True)


def _growth(case: Case, name: str) -> int:
    """Bytes. Of pictures without a loss: their gradient is given."""
    gradient = torch.ones_like(case.targets)

    def draw() -> None:
        verts = case.meshes.verts_padded().clone().requires_grad_()
        case.renderer(case.meshes.update_padded(verts), case.cameras).backward(gradient)

    step = draw if name == "pictures" else case.steps()[name]
    step()  # makes what is kept
    before = restart_peak_memory()
    step()
    return peak_memory() - before


def _print_parts(threads: int, repeat: int) -> None:
    """The parts of a step of a reconstruction, of the two paths in turns."""
    set_threads(threads)
    case = Case(PEER_LEVEL, SIZES[0], VIEWS)
    losses = {"compiled": case.loss, "torch": ImageLoss(case.in_torch, case.cameras, case.targets)}
    states = {name: _Optimisation(case.meshes, loss) for name, loss in losses.items()}
    for state in states.values():
        state.step()
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in states}
    for _ in range(repeat):
        for name, state in states.items():
            laps[name] += [state.step() for _ in range(TURN if name == "compiled" else 1)]
    print(f"\n{case.num_verts:,} vertices, {case.size} pixels, {VIEWS} views, {threads_text(threads)}; min / median, ms")
    print(table_head(["part", *states]))
    for part in laps["compiled"][0]:
        columns = [[lap[part] for lap in laps[name]] for name in states]
        cells = [pair(Times(min(column), statistics.median(column), 0.0, repeat), MS) for column in columns]
        print(f"| {' | '.join([part, *cells])} |", flush=True)


class _Optimisation:
    def __init__(self, meshes: Meshes, loss: ImageLoss) -> None:
        self._loss, self._steps = loss, LargeSteps(meshes)
        self._optimizer = UniformAdam(self._steps.parameters(), lr=LR)

    def step(self) -> dict[str, float]:
        """Seconds of each part."""
        at = [perf_counter()]
        meshes = self._steps()
        at.append(perf_counter())
        loss = self._loss(meshes, range(VIEWS)).sum()
        at.append(perf_counter())
        loss.backward()
        at.append(perf_counter())
        self._optimizer.step()
        self._optimizer.zero_grad()
        at.append(perf_counter())
        names = ("solve and Meshes", "images and loss", "backward, with its solve", "UniformAdam")
        return {name: end - start for name, start, end in zip(names, at, at[1:], strict=False)} | {"all": at[-1] - at[0]}


def _speed(threads: int) -> float:
    """Operations a second of a float32 matrix product."""
    set_threads(threads)
    matrix = torch.rand(1024, 1024)
    return 2 * 1024**3 / min(timed(lambda: matrix @ matrix) for _ in range(20))


def _pause(threads: int) -> float:
    return PAUSE if threads > 1 else 0.0


def _numbers(times: dict[str, Times]) -> dict[str, float]:
    return {f"{name} {kind} ms": getattr(time, kind) / MS for name, time in times.items() for kind in ("min", "median")}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one size of each")
    parser.add_argument("--step", action="store_true", help="the parts of a whole step, and nothing else")
    parser.add_argument("--no-peers", action="store_true", help="without the other renderers, which take minutes")
    parser.add_argument("--repeat", type=int, default=5, help="turns (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory-here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--csv", type=Path, help="where to write the times too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
