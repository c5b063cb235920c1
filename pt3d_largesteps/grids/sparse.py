"""Grids as sparse matrices: the Laplacian, and M over all texels or over the valid texels, for the sparse solvers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pt3d_largesteps.grids.differences import edges_of_grid, weights_of_edges
from pt3d_largesteps.grids.matrix import GridMatrix
from pt3d_largesteps.matrices.assembly import Assembly
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
    """The Laplacian of a regular grid as a sparse tensor; positive semidefinite, with -1 / spacing^2 off the diagonal.

    Args:
        shape: (L,), (H, W) or (D, H, W), each at least 1. Rows are texels in row-major order.
        boundary: "natural", "periodic" or "fixed", for all axes or for each.
        spacing: distance of neighbours, for all axes or for each, larger than 0.
        mask: bool tensor of ``shape``; the rows of invalid texels are empty.
        dtype, device: of the result.

    Returns:
        Coalesced sparse COO tensor (T, T), T the number of texels.

    Raises:
        TypeError, ValueError: see :class:`GridMatrix`.

    Example:
        >>> grid_laplacian((3,)).to_dense()
        tensor([[ 1., -1.,  0.],
                [-1.,  2., -1.],
                [ 0., -1.,  1.]])
    """
    matrix = GridMatrix(shape, 1.0, boundary=boundary, spacing=spacing, mask=mask, device=device)
    like = torch.empty(0, dtype=dtype, device=matrix.device)
    weights = [weight.reshape(weight.shape[-matrix.ndim :]) for weight in matrix.weights(like)[1:]]
    edges = edges_of_grid(matrix.shape, matrix.boundary, matrix.device)
    edge_weights, excess = weights_of_edges(matrix.shape, matrix.boundary, weights)
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
        valid_only: the rows are only the valid texels of the mask.

    Raises:
        ValueError: the matrix has one lambda per field of the batch.

    Example:
        >>> x = solve(grid_system_matrix(matrix), field.flatten(2)[0].T.contiguous())     # (T, C)
    """
    if matrix.batch_size is not None:
        raise ValueError(f"matrix: expected one lambda for all fields, got one for each of {matrix.batch_size}")
    like = torch.empty(0, dtype=dtype, device=matrix.device)
    identity, *weights = (weight.reshape(weight.shape[-matrix.ndim :]) for weight in matrix.weights(like))
    edge_weights, diagonal = weights_of_edges(matrix.shape, matrix.boundary, weights)
    diagonal = diagonal + identity.expand(matrix.shape).reshape(-1)
    places = places_of(matrix, valid_only)
    if places.kept_edges is not None:
        edge_weights = edge_weights.index_select(0, places.kept_edges)
    if places.texels is not None:
        diagonal = diagonal.index_select(0, places.texels)
    values = places.assembly.values(edge_weights, diagonal)
    return SystemMatrix.of_pattern(places.assembly.pattern, values, places.positions)


@dataclass(frozen=True)
class GridPlaces:
    """The parts of a grid's sparse matrix that do not depend on lambda.

    Attributes:
        assembly: of the edges between the rows.
        positions: (V, 3), the positions of the rows in space.
        kept_edges: (E,) int64, which of the grid's edges join valid texels; None for all.
        texels: (V,) int64, the texel of each row; None if the rows are all texels.
    """

    assembly: Assembly
    positions: Tensor
    kept_edges: Tensor | None
    texels: Tensor | None


def places_of(matrix: GridMatrix, valid_only: bool) -> GridPlaces:
    """The places of a grid, found once and kept with the matrix, even if lambda is learned."""
    if valid_only not in matrix.places:
        with torch.inference_mode(False):  # they are kept
            matrix.places[valid_only] = _find_places(matrix, valid_only)
    return matrix.places[valid_only]


def _find_places(matrix: GridMatrix, valid_only: bool) -> GridPlaces:
    edges = edges_of_grid(matrix.shape, matrix.boundary, matrix.device)
    positions = torch.ones(matrix.shape, device=matrix.device).nonzero().to(torch.float32)
    kept_edges = texels = None
    if matrix.mask is not None:
        valid = matrix.mask.flatten()
        kept_edges = valid[edges].all(1).nonzero().squeeze(1)
        edges = edges[kept_edges]
        if valid_only:
            texels = valid.nonzero().squeeze(1)
            edges, positions = (valid.cumsum(0) - 1)[edges], positions[texels]
    positions = torch.nn.functional.pad(positions * positions.new_tensor(matrix.spacing), (0, 3 - matrix.ndim))
    return GridPlaces(Assembly(edges, len(positions)), positions, kept_edges, texels)
