"""What the compiled renderer needs of PyTorch3D's cameras: matrices, for all views at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps.native.linear_solve import is_transformed


def version_of(tensor: Tensor) -> int:
    """Goes up with each change in place; of tensors made in inference mode, which keep no count, it stays."""
    return 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True)
class CameraMatrices:
    """Cameras as matrices for row vectors; differentiable in the cameras' parameters.

    Attributes:
        view: (N, 4, 4), from world space to view space.
        projection: (N, 4, 4), from view space to NDC, or None for cameras that no matrix describes, as the fisheye ones.
        perspective: whether depth is interpolated perspectively.
        znear: (N,) or one number, or None if faces are not cut.
    """

    view: Tensor
    projection: Tensor | None
    perspective: bool
    znear: Tensor | float | None

    def __len__(self) -> int:
        return self.view.shape[0]

    def __getitem__(self, views: Sequence[int]) -> CameraMatrices:
        index = torch.tensor(views, dtype=torch.int64, device=self.view.device)
        znear = self.znear
        if isinstance(znear, Tensor) and znear.numel() > 1:
            znear = znear.reshape(-1)[index]
        projection = None if self.projection is None else self.projection[index]
        return CameraMatrices(self.view[index], projection, self.perspective, znear)

    def expand(self, num_images: int) -> CameraMatrices:
        """One camera for all images, or as many as there are."""
        if len(self) == num_images:
            return self
        projection = None if self.projection is None else self.projection.expand(num_images, 4, 4)
        return CameraMatrices(self.view.expand(num_images, 4, 4), projection, self.perspective, self.znear)

    @property
    def z_clip(self) -> float | None:
        """The view-space depth at which faces are cut: half the nearest ``znear``, as in PyTorch3D's ``MeshRasterizer``."""
        if not self.perspective or self.znear is None:
            return None
        return (self.znear.min().item() if isinstance(self.znear, Tensor) else float(self.znear)) / 2


def camera_matrices(cameras: Any) -> CameraMatrices:
    """The matrices of PyTorch3D cameras, or what is already such."""
    if isinstance(cameras, CameraMatrices):
        return cameras
    count = len(cameras)
    view = cameras.get_world_to_view_transform().get_matrix().expand(count, 4, 4)
    try:
        projection = cameras.get_projection_transform()
    except NotImplementedError:
        matrix = None
    else:
        matrix = projection.compose(cameras.get_ndc_camera_transform()).get_matrix().expand(count, 4, 4)
    return CameraMatrices(view, matrix, bool(cameras.is_perspective()), cameras.get_znear())


class CachedMatrices:
    """The matrices of all views of cameras, computed again only if the cameras have changed or need a gradient."""

    def __init__(self, cameras: Any) -> None:
        self.cameras = cameras
        self._state: tuple[Any, ...] | None = None
        self._matrices: CameraMatrices | None = None

    def of(self, views: Sequence[int]) -> CameraMatrices:
        tensors = [value for value in vars(self.cameras).values() if isinstance(value, Tensor)]
        needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if needs_gradient or is_transformed():  # what is made inside a transform is of no use outside
            return camera_matrices(self.cameras[list(views)])
        # the world-to-view transform itself sets R and T, to what they are
        state = tuple((tensor.data_ptr(), version_of(tensor)) for tensor in tensors)
        if self._matrices is None or state != self._state:
            with torch.no_grad():
                self._matrices = camera_matrices(self.cameras)
            tensors = [value for value in vars(self.cameras).values() if isinstance(value, Tensor)]
            self._state = tuple((tensor.data_ptr(), version_of(tensor)) for tensor in tensors)
        return self._matrices[views]
