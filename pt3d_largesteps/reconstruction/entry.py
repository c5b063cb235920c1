"""The reconstruction as one function of meshes or of images, for ``torch.hub``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from pytorch3d.structures import Meshes
from torch import Tensor

from pt3d_largesteps.optimization import Optimization
from pt3d_largesteps.reconstruction.loading import into_unit_ball
from pt3d_largesteps.reconstruction.optimization import Run, reconstruct, reconstruct_images
from pt3d_largesteps.reconstruction.settings import METHODS, STARTS, Settings


def reconstruction(**settings: Any) -> Callable[..., Run]:
    """A function run(target, cameras=None, on_step=None) with these ``Settings``.

    Its target is ``Meshes`` of one mesh, which is scaled into the unit ball and rendered from all around; or images (views, H,
    W, C), as for :func:`reconstruct_images`, together with their cameras.

    Raises:
        TypeError, ValueError: an unknown setting, or a value that it does not accept.
    """
    known = [field.name for field in fields(Settings) if field.name != "device"]  # that is where the target lies
    for name in settings:
        if name not in known:
            raise TypeError(f"settings: expected some of {known}, got {name!r}")
    checked = Settings(**settings)
    for name, choices in (("method", METHODS), ("start", STARTS)):
        if getattr(checked, name) not in choices:
            raise ValueError(f"{name}: expected one of {list(choices)}, got {getattr(checked, name)!r}")

    def run(target: Meshes | Tensor, cameras: Any = None, on_step: Callable[[Optimization], None] = lambda run: None) -> Run:
        if isinstance(target, Tensor):
            if cameras is None:
                raise TypeError("cameras: expected the cameras of the images, got None")
            return reconstruct_images(target, cameras, checked, on_step)
        if not isinstance(target, Meshes) or len(target) != 1:
            got = f"{len(target)} meshes" if isinstance(target, Meshes) else type(target).__name__
            raise TypeError(f"target: expected Meshes of one mesh, or images and their cameras, got {got}")
        if cameras is not None:
            raise TypeError("cameras: expected None with meshes, which are rendered from all around")
        return reconstruct(into_unit_ball(target), replace(checked, device=str(target.device)), on_step)

    return run
