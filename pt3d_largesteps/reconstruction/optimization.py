"""Reconstructs shapes from pictures: moves a start until its pictures match those of the target, and records the run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere
from torch import Tensor

from pt3d_largesteps.optimization import History, Optimization
from pt3d_largesteps.optimization.checkpoint import digest
from pt3d_largesteps.reconstruction.methods import RegularizedLoss, parameterization
from pt3d_largesteps.reconstruction.settings import Settings
from pt3d_largesteps.reconstruction.views import fibonacci_cameras
from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight
from pt3d_largesteps.surfaces.hull import visual_hull

START_RADIUS = 0.6  # of a sphere in the unit ball of the target
CHANNEL_WEIGHTS = (1.0, 1.0, 1.0, 3.0)  # the silhouette counts as much as the three colours
HULL_VERTS = 5000
PLAIN_VERTS = 2562  # without remeshing


@dataclass
class Run:
    """The result of a run.

    Attributes:
        start, meshes: the first shape and the last one.
        timed_steps: the number of steps that the seconds cover; fewer than all in a resumed run.
        history: of the driver.
        loss: of the last shape, over all given views.
        frames: (step, meshes) at intervals, for the report.
        seconds: spent in the solve, in rendering, in the optimiser, in remeshing, in the start.
        repaired: number of self-intersecting faces at the end, before the repair.
        interrupted: whether Ctrl-C ended it.
    """

    start: Meshes
    meshes: Meshes
    history: History
    loss: float
    timed_steps: int = 0
    frames: list[tuple[int, Meshes]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    repaired: int = 0
    interrupted: bool = False


def reconstruct(
    target: Meshes,
    settings: Settings,
    on_step: Callable[[Optimization], None] = lambda run: None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
) -> Run:
    """Minimises the mean absolute difference of shaded images, four views at a time.

    Ctrl-C ends it early and returns the run so far. With a checkpoint a killed run resumes.
    """
    return _reconstruct([target], settings, on_step, checkpoint, checkpoint_every)[0]


def reconstruct_images(
    images: Tensor, cameras: Any, settings: Settings, on_step: Callable[[Optimization], None] = lambda run: None
) -> Run:
    """As :func:`reconstruct`, from given images (views, H, W, C) on the device of the cameras.

    C is 4, colours in the default light and alpha, as ``PyTorch3DRenderer`` makes them; or 1, silhouettes alone. Number and
    size of the images are theirs, not the settings'.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[-1] not in (1, 4):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images: expected a tensor (views, H, W, 4) or (views, H, W, 1), got {got}")
    begin = time.perf_counter()
    light = SphericalHarmonicsLight.default() if images.shape[-1] == 4 else None
    renderer = PyTorch3DRenderer((images.shape[1], images.shape[2]), light)
    image_loss = ImageLoss(renderer, cameras, images, None if light is None else CHANNEL_WEIGHTS)
    return _optimize(image_loss, 1, replace(settings, device=str(images.device)), on_step, begin=begin)[0]


def reconstruct_together(
    targets: Sequence[Meshes], settings: Settings, on_step: Callable[[Optimization], None] = lambda run: None
) -> list[Run]:
    """A run for each target, all of them steps of one optimisation on a ragged batch.

    They share only the order of the views: each has its own loss, its own step size and, after the first remeshing, its own
    topology. Ctrl-C ends it without a result.
    """
    runs = _reconstruct(targets, settings, on_step)
    if any(run.interrupted for run in runs):
        raise KeyboardInterrupt
    return runs


def _reconstruct(
    targets: Sequence[Meshes],
    settings: Settings,
    on_step: Callable[[Optimization], None],
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
) -> list[Run]:
    begin = time.perf_counter()
    cameras = fibonacci_cameras(settings.views, settings.device)
    renderer = PyTorch3DRenderer(settings.resolution, SphericalHarmonicsLight.default())
    image_loss = ImageLoss.of_meshes(join_meshes_as_batch(list(targets)), renderer, cameras, CHANNEL_WEIGHTS)
    return _optimize(image_loss, len(targets), settings, on_step, checkpoint, checkpoint_every, begin=begin)


def _optimize(
    image_loss: ImageLoss,
    num_targets: int,
    settings: Settings,
    on_step: Callable[[Optimization], None],
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    *,
    begin: float,
) -> list[Run]:
    """A run for each target; ``begin`` is the start time by ``time.perf_counter``."""
    start = start_meshes(image_loss, settings)
    seconds = dict.fromkeys(("solve", "render", "optimizer", "remesh"), 0.0)
    seconds["start"] = time.perf_counter() - begin
    frames, interrupted, repaired = [(0, start)], False, None
    frame_every = max(settings.steps // 40, 1) if num_targets == 1 else settings.steps + 1  # no pictures of many

    def keep_frame(run: Optimization) -> None:
        if run.step % frame_every == 0 or run.step == settings.steps:
            frames.append((run.step, run.meshes()))

    label = ""
    if checkpoint is not None:  # a checkpoint of other pictures or of another method must not be resumed
        label = f"{settings.method} {settings.reg} {settings.solver} {digest([image_loss.images])}"
    loss = RegularizedLoss(image_loss, settings.reg) if settings.method == "laplacian" else image_loss
    optimization = Optimization(
        start,
        loss,
        settings.config(),
        parameterize=parameterization(settings.method, settings.solver, seconds),
        callbacks=[keep_frame, on_step],
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        checkpoint_label=label,
    )
    steps_before = optimization.step
    try:
        result = optimization.run()
        meshes, repaired = result.meshes, result.repaired
    except KeyboardInterrupt:
        meshes, interrupted = optimization.meshes(), True
    history = optimization.history
    seconds["remesh"] = history.remesh_seconds
    seconds["render"] = max(sum(history.seconds[steps_before:]) - seconds["solve"] - seconds["optimizer"], 0.0)
    with torch.no_grad():
        losses = image_loss(meshes, range(image_loss.num_views)).tolist()
    return [
        Run(
            start[index],
            meshes[index],
            history if num_targets == 1 else _history_of_one(history, index),
            losses[index],
            optimization.step - steps_before,
            frames,
            {part: value / num_targets for part, value in seconds.items()},
            0 if repaired is None else int(repaired[index]),
            interrupted,
        )
        for index in range(num_targets)
    ]


def start_meshes(image_loss: ImageLoss, settings: Settings) -> Meshes:
    """For each target a sphere (coarse if it will be refined, else of 2,562 vertices) or the hull of its silhouettes."""
    silhouettes = image_loss.images[..., -1] if image_loss.images.dim() == 5 else image_loss.images[:, None, ..., -1]
    num_verts = HULL_VERTS if settings.remesh else PLAIN_VERTS
    sphere = ico_sphere(3 if settings.remesh and settings.start == "sphere" else 4, device=settings.device)
    sphere = sphere.scale_verts(START_RADIUS)
    starts = []
    for masks in silhouettes.unbind(1):
        mesh = sphere
        if settings.start == "hull":
            try:
                mesh = visual_hull(masks, image_loss.cameras, num_verts=num_verts)
            except ValueError as error:
                warnings.warn(f"the start is a sphere, because making the hull failed: {error}", stacklevel=2)
        starts.append(mesh)
    return join_meshes_as_batch(starts)


def _history_of_one(history: History, index: int) -> History:
    return replace(history, losses=[[losses[index]] for losses in history.losses], lrs=[[lrs[index]] for lrs in history.lrs])
