"""How far the images of meshes are from given ones: a loss with views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, describe


class ImageLoss:
    """The mean absolute difference between images of meshes and given ones, for each mesh.

    Args:
        renderer: called with meshes and cameras, as :class:`~pt3d_largesteps.renderers.PyTorch3DRenderer`.
        cameras: of all views, a PyTorch3D camera batch.
        images: (num_views, H, W, C), for every mesh of the batch, or (num_views, N, H, W, C), for each its own.

    Attributes:
        num_views: of the cameras.

    Raises:
        ValueError: images of a wrong shape, or NaN or infinite; in a call, no views, or another number of meshes.

    Example:
        >>> loss = ImageLoss(renderer, cameras, images)
        >>> loss(meshes, [0, 3])                    # (N,)
    """

    def __init__(self, renderer: Callable[[Any, Any], Tensor], cameras: Any, images: Tensor) -> None:
        if not isinstance(images, Tensor) or images.dim() not in (4, 5) or len(images) != len(cameras) or not len(cameras):
            raise ValueError(
                f"images: expected (num_views, H, W, C) or (num_views, N, H, W, C) for {len(cameras)} cameras,"
                f" got {describe(images)}"
            )
        check_finite("images", images)
        self.renderer, self.cameras, self.images, self.num_views = renderer, cameras, images, len(cameras)

    @classmethod
    @torch.no_grad()
    def of_meshes(cls, target: Any, renderer: Callable[[Any, Any], Tensor], cameras: Any) -> ImageLoss:
        """With the images of given meshes: of one, or one for each mesh that will be compared."""
        images = torch.stack([renderer(target, cameras[[view]]) for view in range(len(cameras))])
        return cls(renderer, cameras, images[:, 0] if len(target) == 1 else images)

    def __call__(self, meshes: Any, views: Sequence[int]) -> Tensor:
        """(N,), the mean over the views, pixels and channels."""
        views = list(views)
        if not views:
            raise ValueError("views: expected at least one, got none")
        if self.images.dim() == 5 and self.images.shape[1] != len(meshes):
            raise ValueError(f"meshes: expected {self.images.shape[1]}, as there are images of, got {len(meshes)}")
        if len(meshes) == 1:  # from several cameras at once
            images = self.images[views]
            images = images if images.dim() == 4 else images.squeeze(1)
            return (self.renderer(meshes, self.cameras[views]) - images).abs().mean().reshape(1)
        total = 0.0
        for view in views:
            images = self.renderer(meshes, self.cameras[[view]])
            total = total + (images - self.images[view]).abs().mean(dim=(1, 2, 3))
        return total / len(views)
