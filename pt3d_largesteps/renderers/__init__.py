"""Differentiable renderers behind one small protocol: (Meshes, PyTorch3D cameras) -> images (N, H, W, C)."""

from pt3d_largesteps.renderers.base import Renderer
from pt3d_largesteps.renderers.image_loss import ImageLoss
from pt3d_largesteps.renderers.pytorch3d import PyTorch3DRenderer
from pt3d_largesteps.renderers.shading import SphericalHarmonicsLight, vertex_normals

__all__ = ["ImageLoss", "PyTorch3DRenderer", "Renderer", "SphericalHarmonicsLight", "vertex_normals"]
