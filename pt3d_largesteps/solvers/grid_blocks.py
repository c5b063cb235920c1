"""Diagonal solves on the CPU: SciPy's transforms in place, block by block.

A field that is larger than a block goes through memory three times there and back, whatever the number of its axes: slabs of
the first axis, transformed along all others; blocks across all of the first axis, transformed along it, divided by the
eigenvalues and transformed back while they are in the cache; and the slabs again. Nothing but the result and a block is
allocated, and no table of eigenvalues.

SciPy's transforms (pocketfft) work on several lines at once in vector registers, and are several times faster here than
torch.fft with the rearrangements that it needs. The Fourier transform is the one of scipy.fftpack, which is real to real.
"""

from __future__ import annotations

import scipy.fft
import scipy.fftpack
import torch
from torch import Tensor

from pt3d_largesteps.solvers.grid_transforms import eigenvalues_in_order

BLOCK_BYTES = 2 * 2**20  # measured; 1 to 4 MiB are about as fast


def solve_in_blocks(rhs: Tensor, coefficients: Tensor, boundary: tuple[str, ...], out: Tensor) -> None:
    """out = (c_0 I + sum_k c_k D_k^T D_k)^-1 rhs of fields (M, *shape), with coefficients (1 + K,) float64.

    ``out`` is contiguous, of the dtype of ``rhs``, and not the same memory.
    """
    shape, ndim = rhs.shape[1:], len(boundary)
    values = []
    for k in range(ndim):
        own = coefficients[k + 1] * eigenvalues_in_order(shape[k], boundary[k], "scipy", rhs.device)
        own = own + coefficients[0] if k == 0 else own
        values.append(own.to(rhs.dtype).view(-1, *[1] * (ndim - 1 - k)))
    others = sum(values[1:], start=rhs.new_zeros(()))  # of all axes but the first
    field_bytes = max(1, rhs[0].numel() * rhs.element_size())
    with scipy.fft.set_workers(torch.get_num_threads()):
        if ndim == 1 or field_bytes <= BLOCK_BYTES:
            at_once = max(1, BLOCK_BYTES // field_bytes)
            divisor = values[0] + others
            for given, block in zip(rhs.split(at_once), out.split(at_once), strict=True):
                block.copy_(given)
                _transform(block, boundary, 1)
                block.div_(divisor)
                _restore(block, boundary, 1)
        else:
            for given, field in zip(rhs, out, strict=True):
                _solve_field(given, boundary, values[0], others, field)


def _solve_field(rhs: Tensor, boundary: tuple[str, ...], first: Tensor, others: Tensor, out: Tensor) -> None:
    size, width = out.shape[:2]
    field_bytes = out.numel() * out.element_size()
    rows = max(1, BLOCK_BYTES * size // field_bytes)
    columns = max(1, BLOCK_BYTES * width // field_bytes)
    if out.dim() == 2:  # whole cache lines
        columns = -(-columns // 16) * 16
    for given, slab in zip(rhs.split(rows), out.split(rows), strict=True):
        slab.copy_(given)
        _transform(slab, boundary[1:], 1)
    for block, other in zip(out.split(columns, 1), others.split(columns, 0), strict=True):
        _transform(block, boundary[:1], 0)
        block.div_(first + other)
        _restore(block, boundary[:1], 0)
    for slab in out.split(rows):
        _restore(slab, boundary[1:], 1)


def _transform(block: Tensor, boundary: tuple[str, ...], first_axis: int) -> None:
    """In place, along the axes from ``first_axis`` on."""
    array = block.numpy()
    for axis, name in enumerate(boundary, first_axis):
        if name == "natural":
            result = scipy.fft.dct(array, axis=axis, overwrite_x=True)
        elif name == "fixed":
            result = scipy.fft.dst(array, type=1, axis=axis, overwrite_x=True)
        else:
            result = scipy.fftpack.rfft(array, axis=axis, overwrite_x=True)
        _keep(array, result)


def _restore(block: Tensor, boundary: tuple[str, ...], first_axis: int) -> None:
    """Undoes :func:`_transform`."""
    array = block.numpy()
    for axis, name in enumerate(boundary, first_axis):
        if name == "natural":
            result = scipy.fft.idct(array, axis=axis, overwrite_x=True)
        elif name == "fixed":
            result = scipy.fft.idst(array, type=1, axis=axis, overwrite_x=True)
        else:
            result = scipy.fftpack.irfft(array, axis=axis, overwrite_x=True)
        _keep(array, result)


def _keep(array, result) -> None:
    """``overwrite_x`` allows SciPy to compute in place, but does not promise it."""
    if result.ctypes.data != array.ctypes.data or result.strides != array.strides:
        array[...] = result
