"""The descent of a field from grey: which parameter, which optimiser, and how near it comes at every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pt3d_largesteps import LargeStepsGrid, UniformAdam
from pt3d_largesteps.metrics import peak_signal_to_noise_ratio

GREY = 0.5
Loss = Callable[[Tensor], Tensor]  # of a field, (1, C, ...)


@dataclass(frozen=True)
class Recipe:
    """What is optimised, and how.

    Attributes:
        optimizer: "Adam" or "UniformAdam".
        lr: its step size.
        lambda_: of large steps; None for the texels themselves.
        boundary: of :class:`~pt3d_largesteps.LargeStepsGrid`.
    """

    optimizer: str
    lr: float
    lambda_: float | None = None
    boundary: str | tuple[str, ...] = "natural"

    @property
    def method(self) -> str:
        """In pictures and tables."""
        if self.lambda_ is None:
            return f"{self.optimizer}, no solve"
        boundary = "" if self.boundary == "natural" else ", periodic"
        return f"large steps, lambda {self.lambda_:g}{boundary}"

    def begin(self, start: Tensor) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The module that returns the field, and the optimiser of its parameter."""
        large = self.lambda_ is not None
        module = LargeStepsGrid(start, self.lambda_, boundary=self.boundary) if large else Values(start)
        optimizer = {"Adam": torch.optim.Adam, "UniformAdam": UniformAdam}[self.optimizer]
        return module, optimizer(module.parameters(), lr=self.lr)


class Values(nn.Module):
    """The values themselves as the parameter, as :class:`~pt3d_largesteps.LargeStepsGrid` has u."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(start.clone())

    def forward(self) -> Tensor:
        return self.values


@dataclass
class Descent:
    """What a run leaves.

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
    on_step: Callable[[], None] = lambda: None,
) -> Descent:
    """So many steps, from grey.

    Args:
        target: (1, C, ...) in [0, 1], which only the PSNR sees.
        recipe: what is optimised.
        steps: how often.
        loss: of the field; what it draws at random is drawn anew at each call.
        record_at: steps whose fields are kept.
        on_step: called after each.

    Raises:
        ValueError: the field is not finite any more; the step size is too large.
    """
    module, optimizer = recipe.begin(torch.full_like(target, GREY))
    descent = Descent(recipe)
    for step in range(steps + 1):
        begin = _now(target)
        values = module()
        descent.seconds += _now(target) - begin
        shown = values.detach().clamp(0, 1)
        descent.decibels.append(float(peak_signal_to_noise_ratio(shown, target)))
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
    """The mean squared difference at a random fraction of the texels, others at each call; of all channels.

    Each recipe gets its own, with the same seed, so that all see the same texels.
    """
    generator, flat = torch.Generator().manual_seed(seed), target.flatten(2)

    def loss(values: Tensor) -> Tensor:
        index = random_index(flat.shape[2], fraction, generator).to(target.device)
        return (values.flatten(2).index_select(2, index) - flat.index_select(2, index)).square().mean()

    return loss


def random_index(count: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Each of so many numbers with the probability ``fraction``, at least one."""
    index = (torch.rand(count, generator=generator) < fraction).nonzero().squeeze(1)
    return index if len(index) else torch.randint(count, (1,), generator=generator)


def decibels_on_sight(start: float, fraction: float, steps: int) -> list[float]:
    """The PSNR, at each step, if each texel were right as soon as it is seen for the first time.

    Nothing that treats the texels one by one can be expected to be faster: those not seen yet are as they were.
    """
    gain = -10 * math.log10(1 - fraction) if fraction < 1 else math.inf
    return [start, *(start + gain * step for step in range(1, steps + 1))]


def _now(like: Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter()
