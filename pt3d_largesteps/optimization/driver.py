"""The driver: minimises a loss of meshes from coarse to fine, with steps relative to the edge lengths.

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

    Each mesh of the batch has its own step size. With one loss per mesh (N,) the meshes do not affect each other, except that
    ``config.patience`` looks at their mean loss.

    Args:
        start: ``Meshes``, any batch; their textures are kept as far as :func:`~pt3d_largesteps.remesh` can.
        loss: called with the meshes or, if it has an attribute ``num_views``, with the meshes and a list of views, like
            :class:`~pt3d_largesteps.renderers.ImageLoss`. Returns one number, or (N,), one for each mesh.
        config: default: ``OptimizationConfig()``.
        held_out: a loss of held-out data, called with all its views. It is recorded in the history
            and decides when to stop (``config.patience``).
        pinned: pinned vertices, as for :class:`~pt3d_largesteps.LargeSteps`.
        parameterize: makes the module and its optimiser; default: :func:`large_steps`.
        callbacks: called after each step with the :class:`Optimization`; its ``stop()`` ends the run.
        checkpoint: a file, written every ``checkpoint_every`` steps and at the end. If it exists, the run resumes; the result
            is bit-identical to that of an uninterrupted run if losses draw random numbers only from torch.
        checkpoint_every: steps.
        checkpoint_label: identifies the run further, such as the name of the target. A checkpoint of another start, config,
            number of views or label is refused.

    Raises:
        ImportError: a package that the config needs is not installed.
        TypeError, ValueError: a loss that is not a tensor of one or N numbers, or is NaN or infinite (with step and mesh); a
            checkpoint of another run; arguments out of range.

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
