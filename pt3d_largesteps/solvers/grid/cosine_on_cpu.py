"""Diagonal solves on the CPU: SciPy's transforms in place, block by block.

A field that is larger than a block goes through memory three times there and back, whatever the number of its axes: slabs of
the first axis, transformed along all others; blocks across all of the first axis, transformed along it, divided by the
eigenvalues and transformed back while they are in the cache; and the slabs again. Nothing but the result and a block for
each thread is allocated, and no table of eigenvalues. Blocks do not depend on each other, so that every thread takes
whole ones; a few small fields are one block, whose lines SciPy deals to the threads. Either way the same bits come out for
every number of threads.

SciPy's transforms (pocketfft) work on several lines at once in vector registers, and are several times faster here than
torch.fft with the rearrangements that it needs. The Fourier transform is the one of scipy.fftpack, which is real to real.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import scipy.fft
import scipy.fftpack
import torch

from pt3d_largesteps.solvers.grid.cosine_in_torch import eigenvalues_in_order

BLOCK_BYTES = 2**20  # measured: between half and four times that there is little difference
_DIVISOR_BYTES = 2**16  # of the eigenvalues at once: larger ones would be new pages of memory each time
_CPU = torch.device("cpu")
_TASKS = 8  # more than threads, where there are several fields

_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):  # a child has the pools of its parent, but not their threads
    os.register_at_fork(after_in_child=_pools.clear)


def solve_in_blocks(rhs: np.ndarray, coefficients: Sequence[float], boundary: tuple[str, ...]) -> np.ndarray:
    """(c_0 I + sum_k c_k D_k^T D_k)^-1 rhs of fields (M, *shape), with 1 + K coefficients.

    Arrays, since the little that is done to small ones takes torch as long as their transforms.
    """
    shape, ndim = rhs.shape[1:], len(boundary)
    values = []
    for k, weight in enumerate(coefficients[1:]):
        own = weight * eigenvalues_in_order(shape[k], boundary[k], "scipy", _CPU).numpy()
        own = own + coefficients[0] if k == 0 else own
        values.append(own.astype(rhs.dtype).reshape(-1, *[1] * (ndim - 1 - k)))
    others = sum(values[1:], start=np.zeros((), values[0].dtype))  # of all axes but the first
    field_bytes = max(1, rhs[0].nbytes)
    small = ndim == 1 or field_bytes <= BLOCK_BYTES
    if small and len(rhs) < _TASKS:  # one block, whose lines SciPy deals to the threads
        with scipy.fft.set_workers(torch.get_num_threads()):
            return _solve_block(rhs, values[0], others, boundary)
    result = np.empty(rhs.shape, rhs.dtype)
    if small:
        at_once = max(1, min(BLOCK_BYTES // field_bytes, -(-len(result) // _TASKS)))
        _run([partial(_solve_block, a, values[0], others, boundary, b) for a, b in _slabs(rhs, result, at_once)])
        return result
    # Blocks do not depend on the number of threads, but there are enough of them for several to have equal parts.
    block_bytes = min(BLOCK_BYTES, field_bytes // 4)
    rows, columns = (max(1, block_bytes * size // field_bytes) for size in shape[:2])
    columns = -(-columns // 16) * 16 if ndim == 2 else columns  # whole cache lines
    cuts = [slice(start, start + columns) for start in range(0, shape[1], columns)]
    for sources, fields in _slabs(rhs, result, max(1, _TASKS * BLOCK_BYTES // field_bytes)):
        slabs = [pair for source, field in zip(sources, fields, strict=True) for pair in _slabs(source, field, rows)]
        _run([partial(_transform_slab, a, boundary[1:], b) for a, b in slabs])
        _run([partial(_solve_across, field[:, cut], values[0], others[cut], boundary[:1]) for field in fields for cut in cuts])
        _run([partial(_restore, slab, boundary[1:], 1) for _, slab in slabs])
    return result


def _slabs(given: np.ndarray, result: np.ndarray, rows: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Both cut along the first axis."""
    for start in range(0, len(result), rows):
        yield given[start : start + rows], result[start : start + rows]


