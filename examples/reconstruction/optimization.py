"""The loop: a sphere is moved until its pictures are those of the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from pt3d_largesteps import remesh
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.solvers import Solver, solver_for
from reconstruction.edge_lengths import mean_edge_length
from reconstruction.methods import DEFAULT_LR, Method, make_method
from reconstruction.views import fibonacci_cameras

# Coarse to fine: (part of the steps after which it begins, vertices, lambda relative to the first stage's)
STAGES = ((0.0, None, 1.0), (0.12, 2000, 7 / 9), (0.3, 5000, 4 / 9), (0.6, 9000, 2 / 9))
START_RADIUS = 0.6  # of a sphere in the unit ball of the target
LR_DECAY = 0.1  # over all steps
VIEWS_PER_STEP = 4


@dataclass(frozen=True)
class Settings:
    """What the command line sets; see there."""

    method: str = "large-steps"
    steps: int = 800
    views: int = 32
    resolution: int = 128
    lambda_: float = 9.0
    lr: float | None = None
    reg: float = 1.0
    seed: int = 0
    device: str = "cpu"
    remesh: bool = True
    solver: str = "auto"


@dataclass
class Run:
    """What a run leaves; filled while it goes on, so that an interrupted one is whole too.

    Attributes:
        meshes: the current shape.
        losses: one number per step.
        frames: (step, meshes) from time to time, for looking back.
        seconds: spent in the solve, in rendering, in the optimiser, in remeshing; both passes of each.
        interrupted: whether Ctrl-C ended it.
    """

    meshes: Meshes
    losses: list[float] = field(default_factory=list)
    frames: list[tuple[int, Meshes]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("solve", "render", "optimizer", "remesh"), 0.0))
    interrupted: bool = False


class TimedSolver:
    """A solver that adds the time it takes to ``seconds["solve"]``."""

    def __init__(self, solver: Solver, seconds: dict[str, float]) -> None:
        self.solver, self.seconds = solver, seconds

    def solve(self, rhs: torch.Tensor, direction: int = 0) -> torch.Tensor:
        start = _now(rhs.device)
        solution = self.solver.solve(rhs, direction)
        self.seconds["solve"] += _now(rhs.device) - start
        return solution


def start_meshes(settings: Settings) -> Meshes:
    """A sphere: coarse if it will be refined, of 2,562 vertices if not."""
    return ico_sphere(3 if settings.remesh else 4, device=settings.device).scale_verts(START_RADIUS)


def reconstruct(target: Meshes, settings: Settings, on_step: Callable[[int, Run], None] = lambda step, run: None) -> Run:
    """Minimises the mean absolute difference of shaded images, four views at a time.

    Ctrl-C ends it early: the run so far is returned.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    cameras = fibonacci_cameras(settings.views, settings.device)
    renderer = PyTorch3DRenderer(settings.resolution, SphericalHarmonicsLight.default())
    with torch.no_grad():
        references = torch.cat([renderer(target, cameras[[view]]) for view in range(settings.views)])
    run = Run(start_meshes(settings))
    run.frames.append((0, run.meshes))
    views = shuffled_views(settings.views, generator)
    stages = STAGES if settings.remesh else STAGES[:1]
    stage_of_step = {round(begin * settings.steps): (num_verts, factor) for begin, num_verts, factor in stages}
    frame_every = max(settings.steps // 40, 1)
    method: Method | None = None
    try:
        for step in range(settings.steps):
            if step in stage_of_step:
                if method is not None:
                    run.meshes = method.meshes().detach()  # after the last step, not before it
                method, edge_length = _begin_stage(run, settings, *stage_of_step[step])
            lr = (DEFAULT_LR[settings.method] if settings.lr is None else settings.lr) * edge_length
            method.optimizer.param_groups[0]["lr"] = lr * LR_DECAY ** (step / settings.steps)
            batch = [next(views) for _ in range(min(VIEWS_PER_STEP, settings.views))]
            _step(run, method, renderer, cameras[batch], references[batch])
            if (step + 1) % frame_every == 0 or step + 1 == settings.steps:
                run.frames.append((step + 1, method.meshes().detach()))
            on_step(step, run)
    except KeyboardInterrupt:
        run.interrupted = True
    if method is not None:
        with torch.no_grad():
            run.meshes = method.meshes()
    return run


def _begin_stage(run: Run, settings: Settings, num_verts: int | None, lambda_factor: float) -> tuple[Method, float]:
    """Remeshes, unless it is the first stage, and makes the parameter anew from the positions."""
    start = time.perf_counter()
    if num_verts is not None:
        run.meshes = remesh(run.meshes, num_verts=num_verts).meshes
    edge_length = mean_edge_length(run.meshes)
    run.seconds["remesh"] += time.perf_counter() - start

    def timed(matrix: Any) -> TimedSolver:
        return TimedSolver(solver_for(matrix, settings.solver), run.seconds)

    lambda_ = settings.lambda_ * lambda_factor
    return make_method(settings.method, run.meshes, lambda_, edge_length, settings.reg, timed), edge_length


def _step(run: Run, method: Method, renderer: Any, cameras: Any, references: torch.Tensor) -> None:
    solve_before = run.seconds["solve"]
    start = _now(references.device)
    meshes = method.meshes()
    loss = (renderer(meshes, cameras) - references).abs().mean()
    method.optimizer.zero_grad()
    (loss + method.regularizer(meshes)).backward()
    middle = _now(references.device)
    method.optimizer.step()
    end = _now(references.device)
    run.seconds["render"] += middle - start - (run.seconds["solve"] - solve_before)
    run.seconds["optimizer"] += end - middle
    run.losses.append(loss.item())
    run.meshes = meshes.detach()


def shuffled_views(num_views: int, generator: torch.Generator) -> Iterator[int]:
    """Each view once, in random order, then all again in another."""
    while True:
        yield from torch.randperm(num_views, generator=generator).tolist()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
