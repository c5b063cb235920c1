"""The descent of a field from grey: its parameter, its optimiser, and its distance to the target at every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps import LargeStepsGrid, LargeStepsTexture, UniformAdam
from pt3d_largesteps.metrics import peak_signal_to_noise_ratio

GREY = 0.5
STAGES = 16  # of a falling lambda
Loss = Callable[[Tensor], Tensor]  # of a field, (1, C, ...)


@dataclass(frozen=True)
class Recipe:
    """The parameter and the optimiser of a run.

    Attributes:
        optimizer: "Adam" or "UniformAdam".
        lr: its step size.
        lambda_: of large steps; None for the texels themselves.
        last_lr: the final step size of a geometric decay; None: constant.
        last_lambda: the final lambda, which decays in the same way; None: constant.
        fall: duration of both decays, as a share of all steps; afterwards both are constant.
        surface: meshes with uv maps, of which the field is that of the first; large steps then go over the surface.
    """

    optimizer: str
    lr: float
    lambda_: float | None = None
    last_lr: float | None = None
    last_lambda: float | None = None
    fall: float = 1.0
    surface: Any = None

    @property
    def method(self) -> str:
        """In pictures and tables."""
        falling_step = "" if self.last_lr is None else ", falling step"
        if self.lambda_ is None:
            return f"{self.optimizer}, no solve{falling_step}"
        across = "" if self.surface is None else ", across seams"
        if self.last_lambda is not None:
            return f"large steps, falling lambda{across}"
        return f"large steps, lambda {self.lambda_:g}{across}{falling_step}"

    def begin(self, start: Tensor) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The module that returns the field, and the optimiser of its parameter."""
        if self.lambda_ is None:
            module = Values(start)
        elif self.surface is None:
            module = LargeStepsGrid(start, self.lambda_)
        else:
            module = OnSurface(self.surface, start, self.lambda_)
        optimizer = {"Adam": torch.optim.Adam, "UniformAdam": UniformAdam}[self.optimizer]
        return module, optimizer(module.parameters(), lr=self.lr)

    def adjust(self, module: nn.Module, optimizer: torch.optim.Optimizer, share: float) -> None:
        """Lambda and the step size after this share of all steps; the field stays."""
        done = min(1.0, share / self.fall)
        if self.last_lr is not None:
            optimizer.param_groups[0]["lr"] = self.lr * (self.last_lr / self.lr) ** done
        if self.last_lambda is not None:
            # In stages, since each of them costs a solve.
            stage = math.floor(done * STAGES) / STAGES
            lambda_ = self.lambda_ * (self.last_lambda / self.lambda_) ** stage
            if lambda_ != module.lambda_:
                module.set_lambda(lambda_)


class OnSurface(nn.Module):
    """The map of one mesh as a field (1, C, H, W), by :class:`~pt3d_largesteps.LargeStepsTexture`."""

    def __init__(self, surface: Any, start: Tensor, lambda_: float) -> None:
        super().__init__()
        self.texture = LargeStepsTexture(surface, lambda_)
        self.texture.set_maps(start.permute(0, 2, 3, 1))
        self.set_lambda = self.texture.set_lambda

    @property
    def lambda_(self) -> float:
        return self.texture.lambda_

    def forward(self) -> Tensor:
        return self.texture.maps().permute(0, 3, 1, 2)


class Values(nn.Module):
    """The values themselves as the parameter, as :class:`~pt3d_largesteps.LargeStepsGrid` has u."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(start.clone())

    def forward(self) -> Tensor:
        return self.values


@dataclass
class Descent:
    """The result of a run.

    Attributes:
        recipe: that it followed.
        decibels: PSNR of the whole field, cut to [0, 1], before each step and after the last one.
        seconds: of all steps together, without the PSNR.
        fields: on the CPU, in [0, 1], by the number of steps done; always with the last.
    """

    recipe: Recipe
    decibels: list[float] = field(default_factory=list)
    seconds: float = 0.0
    fields: dict[int, Tensor] = field(default_factory=dict)

    @property
    def result(self) -> Tensor:
        return self.fields[max(self.fields)]

    @property
    def score(self) -> float:
        """The mean PSNR of all steps, by which one run of several step sizes is chosen: early and late gains count."""
        return sum(self.decibels) / len(self.decibels)

    def steps_to(self, level: float) -> int | None:
        """Until a PSNR is reached for the first time; None if it is not."""
        return next((step for step, value in enumerate(self.decibels) if value >= level), None)


def descend(
    target: Tensor,
    recipe: Recipe,
    steps: int,
    loss: Loss,
    record_at: Sequence[int] = (),
    where: Tensor | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Descent:
    """Takes the given number of steps, from grey.

    Args:
        target: (1, C, ...) in [0, 1], which only the PSNR sees.
        recipe: what is optimised.
        steps: how often.
        loss: of the field; it draws new random numbers at each call.
        record_at: steps whose fields are kept.
        where: bool, of the shape of the field without channels, the texels that the PSNR is of; None for all.
        on_step: called after each.

    Raises:
        ValueError: the field is not finite any more; the step size is too large.
    """
    module, optimizer = recipe.begin(torch.full_like(target, GREY))
    descent = Descent(recipe)
    for step in range(steps + 1):
        begin = _now(target)
        recipe.adjust(module, optimizer, step / steps)
        values = module()
        descent.seconds += _now(target) - begin
        shown = values.detach().clamp(0, 1)
        pair = (shown, target) if where is None else (shown[..., where], target[..., where])
        descent.decibels.append(float(peak_signal_to_noise_ratio(*pair)))
        if step in record_at or step == steps:
            descent.fields[step] = shown.cpu()
        if step == steps:
            break
        begin = _now(target)
        optimizer.zero_grad()
        loss(values).backward()
        optimizer.step()
        descent.seconds += _now(target) - begin
        on_step()
    return descent


def random_values(target: Tensor, fraction: float, seed: int) -> Loss:
    """The mean squared difference of all channels at a random fraction of the texels, redrawn at each call.

    Each recipe gets its own, with the same seed, so that all see the same texels.
    """
    generator, flat = torch.Generator().manual_seed(seed), target.flatten(2)

    def loss(values: Tensor) -> Tensor:
        index = random_index(flat.shape[2], fraction, generator).to(target.device)
        return (values.flatten(2).index_select(2, index) - flat.index_select(2, index)).square().mean()

    return loss


def random_index(count: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Draws each index with the probability ``fraction``, at least one."""
    index = (torch.rand(count, generator=generator) < fraction).nonzero().squeeze(1)
    return index if len(index) else torch.randint(count, (1,), generator=generator)


def decibels_on_sight(start: float, fraction: float, steps: int) -> list[float]:
    """The PSNR, at each step, if each texel were right as soon as it is seen for the first time.

    No method that treats the texels one by one can be expected to be faster: texels not seen yet keep their values.
    """
    gain = -10 * math.log10(1 - fraction) if fraction < 1 else math.inf
    return [start, *(start + gain * step for step in range(1, steps + 1))]


def _now(like: Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter()
