"""Conjugate gradients on a grid with a mask or a lambda per texel, preconditioned by the solve of a grid without.

Nothing is assembled: products are differences along the axes, and the preconditioner is the exact solve on the whole grid
with the mean weights of the edges, between two multiplications that scale by the strength at each texel,

    P^-1 = S^-1 (c_0 I + sum_k c_k L_k)^-1 S^-1,    S^2 = W_0 + the sum of the edges' weights at the texel / 8 K,

restricted to the valid texels (of the multiples of 1 / K an eighth took the fewest iterations, for smooth strengths and steps
of four orders, islands and noise). It takes care of long waves, which Jacobi's does not, so that the iterations do not grow
with the grid or with lambda, only with how ragged the mask is and how much lambda varies.

Source: Concus, Golub, "Use of Fast Direct Methods for the Efficient Numerical Solution of Nonseparable Elliptic Equations",
SIAM J. Numer. Anal. 10(6), 1973.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_number
from pt3d_largesteps.grids.differences import both_valid, mean_of_ends, multiply_out
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.solvers.conjugate_gradient import ConvergenceError
from pt3d_largesteps.solvers.grid.cosine import grid_solve


class GridConjugateGradientSolver:
    """Preconditioned conjugate gradients for a :class:`~pt3d_largesteps.GridMatrix`, each channel of each field by itself.

    A channel stops at |r| <= tolerance |b|. The solution of the previous call of the same direction is the first guess,
    where it is better than none.

    Args:
        matrix: of which the numbers are taken as they are now.
        like: a tensor of the dtype and device of the fields.
        tolerance: 1e-6 for float32 and 1e-12 for float64 unless given.
        max_iterations: 1,000 unless given.

    Attributes:
        iterations: of the last solve.

    Raises:
        ConvergenceError: in ``solve``, the tolerance was not reached.

    Example:
        >>> x = from_differential(matrix, u, solver=functools.partial(GridConjugateGradientSolver, tolerance=1e-4))
    """

    def __init__(
        self, matrix: GridMatrix, like: Tensor, *, tolerance: float | None = None, max_iterations: int | None = None
    ) -> None:
        default = 1e-6 if like.dtype == torch.float32 else 1e-12
        self.tolerance = default if tolerance is None else check_number("tolerance", tolerance, low=0.0, low_open=True)
        self.max_iterations = 1000 if max_iterations is None else int(check_number("max_iterations", max_iterations, low=1))
        self.iterations = 0
        self._boundary, self._mask = matrix.boundary, matrix.mask
        self._letters = "".join(name[0] for name in matrix.boundary)
        with torch.no_grad():
            self._weights = [weight.detach() for weight in matrix.weights(like)]
            self._precondition_by(matrix, like)
        self._guesses: dict[int, Tensor] = {}

    def _precondition_by(self, matrix: GridMatrix, like: Tensor) -> None:
        """The diagonal scaling and the mean weights, of the valid texels and the edges between them."""
        ndim, mask = matrix.ndim, matrix.mask
        if matrix.is_uniform:
            self._scale, self._coefficients = like.new_ones(()), matrix.coefficients(like.device).detach()
            return
        diagonal = self._weights[0] + like.new_zeros(matrix.shape)
        for k, name in enumerate(matrix.boundary):
            diagonal = diagonal + _sums_at_ends(self._weights[k + 1], k - ndim, matrix.shape[k], name) / (8 * ndim)
        valid = torch.ones(matrix.shape, device=like.device, dtype=torch.bool) if mask is None else mask
        self._scale = (diagonal / _mean(diagonal, valid).to(like)).rsqrt()  # 1 / S
        coefficients = [_mean(self._weights[0] * self._scale**2, valid)]
        for k, name in enumerate(matrix.boundary):
            axis = k - ndim
            # 1 / (S_i S_j), by the mean of its squares: it only has to be near
            scaled = self._weights[k + 1] * mean_of_ends(self._scale, axis, name) ** 2
            coefficients.append(_mean(scaled, both_valid(valid, axis, name)))
        self._coefficients = torch.cat([c.double().reshape(-1, 1) for c in coefficients], dim=1)
        if mask is not None:
            self._scale = self._scale * mask

    @torch.no_grad()
    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        """x = M^-1 rhs, (N, C, *shape)."""
        if rhs.numel() == 0:
            return torch.zeros_like(rhs)
        axes = tuple(range(2, rhs.dim()))
        if rhs.device.type == "cpu":
            check_finite("rhs" if direction == 0 else "the gradient of the solution", rhs)
        scale = rhs.abs().amax(axes, keepdim=True)  # squares of 1e-20 or 1e20 would leave the range of float32
        scale = torch.where(scale > 0, scale, 1)
        valid = rhs / scale
        if self._mask is not None:
            valid.mul_(self._mask)
        x = self._iterate(valid, scale, direction, axes).mul_(scale)
        self._guesses[direction] = x
        return x.clone() if self._mask is None else torch.where(self._mask, x, rhs)

    def _iterate(self, rhs: Tensor, scale: Tensor, direction: int, axes: tuple[int, ...]) -> Tensor:
        """For right-hand sides whose largest entry is 1, or that are zero, and 0 outside of the mask."""
        target = self.tolerance * _norm(rhs, axes)
        x, residual = torch.zeros_like(rhs), rhs
        guess = self._guesses.get(direction)
        if guess is not None and guess.shape == rhs.shape:
            guess = guess / scale
            of_guess = rhs - multiply_out(guess, self._weights, self._boundary)
            better = _norm(of_guess, axes) < _norm(rhs, axes)
            x, residual = torch.where(better, guess, x), torch.where(better, of_guess, residual)
        residual = residual.clone() if residual is rhs else residual
        search, rho = None, None
        product = torch.empty_like(rhs)
        for iteration in range(self.max_iterations + 1):
            norm = _norm(residual, axes)
            converged = bool((norm <= target).all())
            if converged or iteration == self.max_iterations or not bool(torch.isfinite(norm).all()):
                break
            preconditioned = self._precondition(residual)
            rho, previous = (residual * preconditioned).sum(axes, keepdim=True), rho
            search = preconditioned if search is None else search.mul_(_ratio(rho, previous)).add_(preconditioned)
            multiply_out(search, self._weights, self._boundary, out=product)
            step = _ratio(rho, (search * product).sum(axes, keepdim=True))
            x.addcmul_(search, step)
            residual.addcmul_(product, step, value=-1)
        self.iterations = iteration
        # The recurrence for the residual drifts away from the residual: look at that once, at the end.
        error = _norm(rhs - multiply_out(x, self._weights, self._boundary), axes)
        bound = torch.maximum(10 * target, 1e3 * torch.finfo(rhs.dtype).eps * _norm(rhs, axes))
        if not converged or not bool((error <= bound).all()):
            worst = float(torch.where(target > 0, error / _norm(rhs, axes), 0).max())
            raise ConvergenceError(
                f"conjugate gradients: expected a relative residual of {self.tolerance:g} within {self.max_iterations}"
                f" iterations, got {worst:.2g} after {self.iterations}; raise max_iterations or the tolerance, take a smaller"
                " lambda or float64, or the Cholesky solver"
            )
        return x

    def _precondition(self, residual: Tensor) -> Tensor:
        return grid_solve(residual * self._scale, self._coefficients, self._letters).mul_(self._scale)


def _norm(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.linalg.vector_norm(field, dim=axes, keepdim=True)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 where a channel has converged exactly: it stays where it is."""
    return torch.where(denominator > 0, numerator / denominator, 0)


def _sums_at_ends(weight: Tensor, axis: int, size: int, boundary: str) -> Tensor:
    """What edges along an axis add to the diagonal of their texels."""
    if boundary == "periodic":
        return weight + weight.roll(1, axis)
    if boundary == "natural":
        shape = list(weight.shape)
        shape[axis] = 1
        weight = torch.cat([weight.new_zeros(shape), weight, weight.new_zeros(shape)], axis)
    return weight.narrow(axis, 0, size) + weight.narrow(axis, 1, size)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Of the valid ones, for each matrix of a batch; in float64."""
    axes = tuple(range(-valid.dim(), 0))
    count = max(1, int(valid.sum()))
    return torch.where(valid, values, 0).sum(axes, keepdim=True, dtype=torch.float64) / count
