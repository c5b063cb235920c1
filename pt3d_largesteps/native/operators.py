"""The operators of the sparse Cholesky factorisation, ``torch.ops.pt3d_largesteps``, with all registrations for torch.

    analyze(crow_indices, col_indices, positions, leaf_size, by_levels) -> index   the structure, one int32 buffer
    count_entries(index) -> count                                                  of L, without the zeros in dense blocks
    factorize(values, index, store_double) -> (factor, breakdown)                  the numbers
    solve(values, factor, index, rhs, direction) -> x                              M x = rhs
    solve_detached(values, factor, index, rhs, direction) -> x                     the same, without derivatives
    version() -> int                                                               of the compiled library

They are compiled (``csrc/``). If nothing is compiled, they are those of ``reference.py``, which have no version. CUDA has
``factorize_levels``, ``solve_levels`` and ``solve_levels_detached``, for an index that was made with ``by_levels``, and
``cuda_version``. The three have one more argument, the plan: the numbers of the index that are needed to launch kernels, as a
Python list. So no launch waits for the GPU.

``solve`` is differentiable in ``rhs`` and in the matrix's ``values`` (linear_solve.py). The operators are differentiable too
when ``torch.compile`` traces them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite
from pt3d_largesteps.native import reference
from pt3d_largesteps.native.library import is_compiled, warn_not_compiled
from pt3d_largesteps.native.linear_solve import linear_solve

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
# Looked up once, and without an autograd formula: both would noticeably slow down a small solve.
_solve_detached = _ops.solve_detached.default

Plan = Sequence[int]  # empty on the CPU


def analyze(
    crow_indices: Tensor, col_indices: Tensor, positions: Tensor | None, leaf_size: int, by_levels: bool = False
) -> Tensor:
    """The index buffer (int32) of a symmetric pattern with a full diagonal.

    Args:
        crow_indices, col_indices: (V + 1,) and (nnz,) int64, columns increasing in each row.
        positions: (V, 3) float64, finite, or None. If given, nested dissection cuts by them.
        leaf_size: parts of at most this many vertices are not cut further.
        by_levels: make an index for the CUDA operators. The caller moves it to the device.

    All tensors are on the CPU.

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
    """Entries of the triangular factor, including the diagonal, without the zeros in dense blocks."""
    return int(_ops.count_entries(index))


def factorize(values: Tensor, index: Tensor, store_double: bool, plan: Plan = ()) -> tuple[Tensor, Tensor]:
    """The factor, and (3,) float64: the vertex that breaks down, its pivot, its diagonal entry.

    The vertex is -1 if none breaks down, and -2 if none does but a stored number of the factor is not finite. For values
    (B, nnz), B matrices of one pattern, the results are (B, size) and (B, 3).
    """
    if plan:
        return _ops.factorize_levels(values, index, store_double, plan)
    return _ops.factorize(values, index, store_double)


def solve(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int = 0, plan: Plan = ()) -> Tensor:
    """x (V, k) with M x = rhs (V, k). ``direction`` counts the backward passes, for error messages.

    rhs and x may also be (B, V, k). Then there is one matrix for all, or one for each in values (B, nnz) and factor (B, size).
    Each member of the batch gets the result that it would get alone, up to rounding.

    Differentiable in reverse and in forward mode, also under the transforms of ``torch.func``.

    Raises:
        ValueError: on the CPU, if rhs has NaN or infinity, or if the dtype cannot hold the solution. CUDA does not check,
            because the check would wait for the device.
    """
    if torch.compiler.is_compiling():
        return _solve(values, factor, index, rhs, direction, plan)
    return linear_solve(SparseInverse(index, plan), rhs, values, factor, direction=direction)


def _solve(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int, plan: Plan) -> Tensor:
    if plan:
        return _ops.solve_levels(values, factor, index, rhs, direction, plan)
    return _ops.solve(values, factor, index, rhs, direction)


