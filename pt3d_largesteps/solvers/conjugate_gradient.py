"""Conjugate gradients with a Jacobi preconditioner, for all columns together; needs only torch.

Reference: Shewchuk, "An Introduction to the Conjugate Gradient Method Without the Agonizing Pain", 1994, B3.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_number, describe
from pt3d_largesteps.matrices.system import SystemMatrix


class ConvergenceError(RuntimeError):
    """The iteration did not reach its tolerance."""


class ConjugateGradientSolver:
    """Preconditioned conjugate gradients for one symmetric positive definite matrix.

    Each column stops at |r| <= tolerance |b|. At the end the true residual is checked. The norms are those of whole
    columns: a small mesh next to a far larger one in the same batch is solved less exactly than alone (a Cholesky solver
    separates them). The first guess is the solution of the previous call with the same direction, if it is better than
    zero. So the calls of one optimisation need fewer and fewer iterations. The host reads the residual only every
    ``check_every`` iterations.

    Args:
        matrix: float32 or float64.
        tolerance: relative to the norm of each column of the right-hand side; by default 1e-6 for float32 and 1e-12 for
            float64.
        max_iterations: by default 10 sqrt(V) + 1000.
        check_every: iterations between two checks of the residual.

    Raises:
        ConvergenceError: the tolerance was not reached.
        ValueError: the matrix is not positive definite.

    Example:
        >>> x = solve(matrix, u, solver=functools.partial(ConjugateGradientSolver, tolerance=1e-4))
    """

    def __init__(
        self,
        matrix: SystemMatrix,
        *,
        tolerance: float | None = None,
        max_iterations: int | None = None,
        check_every: int = 8,
    ) -> None:
        if matrix.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"matrix: conjugate gradients expect float32 or float64, got {describe(matrix.values)}")
        default_tolerance = 1e-6 if matrix.dtype == torch.float32 else 1e-12
        self.tolerance = (
            default_tolerance if tolerance is None else check_number("tolerance", tolerance, low=0.0, low_open=True)
        )
        if max_iterations is None:
            max_iterations = int(10 * matrix.shape[0] ** 0.5) + 1000
        self.max_iterations = int(check_number("max_iterations", max_iterations, low=1))
        self.check_every = int(check_number("check_every", check_every, low=1))
        self.iterations = 0  # of the last solve
        with warnings.catch_warnings():  # torch's CSR is "in beta state"; the products used here are reliable
            warnings.simplefilter("ignore")
            self._matrix = torch.sparse_csr_tensor(
                matrix.crow_indices, matrix.col_indices, matrix.values.detach(), matrix.shape, check_invariants=True
            )
        diagonal = matrix.diagonal().detach()
        if bool((diagonal <= 0).any()):
            vertex = int((diagonal <= 0).nonzero()[0])
            raise ValueError(
                f"matrix: expected a positive definite matrix, got {diagonal[vertex].item():g} on the diagonal at row {vertex}"
            )
        self._inverse_diagonal = diagonal.reciprocal()[:, None]
        row_sums = torch.zeros_like(diagonal).index_add(0, matrix.row_indices, matrix.values.detach().abs())
        self._norm = row_sums.max() if row_sums.numel() else row_sums.sum()  # the infinity norm of M
        self._guesses: dict[int, Tensor] = {}

    @torch.no_grad()
    def solve(self, rhs: Tensor, direction: int = 0) -> Tensor:
        """x = M^-1 rhs, (V, k)."""
        if rhs.numel() == 0:
            return torch.zeros_like(rhs)
        scale = rhs.abs().amax(0)  # (k,); squares of 1e-20 or 1e20 would leave the range of float32
        scale = torch.where(scale > 0, scale, 1)
        x = self._solve_scaled(rhs / scale, scale, direction) * scale
        self._guesses[direction] = x
        return x.clone()

    def _solve_scaled(self, rhs: Tensor, scale: Tensor, direction: int) -> Tensor:
        """Solves for columns whose largest entry is 1, or which are zero."""
        target = (self.tolerance * rhs.norm(dim=0)) ** 2  # (k,)
        guess = self._guesses.get(direction)
        x = torch.zeros_like(rhs)
        if guess is not None and guess.shape == rhs.shape:
            guess = guess / scale
            # A guess that is worse than zero would lose digits for good.
            x = torch.where((rhs - self._matrix @ guess).norm(dim=0) < rhs.norm(dim=0), guess, 0)
        residual = rhs - self._matrix @ x
        preconditioned = self._inverse_diagonal * residual
        search = preconditioned
        rho = (residual * preconditioned).sum(0)  # (k,)
        indefinite = torch.zeros((), dtype=torch.bool, device=rhs.device)
        for iteration in range(self.max_iterations + 1):
            if iteration % self.check_every == 0 or iteration == self.max_iterations:
                converged = ((residual * residual).sum(0) <= target).all()
                if bool(converged | indefinite):
                    break
            product = self._matrix @ search
            curvature = (search * product).sum(0)
            indefinite |= (curvature < 0).any()
            # A column that has converged exactly would divide zero by zero: it keeps its solution.
            step = torch.where(curvature > 0, rho / curvature, 0)
            x = x + step * search
            residual = residual - step * product
            preconditioned = self._inverse_diagonal * residual
            rho, previous = (residual * preconditioned).sum(0), rho
            search = preconditioned + torch.where(previous > 0, rho / previous, 0) * search
        self.iterations = iteration
        if bool(indefinite):
            raise ValueError("matrix: expected a positive definite matrix, got a direction of negative curvature")
        self._check(x, rhs, bool(converged))
        return x

    def _check(self, x: Tensor, rhs: Tensor, converged: bool) -> None:
        """Checks the true residual once, at the end: the residual of the recurrence drifts away from it."""
        error = (rhs - self._matrix @ x).abs().amax(0) / (self._norm * x.abs().amax(0) + rhs.abs().amax(0))
        worst = torch.where(rhs.abs().amax(0) > 0, error, 0).max().item()
        bound = max(10 * self.tolerance, 1e3 * torch.finfo(rhs.dtype).eps)
        if not (converged and worst <= bound):
            raise ConvergenceError(
                f"conjugate gradients: expected a relative residual of {self.tolerance:g} within {self.max_iterations}"
                f" iterations, got a backward error of {worst:.2g} after {self.iterations}; raise max_iterations or the"
                " tolerance, or use a Cholesky solver"
            )
