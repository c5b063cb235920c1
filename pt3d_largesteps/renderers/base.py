"""What a renderer is, for code that does not care which one it gets."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Renderer(Protocol):
    """Maps a batch of meshes and PyTorch3D cameras to images, differentiably in the vertices.

    One image per mesh where there are as many cameras as meshes; a single mesh is seen by all cameras, and a single
    camera sees all meshes.
    """

    def __call__(self, meshes: Any, cameras: Any) -> Tensor:
        """Images (N, H, W, C); row 0 is the top of the image, column 0 its left side, as in PyTorch3D."""
        ...
