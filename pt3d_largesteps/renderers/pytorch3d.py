"""A differentiable renderer for PyTorch3D's meshes and cameras, fast enough on a CPU to optimise with.

On the CPU compiled code draws (:mod:`~pt3d_largesteps.renderers.compiled`); on CUDA, and where nothing is compiled, torch does
(:mod:`~pt3d_largesteps.renderers.plain`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps.native.library import is_compiled, warn_not_compiled
from pt3d_largesteps.native.linear_solve import is_transformed
from pt3d_largesteps.renderers import compiled, plain
from pt3d_largesteps.renderers.cameras import CameraMatrices, camera_matrices
from pt3d_largesteps.renderers.compiled import IndexCache, Targets
from pt3d_largesteps.renderers.projection import check_image_size
from pt3d_largesteps.renderers.rasterization import VisibleFaces
from pt3d_largesteps.renderers.scene import check_scene
from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight
from pt3d_largesteps.renderers.style import Style


class PyTorch3DRenderer:
    """Images of meshes in a diffuse light, or their silhouettes.

    Args:
        image_size: pixels, (H, W) or one number for both.
        light: :class:`SphericalHarmonicsLight`; images are (N, H, W, 4), shading and alpha. None gives silhouettes
            (N, H, W, 1), without shading and textures. ``SphericalHarmonicsLight.ambient()`` shows colours without shading.
        background: colour behind the meshes, (3,), of alpha 0.
        cull_backfaces: skip faces that are seen from behind.
        antialiased: blend across the outlines. Without it images do not depend differentiably on the outlines.
        textured: multiply the shading by the colours of ``meshes.textures``, if there are any: ``TexturesVertex``,
            ``TexturesUV`` or ``TexturesAtlas`` of 3 channels. Without it, and without textures, surfaces are white.

    Gradients reach the vertices of the meshes, the colours of their vertices, their texture maps, the parameters of the
    cameras (R, T, focal length, principal point), and the coefficients and gains of the light. Images are float32. Faces nearer
    than half the cameras' ``znear`` are clipped, as in PyTorch3D.

    Raises:
        TypeError, ValueError: a bad ``image_size``; in a call, arguments that are not meshes or cameras, numbers of them that
            do not match, cameras of another dtype or device, textures of another class or number of channels.

    Example:
        >>> renderer = PyTorch3DRenderer(128, light=SphericalHarmonicsLight.default())
        >>> images = renderer(meshes, cameras)      # (N, 128, 128, 4)
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        light: SphericalHarmonicsLight | None = None,
        *,
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        cull_backfaces: bool = False,
        antialiased: bool = True,
        textured: bool = True,
    ) -> None:
        self.image_size = check_image_size(image_size)
        self.light = light
        self.background = background
        self.cull_backfaces = cull_backfaces
        self.antialiased = antialiased
        self.textured = textured
        self._indices = IndexCache()

    def __call__(self, meshes: Any, cameras: Any, light: SphericalHarmonicsLight | None = None) -> Tensor:
        """Images (N, H, W, 4), or silhouettes (N, H, W, 1), of N meshes, or of one mesh from N cameras.

        ``light`` is for this call alone, instead of the renderer's.
        """
        num_images = check_scene(meshes, cameras)
        with torch.autocast(meshes.device.type, enabled=False):
            style = self._style(light)
            if _is_for_compiled(meshes):
                matrices = camera_matrices(cameras).expand(num_images)
                return compiled.render(style, self._indices, meshes, cameras, matrices)
            return plain.render(style, meshes, cameras, camera_matrices(cameras).z_clip)

    def visible_faces(self, meshes: Any, cameras: Any) -> VisibleFaces:
        """The visible face at each pixel, as an index into the flattened scene: with one mesh, its packed faces per image."""
        num_images = check_scene(meshes, cameras)
        with torch.no_grad(), torch.autocast(meshes.device.type, enabled=False):
            matrices = camera_matrices(cameras).expand(num_images)
            if not _is_for_compiled(meshes):
                return plain.visible_faces(self._style(), meshes, cameras, matrices.z_clip)
            faces, depth = compiled.visible_faces(self._style(), self._indices, meshes, cameras, matrices)
            if len(meshes) == 1:
                first = torch.arange(num_images, device=faces.device) * meshes.faces_packed().shape[0]
                faces = torch.where(faces >= 0, faces + first[:, None, None], faces)
            return VisibleFaces(faces, depth)

    def differences(
        self, meshes: Any, matrices: CameraMatrices, targets: Targets, light: SphericalHarmonicsLight | None = None
    ) -> Tensor | None:
        """(N,): the mean differences of N images from targets, in one pass that stores no picture; or None if there is none
        for these meshes and cameras. The images of several meshes lie mesh after mesh."""
        if not _is_for_compiled(meshes) or matrices.projection is None:
            return None
        with torch.autocast("cpu", enabled=False):
            return compiled.compare(self._style(light), self._indices, meshes, None, matrices, targets)

    def _style(self, light: SphericalHarmonicsLight | None = None) -> Style:
        light = self.light if light is None else light
        return Style(self.image_size, light, self.background, self.cull_backfaces, self.antialiased, self.textured)


def _is_for_compiled(meshes: Any) -> bool:
    if meshes.device.type != "cpu" or len(meshes) == 0 or is_transformed():  # torch itself knows how to transform torch
        return False
    if not is_compiled():
        warn_not_compiled()
        return False
    return True
