"""The operators of the sparse Cholesky factorisation, ``torch.ops.pt3d_largesteps``, and all that torch wants of them.

    analyze(crow_indices, col_indices, positions, leaf_size, by_levels) -> index   the structure, one int32 buffer
    count_entries(index) -> count                                                  of L, without the zeros in dense blocks
    factorize(values, index, store_double) -> (factor, breakdown)                  the numbers
    solve(values, factor, index, rhs, direction) -> x                              M x = rhs
    solve_detached(values, factor, index, rhs, direction) -> x                     the same, without derivatives
    version() -> int                                                               of the compiled library

They are compiled (``csrc/``) or, where nothing is, those of ``reference.py``, which have no version. On CUDA there are
``factorize_levels``, ``solve_levels`` and ``solve_levels_detached``, for an index that was made with ``by_levels``, and
``cuda_version``. The three have one argument more, the plan: those numbers of the index that launch kernels, in a list of
Python's, since nobody waits for a GPU to read them.

``solve`` is differentiable in ``rhs`` and in the matrix's ``values``: with M symmetric and an upstream gradient g of
x = M^-1 b,

    dL/db = M^-1 g =: y,        dL/dM_ij = -y_i . x_j on the pattern of M,

and the backward pass calls the operator itself, so that every further derivative exists and is exact.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.autograd.forward_ad
from torch import Tensor

from pt3d_largesteps._checks import check_finite
from pt3d_largesteps.native import reference
from pt3d_largesteps.native.library import is_compiled, warn_not_compiled

HEADER_SIZE = reference.HEADER_SIZE
NAMESPACE = "pt3d_largesteps"

if not is_compiled():
    _library = torch.library.Library(NAMESPACE, "FRAGMENT")
    _library.define(
        "analyze(Tensor crow_indices, Tensor col_indices, Tensor? positions, int leaf_size, bool by_levels) -> Tensor"
    )
    _library.define("count_entries(Tensor index) -> Tensor")
    _library.define("factorize(Tensor values, Tensor index, bool store_double) -> (Tensor, Tensor)")
    _library.define("solve(Tensor values, Tensor factor, Tensor index, Tensor rhs, int direction) -> Tensor")
    _library.define("solve_detached(Tensor values, Tensor factor, Tensor index, Tensor rhs, int direction) -> Tensor")
    _library.impl("analyze", reference.analyze, "CPU")
    _library.impl("count_entries", reference.count_entries, "CPU")
    _library.impl("factorize", reference.factorize, "CPU")
    _library.impl("solve", reference.solve, "CPU")
    _library.impl("solve_detached", reference.solve, "CPU")

_ops = torch.ops.pt3d_largesteps
# Looked up once, and without an autograd formula to go through: both would show in what a small solve costs.
_solve_detached = _ops.solve_detached.default

Plan = Sequence[int]  # empty on the CPU


def analyze(
    crow_indices: Tensor, col_indices: Tensor, positions: Tensor | None, leaf_size: int, by_levels: bool = False
) -> Tensor:
    """The index buffer (int32) of a symmetric pattern with a full diagonal.

    Args:
        crow_indices, col_indices: (V + 1,) and (nnz,) int64, columns increasing in each row.
        positions: (V, 3) float64, finite, or None: what nested dissection cuts by, if given.
        leaf_size: parts of at most so many vertices are not cut any more.
        by_levels: for the operators of CUDA, to whose device the index is to be moved.

    All of it lies on the CPU.

    Raises:
        ValueError: a pattern that is not symmetric, not sorted, without a full diagonal, or too large for int32.
    """
    if not is_compiled():
        warn_not_compiled()
    try:
        return _ops.analyze(crow_indices, col_indices, positions, leaf_size, by_levels)
    except RuntimeError as error:
        raise _as_value_error(error) from None


def count_entries(index: Tensor) -> int:
    """Entries of the triangular factor, diagonal included, without the zeros that dense blocks keep."""
    return int(_ops.count_entries(index))


def factorize(values: Tensor, index: Tensor, store_double: bool, plan: Plan = ()) -> tuple[Tensor, Tensor]:
    """The factor, and (3,) float64: the vertex that breaks down, its pivot, its diagonal entry.

    The vertex is -1 where there is none, -2 where there is none but a number of the factor is not finite as it is stored.
    Of values (B, nnz), B matrices of one pattern, the factors (B, size) and (B, 3).
    """
    if plan:
        return _ops.factorize_levels(values, index, store_double, plan)
    return _ops.factorize(values, index, store_double)


def solve(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int = 0, plan: Plan = ()) -> Tensor:
    """x (V, k) with M x = rhs (V, k); ``direction`` counts the backward passes, for error messages.

    rhs and x may also be (B, V, k), where one matrix serves them all or values (B, nnz) and factor (B, size) hold one for
    each. A member of such a batch is solved as alone, to rounding.

    Differentiable in reverse and in forward mode, also under the transforms of ``torch.func``.

    Raises:
        ValueError: on the CPU, a number of rhs that is NaN or infinite, or a solution that the dtype cannot hold. On CUDA
            these are not looked for, since that would wait for the device.
    """
    transformed = False
    try:
        if torch.compiler.is_compiling():
            return _solve(values, factor, index, rhs, direction, plan)
        transformed = _is_transformed()
        if transformed:
            return _Solve.apply(values, factor, index, rhs, direction, _Whole(plan))
        if torch.is_grad_enabled() and (rhs.requires_grad or values.requires_grad or factor.requires_grad):
            return _EagerSolve.apply(values, factor, index, rhs, direction, plan)
        return _solve_without_derivatives(values, factor, index, rhs, direction, plan)
    except RuntimeError as error:
        if "rhs: expected" not in str(error):
            raise
        name = "rhs" if direction == 0 else "the gradient of the solution"
        if not transformed:  # the operator knows that there is such a number; which, is looked for only now
            check_finite(name, rhs.detach())
        raise ValueError(str(_as_value_error(error)).replace("rhs", name, 1)) from None


def _solve(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int, plan: Plan) -> Tensor:
    if plan:
        return _ops.solve_levels(values, factor, index, rhs, direction, plan)
    return _ops.solve(values, factor, index, rhs, direction)


def _solve_without_derivatives(
    values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int, plan: Plan
) -> Tensor:
    if plan:
        return _ops.solve_levels_detached(values, factor, index, rhs, direction, plan)
    return _solve_detached(values, factor, index, rhs, direction)


def entries(values: Tensor, index: Tensor) -> Tensor:
    """(2, nnz): the row and the column of each entry of the matrix."""
    return index[HEADER_SIZE : HEADER_SIZE + 2 * values.shape[-1]].view(2, -1)


def _as_value_error(error: RuntimeError) -> ValueError:
    """Without the place in the source that compiled errors begin with."""
    return ValueError(re.sub(r"^.*?\.cpp:\d+, ", "", str(error)))


def _is_transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _fake_analyze(
    crow_indices: Tensor, col_indices: Tensor, positions: Tensor | None, leaf_size: int, by_levels: bool
) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size(min=HEADER_SIZE)
    return crow_indices.new_empty(size, dtype=torch.int32)


def _fake_count_entries(index: Tensor) -> Tensor:
    return index.new_empty((), dtype=torch.int64)


def _fake_factorize(values: Tensor, index: Tensor, store_double: bool, plan: Plan = ()) -> tuple[Tensor, Tensor]:
    size = torch.library.get_ctx().new_dynamic_size()
    factor = values.new_empty((*values.shape[:-1], size), dtype=torch.float64 if store_double else values.dtype)
    return factor, values.new_empty((*values.shape[:-1], 3), dtype=torch.float64)


def _fake_solve(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int, plan: Plan = ()) -> Tensor:
    if not values.device == factor.device == index.device == rhs.device:
        raise ValueError(f"rhs: expected it on the device of the factor, {factor.device}, got it on {rhs.device}")
    return rhs.new_empty(rhs.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, factor, index, _, direction, *plan = inputs
    if factor.requires_grad:
        raise ValueError("factor: expected no gradient; a matrix is differentiated through its values")
    ctx.save_for_backward(values, factor, index, output)
    ctx.direction, ctx.num_inputs = direction, len(inputs)
    ctx.plan = plan[0] if plan else ()


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    values, factor, index, solution = ctx.saved_tensors
    rhs_gradient = solve(values, factor, index, gradient, ctx.direction + 1, ctx.plan)
    values_gradient = None
    if ctx.needs_input_grad[0]:
        pattern = entries(values, index)
        products = rhs_gradient.index_select(-2, pattern[0]) * solution.index_select(-2, pattern[1])
        values_gradient = -products.sum(-1)
        if values_gradient.dim() > values.dim():  # one matrix for a batch of right-hand sides
            values_gradient = values_gradient.sum(0)
    return values_gradient, None, None, rhs_gradient, *(None,) * (ctx.num_inputs - 4)


def _vmap(
    info: Any,
    in_dims: tuple[int | None, ...],
    values: Tensor,
    factor: Tensor,
    index: Tensor,
    rhs: Tensor,
    direction: int,
    plan: Plan = (),
) -> tuple[Tensor, int]:
    values_dim, factor_dim, index_dim, rhs_dim = in_dims[:4]
    if index_dim is not None or (values_dim is None) != (factor_dim is None):
        raise ValueError("vmap: expected one pattern for the whole batch, and a factor for each of the values")
    rhs = rhs.expand(info.batch_size, *rhs.shape) if rhs_dim is None else rhs.movedim(rhs_dim, 0)
    if values_dim is None and factor.dim() == 1:
        return _solve(values, factor, index, rhs.reshape(-1, *rhs.shape[-2:]), direction, plan).view(rhs.shape), 0
    if values_dim is None or factor_dim is None:  # a batch of matrices already, the same for all
        values, factor = (tensor.expand(info.batch_size, *tensor.shape) for tensor in (values, factor))
    else:
        values, factor = values.movedim(values_dim, 0), factor.movedim(factor_dim, 0)
    if factor.dim() == 2 and rhs.dim() == 4:  # one matrix for each batch of right-hand sides
        values, factor = (tensor[:, None].expand(*rhs.shape[:2], tensor.shape[1]) for tensor in (values, factor))
    values, factor = (tensor.reshape(-1, tensor.shape[-1]).contiguous() for tensor in (values, factor))
    return _solve(values, factor, index, rhs.reshape(-1, *rhs.shape[-2:]), direction, plan).view(rhs.shape), 0


torch.library.register_fake(f"{NAMESPACE}::analyze")(_fake_analyze)
torch.library.register_fake(f"{NAMESPACE}::count_entries")(_fake_count_entries)
for _suffix in ("", "_levels") if is_compiled() else ("",):
    torch.library.register_fake(f"{NAMESPACE}::factorize{_suffix}")(_fake_factorize)
    torch.library.register_fake(f"{NAMESPACE}::solve{_suffix}")(_fake_solve)
    torch.library.register_fake(f"{NAMESPACE}::solve{_suffix}_detached")(_fake_solve)
    torch.library.register_autograd(f"{NAMESPACE}::solve{_suffix}", _backward, setup_context=_setup_context)
    torch.library.register_vmap(f"{NAMESPACE}::solve{_suffix}")(_vmap)


class _EagerSolve(torch.autograd.Function):
    """The same where nothing is traced or transformed: what ``register_autograd`` costs is as much as a small solve."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int, plan: Plan) -> Tensor:
        solution = _solve_without_derivatives(values, factor, index, rhs, direction, plan)
        _setup_context(ctx, (values, factor, index, rhs, direction, plan), solution)
        return solution

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, gradient)


class _Whole:
    """A plan that vmap takes for one thing and does not look into."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


class _Solve(torch.autograd.Function):
    """The same for forward mode and the transforms of ``torch.func``, which ``register_autograd`` does not serve."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int, whole: _Whole) -> Tensor:
        return _solve(values, factor, index, rhs, direction, whole.plan)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, factor, index, rhs, direction, whole = inputs
        _setup_context(ctx, (values, factor, index, rhs, direction, whole.plan), output)
        ctx.save_for_forward(values, factor, index, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, gradient)

    @staticmethod
    def jvp(
        ctx: Any,
        values_tangent: Tensor | None,
        factor_tangent: Tensor | None,
        index_tangent: Tensor | None,
        rhs_tangent: Tensor | None,
        *_: Any,
    ) -> Tensor:
        """dx = M^-1 (db - dM x)."""
        values, factor, index, solution = ctx.saved_tensors
        change = torch.zeros_like(solution) if rhs_tangent is None else rhs_tangent
        if values_tangent is not None:
            pattern = entries(values, index)
            product = values_tangent[..., None] * solution.index_select(-2, pattern[1])
            change = change.index_add(-2, pattern[0], product, alpha=-1)
        return solve(values, factor, index, change, ctx.direction + 1, ctx.plan)
