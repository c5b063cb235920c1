"""What the renderer is measured with: a sphere, cameras and pictures; and a bound on the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere
from torch import Tensor
from torch.nn.functional import l1_loss

from pt3d_largesteps.reconstruction.views import fibonacci_cameras
from pt3d_largesteps.renderers import ImageLoss, PyTorch3DRenderer, SphericalHarmonicsLight, plain
from pt3d_largesteps.renderers.cameras import camera_matrices


class Case:
    """A sphere, the pictures of a smaller one, and ways to the gradient of the difference."""

    def __init__(self, level: int, size: int, views: int) -> None:
        light = SphericalHarmonicsLight.default()
        self.meshes, self.size, self.cameras = ico_sphere(level), size, fibonacci_cameras(views)
        self.targets = PyTorch3DRenderer(size, light)(self.meshes.scale_verts(0.9), self.cameras)
        self.renderer = PyTorch3DRenderer(size, light)
        self.loss = ImageLoss(self.renderer, self.cameras, self.targets)
        self.num_verts, self.num_faces = len(self.meshes.verts_packed()), len(self.meshes.faces_packed())
        # made once: to make the Meshes of a step is not the renderer's work
        self._moving = self.meshes.update_padded(self.meshes.verts_padded().clone().requires_grad_())
        self._z_clip = camera_matrices(self.cameras).z_clip

    def steps(self) -> dict[str, Callable[[], Tensor]]:
        losses = {
            "fused": lambda meshes: self.loss(meshes, range(len(self.cameras))).sum(),
            "pictures": lambda meshes: l1_loss(self.renderer(meshes, self.cameras), self.targets),
            "torch": lambda meshes: l1_loss(self.in_torch(meshes, self.cameras), self.targets),
        }
        return {name: lambda loss=loss: self._gradient(loss) for name, loss in losses.items()}

    def in_torch(self, meshes: Meshes, cameras: Any) -> Tensor:
        return plain.render(self.renderer._style(), meshes, cameras, self._z_clip)

    def _gradient(self, loss: Callable[[Meshes], Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(loss(self._moving), self._moving.verts_packed())
        return gradient

    def num_bytes(self) -> int:
        """Those that a step moves at least."""
        images, pixels = len(self.cameras), self.size**2
        return images * (pixels * (16 + 2 * 8) + self.num_verts * 4 * 32) + 24 * self.num_verts + 12 * self.num_faces

    def num_operations(self) -> int:
        """Additions, multiplications and divisions that a step needs at least."""
        covered = int((self.renderer.visible_faces(self.meshes, self.cameras).pix_to_face >= 0).sum())
        of_images = len(self.cameras) * (80 * self.num_verts + 30 * self.num_faces) + 175 * covered
        return of_images + 140 * self.num_verts + 80 * self.num_faces