class SparseInverse:
    """M^-1 with a factor, for :func:`~pt3d_largesteps.native.linear_solve.linear_solve`. Its numbers are the values of the
    matrix, and the factor, which counts as a constant."""

    __slots__ = ("index", "plan")

    def __init__(self, index: Tensor, plan: Plan) -> None:
        self.index, self.plan = index, plan

    def solve(self, rhs: Tensor, direction: int, numbers: Sequence[Tensor]) -> Tensor:
        """x (V, k) or (B, V, k)."""
        values, factor = numbers
        try:
            if self.plan:
                return _ops.solve_levels_detached(values, factor, self.index, rhs, direction, self.plan)
            return _solve_detached(values, factor, self.index, rhs, direction)
        except RuntimeError as error:
            if "rhs: expected" not in str(error):
                raise
            name = "rhs" if direction == 0 else "the gradient of the solution"
            check_finite(name, rhs.detach())  # the operator does not say which number it is
            raise ValueError(str(_as_value_error(error)).replace("rhs", name, 1)) from None

    def gradients(
        self, adjoint: Tensor, solution: Tensor, numbers: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[Tensor | None, None]:
        """-y_i . x_j on the pattern of M."""
        values = numbers[0]
        if needed[1]:
            raise ValueError("factor: expected no gradient; a matrix is differentiated through its values")
        if not needed[0]:
            return None, None
        rows, columns = entries(values, self.index)
        gradient = -(adjoint.index_select(-2, rows) * solution.index_select(-2, columns)).sum(-1)
        return (gradient.sum(0) if gradient.dim() > values.dim() else gradient), None  # one matrix for a batch of solves

    def change(self, solution: Tensor, numbers: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        """dM x. The factor has no tangent; torch gives it one of zeros."""
        values_tangent = tangents[0]
        if values_tangent is None:
            return torch.zeros_like(solution)
        rows, columns = entries(values_tangent, self.index)
        products = values_tangent[..., None] * solution.index_select(-2, columns)
        return torch.zeros_like(solution).index_add(-2, rows, products)

    def vmap(
        self, info: Any, in_dims: Sequence[int | None], direction: int, rhs: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """More right-hand sides (B, V, k), each with its own matrix where the values are batched too."""
        rhs, values, factor, shape = _batched(info.batch_size, in_dims, rhs, *numbers)
        return linear_solve(self, rhs, values, factor, direction=direction).view(shape), 0


def entries(values: Tensor, index: Tensor) -> Tensor:
    """(2, nnz): the row and the column of each entry of the matrix."""
    return index[HEADER_SIZE : HEADER_SIZE + 2 * values.shape[-1]].view(2, -1)


def _as_value_error(error: RuntimeError) -> ValueError:
    """Removes the place in the source code, with which compiled errors begin."""
    return ValueError(re.sub(r"^.*?\.cpp:\d+, ", "", str(error)))


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


_ONE_PATTERN = "vmap: expected one pattern for the whole batch, and a factor for each of the values"


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    values, factor, index, solution = ctx.saved_tensors
    adjoint = solve(values, factor, index, gradient, ctx.direction + 1, ctx.plan)
    needed = (ctx.needs_input_grad[0], False)
    values_gradient = SparseInverse(index, ctx.plan).gradients(adjoint, solution, (values, factor), needed)[0]
    return values_gradient, None, None, adjoint, *(None,) * (ctx.num_inputs - 4)


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
    if index_dim is not None:
        raise ValueError(_ONE_PATTERN)
    rhs, values, factor, shape = _batched(info.batch_size, (rhs_dim, values_dim, factor_dim), rhs, values, factor)
    return _solve(values, factor, index, rhs, direction, plan).view(shape), 0


def _batched(
    batch_size: int, in_dims: Sequence[int | None], rhs: Tensor, values: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor, Tensor, torch.Size]:
    """The arguments of one solve for the whole batch, and the shape of its solution with the batch in front."""
    rhs_dim, values_dim, factor_dim = in_dims
    if (values_dim is None) != (factor_dim is None):
        raise ValueError(_ONE_PATTERN)
    rhs = rhs.expand(batch_size, *rhs.shape) if rhs_dim is None else rhs.movedim(rhs_dim, 0)
    if values_dim is None and factor.dim() == 1:
        return rhs.reshape(-1, *rhs.shape[-2:]), values, factor, rhs.shape
    if values_dim is None or factor_dim is None:  # already a batch of matrices, the same for all members
        values, factor = (tensor.expand(batch_size, *tensor.shape) for tensor in (values, factor))
    else:
        values, factor = values.movedim(values_dim, 0), factor.movedim(factor_dim, 0)
    if factor.dim() == 2 and rhs.dim() == 4:  # one matrix for each batch of right-hand sides
        values, factor = (tensor[:, None].expand(*rhs.shape[:2], tensor.shape[1]) for tensor in (values, factor))
    values, factor = (tensor.reshape(-1, tensor.shape[-1]).contiguous() for tensor in (values, factor))
    return rhs.reshape(-1, *rhs.shape[-2:]), values, factor, rhs.shape


torch.library.register_fake(f"{NAMESPACE}::analyze")(_fake_analyze)
torch.library.register_fake(f"{NAMESPACE}::count_entries")(_fake_count_entries)
for _suffix in ("", "_levels") if is_compiled() else ("",):
    torch.library.register_fake(f"{NAMESPACE}::factorize{_suffix}")(_fake_factorize)
    torch.library.register_fake(f"{NAMESPACE}::solve{_suffix}")(_fake_solve)
    torch.library.register_fake(f"{NAMESPACE}::solve{_suffix}_detached")(_fake_solve)
    torch.library.register_autograd(f"{NAMESPACE}::solve{_suffix}", _backward, setup_context=_setup_context)
    torch.library.register_vmap(f"{NAMESPACE}::solve{_suffix}")(_vmap)
