"""A loss with views: the difference between images of meshes and given images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, check_number, describe


class ImageLoss:
    """The mean absolute difference between images of meshes and given ones, for each mesh.

    Args:
        renderer: called with meshes and cameras, like :class:`~pt3d_largesteps.renderers.PyTorch3DRenderer`.
        cameras: of all views, a PyTorch3D camera batch.
        images: (num_views, H, W, C), the same for every mesh of the batch, or (num_views, N, H, W, C), one set per mesh.
        channel_weights: C numbers of at least 0; default: equal. A silhouette next to three colours has a quarter of the
            weight; (1, 1, 1, 3) gives it a half.

    Attributes:
        num_views: the number of cameras.

    Raises:
        TypeError, ValueError: images of a wrong shape, or NaN or infinite; weights out of range; in a call, no views, or
            another number of meshes.

    Example:
        >>> loss = ImageLoss(renderer, cameras, images)
        >>> loss(meshes, [0, 3])                    # (N,)
    """

    def __init__(
        self,
        renderer: Callable[[Any, Any], Tensor],
        cameras: Any,
        images: Tensor,
        channel_weights: Sequence[float] | None = None,
    ) -> None:
        if not isinstance(images, Tensor) or images.dim() not in (4, 5) or len(images) != len(cameras) or not len(cameras):
            raise ValueError(
                f"images: expected (num_views, H, W, C) or (num_views, N, H, W, C) for {len(cameras)} cameras,"
                f" got {describe(images)}"
            )
        check_float_dtype("images", images)
        check_finite("images", images)
        weights = [1.0] * images.shape[-1] if channel_weights is None else list(channel_weights)
        if len(weights) != images.shape[-1]:
            raise ValueError(f"channel_weights: expected {images.shape[-1]} numbers, got {len(weights)}")
        for weight in weights:
            check_number("channel_weights", weight, low=0.0)
        if not sum(weights):
            raise ValueError("channel_weights: expected at least one above 0, got none")
        self._weights = images.new_tensor(weights) * (len(weights) / sum(weights))
        self.renderer, self.cameras, self.images, self.num_views = renderer, cameras, images, len(cameras)

    @classmethod
    @torch.no_grad()
    def of_meshes(
        cls,
        target: Any,
        renderer: Callable[[Any, Any], Tensor],
        cameras: Any,
        channel_weights: Sequence[float] | None = None,
    ) -> ImageLoss:
        """A loss with the images of given meshes: one mesh, or one for each mesh that will be compared."""
        images = torch.stack([renderer(target, cameras[[view]]) for view in range(len(cameras))])
        return cls(renderer, cameras, images[:, 0] if len(target) == 1 else images, channel_weights)

    def __call__(self, meshes: Any, views: Sequence[int]) -> Tensor:
        """(N,), the mean over the views, pixels and channels."""
        views = list(views)
        if not views:
            raise ValueError("views: expected at least one, got none")
        if self.images.dim() == 5 and self.images.shape[1] != len(meshes):
            raise ValueError(f"meshes: expected {self.images.shape[1]}, one for each set of images, got {len(meshes)}")
        if len(meshes) == 1:  # from several cameras at once
            images = self.images[views]
            images = images if images.dim() == 4 else images.squeeze(1)
            return self._differences(self.renderer(meshes, self.cameras[views]), images).mean().reshape(1)
        total = self._weights.new_zeros(len(meshes))
        for view in views:
            images = self.renderer(meshes, self.cameras[[view]])
            total = total + self._differences(images, self.images[view]).mean(dim=(1, 2, 3))
        return total / len(views)

    def _differences(self, images: Tensor, given: Tensor) -> Tensor:
        if images.shape[1:] != given.shape[-3:]:
            size = ", ".join(map(str, images.shape[1:]))
            raise ValueError(f"images: expected (..., {size}), as the renderer makes them, got {describe(given)}")
        return (images - given).abs() * self._weights
