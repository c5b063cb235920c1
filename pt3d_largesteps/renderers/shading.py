"""Diffuse shading by an order-2 spherical-harmonics light, on vertex normals.

Source: Ramamoorthi, Hanrahan, "An Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001: the
irradiance of a distant light is, to within about 1%, a quadratic polynomial of the normal n,

    E(n) = sum_lm A_l L_lm Y_lm(n),      A_0 = pi, A_1 = 2 pi / 3, A_2 = pi / 4        (their Eq. 8 and 9)

with L_lm the coefficients of the radiance and Y_lm the real spherical harmonics, here in the order
(0,0), (1,-1), (1,0), (1,1), (2,-2), (2,-1), (2,0), (2,1), (2,2), which is
1, y, z, x, xy, yz, 3 z^2 - 1, xz, x^2 - y^2 up to constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import check_finite, check_number, describe

_BAND_WEIGHTS = (math.pi, *(2 * math.pi / 3,) * 3, *(math.pi / 4,) * 5)  # A_l of the clamped cosine
_C1, _C2, _C20 = math.sqrt(3 / (4 * math.pi)), 0.5 * math.sqrt(15 / math.pi), 0.25 * math.sqrt(5 / math.pi)
_CONSTANTS = (0.5 * math.sqrt(1 / math.pi), _C1, _C1, _C1, _C2, _C2, _C20, _C2, 0.5 * _C2)  # of the nine polynomials
_FACTORS = tuple(weight * constant / math.pi for weight, constant in zip(_BAND_WEIGHTS, _CONSTANTS, strict=True))


def spherical_harmonics(directions: Tensor) -> Tensor:
    """The nine real spherical harmonics (..., 9) up to order 2 of unit vectors (..., 3)."""
    return SphericalHarmonicsLight.basis(directions) * directions.new_tensor(_CONSTANTS)


class SphericalHarmonicsLight(nn.Module):
    """A distant light given by nine coefficients per colour channel.

    Args:
        coefficients: radiance L_lm, (9, 3), in the order of this file, for all images, or (N, 9, 3), one light for each of N
            images. Where they require a gradient, pictures are differentiable in them.
        gains: (3,) or (N, 3), factors of the channels, for the exposure and the white balance of photographs; as the
            coefficients, for all images or for each. Default: 1.

    Raises:
        ValueError: another shape, or numbers that are NaN or infinite; in a call of a renderer, lights or gains for another
            number of images.

    Example:
        >>> light = SphericalHarmonicsLight.from_directions(directions, colors, ambient=0.4)
        >>> shades = light(vertex_normals(verts, faces))    # (V, 3)
    """

    coefficients: Tensor
    gains: Tensor | None

    def __init__(self, coefficients: Tensor, gains: Tensor | None = None) -> None:
        super().__init__()
        if not isinstance(coefficients, Tensor) or coefficients.dim() not in (2, 3) or coefficients.shape[-2:] != (9, 3):
            raise ValueError(f"coefficients: expected a tensor of shape (9, 3) or (N, 9, 3), got {describe(coefficients)}")
        check_finite("coefficients", coefficients.detach())
        if gains is not None:
            if not isinstance(gains, Tensor) or gains.dim() not in (1, 2) or gains.shape[-1] != 3:
                raise ValueError(f"gains: expected a tensor of shape (3,) or (N, 3), got {describe(gains)}")
            check_finite("gains", gains.detach())
        self._keep("coefficients", coefficients)
        self._keep("gains", gains)

    def _keep(self, name: str, values: Tensor | None) -> None:
        """As a parameter, if it is one; else as a buffer, moved by ``.to()``."""
        if isinstance(values, nn.Parameter):
            self.register_parameter(name, values)
        else:
            copied = values if values is None or values.requires_grad else values.detach().clone()
            self.register_buffer(name, copied)

    @classmethod
    def from_directions(cls, directions: Tensor, colors: Tensor, ambient: float = 0.0) -> SphericalHarmonicsLight:
        """Directional lights, towards ``directions`` (K, 3), of irradiance ``colors`` (K, 3), and constant radiance."""
        basis = spherical_harmonics(torch.nn.functional.normalize(directions, dim=1))  # (K, 9)
        coefficients = basis.T @ colors  # a direction is a Dirac delta: its projection is the value of the basis
        coefficients[0] += ambient * 2 * math.sqrt(math.pi)
        return cls(coefficients)

    @classmethod
    def ambient(cls, radiance: float = 1.0) -> SphericalHarmonicsLight:
        """The same ``radiance`` (at least 0) from all directions; with 1, textures appear without shading."""
        radiance = check_number("radiance", radiance, low=0.0)
        return cls.from_directions(torch.zeros(0, 3), torch.zeros(0, 3), ambient=radiance)

    @classmethod
    def from_environment_map(cls, radiance: Tensor) -> SphericalHarmonicsLight:
        """An equirectangular map (H, W, 3) of linear radiance; row 0 looks up (+y), the middle column along +z."""
        if radiance.dim() != 3 or radiance.shape[2] != 3:
            raise ValueError(f"radiance: expected an equirectangular map of shape (H, W, 3), got {describe(radiance)}")
        height, width = radiance.shape[:2]
        theta = (torch.arange(height).to(radiance) + 0.5) * (math.pi / height)  # (H,), from +y
        phi = (torch.arange(width).to(radiance) + 0.5) * (2 * math.pi / width) - math.pi  # (W,), around y, from +z
        sin = theta.sin()[:, None].expand(height, width)
        directions = torch.stack(
            [sin * phi.sin(), theta.cos()[:, None].expand(height, width), sin * phi.cos()], dim=-1
        )  # (H, W, 3)
        solid_angle = sin * (math.pi / height) * (2 * math.pi / width)  # (H, W)
        weighted = spherical_harmonics(directions) * solid_angle[..., None]
        return cls(torch.einsum("hwk,hwc->kc", weighted, radiance))

    @classmethod
    def default(cls) -> SphericalHarmonicsLight:
        """Six soft coloured lights: every normal has a different colour, and none is dark."""
        directions = torch.tensor(
            [[1.0, 0.6, 0.5], [-1.0, 0.4, 0.3], [0.1, 1.0, 0.2], [0.0, -1.0, 0.3], [0.3, 0.2, -1.0], [0.0, 0.3, 1.0]]
        )
        colors = torch.tensor(
            [[0.9, 0.45, 0.25], [0.2, 0.45, 0.9], [0.5, 0.7, 0.45], [0.45, 0.2, 0.4], [0.7, 0.55, 0.2], [0.35, 0.4, 0.4]]
        )
        return cls.from_directions(directions, colors * 0.45 * math.pi, ambient=0.25)

    def forward(self, normals: Tensor) -> Tensor:
        """Reflected radiance (V, 3) of a white diffuse surface: E(n) / pi, for unit normals (V, 3)."""
        return self.basis(normals) @ self.polynomials(1)[0].to(normals)

    @staticmethod
    def basis(normals: Tensor) -> Tensor:
        """(V, 9): the polynomials of this file, without their constants."""
        x, y, z = normals.unbind(-1)
        return torch.stack([torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], dim=-1)

    def polynomials(self, num_images: int) -> Tensor:
        """(1, 9, 3) or (num_images, 9, 3): the reflected radiance as coefficients of :meth:`basis`, times the gains."""
        factors = self.coefficients.new_tensor(_FACTORS)[:, None]
        table = (factors * self.coefficients).reshape(-1, 9, 3)
        if self.gains is not None:
            table = table * self.gains.reshape(-1, 1, 3).to(table)
        if len(table) not in (1, num_images):
            raise ValueError(f"light: expected one for all images, or {num_images} lights or gains, got {len(table)}")
        return table

    def of_images(self, index: Sequence[int], count: int) -> SphericalHarmonicsLight:
        """The lights and gains of some of ``count`` images; what all images share stays."""
        chosen = torch.tensor(index, dtype=torch.int64, device=self.coefficients.device)
        coefficients, gains = self.coefficients, self.gains
        if coefficients.dim() == 3 and len(coefficients) == count:
            coefficients = coefficients[chosen]
        if gains is not None and gains.dim() == 2 and len(gains) == count:
            gains = gains[chosen]
        if coefficients is self.coefficients and gains is self.gains:
            return self
        return SphericalHarmonicsLight(coefficients, gains)


def vertex_normals(verts: Tensor, faces: Tensor) -> Tensor:
    """Unit vertex normals (V, 3): the sum of the face normals weighted by area, zero where that sum vanishes.

    ``Meshes.verts_normals_packed`` differs in two ways: it is cached in the ``Meshes`` (a second backward pass fails), and its
    normals shrink for small triangles (edges below about 1e-3).

    Args:
        verts: packed (V, 3).
        faces: packed (F, 3).
    """
    corners = verts.index_select(0, faces.flatten()).view(-1, 3, 3)
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    if faces.shape[0] > 0:  # normals do not depend on scale: in units of the longest extent, their squares do not underflow
        longest = torch.maximum(u.detach().abs().max(), v.detach().abs().max())
        u, v = (edge / torch.where(longest > 0, longest, 1) for edge in (u, v))
    face_normals = torch.linalg.cross(u, v)  # (F, 3)
    total = torch.zeros_like(verts)
    for corner in faces.unbind(1):
        total = total.index_add(0, corner, face_normals)
    length = total.norm(dim=1, keepdim=True)
    return total / torch.where(length > 0, length, 1)
