"""The driver: a loss of meshes is minimised from coarse to fine, in steps relative to the triangles, up to an end.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 4.2 (remeshing, and
the step size that follows the edges).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pt3d_largesteps.optimization.config import OptimizationConfig
from pt3d_largesteps.optimization.loop import Optimization, OptimizationResult
from pt3d_largesteps.optimization.losses import Loss
from pt3d_largesteps.optimization.parameterizations import Parameterization


def optimize(
    start: Any,
    loss: Loss,
    config: OptimizationConfig | None = None,
    *,
    held_out: Loss | None = None,
    pinned: Tensor | Sequence[Tensor] | None = None,
    parameterize: Parameterization | None = None,
    callbacks: Sequence[Callable[[Optimization], Any]] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    checkpoint_label: str = "",
) -> OptimizationResult:
    """Minimises a loss of a batch of meshes, coarse to fine.

    Each mesh of the batch has its own step size; with a loss for each of them (N,) none feels the others, but for
    ``config.patience``, which looks at their mean.

    Args:
        start: ``Meshes``, any batch; their textures are carried along as far as :func:`~pt3d_largesteps.remesh` can.
        loss: called with the meshes; or, if it has a number ``num_views``, with the meshes and a list of views, as
            :class:`~pt3d_largesteps.renderers.ImageLoss`. Returns one number, or (N,), one for each mesh.
        config: the defaults unless given.
        held_out: a loss like the other, of what the optimisation does not see; with all its views. It is looked at for the
            history, and decides on the end (``config.patience``).
        pinned: vertices that stay where they are, as for :class:`~pt3d_largesteps.LargeSteps`.
        parameterize: makes what is optimised; :func:`large_steps` unless given.
        callbacks: called after each step with the :class:`Optimization`, whose ``stop()`` ends it.
        checkpoint: a file. Where it is there already the run that wrote it is gone on with, to the same result to the bit; it
            is written every ``checkpoint_every`` steps and at the end. Losses may draw from torch's random numbers, no others.
        checkpoint_every: steps.
        checkpoint_label: what else makes the run what it is, such as the name of the target; a checkpoint of another start,
            config, number of views or label is refused.

    Raises:
        ImportError: what the config needs is not installed.
        TypeError, ValueError: a loss that is no tensor of one or N numbers, or is NaN or infinite (with step and mesh);
            a checkpoint of another run; arguments out of range.

    Example:
        >>> loss = ImageLoss(renderer, cameras, images)
        >>> result = optimize(ico_sphere(3), loss, callbacks=[lambda run: print(run.step, run.history.losses[-1])])
        >>> result.meshes, result.history.plot("loss.png")
    """
    optimization = Optimization(
        start,
        loss,
        config,
        held_out=held_out,
        pinned=pinned,
        parameterize=parameterize,
        callbacks=callbacks,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        checkpoint_label=checkpoint_label,
    )
    return optimization.run()
