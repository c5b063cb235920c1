"""The matrix of the meshes that are solved together; one matrix per copy if the copies differ."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps.matrices.assembly import Assembly, EntryAssembly
from pt3d_largesteps.matrices.edges import FaceGraph
from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.of_meshes import LAPLACIANS
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.solvers import NotPositiveDefiniteError, solve
from pt3d_largesteps.solvers.base import SolverFactory
from pt3d_largesteps.systems.groups import Group


class GroupSystem:
    """M = I + lambda L for B copies of a group of V' vertices. The copies share one matrix as long as their numbers are equal.

    Args:
        group: the packed vertices of a batch that belong to the group.
        laplacian: "combinatorial", "cotangent", or the entries (rows, columns, values, V) of the user's own matrix.
        verts: (V, 3), the packed positions of the batch.

    Attributes:
        matrix: without pinned vertices.
        pinned_matrix: with pinned vertices; the same object as ``matrix`` if there are none.
    """

    matrix: SystemMatrix
    pinned_matrix: SystemMatrix

    def __init__(self, group: Group, laplacian: str | tuple, verts: Tensor) -> None:
        self.group = group
        self._positions = group.gather(verts)[0]  # of the first copy; the elimination order may not suit all
        self._pinned: Tensor | None = None
        self._assembly: Assembly | EntryAssembly
        self._weigh: Callable[[FaceGraph, Tensor], Tensor] | None = None
        if isinstance(laplacian, str):
            self._weigh = LAPLACIANS[laplacian]
            self._graph = FaceGraph(group.faces, group.num_verts)
            self._assembly = Assembly(self._graph.edges, group.num_verts)
            self.set_weights(verts)
        else:
            rows, cols, self._weights, size = laplacian
            self._assembly = EntryAssembly(rows, cols, size)

    def set_weights(self, verts: Tensor) -> None:
        """Sets the edge weights at these packed positions (V, 3), for the next :meth:`update`."""
        if self._weigh is not None:
            self._weights = _shared(self._weigh(self._graph, self.group.gather(verts)))

    def set_pinned(self, pinned: Tensor | None) -> None:
        """Sets the pinned vertices, a packed mask (V,) or none, for the next :meth:`update`."""
        gathered = None if pinned is None else self.group.gather(pinned)
        self._pinned = _shared(gathered) if gathered is not None and bool(gathered.any()) else None

    def update(self, strength: Strength) -> GroupSystem:
        """Makes the matrices from the weights, the pinned vertices and this strength; differentiable in it. Returns itself."""
        if strength.varies and isinstance(strength.value, Tensor):
            gathered = self.group.gather(strength.value)
            is_one = len(gathered) == 1 or not strength.requires_grad
            strength = replace(strength, value=_shared(gathered) if is_one else gathered)
        matrix = SystemMatrix.from_assembly(self._assembly, self._weights, strength, self._positions)
        self.matrix = self.pinned_matrix = matrix
        if self._pinned is not None:
            self.pinned_matrix = matrix.with_pinned(self._pinned)
        return self

    def with_strength(self, strength: Strength) -> GroupSystem:
        """A copy whose matrices have another strength."""
        return copy.copy(self).update(strength)

    def multiply(self, packed: Tensor) -> Tensor:
        """M x for packed x (V, C) or (T, V, C), at the rows of this group: (B V', C) or (T, B V', C)."""
        return self._on_copies(packed, self.matrix, SystemMatrix.__matmul__)

    def couple(self, packed: Tensor) -> Tensor:
        """(M - M_pinned) x, in the shapes of :meth:`multiply`."""
        return self.multiply(packed) - self._on_copies(packed, self.pinned_matrix, SystemMatrix.__matmul__)

    def solve(self, packed: Tensor, solver: str | SolverFactory) -> Tensor:
        """M^-1 b for packed b, with pinned vertices, in the shapes of :meth:`multiply`."""
        try:
            return self._on_copies(packed, self.pinned_matrix, partial(solve, solver=solver))
        except NotPositiveDefiniteError as error:
            mesh, vertex = self._mesh_and_vertex(error)
            message = f"{error} (vertex {vertex} of mesh {mesh})"
            raise NotPositiveDefiniteError(message, error.vertex, error.matrix) from error

    def _on_copies(self, packed: Tensor, matrix: SystemMatrix, operation: Any) -> Tensor:
        if packed.dim() == 2:
            if self._is_whole(packed):  # the usual case: no view, which autograd would differentiate
                return operation(matrix, packed)
            return operation(matrix, self.group.gather(packed)).reshape(-1, packed.shape[1])
        given = self.group.gather(packed)  # (T, B, V', C)
        num_frames, num_copies, size, num_columns = given.shape
        if matrix.batch_size is None:
            given = given.reshape(-1, size, num_columns)
            return operation(matrix, given).reshape(num_frames, num_copies * size, num_columns)
        # One matrix per copy: the frames become more columns.
        results = operation(matrix, given.movedim(0, 2).flatten(2)).reshape(num_copies, size, num_frames, num_columns)
        return results.movedim(2, 0).reshape(num_frames, num_copies * size, num_columns)

    def _is_whole(self, packed: Tensor) -> bool:
        """Whether one copy of this group is the whole batch, in order."""
        return self.group.start == 0 and self.group.rows.numel() == len(packed) and len(self.group.rows) == 1

    def _mesh_and_vertex(self, error: NotPositiveDefiniteError) -> tuple[int, int]:
        members = zip(self.group.copies[error.matrix], self.group.num_verts_per_mesh, strict=True)
        mesh, size, vertex = *next(members), error.vertex
        while vertex >= size:
            vertex -= size
            mesh, size = next(members)
        return mesh, vertex

    def to(self, device: torch.device, dtype: torch.dtype) -> GroupSystem:
        """The same weights in another dtype and on another device. It has no matrices before :meth:`update`."""
        moved = copy.copy(self)
        moved.group = self.group.to(device)
        moved._positions = self._positions.to(device, dtype)
        moved._pinned = None if self._pinned is None else self._pinned.to(device)
        moved._assembly, moved._weights = self._assembly.to(device), self._weights.to(device, dtype)
        if self._weigh is not None:
            moved._graph = self._graph.to(device)
        return moved


def _shared(numbers: Tensor) -> Tensor:
    """(B, n) becomes (n,) if all rows are equal."""
    if numbers.dim() == 2 and (len(numbers) == 1 or torch.equal(numbers, numbers[:1].expand_as(numbers))):
        return numbers[0]
    return numbers
