"""A loss with views: the difference between images of meshes and given images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_float_dtype, check_number, describe
from pt3d_largesteps.native.rendering import Difference
from pt3d_largesteps.renderers.cameras import CachedMatrices
from pt3d_largesteps.renderers.compiled import Targets
from pt3d_largesteps.renderers.scene import check_cameras, check_kinds

_DIFFERENCES = {"l1": Difference.L1, "l2": Difference.L2, "smooth_l1": Difference.SMOOTH_L1}


class ImageLoss:
    """The mean difference between images of meshes and given ones, for each mesh.

    With :class:`~pt3d_largesteps.renderers.PyTorch3DRenderer` on the CPU, pictures are compared while they are drawn, and none
    is stored.

    Args:
        renderer: called with meshes and cameras, like :class:`~pt3d_largesteps.renderers.PyTorch3DRenderer`.
        cameras: of all views, a PyTorch3D camera batch.
        images: (num_views, H, W, C), the same for every mesh of the batch, or (num_views, N, H, W, C), one set per mesh;
            floating point, or uint8, of which 255 is 1.
        channel_weights: C numbers of at least 0; default: equal. A silhouette next to three colours has a quarter of the
            weight; (1, 1, 1, 3) gives it a half. Their mean is made 1.
        pixel_weights: factors of at least 0 for each pixel, of the shape of the images without C; default: 1.
        view_weights: num_views factors of at least 0; default: 1.
        difference: ``"l1"``, ``"l2"`` (the square), or ``"smooth_l1"``, a square up to ``beta`` and a straight line beyond, as
            in ``torch.nn.functional.smooth_l1_loss``.
        beta: of ``"smooth_l1"``.

    Attributes:
        num_views: the number of cameras.

    Raises:
        TypeError, ValueError: images or weights of a wrong shape or dtype, or NaN or infinite; weights out of range; in a call,
            no views, or another number of meshes.

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
        *,
        pixel_weights: Tensor | None = None,
        view_weights: Sequence[float] | None = None,
        difference: str = "l1",
        beta: float = 0.1,
    ) -> None:
        if not isinstance(images, Tensor) or images.dim() not in (4, 5) or len(images) != len(cameras) or not len(cameras):
            raise ValueError(
                f"images: expected (num_views, H, W, C) or (num_views, N, H, W, C) for {len(cameras)} cameras,"
                f" got {describe(images)}"
            )
        if images.dtype != torch.uint8:
            check_float_dtype("images", images)
            check_finite("images", images)
        if difference not in _DIFFERENCES:
            raise ValueError(f"difference: expected one of {', '.join(_DIFFERENCES)}, got {describe(difference)}")
        weights = _weights("channel_weights", channel_weights, images.shape[-1])
        if not sum(weights):
            raise ValueError("channel_weights: expected at least one above 0, got none")
        if pixel_weights is not None:
            if not isinstance(pixel_weights, Tensor) or pixel_weights.shape != images.shape[:-1]:
                raise ValueError(
                    f"pixel_weights: expected a tensor of shape {tuple(images.shape[:-1])}, got {describe(pixel_weights)}"
                )
            check_float_dtype("pixel_weights", pixel_weights)
            check_finite("pixel_weights", pixel_weights)
            if bool((pixel_weights < 0).any()):
                raise ValueError(f"pixel_weights: expected numbers of at least 0, got {pixel_weights.min().item():g}")
        self._channel_weights = [weight * len(weights) / sum(weights) for weight in weights]
        self._pixel_weights = pixel_weights
        self._view_weights = _weights("view_weights", view_weights, len(cameras))
        self._difference, self._beta = difference, check_number("beta", beta, low=0.0, low_open=True)
        self._matrices = CachedMatrices(cameras)
        self.renderer, self.cameras, self.images, self.num_views = renderer, cameras, images, len(cameras)

    @classmethod
    @torch.no_grad()
    def of_meshes(
        cls,
        target: Any,
        renderer: Callable[[Any, Any], Tensor],
        cameras: Any,
        channel_weights: Sequence[float] | None = None,
        **options: Any,
    ) -> ImageLoss:
        """A loss with the images of given meshes: one mesh, or one for each mesh that will be compared."""
        images = torch.stack([renderer(target, cameras[[view]]) for view in range(len(cameras))])
        return cls(renderer, cameras, images[:, 0] if len(target) == 1 else images, channel_weights, **options)

    def __call__(self, meshes: Any, views: Sequence[int]) -> Tensor:
        """(N,), the mean over the views, pixels and channels."""
        views = [range(self.num_views)[view] for view in views]
        if not views:
            raise ValueError("views: expected at least one, got none")
        if self.images.dim() == 5 and self.images.shape[1] != len(meshes):
            raise ValueError(f"meshes: expected {self.images.shape[1]}, one for each set of images, got {len(meshes)}")
        losses = self._in_one_pass(meshes, views)  # (N * len(views),), mesh after mesh: each view's part of the mean
        if losses is None:
            losses = self._with_images(meshes, views) / len(views)
        losses = losses.view(len(meshes), len(views))
        if any(self._view_weights[view] != 1 for view in views):
            losses = losses * losses.new_tensor([self._view_weights[view] for view in views])
        return losses.sum(1)

    def _in_one_pass(self, meshes: Any, views: list[int]) -> Tensor | None:
        renderer: Any = self.renderer
        if not hasattr(renderer, "differences"):
            return None
        check_kinds(meshes, self.cameras)
        if meshes.device.type != "cpu" or len(meshes) == 0:
            return None
        check_cameras(meshes, self.cameras)
        self._check_size(renderer.image_size, 1 if renderer.light is None else 4)
        images, pixel_weights, of_image = self.images, self._pixel_weights, views
        if images.dim() == 5:  # those of one view lie together
            of_image = [view * len(meshes) + mesh for mesh in range(len(meshes)) for view in views]
            images = images.flatten(0, 1)
            pixel_weights = None if pixel_weights is None else pixel_weights.flatten(0, 1)
        elif len(meshes) > 1:
            of_image = views * len(meshes)
        if images.dtype != torch.uint8:
            images = images.to(torch.float32)
        targets = Targets(
            images.contiguous(),
            of_image,
            [weight / len(views) for weight in self._channel_weights],
            None if pixel_weights is None else pixel_weights.to(torch.float32).contiguous(),
            _DIFFERENCES[self._difference],
            self._beta,
        )
        every = views * len(meshes)
        return renderer.differences(meshes, self._matrices.of(every), targets, self._light(every))

    def _with_images(self, meshes: Any, views: list[int]) -> Tensor:
        if len(meshes) == 1:  # from several cameras at once
            images = self._rendered(meshes, views)
            return self._differences(images, self._of_mesh(self.images, views), self._of_mesh(self._pixel_weights, views))
        losses = []
        for view in views:
            weights = None if self._pixel_weights is None else self._pixel_weights[view]
            losses.append(self._differences(self._rendered(meshes, [view]), self.images[view], weights))
        return torch.stack(losses, dim=1).flatten()

    def _rendered(self, meshes: Any, views: list[int]) -> Tensor:
        light = self._light(views)
        if light is None:
            return self.renderer(meshes, self.cameras[views])
        return self.renderer(meshes, self.cameras[views], light=light)  # type: ignore[call-arg]

    def _light(self, views: list[int]) -> Any:
        """The lights of these views, if the renderer's light has one for each."""
        light = getattr(self.renderer, "light", None)
        chosen = None if light is None or not hasattr(light, "of_images") else light.of_images(views, self.num_views)
        return None if chosen is light else chosen

    def _of_mesh(self, values: Tensor | None, views: list[int]) -> Tensor | None:
        """The values of these views of a single mesh."""
        if values is None:
            return None
        return values[views] if self.images.dim() == 4 else values[views].squeeze(1)

    def _differences(self, images: Tensor, given: Tensor | None, pixel_weights: Tensor | None) -> Tensor:
        self._check_size(images.shape[1:3], images.shape[3])
        assert given is not None
        if given.dtype == torch.uint8:
            given = given.to(images) / 255
        difference = images - given
        if self._difference == "l1":
            values = difference.abs()
        elif self._difference == "l2":
            values = difference.square()
        else:
            values = torch.nn.functional.smooth_l1_loss(images, given.expand_as(images), reduction="none", beta=self._beta)
        values = values * values.new_tensor(self._channel_weights)
        if pixel_weights is not None:
            values = values * pixel_weights[..., None].to(values)
        return values.mean(dim=(1, 2, 3))

    def _check_size(self, size: Sequence[int], channels: int) -> None:
        if (*size, channels) != tuple(self.images.shape[-3:]):
            made = ", ".join(map(str, (*size, channels)))
            raise ValueError(f"images: expected (..., {made}), as the renderer makes them, got {describe(self.images)}")


def _weights(name: str, given: Sequence[float] | None, count: int) -> list[float]:
    """``count`` numbers of at least 0, all 1 unless given."""
    weights = [1.0] * count if given is None else list(given)
    if len(weights) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(weights)}")
    return [check_number(name, weight, low=0.0) for weight in weights]
