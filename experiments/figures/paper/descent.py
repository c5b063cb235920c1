"""The paper's pipeline: the parameter, the optimiser, and the descent itself.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021. A global translation is
    optimised together with u (or x); every step uses all views. After each remeshing a new parameter is made from the
    positions, the optimiser restarts, and its step size is multiplied by 0.8.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from torch import Tensor, nn

from paper.scene import SceneSpec, scene
from pt3d_largesteps import LargeSteps, UniformAdam, combinatorial_laplacian, remesh

REMESHED_STEP = 0.8

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "gradient descent": torch.optim.SGD,
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9),
    "Nesterov": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True),
    "RMSprop": torch.optim.RMSprop,
    "Adam": torch.optim.Adam,
    "UniformAdam": UniformAdam,
}


@dataclass(frozen=True)
class Recipe:
    """One line of an experiment.

    Attributes:
        label: in pictures and tables.
        steps: of the optimiser.
        lr: its step size; with ``alpha`` in the units of u = ((1 - alpha) I + alpha L) x.
        lambda_, alpha: of the parameterisation; with neither the vertices themselves are optimised.
        optimizer: a name of ``OPTIMIZERS``; UniformAdam on u and Adam on x unless given.
        regularizer: "laplacian", mean(x . L x), or "bilaplacian", mean((L x)^2).
        weight: of the regulariser.
        remesh_at: steps before which the mesh is remeshed to half the mean edge length.
        translation: whether a global translation is optimised too.
    """

    label: str
    steps: int
    lr: float
    lambda_: float | None = None
    alpha: float | None = None
    optimizer: str | None = None
    regularizer: str = "bilaplacian"
    weight: float = 0.0
    remesh_at: tuple[int, ...] = ()
    translation: bool = True

    @property
    def large_steps(self) -> bool:
        return self.lambda_ is not None or self.alpha is not None

    @property
    def optimizer_name(self) -> str:
        return self.optimizer or ("UniformAdam" if self.large_steps else "Adam")


@dataclass
class Descent:
    """The result of a run.

    Attributes:
        recipe: that it followed.
        losses: of the images, before each step and after the last one.
        seconds: since the beginning, at the same moments, without the time for recording; on a CPU processor time, which other
            processes do not disturb.
        shapes: ``Meshes`` on the CPU, by the number of steps done.
        failed: why it ended early, if it did.
    """

    recipe: Recipe
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    shapes: dict[int, Meshes] = field(default_factory=dict)
    failed: str | None = None

    @property
    def result(self) -> Meshes:
        return self.shapes[max(self.shapes)]

    def step_at(self, seconds: float) -> int:
        """The last recorded step that was done by then."""
        return max(step for step in self.shapes if step == 0 or self.seconds[step] <= seconds)

    def last_step(self, at_most: int | None = None) -> int:
        """The last recorded step, up to a given one; a run that ended early has none after that."""
        return max(step for step in self.shapes if at_most is None or step <= at_most)


class _Positions(nn.Module):
    """The vertices themselves as the parameter, as :class:`LargeSteps` has u."""

    def __init__(self, meshes: Meshes) -> None:
        super().__init__()
        self._meshes = meshes
        self.verts = nn.Parameter(meshes.verts_packed().clone())

    def forward(self) -> Meshes:
        return self._meshes.update_padded(self.verts[None])


def descend(
    spec: SceneSpec,
    recipe: Recipe,
    start: Meshes,
    record_at: Sequence[int] = (),
    on_step: Callable[[int], None] = lambda step: None,
) -> Descent:
    """Follows a recipe; the shapes at the beginning, at ``record_at``, before each remeshing and at the end are kept."""
    the_scene, descent, clock = scene(spec), Descent(recipe), clock_of(spec.device)
    start = start.to(spec.device)
    translation = torch.zeros(3, device=spec.device, requires_grad=recipe.translation)
    LargeSteps(ico_sphere(0, spec.device), 1.0)()  # one-time set-up of the process does not count in this run's seconds
    begin, pauses, lr = clock(), 0.0, recipe.lr
    module, optimizer = _begin(start, recipe, translation, lr)
    laplacian = _SymmetricCSR.of(start) if recipe.weight else None
    for step in range(recipe.steps + 1):
        try:
            meshes = module()
            moved = meshes.offset_verts(translation)
            if not moved.verts_packed().isfinite().all():
                raise ValueError("positions: expected finite numbers, got NaN or infinity")
            pause = clock()
            if step in record_at or step in recipe.remesh_at or step in (0, recipe.steps):
                descent.shapes[step] = moved.detach().cpu()
            on_step(step)
            pauses += clock() - pause
            if step in recipe.remesh_at:
                lr *= REMESHED_STEP
                remeshed = remesh(meshes.detach(), edge_scale=0.5).meshes
                module, optimizer = _begin(remeshed, recipe, translation, lr)
                laplacian = _SymmetricCSR.of(remeshed) if recipe.weight else None
                meshes = module()
                moved = meshes.offset_verts(translation)
            image_loss = the_scene.loss(moved)
            descent.losses.append(float(image_loss.detach()))
            descent.seconds.append(clock() - begin - pauses)
            if step == recipe.steps:
                break
            optimizer.zero_grad()
            (image_loss + recipe.weight * _energy(recipe, laplacian, meshes)).backward()
            optimizer.step()
        except ValueError as error:  # numbers that are not finite: a step size too large for an optimiser is a result too
            descent.failed = f"step {step}: {error}"
            break
        last = moved.detach()
    if descent.failed and descent.losses:
        descent.shapes[len(descent.losses) - 1] = last.cpu()
    return descent


def clock_of(device: str) -> Callable[[], float]:
    """Processor time if the CPU does the work; else wall-clock time after synchronising with the device."""
    if torch.device(device).type == "cpu":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall


def _begin(meshes: Meshes, recipe: Recipe, translation: Tensor, lr: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The parameter and its optimiser. A step in the form with lambda is 1 + lambda times that in the form with alpha, which is
    the one that the translation takes."""
    module = LargeSteps(meshes, recipe.lambda_, alpha=recipe.alpha) if recipe.large_steps else _Positions(meshes)
    groups = [{"params": list(module.parameters()), "lr": lr}]
    if recipe.translation:
        groups.append({"params": [translation], "lr": lr / (1 + (recipe.lambda_ or 0.0))})
    return module, OPTIMIZERS[recipe.optimizer_name](groups, lr=lr)


class _SymmetricCSR(torch.autograd.Function):
    """Products with a symmetric matrix in CSR, several times as fast as torch's own for sparse tensors with gradients."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, verts: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix @ verts

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.matrix @ gradient

    @staticmethod
    def of(meshes: Meshes) -> Tensor:
        """The combinatorial Laplacian."""
        with warnings.catch_warnings():  # torch's CSR is "in beta state"
            warnings.simplefilter("ignore")
            return combinatorial_laplacian(meshes).to_sparse_csr()


def _energy(recipe: Recipe, laplacian: Tensor | None, meshes: Meshes) -> Tensor | float:
    if laplacian is None:
        return 0.0
    verts = meshes.verts_packed()
    product = _SymmetricCSR.apply(laplacian, verts)
    return product.square().mean() if recipe.regularizer == "bilaplacian" else (verts * product).mean()
