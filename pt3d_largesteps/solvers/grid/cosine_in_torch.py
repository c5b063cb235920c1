r"""Real transforms along one axis that diagonalise D^T D, through torch.fft: no more memory than a few times the field.

All are real to real, and none is in the order of its frequencies: a diagonal solve divides what stands in each place by the
eigenvalue of that place, so it need not be sorted. Both the cosine and the Fourier transform leave floor(n / 2) + 1 pairs
of numbers, the real and the imaginary parts of a complex spectrum; of the 2 or 1 numbers too many nothing is lost or gained.

    "natural"    DCT-II by a Fourier transform of n numbers (Makhoul 1980): the even entries forwards and then the odd ones
                 backwards; its k-th coefficient times exp(-i pi k / 2n) has the cosine coefficients k and -(n - k)
    "periodic"   the Fourier transform; pairs of frequency k
    "fixed"      DST-I by a Fourier transform of the odd extension, 2 (n + 1) numbers

Source: Makhoul, "A Fast Cosine Transform in One and Two Dimensions", IEEE Trans. ASSP 28(1), 1980; Strang, "The Discrete
Cosine Transform", SIAM Review 41(1), 1999.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from pt3d_largesteps.grids.differences import eigenvalues_of_axis


def transformed(x: Tensor, axis: int, boundary: str) -> Tensor:
    """The transform of x along an axis, which becomes the last; contiguous, in memory of its own."""
    x = x.movedim(axis, -1)
    size = x.shape[-1]
    if boundary == "fixed":
        extended = x.new_zeros(*x.shape[:-1], 2 * (size + 1))
        extended[..., 1 : size + 1] = x
        extended[..., size + 2 :] = x.flip(-1).neg_()
        return torch.fft.rfft(extended).imag[..., 1 : size + 1].contiguous()
    if boundary == "periodic":
        return torch.view_as_real(torch.fft.rfft(x.contiguous())).flatten(-2)
    shuffled = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    half = (size + 1) // 2
    shuffled[..., :half] = x[..., ::2]
    shuffled[..., half:] = x[..., 1::2].flip(-1)
    spectrum = torch.fft.rfft(shuffled)
    return torch.view_as_real(spectrum.mul_(_twiddles(size, spectrum.dtype, x.device))).flatten(-2)


def restored(y: Tensor, axis: int, boundary: str, size: int) -> Tensor:
    """Undoes :func:`transformed` for an axis that had so many texels; the contents of y are lost. Contiguous."""
    sizes = list(y.shape[:-1])
    sizes.insert(y.dim() + axis, size)
    result = y.new_empty(sizes)
    out = result.movedim(axis, -1)
    if boundary == "fixed":
        extended = y.new_zeros(*y.shape[:-1], 2 * (size + 1))
        extended[..., 1 : size + 1] = y
        extended[..., size + 2 :] = y.flip(-1).neg_()
        out.copy_(torch.fft.rfft(extended).imag[..., 1 : size + 1]).mul_(0.5 / (size + 1))
        return result
    spectrum = torch.view_as_complex(y.unflatten(-1, (-1, 2)))
    if boundary == "periodic":
        out.copy_(torch.fft.irfft(spectrum, n=size))
        return result
    spectrum.mul_(_twiddles(size, spectrum.dtype, y.device, True))
    shuffled = torch.fft.irfft(spectrum, n=size)
    half = (size + 1) // 2
    out[..., ::2] = shuffled[..., :half]
    out[..., 1::2] = shuffled[..., half:].flip(-1)
    return result


@lru_cache(maxsize=64)
def eigenvalues_in_order(size: int, boundary: str, order: str, device: torch.device) -> Tensor:
    """Of D^T D, float64, at the places where the transforms leave them.

    Args:
        order: "torch", of :func:`transformed`, or "scipy", of the transforms of solvers/grid_blocks.py.
    """
    with torch.inference_mode(False):  # it is kept
        k = torch.arange(size, dtype=torch.float64)
        if boundary == "periodic" and order == "scipy":  # 0, 1, 1, 2, 2, ...
            k = (k + 1).div(2, rounding_mode="floor")
        elif boundary != "fixed" and order == "torch":
            k = torch.arange(size // 2 + 1, dtype=torch.float64)
            k = torch.stack([k, size - k if boundary == "natural" else k], dim=1).flatten()
        return eigenvalues_of_axis(k, size, boundary).to(device)


@lru_cache(maxsize=64)
def _twiddles(size: int, dtype: torch.dtype, device: torch.device, conjugate: bool = False) -> Tensor:
    """exp(-i pi k / 2n), or its conjugate, for k up to n / 2."""
    with torch.inference_mode(False):  # it is kept
        k = torch.arange(size // 2 + 1, dtype=torch.float64)
        angles = k * (math.pi / (2 * size) * (1 if conjugate else -1))
        return torch.polar(torch.ones_like(angles), angles).to(device, dtype)


def solve_by_torch(rhs: Tensor, coefficients: Tensor, boundary: tuple[str, ...]) -> Tensor:
    """(c_0 I + sum_k c_k D_k^T D_k)^-1 rhs of fields (M, *shape), on any device, with coefficients (1 + K,) float64."""
    shape, ndim = rhs.shape[1:], len(boundary)
    part = rhs
    # The axis that has been transformed stands last, and the next is sought before those: in the end they are reversed.
    for step in range(ndim):
        part = transformed(part, -1 - step, boundary[ndim - 1 - step])
    divisor = coefficients[0].to(rhs.dtype)
    for k in range(ndim):
        values = eigenvalues_in_order(shape[k], boundary[k], "torch", rhs.device)
        divisor = divisor + (coefficients[k + 1] * values).to(rhs.dtype).view(-1, *[1] * k)
    part.div_(divisor)
    for step in reversed(range(ndim)):
        part = restored(part, -1 - step, boundary[ndim - 1 - step], shape[ndim - 1 - step])
    return part
