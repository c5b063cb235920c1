"""Shared by the scripts of the experiments: options, runs on all cores, and output."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from matplotlib.figure import Figure
from pytorch3d.renderer import FoVPerspectiveCameras
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from tqdm import tqdm

from paper.descent import Descent, Recipe, descend
from paper.output import write
from paper.scene import RENDERERS, SceneSpec, make_renderer
from paper.targets import label, load, portrait_camera
from pt3d_largesteps.commands.options import device, positive_int, refuse
from pt3d_largesteps.reconstruction.loading import TargetError
from pt3d_largesteps.reconstruction.optimization import START_RADIUS

PAPER_LEVEL = 5  # of the spheres of 10,242 vertices that most of the paper's experiments start from


@dataclass(frozen=True)
class Scale:
    """The size of an experiment.

    Attributes:
        views, resolution: of the pictures.
        level: of subdivision of the sphere that it starts from.
        steps: of the method, of which those of other methods may be multiples.
    """

    views: int
    resolution: int
    level: int
    steps: int


class Task(Protocol):
    """A run with its number of steps; its argument is called after each step."""

    @property
    def steps(self) -> int: ...

    def __call__(self, on_step: Callable[[int], None]) -> Any: ...


@dataclass(frozen=True)
class DescentTask:
    """One descent: see :func:`~experiments.descent.descend`."""

    spec: SceneSpec
    recipe: Recipe
    start: Meshes
    record_at: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        return self.recipe.steps + 1

    def __call__(self, on_step: Callable[[int], None]) -> Descent:
        return descend(self.spec, self.recipe, self.start, self.record_at, on_step)


@dataclass(frozen=True)
class Setup:
    """An experiment as requested on its command line.

    Attributes:
        name: of the files that it writes.
        scale: its size.
        paper: whether that is the paper's own, unless changed.
        target: of the pictures, or None for the experiment's own.
        spec: of its scene.
        out: output folder.
        jobs: runs at a time on a CPU, each on one thread.
    """

    name: str
    scale: Scale
    paper: bool
    target: str
    spec: SceneSpec
    out: Path
    jobs: int

    def sphere(self, radius: float = START_RADIUS) -> Meshes:
        """What most experiments start from."""
        return ico_sphere(self.scale.level).scale_verts(radius)

    @property
    def cameras(self) -> list[FoVPerspectiveCameras]:
        """That the figures look through."""
        return [portrait_camera(self.target)]

    def alpha(self, alpha: float) -> float:
        """The alpha that reaches as far on this experiment's sphere as the paper's on spheres of 10,000 vertices.

        I + lambda L smooths over about sqrt(lambda) edges, so that lambda goes with the number of vertices.
        """
        lambda_ = alpha / (1 - alpha) * 4.0 ** (self.scale.level - PAPER_LEVEL)
        return lambda_ / (1 + lambda_)

    def descend(self, recipes: Sequence[Recipe], record_at: Sequence[int] = (), start: Meshes | None = None) -> list[Descent]:
        """A descent for each recipe, in this scene."""
        start = self.sphere() if start is None else start
        return self.run([DescentTask(self.spec, recipe, start, tuple(record_at)) for recipe in recipes])

    def run(self, tasks: Sequence[Task]) -> list[Any]:
        """On a CPU several runs at a time, each in a process with one thread; on CUDA, or with one job, one after the other in
        this process."""
        descents = self._run(tasks)
        for descent in descents:
            if descent.failed:
                print(f"{descent.recipe.label}, lr {descent.recipe.lr:g}: ended early, at {descent.failed}")
        return descents

    def _run(self, tasks: Sequence[Task]) -> list[Any]:
        total = sum(task.steps for task in tasks)
        every = 0.1 if sys.stderr.isatty() else 10.0
        with tqdm(total=total, unit="step", mininterval=every, desc=self.name) as progress:
            if self.jobs == 1 or torch.device(self.spec.device).type == "cuda":
                with _one_thread():
                    return [task(lambda _: progress.update()) for task in tasks]
            # Spawned, not forked: a fork of a process with used threads may hang.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(self.jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                futures = [pool.submit(_work, pickle.dumps(task)) for task in tasks]
                for future, task in zip(futures, tasks, strict=True):
                    future.add_done_callback(lambda _, steps=task.steps: progress.update(steps))
                return [pickle.loads(future.result()) for future in futures]

    def write(self, figure: Figure, rows: Sequence[dict[str, Any]]) -> None:
        """The picture as PNG and PDF, and the numbers as CSV and on the screen."""
        device = "CPU" if torch.device(self.spec.device).type == "cpu" else torch.cuda.get_device_name(self.spec.device)
        about = f"{label(self.target)}, {self.scale}, {self.spec.renderer} on {device}, torch {torch.__version__}"
        write(self.out, self.name, figure, rows, about)


def _work(task: bytes) -> bytes:
    """A run in another process. It exchanges plain bytes, because each tensor would be an open file until it is read."""
    return pickle.dumps(pickle.loads(task)(lambda step: None))


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, as in the processes: processor time is measured, and it includes waiting threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def main(
    experiment: Callable[[Setup], None],
    description: str,
    scales: dict[str, Scale],
    arguments: Sequence[str] | None = None,
    *,
    target: str,
    silhouettes: bool = False,
    loss: str = "l1",
) -> int:
    """Reads the command line and runs the experiment; returns the exit status: 0, 2 for wrong arguments, 130 after Ctrl-C.

    Args:
        experiment: what is run.
        description: the docstring of the script.
        scales: "small" and "paper".
        arguments: those of the command line unless given.
        target: unless the command line names one.
        silhouettes, loss: of the scene.
    """
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("--scale", choices=list(scales), default="small", help="small, or the paper's own (default: small)")
    parser.add_argument("--target", default=target, help="mesh file, or a name (default: %(default)s)")
    for name, text in (
        ("views", "of the target"),
        ("resolution", "pixels"),
        ("level", "of the sphere"),
        ("steps", "of the method"),
    ):
        parser.add_argument(f"--{name}", type=positive_int, help=f"{text} (default: that of the scale)")
    parser.add_argument("--renderer", choices=RENDERERS, default=RENDERERS[0], help="default: %(default)s")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/figures"), help="output folder (default: %(default)s)")
    parser.add_argument("--jobs", type=positive_int, default=os.cpu_count() or 1, help="runs at a time on a CPU")
    options = parser.parse_args(arguments)
    changes = {name: value for name in ("views", "resolution", "level", "steps") if (value := getattr(options, name))}
    scale = replace(scales[options.scale], **changes)
    spec = SceneSpec(options.target, scale.views, scale.resolution, silhouettes, loss, options.renderer, options.device)
    name = Path(experiment.__code__.co_filename).stem
    try:
        make_renderer(spec)
    except (ImportError, RuntimeError) as error:  # no nvdiffrast, or no device for it
        return refuse(str(error))
    try:
        load(options.target)
        print(f"{name}: {label(options.target)}, {scale}, {options.renderer} on {options.device}")
        experiment(Setup(name, scale, options.scale == "paper", options.target, spec, options.out, options.jobs))
    except TargetError as error:
        return refuse(str(error))
    except OSError as error:
        return refuse(f"cannot read or write {error.filename} ({error.strerror})")
    except KeyboardInterrupt:
        return refuse("interrupted", status=130)
    return 0
