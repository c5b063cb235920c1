"""Several shapes reconstructed together, each as it would be alone: the loop of optimization.py on a ragged batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch

from pt3d_largesteps import LargeSteps, UniformAdam, remesh
from pt3d_largesteps.renderers import PyTorch3DRenderer, SphericalHarmonicsLight
from reconstruction.edge_lengths import mean_edge_length
from reconstruction.methods import DEFAULT_LR
from reconstruction.optimization import LR_DECAY, STAGES, VIEWS_PER_STEP, Run, Settings, shuffled_views, start_meshes
from reconstruction.views import fibonacci_cameras


def reconstruct_together(
    targets: Sequence[Meshes], settings: Settings, on_step: Callable[[int, list[float]], None] = lambda step, losses: None
) -> list[Run]:
    """A run for each target, all of them steps of one optimisation.

    They share nothing but the order of the views: each has its own loss, its own step size and, once it is remeshed, its own
    topology.

    Args:
        targets: one mesh each, in the unit ball.
        settings: of the command line; the method is large steps.
        on_step: called with the step and the losses.
    """
    begin = time.perf_counter()
    generator = torch.Generator().manual_seed(settings.seed)
    cameras = fibonacci_cameras(settings.views, settings.device)
    renderer = PyTorch3DRenderer(settings.resolution, SphericalHarmonicsLight.default())
    with torch.no_grad():
        references = [torch.cat([renderer(target, cameras[[view]]) for view in range(settings.views)]) for target in targets]
    references = torch.stack(references, dim=1)  # (views, N, H, W, 4)
    meshes = join_meshes_as_batch([start_meshes(settings) for _ in targets])
    losses: list[list[float]] = []
    views = shuffled_views(settings.views, generator)
    stages = STAGES if settings.remesh else STAGES[:1]
    stage_of_step = {round(begin * settings.steps): (num_verts, factor) for begin, num_verts, factor in stages}
    for step in range(settings.steps):
        if step in stage_of_step:
            num_verts, factor = stage_of_step[step]
            if num_verts is not None:
                meshes = remesh(meshes.detach(), num_verts=num_verts).meshes
            edge_lengths = torch.tensor([mean_edge_length(mesh) for mesh in meshes], device=settings.device)
            steps = LargeSteps(meshes, lambda_=settings.lambda_ * factor, solver=settings.solver)
            optimizer = UniformAdam(steps.parameters(), betas=(0.9, 0.99))
        lr = DEFAULT_LR["large-steps"] if settings.lr is None else settings.lr
        optimizer.param_groups[0]["lr"] = lr * LR_DECAY ** (step / settings.steps) * edge_lengths
        batch = [next(views) for _ in range(min(VIEWS_PER_STEP, settings.views))]
        optimizer.zero_grad()
        losses.append(_backward(steps(), renderer, cameras, references, batch))
        optimizer.step()
        meshes = steps().detach() if step + 1 in stage_of_step or step + 1 == settings.steps else meshes
        on_step(step, losses[-1])
    seconds = (time.perf_counter() - begin) / len(targets)
    runs = [Run(mesh, [one[index] for one in losses]) for index, mesh in enumerate(meshes)]
    for run in runs:
        run.seconds["render"] = seconds
    return runs


def _backward(meshes: Meshes, renderer: Any, cameras: Any, references: torch.Tensor, views: list[int]) -> list[float]:
    """The mean absolute difference of the images, for each mesh; with one backward pass."""
    total = 0.0
    for view in views:
        total = total + (renderer(meshes, cameras[[view]]) - references[view]).abs().mean(dim=(1, 2, 3))
    losses = total / len(views)
    losses.sum().backward()
    return losses.tolist()
