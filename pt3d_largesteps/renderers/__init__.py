"""Differentiable renderers behind one small protocol: (Meshes, PyTorch3D cameras) -> images (N, H, W, C)."""

from pt3d_largesteps import _pytorch3d

with _pytorch3d.required():
    from pt3d_largesteps.renderers.base import Renderer
    from pt3d_largesteps.renderers.image_loss import ImageLoss
    from pt3d_largesteps.renderers.nvdiffrast import NvdiffrastRenderer
    from pt3d_largesteps.renderers.pytorch3d import PyTorch3DRenderer
    from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight, vertex_normals
    from pt3d_largesteps.renderers.texturing import vertex_colors
    from pt3d_largesteps.renderers.uv import Texels, UVRenderer

__all__ = [
    "ImageLoss",
    "NvdiffrastRenderer",
    "PyTorch3DRenderer",
    "Renderer",
    "SphericalHarmonicsLight",
    "Texels",
    "UVRenderer",
    "vertex_colors",
    "vertex_normals",
]
