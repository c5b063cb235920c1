"""The protocol of renderers, for code that works with any of them."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Renderer(Protocol):
    """Maps a batch of meshes and PyTorch3D cameras to images, differentiably in the vertices.

    As many cameras as meshes give one image per mesh; all cameras see a single mesh, and a single camera sees all meshes.
    """

    def __call__(self, meshes: Any, cameras: Any) -> Tensor:
        """Images (N, H, W, C); row 0 is the top of the image, column 0 its left side, as in PyTorch3D."""
        ...
