"""Grids as sparse matrices: the Laplacian, and M over all or over the valid texels, for the solvers of graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pt3d_largesteps.grids.differences import edge_list
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.matrices.edges import Assembly
from pt3d_largesteps.matrices.laplacian import laplacian_from_edges
from pt3d_largesteps.matrices.system import SystemMatrix


def grid_laplacian(
    shape: Sequence[int],
    boundary: str | Sequence[str] = "natural",
    spacing: float | Sequence[float] = 1.0,
    mask: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """The Laplacian of a regular grid as a sparse tensor, positive semidefinite, off the diagonal -1 / spacing^2.

    Args:
        shape: (L,), (H, W) or (D, H, W), each at least 1. Rows are texels in row-major order.
        boundary: "natural", "periodic" or "fixed", for all axes or for each.
        spacing: distance of neighbours, for all axes or for each, larger than 0.
        mask: bool tensor of ``shape``; the rows of texels that are not valid are empty.
        dtype, device: of the result.

    Returns:
        Coalesced sparse COO tensor (T, T), T the number of texels.

    Raises:
        TypeError, ValueError: as :class:`GridMatrix`.

    Example:
        >>> grid_laplacian((3,)).to_dense()
        tensor([[ 1., -1.,  0.],
                [-1.,  2., -1.],
                [ 0., -1.,  1.]])
    """
    matrix = GridMatrix(shape, 1.0, boundary=boundary, spacing=spacing, mask=mask, device=device)
    like = torch.empty(0, dtype=dtype, device=matrix.device)
    weights = [weight.reshape(weight.shape[-matrix.ndim :]) for weight in matrix.weights(like)[1:]]
    edges, edge_weights, excess = edge_list(matrix.shape, matrix.boundary, weights, matrix.device)
    kept = edge_weights != 0
    laplacian = laplacian_from_edges(edges[kept], edge_weights[kept], math.prod(matrix.shape))
    rows = excess.nonzero().squeeze(1)
    outside = torch.sparse_coo_tensor(torch.stack([rows, rows]), excess[rows], laplacian.shape, check_invariants=True)
    return (laplacian + outside).coalesce() if len(rows) else laplacian


def grid_system_matrix(matrix: GridMatrix, dtype: torch.dtype = torch.float32, *, valid_only: bool = False) -> SystemMatrix:
    """M of a grid as a sparse matrix over the texels in row-major order, differentiable in lambda.

    Args:
        matrix: with one lambda for all fields.
        dtype: float32 or float64.
        valid_only: over the valid texels of the mask only.

    Raises:
        ValueError: lambda is one per field of the batch.

    Example:
        >>> x = solve(grid_system_matrix(matrix), field.flatten(2)[0].T.contiguous())     # (T, C)
    """
    if matrix.batch_size is not None:
        raise ValueError(f"matrix: expected one lambda for all fields, got one for each of {matrix.batch_size}")
    like = torch.empty(0, dtype=dtype, device=matrix.device)
    identity, *weights = (weight.reshape(weight.shape[-matrix.ndim :]) for weight in matrix.weights(like))
    edges, edge_weights, diagonal = edge_list(matrix.shape, matrix.boundary, weights, matrix.device)
    diagonal = diagonal + identity.expand(matrix.shape).reshape(-1)
    places = torch.ones(matrix.shape, device=matrix.device).nonzero().to(torch.float32)
    if matrix.mask is not None:
        valid = matrix.mask.flatten()
        kept = valid[edges].all(1)
        edges, edge_weights = edges[kept], edge_weights[kept]
        if valid_only:
            edges = (valid.cumsum(0) - 1)[edges]
            diagonal, places = diagonal[valid], places[valid]
    assembly = Assembly(edges, len(diagonal))
    positions = torch.nn.functional.pad(places * places.new_tensor(matrix.spacing), (0, 3 - matrix.ndim))
    values = assembly.values(edge_weights, diagonal)
    return SystemMatrix(assembly.crow_indices, assembly.col_indices, values, positions)
