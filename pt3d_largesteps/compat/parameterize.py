"""u = M x and back, under the names of ``largesteps.parameterize``.

Source of the interface: https://github.com/rgl-epfl/large-steps-pytorch, version 0.2.2.
"""

from __future__ import annotations

from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.compat._matrices import system_of
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.solvers import solve

SOLVERS = {"Cholesky": "auto", "CG": "conjugate_gradient"}


def to_differential(L: Tensor, v: Tensor) -> Tensor:
    """The differential coordinates u = L v.

    Args:
        L: sparse tensor (V, V), of :func:`~pt3d_largesteps.compat.compute_matrix`.
        v: (V,) or (V, C), of the dtype and device of L.

    Returns:
        u, of the shape of ``v``. Differentiable in both arguments, in L only once.

    Raises:
        TypeError, ValueError: no tensor, a wrong shape, dtype or device.

    Example:
        >>> u = to_differential(M, v).requires_grad_()
    """
    if not isinstance(L, Tensor | SystemMatrix):
        raise TypeError(f"L: expected a sparse tensor (V, V), of compute_matrix, got {describe(L)}")
    if len(L.shape) != 2 or L.shape[0] != L.shape[1]:
        raise ValueError(f"L: expected a square matrix (V, V), got {describe(L)}")
    if not isinstance(v, Tensor) or v.dim() not in (1, 2) or v.shape[0] != L.shape[0]:
        raise ValueError(f"v: expected a tensor of shape ({L.shape[0]},) or ({L.shape[0]}, C), got {describe(v)}")
    if v.dtype != L.dtype:
        raise TypeError(f"v: expected {L.dtype}, the dtype of L, got {describe(v)}")
    if v.device != L.device:
        raise ValueError(f"v: expected it on {L.device}, as L, got {describe(v)}")
    return L @ v


def from_differential(L: Tensor, u: Tensor, method: str = "Cholesky") -> Tensor:
    """The positions v = L^-1 u; the inverse of :func:`to_differential`.

    The first call with each method factorises L. The factor is kept as long as L lives, and computed again after an edit of L
    in place.

    Args:
        L: sparse tensor (V, V), symmetric positive definite.
        u: (V,) or (V, C), contiguous or not, of the dtype and device of L.
        method: "Cholesky", or "CG" for conjugate gradients, which start from the solution of the previous call.

    Returns:
        v, of the shape of ``u``. Differentiable to any order in ``u``; L counts as a constant
        (:func:`pt3d_largesteps.from_differential` has gradients in the matrix).

    Raises:
        TypeError, ValueError: an unknown method; a matrix that is not square, symmetric, finite and positive definite; a
            right-hand side of a wrong shape, dtype or device, or, on the CPU, with a number that is NaN or infinite.

    Example:
        >>> v = from_differential(M, u, 'Cholesky')
    """
    if method not in SOLVERS:
        raise ValueError(f"method: expected one of {list(SOLVERS)}, got {describe(method)}")
    system = system_of(L, "L")
    system.check_rhs("u", u)
    try:
        return solve(system, u, SOLVERS[method])
    except ValueError as error:
        if not str(error).startswith("rhs:"):
            raise
        raise ValueError(str(error).replace("rhs", "u", 1)) from None