def _solve_block(
    given: np.ndarray, first: np.ndarray, others: np.ndarray, boundary: tuple[str, ...], out: np.ndarray | None = None
) -> np.ndarray:
    spectrum = _transform(given, boundary, 1, in_place=False)  # where fields are small, quicker than to copy them
    rows = max(1, _DIVISOR_BYTES // max(1, others.nbytes))
    for start in range(0, len(first), rows):
        part = spectrum[:, start : start + rows]
        np.divide(part, first[start : start + rows] + others, out=part)
    solution = _restore(spectrum, boundary, 1)
    return solution if out is None else _keep(out, solution)


def _transform_slab(given: np.ndarray, boundary: tuple[str, ...], slab: np.ndarray) -> None:
    np.copyto(slab, given)
    _transform(slab, boundary, 1)


def _solve_across(block: np.ndarray, first: np.ndarray, others: np.ndarray, boundary: tuple[str, ...]) -> None:
    _transform(block, boundary, 0)
    np.divide(block, first + others, out=block)
    _restore(block, boundary, 0)


def _transform(array: np.ndarray, boundary: tuple[str, ...], first_axis: int, in_place: bool = True) -> np.ndarray:
    """Along the axes from ``first_axis`` on; returns the result, which is ``array`` itself if ``in_place``."""
    result = array
    for name, axes in _runs_of_axes(boundary, first_axis):
        overwrite = in_place or result is not array
        if name == "natural":
            result = scipy.fft.dctn(result, axes=axes, overwrite_x=overwrite)
        elif name == "fixed":
            result = scipy.fft.dstn(result, type=1, axes=axes, overwrite_x=overwrite)
        else:
            result = scipy.fftpack.rfft(result, axis=axes[0], overwrite_x=overwrite)
    return _keep(array, result) if in_place else result


def _restore(array: np.ndarray, boundary: tuple[str, ...], first_axis: int) -> np.ndarray:
    """Undoes :func:`_transform`, in place."""
    result = array
    for name, axes in _runs_of_axes(boundary, first_axis):
        if name == "natural":
            result = scipy.fft.idctn(result, axes=axes, overwrite_x=True)
        elif name == "fixed":
            result = scipy.fft.idstn(result, type=1, axes=axes, overwrite_x=True)
        else:
            result = scipy.fftpack.irfft(result, axis=axes[0], overwrite_x=True)
    return _keep(array, result)


def _runs_of_axes(boundary: tuple[str, ...], first_axis: int) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Neighbouring axes of one boundary, which SciPy takes together; the Fourier transform that is real to real takes one."""
    axis = first_axis
    for name, alike in itertools.groupby(boundary):
        axes = tuple(range(axis, axis := axis + len(list(alike))))
        yield from [(name, (one,)) for one in axes] if name == "periodic" else [(name, axes)]


def _keep(array: np.ndarray, result: np.ndarray) -> np.ndarray:
    """``overwrite_x`` allows SciPy to compute in place, but does not promise it."""
    if result.ctypes.data != array.ctypes.data or result.strides != array.strides:
        array[...] = result
    return array


def _run(tasks: list[Callable[[], object]]) -> None:
    """All tasks, by the calling thread and by helpers, as many as torch has threads; SciPy releases the lock of Python."""
    num_helpers = min(torch.get_num_threads(), len(tasks)) - 1
    if num_helpers < 1:
        workers = torch.get_num_threads() if len(tasks) == 1 else 1
        with scipy.fft.set_workers(workers):
            for task in tasks:
                task()
        return
    if num_helpers not in _pools:
        _pools[num_helpers] = ThreadPoolExecutor(num_helpers, thread_name_prefix="pt3d_largesteps grid")
    waiting = iter(tasks)

    def work() -> None:
        for task in waiting:  # of a list, which the lock of Python guards: each task goes to one thread
            task()

    helpers = [_pools[num_helpers].submit(work) for _ in range(num_helpers)]
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun is not waited for
            helper.result()
