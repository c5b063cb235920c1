"""The linear systems of a batch of meshes. All meshes are solved together, each with the result that it would get alone.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3, for one mesh.
Pinned vertices are Dirichlet conditions: with free vertices f and pinned ones p at positions c,

    M_ff x_f = u_f - M_fp c,        x_p = c

This keeps the pattern of M: the rows and columns of p become those of the identity. So pinned vertices can change without a new
analysis. The system is one solve. Its right-hand side is u_f - M_fp c at the free vertices and c at the pinned ones.
:meth:`BatchSystem.hold` computes once what does not depend on u.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.matrices.given import checked_entries
from pt3d_largesteps.matrices.lambda_alpha import Strength
from pt3d_largesteps.matrices.laplacian import packed_verts_faces
from pt3d_largesteps.matrices.of_meshes import check_laplacian
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.solvers.base import SolverFactory, check_solver, is_direct
from pt3d_largesteps.systems.group_system import GroupSystem
from pt3d_largesteps.systems.groups import find_groups, inverse_of, whole


@dataclass(frozen=True)
class Held:
    """Pinned vertices and their positions, made by :meth:`BatchSystem.hold`.

    Attributes:
        pinned: bool, of the shape of ``rhs``.
        rhs: the right-hand side without u: c at the pinned vertices, -M_fp c at the others.
    """

    pinned: Tensor
    rhs: Tensor


class BatchSystem:
    """The factorised matrices M = I + lambda L of a batch of meshes. Each topology is analysed once.

    Meshes with the same faces share one analysis. They also share one factorisation as long as their lambda, pinned vertices
    and weights are equal. Meshes with different faces are the blocks of one matrix. ``repr`` shows the groups.

    Args:
        meshes: ``Meshes``, of one topology or of many; some may be empty.
        lambda_: finite, at least 0: a number, one per mesh (N,) or one per vertex (V,), V = sum(V_n); 19 if ``alpha`` is not
            given either. If it is a tensor that requires gradients, every solve reads it again.
        alpha: in [0, 1), instead of ``lambda_`` and in the same forms: M = (1 - alpha) I + alpha L.
        laplacian: "combinatorial", "cotangent" (of the given positions) or a matrix of your own (V, V).
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory.

    Attributes:
        num_verts_per_mesh: N numbers.
        num_verts: V, of all meshes.
        pinned: (V,) bool, or None.

    Raises:
        TypeError, ValueError: see :func:`~pt3d_largesteps.compute_matrix`.

    Example:
        >>> system = BatchSystem(meshes, lambda_=19.0)
        >>> smooth = system.solve(system.solve(gradient))      # M^-2 g, (V, 3)
    """

    def __init__(
        self,
        meshes: Any,
        *,
        lambda_: float | Tensor | None = None,
        alpha: float | Tensor | None = None,
        laplacian: str | Any = "combinatorial",
        solver: str | SolverFactory = "auto",
    ) -> None:
        if not hasattr(meshes, "num_verts_per_mesh"):
            raise TypeError(f"meshes: expected pytorch3d.structures.Meshes, got {describe(meshes)}")
        check_solver(solver)
        check_laplacian(laplacian)
        verts = packed_verts_faces(meshes)[0].detach()
        self.num_verts_per_mesh: tuple[int, ...] = tuple(meshes.num_verts_per_mesh().tolist())
        self.num_verts = sum(self.num_verts_per_mesh)
        self.solver = solver
        self.pinned: Tensor | None = None
        self._lambda, self._alpha = lambda_, alpha
        self._like = verts.new_zeros(0, 3)
        strength = self._strength()
        if isinstance(laplacian, str):
            groups = find_groups(meshes, join=is_direct(solver, verts.device))
        else:  # such a matrix may couple any vertices
            groups = [whole(meshes)] if self.num_verts else []
            laplacian = _own_entries(laplacian, verts)
        self._inverse = inverse_of(groups)
        self._parts = [GroupSystem(group, laplacian, verts).update(strength) for group in groups]

    def multiply(self, x: Tensor) -> Tensor:
        """M x for packed x (V,), (V, C) or T frames (T, V, C); ignores pinned vertices; differentiable."""
        self._check("x", x)
        return self._joined(x, [part.multiply for part in self._current_parts()])

    def solve(self, rhs: Tensor) -> Tensor:
        """M^-1 rhs for packed rhs (V,), (V, C) or T frames (T, V, C), differentiable in rhs and in a learned lambda.

        Each mesh gets the result that it would get alone, up to rounding. At pinned vertices the result equals rhs. If rhs is 0
        there, the result is the step of the free vertices.
        """
        self._check("rhs", rhs)
        return self._joined(rhs, self._solves(self._current_parts()))

    def from_differential(self, u: Tensor, anchors: Tensor | Held | None = None) -> Tensor:
        """x with M x = u, packed (V,), (V, C) or (T, V, C); differentiable.

        Args:
            u: :meth:`multiply` of the positions. The rows of pinned vertices do not matter.
            anchors: the positions of the pinned vertices, in the shape of u; the other rows do not matter. Or the result of
                :meth:`hold` for these positions, which saves a product at each call.
        """
        if self.pinned is None:
            return self.solve(u)
        self._check("u", u)
        parts = self._current_parts()
        held = anchors if isinstance(anchors, Held) else self._held(anchors, parts)
        if held.rhs.shape != u.shape:
            raise ValueError(f"anchors: expected the shape of u, {tuple(u.shape)}, got {tuple(held.rhs.shape)}")
        rhs = torch.where(held.pinned, held.rhs, u + held.rhs)
        x = self._joined(rhs, self._solves(parts))
        # A factorisation solves rows of the identity exactly; an iteration does not.
        return x if is_direct(self.solver, self.device) else torch.where(held.pinned, held.rhs, x)

    def hold(self, anchors: Tensor) -> Held:
        """The effect of the pinned vertices at these positions on the others, for :meth:`from_differential`. It holds for the
        current pinned vertices, lambda and weights. If one of them changes, call this method again.

        Args:
            anchors: packed (V,), (V, C) or (T, V, C); only the rows of pinned vertices matter.

        Raises:
            ValueError: no vertex is pinned, or a wrong shape.

        Example:
            >>> held = system.hold(verts)
            >>> x = system.from_differential(u, held)
        """
        return self._held(anchors, self._current_parts())

    def _held(self, anchors: Tensor | None, parts: list[GroupSystem]) -> Held:
        if anchors is None:
            raise ValueError("anchors: expected the positions of the pinned vertices, got None")
        if self.pinned is None:
            raise ValueError("anchors: expected pinned vertices, got none; call set_pinned first")
        self._check("anchors", anchors)
        pinned = self.pinned if anchors.dim() == 1 else self.pinned[:, None]
        pinned = pinned.expand(anchors.shape).contiguous()  # to choose by a mask that torch must repeat takes twice as long
        positions = torch.where(pinned, anchors, 0)
        coupling = self._joined(positions, [part.couple for part in parts])  # M_fp c at free rows; other rows are unused
        return Held(pinned, torch.where(pinned, anchors, -coupling))

    def set_pinned(self, pinned: Tensor | None) -> None:
        """Pins the vertices of a mask (V,), or none. Needs no new analysis."""
        if pinned is not None:
            if not isinstance(pinned, Tensor) or pinned.dtype != torch.bool or tuple(pinned.shape) != (self.num_verts,):
                raise ValueError(f"pinned: expected a mask (bool) of shape ({self.num_verts},), got {describe(pinned)}")
            if pinned.device != self._like.device:
                raise ValueError(f"pinned: expected it on {self._like.device}, as the meshes, got {describe(pinned)}")
        pinned = pinned.clone() if pinned is not None and bool(pinned.any()) else None
        self._change(lambda part: part.set_pinned(pinned), self._strength())
        self.pinned = pinned

    def set_lambda(self, lambda_: float | Tensor | None = None, *, alpha: float | Tensor | None = None) -> None:
        """Sets another lambda or alpha. Needs no new analysis."""
        strength = Strength.of(lambda_, alpha, self.num_verts_per_mesh, self._like)
        self._change(lambda part: None, strength)
        self._lambda, self._alpha = lambda_, alpha

    def refactorize(self, verts: Tensor) -> None:
        """Sets the cotangent weights of other positions (V, 3). Needs no new analysis."""
        self._check("verts", verts)
        verts = verts.detach()
        self._change(lambda part: part.set_weights(verts), self._strength())

    def _change(self, change: Callable[[GroupSystem], None], strength: Strength) -> None:
        """Changes all groups. If one raises an error, no group changes."""
        parts = [copy.copy(part) for part in self._parts]
        for part in parts:
            change(part)
            part.update(strength)
        self._parts = parts

    def to_matrix(self) -> SystemMatrix:
        """M of the whole batch as one matrix in the packed order, without pinned vertices; for inspection."""
        rows, cols, values = [], [], []
        for part in self._current_parts():
            for packed_rows, matrix in zip(part.group.rows, _repeated(part.matrix, len(part.group.rows)), strict=True):
                rows.append(packed_rows[matrix.row_indices])
                cols.append(packed_rows[matrix.col_indices])
                values.append(matrix.values)
        if not rows:
            crow_indices = torch.zeros(1, dtype=torch.int64, device=self.device)
            return SystemMatrix(crow_indices, crow_indices[:0], self._like[:, 0])
        all_rows, all_cols, all_values = torch.cat(rows), torch.cat(cols), torch.cat(values)
        order = torch.argsort(all_rows * self.num_verts + all_cols)
        crow_indices = torch.bincount(all_rows, minlength=self.num_verts).cumsum(0)
        crow_indices = torch.cat([crow_indices.new_zeros(1), crow_indices])
        return SystemMatrix(crow_indices, all_cols[order], all_values[order], None, self.num_verts_per_mesh)

    def to(self, device: torch.device, dtype: torch.dtype) -> BatchSystem:
        """The same system on another device and in another dtype. It is factorised again there."""
        moved = object.__new__(type(self))
        moved.__dict__.update(self.__dict__)
        moved._like = self._like.to(device, dtype)
        for name in ("_lambda", "_alpha"):
            value = getattr(self, name)
            if isinstance(value, Tensor) and not value.requires_grad:
                setattr(moved, name, value.to(device))
        moved.pinned = None if self.pinned is None else self.pinned.to(device)
        moved._inverse = None if self._inverse is None else self._inverse.to(device)
        strength = moved._strength()
        moved._parts = [part.to(device, dtype).update(strength) for part in self._parts]
        return moved

    @property
    def device(self) -> torch.device:
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        return self._like.dtype

    @property
    def learns_lambda(self) -> bool:
        """Whether lambda or alpha is a tensor that requires gradients."""
        value = self._lambda if self._alpha is None else self._alpha
        return isinstance(value, Tensor) and value.requires_grad

    def describe(self) -> str:
        """A text that says what is solved together: "8 topologies x 8 meshes, one factor"."""
        texts = []
        for part in self._parts:
            copies = part.group.copies
            own = part.pinned_matrix.batch_size is not None
            topologies = "1 topology" if len(copies[0]) == 1 else f"{len(copies[0])} topologies"
            repeated = f" x {len(copies)} meshes" if len(copies) > 1 else ""
            texts.append(f"{topologies}{repeated}, {'a factor for each' if own else 'one factor'}")
        return "; ".join(texts) or "nothing to solve"

    def __repr__(self) -> str:
        return f"BatchSystem(meshes={len(self.num_verts_per_mesh)}, verts={self.num_verts}, {self.describe()})"

    def _strength(self) -> Strength:
        return Strength.of(self._lambda, self._alpha, self.num_verts_per_mesh, self._like)

    def _current_parts(self) -> list[GroupSystem]:
        if not self.learns_lambda:
            return self._parts
        strength = self._strength()
        return [part.with_strength(strength) for part in self._parts]

    def _solves(self, parts: list[GroupSystem]) -> list[Callable[[Tensor], Tensor]]:
        return [partial(part.solve, solver=self.solver) for part in parts]

    def _joined(self, packed: Tensor, functions: list[Callable[[Tensor], Tensor]]) -> Tensor:
        """Applies one function per group to packed numbers of any of the three shapes; same order and shape after it."""
        if packed.dim() == 1:
            return self._joined(packed[:, None], functions)[:, 0]
        if not functions:
            return packed.clone()
        results = [function(packed) for function in functions]
        joined = results[0] if len(results) == 1 else torch.cat(results, dim=-2)
        return joined if self._inverse is None else joined.index_select(-2, self._inverse)

    def _check(self, name: str, packed: Any) -> None:
        size = self.num_verts
        shape = tuple(packed.shape) if isinstance(packed, Tensor) else ()
        if len(shape) not in (1, 2, 3) or shape[-2 if len(shape) == 3 else 0] != size:
            raise ValueError(
                f"{name}: expected a packed tensor of shape ({size},), ({size}, C) or (T, {size}, C), got {describe(packed)}"
            )
        if packed.dtype != self._like.dtype:
            raise TypeError(f"{name}: expected {self._like.dtype}, the dtype of the meshes, got {describe(packed)}")
        if packed.device != self._like.device:
            raise ValueError(f"{name}: expected it on {self._like.device}, as the meshes, got {describe(packed)}")


def _own_entries(laplacian: Any, verts: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    rows, cols, values, size = checked_entries("laplacian", laplacian)
    if size != verts.shape[0]:
        raise ValueError(f"laplacian: expected a matrix of {verts.shape[0]} rows, one per vertex, got {(size, size)}")
    return rows.to(verts.device), cols.to(verts.device), values.detach().to(verts), size


def _repeated(matrix: SystemMatrix, times: int) -> list[SystemMatrix]:
    return [matrix] * times if matrix.batch_size is None else matrix.matrices()
