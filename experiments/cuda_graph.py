"""A whole step of an optimisation in one CUDA graph: loss, backward pass, both solves and the optimiser in one launch.

    python experiments/cuda_graph.py --level 5 --steps 500

A sphere becomes a knobbly ball, given by its radius in every direction. The same steps run one operation after the other and as
replays of a graph. The script prints the milliseconds of a step for both, and the difference between the results. It needs
CUDA.

A graph needs three things of a step: tensors at fixed addresses (u, its gradient and the optimiser's state have them), no reads
by the host (``capturable=True`` keeps the step count on the device), and a few steps before the capture for one-time set-up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch3d.io import save_obj
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import LargeSteps, UniformAdam
from pt3d_largesteps.commands.options import positive_int, refuse

NUM_WARM_UP_STEPS = 3


class Fit:
    """A sphere on its way to the ball."""

    def __init__(self, level: int, device: str) -> None:
        self.steps = LargeSteps(ico_sphere(level, device))
        self.optimizer = UniformAdam(self.steps.parameters(), lr=2e-2, capturable=True)

    def step(self) -> None:
        # The gradient is overwritten, not accumulated: zero_grad removes it before the step, and a graph that has captured its
        # creation creates it again at each replay.
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()

    def loss(self) -> torch.Tensor:
        """The mean square of the distance from the surface, along the radius."""
        verts = self.steps.verts_packed()
        radius = verts.norm(dim=1)
        return (radius - ball_radius(verts / radius[:, None])).square().mean()


def ball_radius(directions: torch.Tensor) -> torch.Tensor:
    """(V,), of unit vectors (V, 3)."""
    x, y, z = (9.0 * directions).unbind(1)
    return 0.8 + 0.05 * (x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos())


def capture(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a graph, after the first steps, which are taken here."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(NUM_WARM_UP_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(step: Callable[[], None], num_steps: int) -> float:
    """Of one step."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(num_steps):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / num_steps


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--level", type=positive_int, default=5, help="of subdivision of the sphere (default: %(default)s)")
    parser.add_argument("--steps", type=positive_int, default=500, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/cuda_graph"), help="output folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        return refuse("this example needs CUDA: graphs of a GPU's work are what it is about")
    one_by_one, as_graph = Fit(options.level, "cuda"), Fit(options.level, "cuda")
    for _ in range(NUM_WARM_UP_STEPS):
        one_by_one.step()
    eager_time = milliseconds(one_by_one.step, options.steps)
    graph_time = milliseconds(capture(as_graph.step), options.steps)
    expected, ball = (fit.steps().verts_packed().detach().cpu() for fit in (one_by_one, as_graph))
    options.out.mkdir(parents=True, exist_ok=True)
    save_obj(options.out / "ball.obj", ball, as_graph.steps().faces_packed().cpu())
    losses = [float(fit.loss().detach()) for fit in (one_by_one, as_graph)]
    difference = float((expected - ball).abs().max())
    print(f"{len(ball):,} vertices, {options.steps} steps; the ball is in {options.out / 'ball.obj'}")
    print(f"one by one: {eager_time:.3f} ms a step, loss {losses[0]:.2e}")
    print(f"as a graph: {graph_time:.3f} ms a step, loss {losses[1]:.2e}, positions differ by {difference:.1e} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
