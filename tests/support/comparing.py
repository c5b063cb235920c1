"""Comparisons for tests that run on every device and every processor.

Which instructions a processor has, which BLAS torch brings and how many threads there are decide in which order a sum is
taken and whether a product is rounded before it is added. So two right results differ, and how far is no property of the
machine that a test was written on: the bounds here follow from the arithmetic alone. The references are to N. Higham, Accuracy
and Stability of Numerical Algorithms, 2nd edition. ``eps`` is ``torch.finfo(dtype).eps``, twice the unit roundoff u.

On CUDA, torch adds what falls on one entry (``index_add``) in any order, so that matrices and derivatives, unlike solves,
differ from run to run by rounding; and each of many small operations costs a launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps import SystemMatrix
from support.matrices import backward_error, inverse_norm, row_sum_norm, scipy_solve

# A solve is as good as one of a matrix that is off by this many eps, relative to its largest row sum. Theorem 10.4 has the
# length of the longest sum in the place of 8. Where factors are sparse, as here, those sums are short, tens to a few hundred
# terms, and their roundings cancel, so that of the length n the square root is left (section 2.8); norms overestimate the rest.
BACKWARD_ERROR = 8.0


def assert_same_sums(actual: Tensor, expected: Tensor) -> None:
    """Numbers made by the same sums: equal to the bit on the CPU, to rounding on CUDA."""
    if actual.is_cuda:
        torch.testing.assert_close(actual, expected)
    else:
        assert torch.equal(actual, expected)


def assert_equal_to_rounding(actual: Tensor, expected: Tensor, roundings: int, scale: float | Tensor | None = None) -> None:
    """Two results of one formula, of which every number comes of a few roundings: |actual - expected| <= roundings eps scale.

    Each of n roundings moves a result by u times the largest number on the way at the most, on both sides: 2 n u = n eps.

    Args:
        actual, expected: of the same shape; the eps is that of the coarser dtype.
        roundings: the additions, multiplications and other functions on the way to one entry, in the longest order. A sum of
            k terms has k; an entry of a matrix product of length k as well (3.5).
        scale: the largest number on the way, or one for each entry: for a sum, that of the absolute values of its terms. By
            default the largest of the expected ones, for which nothing may cancel.

    Example:
        >>> assert_equal_to_rounding(field.sum(), field.flip(0).sum(), len(field), field.abs().sum())
    """
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if expected.numel() == 0:
        return
    scale = expected.detach().abs().max() if scale is None else scale
    eps = max(torch.finfo(actual.dtype).eps, torch.finfo(expected.dtype).eps)
    error = (actual.detach().double() - expected.detach().double().to(actual.device)).abs()
    bound = (roundings * eps * torch.as_tensor(scale, dtype=torch.float64, device=error.device)).expand_as(error)
    worst = (error - bound).nan_to_num(nan=torch.inf).argmax()
    assert (error <= bound).all(), f"{error.view(-1)[worst]:g} > {bound.reshape(-1)[worst]:g} at entry {int(worst)}"


def assert_product_close(matrix: SystemMatrix | Tensor, x: Tensor, product: Tensor) -> None:
    """``product`` is M x: |product - M x| <= n eps |M| |x| entry by entry, n the entries of the longest row.

    Any order of the sum, fused or not, errs by gamma_n |M| |x| at the most, and gamma_n = n u / (1 - n u) (3.5). The truth is
    taken in float64; where the product is in float64 as well it errs as much, and the sum of both is n eps.

    Args:
        matrix: a matrix, or a dense tensor ``(..., V, V)``.
        x: ``(..., V, k)``, or ``(V,)``; in the dtype of the product, which need not be that of the matrix.
        product: what was found.
    """
    dense = matrix.to_dense() if isinstance(matrix, SystemMatrix) else matrix
    dense, column = dense.detach().double(), x.detach().double()
    longest = int((dense != 0).sum(-1).max()) if dense.numel() else 0
    assert_equal_to_rounding(product, (dense @ column).to(product.dtype), longest + 1, dense.abs() @ column.abs())


def assert_solves(matrix: SystemMatrix, rhs: Tensor, solution: Tensor, backward_errors: float = BACKWARD_ERROR) -> None:
    """||b - M x|| <= backward_errors eps (||M|| ||x|| + ||b||), in the largest row sum, the residual taken in float64.

    That is what a stable solve promises, whatever the condition of the matrix (7.1 and 10.4); see ``BACKWARD_ERROR``.

    Args:
        matrix: one matrix.
        rhs, solution: ``(V,)`` or ``(V, k)``; eps is that of the solution's dtype.
        backward_errors: more where the right-hand side was rounded before.
    """
    error = backward_error(matrix.to(torch.float64), solution.detach().double(), rhs.detach().double())
    assert error <= backward_errors * torch.finfo(solution.dtype).eps, error


def assert_solution_close(
    matrix: SystemMatrix, rhs: Tensor, solution: Tensor, expected: Tensor | None = None, backward_errors: float = BACKWARD_ERROR
) -> None:
    """||x - truth|| <= ||M^-1|| backward_errors eps (||M|| ||x|| + ||b||): the backward error times the condition (7.1).

    Args:
        matrix, rhs, solution: as in :func:`assert_solves`; eps is that of the solution's dtype.
        expected: the truth; where it is not given the solution by SuperLU in float64, which is only as good as float64's eps
            times the condition, and so is counted among the errors.
        backward_errors: as in :func:`assert_solves`.
    """
    if rhs.numel() == 0:
        assert solution.shape == rhs.shape
        return
    expected = scipy_solve(matrix, rhs.detach()) if expected is None else expected
    size = row_sum_norm(matrix) * float(expected.detach().abs().max()) + float(rhs.detach().abs().max())
    eps = torch.finfo(solution.dtype).eps + torch.finfo(torch.float64).eps
    bound = inverse_norm(matrix) * backward_errors * eps * size
    error = float((solution.detach().double() - expected.detach().double()).abs().max())
    assert error <= bound, f"{error:g} > {bound:g}"


def assert_comes_back(matrix: SystemMatrix, x: Tensor, back: Tensor) -> None:
    """``back`` is the solution of M back = fl(M x): ||back - x|| <= cond(M) (n + 2 BACKWARD_ERROR) eps ||x||.

    The product errs by n u ||M|| ||x|| at the most (see :func:`assert_product_close`), the solve by its backward error, of
    ||M|| ||x|| twice, and ||M^-1|| carries both over to the solution.

    Args:
        matrix: one matrix, with entries of the longest row n.
        x, back: ``(V,)`` or ``(V, k)``; eps is that of the dtype of ``back``.
    """
    longest = int(matrix.crow_indices.diff().max()) if matrix.shape[0] else 0
    assert_solution_close(matrix, matrix.to(x.dtype) @ x, back, expected=x, backward_errors=BACKWARD_ERROR + longest)


def assert_same_path(actual: Tensor, expected: Tensor, num_steps: int) -> None:
    """A parameter after as many steps of two optimisers of the same gradients: within 16 roundings a step.

    A step of Adam takes a dozen operations on numbers no larger than the step or the parameter, whichever is larger, and their
    errors add up from step to step; none is amplified, as the gradients do not depend on the parameter.
    """
    scale = expected.detach().abs().max().clamp_min(1.0) if expected.numel() else 1.0
    assert_equal_to_rounding(actual, expected, 16 * num_steps, scale)


def gradcheck(function: Callable, inputs: Any, **options: Any) -> bool:
    """torch's; on CUDA through a random projection of the derivatives, whose every entry is looked at on the CPU."""
    return torch.autograd.gradcheck(function, inputs, **{**_options(inputs), **options})


def gradgradcheck(function: Callable, inputs: Any, **options: Any) -> bool:
    """As :func:`gradcheck`."""
    return torch.autograd.gradgradcheck(function, inputs, **{**_options(inputs), **options})


def _options(inputs: Any) -> dict[str, Any]:
    first = inputs if isinstance(inputs, Tensor) else inputs[0]
    return {"fast_mode": True, "nondet_tol": 1e-10} if first.is_cuda else {}
