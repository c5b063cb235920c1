"""LargeStepsAdam: large steps for pipelines whose parameters are the vertices.

With x = M^-1 u a gradient g in x is M^-1 g in u, and a step du in u is M^-1 du in x. So an optimiser of u can update a leaf
tensor of vertices: two solves per step, no autograd, and only the moments of u are stored.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Eq. 11 to 13.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import describe
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.optim.packed import Segments, segments
from pt3d_largesteps.optim.uniform_adam import UniformAdam
from pt3d_largesteps.systems.batch import BatchSystem
from pt3d_largesteps.systems.functions import precondition, solve_with


class LargeStepsAdam(UniformAdam):
    """:class:`~pt3d_largesteps.UniformAdam` on u = M x, for parameters that are the vertices x themselves.

    The steps equal those of :class:`~pt3d_largesteps.LargeSteps` with UniformAdam, up to rounding.

    Args:
        params: vertices: packed (V, C), T frames (T, V, C), or (N, V_n, C) if all N meshes have equally many vertices.
        system: :class:`~pt3d_largesteps.BatchSystem` of the meshes, pins included, or a matrix of :func:`compute_matrix`.
        lr: step size, in the units of u.
        **options: as of :class:`~pt3d_largesteps.UniformAdam`.

    Raises:
        TypeError, ValueError: a parameter that does not fit the system, and as UniformAdam.

    Example:
        >>> verts = meshes.verts_packed().clone().requires_grad_()
        >>> optimizer = LargeStepsAdam([verts], BatchSystem(meshes, lambda_=19.0), lr=3e-2)
        >>> image_loss(render(verts, faces)).backward()
        >>> optimizer.step()
    """

    def __init__(
        self, params: Iterable[Any], system: BatchSystem | SystemMatrix, lr: float | Tensor = 0.1, **options: Any
    ) -> None:
        if not isinstance(system, BatchSystem | SystemMatrix):
            raise TypeError(f"system: expected a BatchSystem or a SystemMatrix, got {describe(system)}")
        self.system = system
        super().__init__(params, lr, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of vertices of the same meshes."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            shape, size = tuple(parameter.shape), sum(self._num_verts_per_mesh())
            fits = len(shape) == 2 and shape[0] == size
            fits |= len(shape) == 3 and (shape[1] == size or shape[0] * shape[1] == size)
            if not (fits and parameter.is_contiguous()):
                self.param_groups.pop()
                raise ValueError(
                    f"params: expected packed vertices ({size}, C) or frames (T, {size}, C) of the system, contiguous,"
                    f" got {describe(parameter)}"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "system": self.system}

    def _gradient(self, parameter: Tensor) -> Tensor:
        gradient = precondition(self._packed(super()._gradient(parameter)), self.system, power=1)
        return gradient.contiguous().view(parameter.shape)

    def _add_step(self, parameter: Tensor, mean: Tensor, scales: Tensor) -> None:
        step = torch.zeros_like(mean)
        self._segments(parameter).add_scaled_(self._rows(step), self._rows(mean), scales)
        parameter.add_(solve_with(self.system, self._packed(step)).view(parameter.shape))

    def _rows(self, numbers: Tensor) -> Tensor:
        return numbers.view(-1, numbers.shape[-1])

    def _segments(self, parameter: Tensor) -> Segments:
        sizes = self._num_verts_per_mesh()
        num_rows, num_verts = parameter.shape[:-1].numel(), sum(sizes)
        return segments(sizes * (num_rows // num_verts) if num_verts else sizes)

    def _num_verts_per_mesh(self) -> tuple[int, ...]:
        if isinstance(self.system, BatchSystem):
            return self.system.num_verts_per_mesh
        return self.system.num_verts_per_mesh or (self.system.shape[0],)

    def _packed(self, numbers: Tensor) -> Tensor:
        """Vertices in the shape that the system takes: meshes of one size may come as (N, V_n, C)."""
        is_padded = numbers.dim() == 3 and numbers.shape[1] != sum(self._num_verts_per_mesh())
        return numbers.flatten(0, 1) if is_padded else numbers
