"""The parameterisation u = (I + lambda L) x of the textures of meshes as a module. It smooths across uv seams.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3, with the texels
of the surface (uv/texels.py) instead of the vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps import _pytorch3d
from pt3d_largesteps._checks import check_finite, check_float_dtype, describe
from pt3d_largesteps.matrices.lambda_alpha import DEFAULT_LAMBDA
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.optim.packed import PackedParameter
from pt3d_largesteps.solvers.base import SolverFactory, check_solver, is_direct
from pt3d_largesteps.solvers.differentiable import solve
from pt3d_largesteps.steps.module import MATRIX_KEYS, PackedModule, check_same_matrix, checked_state, state_of_matrix
from pt3d_largesteps.uv.texels import texel_graph

with _pytorch3d.required():
    from pytorch3d.renderer.mesh.textures import TexturesUV


class LargeStepsTexture(PackedModule):
    """The differential coordinates of the uv maps of a batch of meshes, as a module with one parameter.

    The unknowns are the texels that faces cover. Edges join neighbours on the surface: within the uv islands and across the
    seams between them. ``forward()`` returns the meshes with the maps x = M^-1 u. Optimise ``parameters()`` with
    :class:`~pt3d_largesteps.UniformAdam`. It takes its maximum over each map, so each map changes as it would alone.

    Args:
        meshes: ``Meshes`` with ``TexturesUV`` of one map each, float32 or float64, of any number of channels.
        lambda_: smoothing strength, at least 0; 19 if ``alpha`` is not given either. A number, one per mesh (N,), or
            one per covered texel (T,). A ``nn.Parameter`` becomes a parameter of the module, and is learned.
        alpha: in [0, 1), instead of ``lambda_`` and in the same forms: M = (1 - alpha) I + alpha L.
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory.
        gutter: width in texels around the uv islands. Texels there follow the nearest covered texel, so that bilinear look-ups
            show no seam. All other texels keep their values.

    Attributes:
        u: the parameter, (T, C), map by map (:class:`~pt3d_largesteps.PackedParameter`).
        graph: the :class:`~pt3d_largesteps.uv.texels.TexelGraph`.

    Raises:
        TypeError, ValueError: see :func:`~pt3d_largesteps.uv.texels.texel_graph` and
            :func:`~pt3d_largesteps.compute_matrix`; also maps that are not floating point, or not finite.

    Example:
        >>> steps = LargeStepsTexture(meshes, lambda_=4.0)
        >>> optimizer = UniformAdam(steps.parameters(), lr=0.1)
        >>> for _ in range(500):
        ...     optimizer.zero_grad()
        ...     loss = image_loss(renderer(steps(), cameras))
        ...     loss.backward()
        ...     optimizer.step()
    """

    def __init__(
        self,
        meshes: Any,
        lambda_: float | Tensor | None = None,
        *,
        alpha: float | Tensor | None = None,
        solver: str | SolverFactory = "auto",
        gutter: int = 1,
    ) -> None:
        super().__init__()
        check_solver(solver)
        if not isinstance(getattr(meshes, "textures", None), TexturesUV):
            got = f"textures: {describe(meshes.textures)}" if hasattr(meshes, "textures") else describe(meshes)
            raise TypeError(f"meshes: expected Meshes with TexturesUV, got {got}")
        maps = meshes.textures.maps_padded().detach()
        if maps.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"meshes.textures: expected maps of float32 or float64, got {describe(maps)}")
        self.lambda_ = DEFAULT_LAMBDA if lambda_ is None and alpha is None else lambda_  # registered where it is a parameter
        self.alpha = alpha
        self.solver = solver
        self.graph = texel_graph(meshes, tuple(maps.shape[1:3]), gutter=gutter)
        self._template = meshes.detach()
        self._matrix = self._make_matrix(lambda_, alpha, maps.dtype)
        self._blocks: list[SystemMatrix] | None = None  # one per map, for solvers that do not separate the maps
        self._background = maps.clone()
        self.u = PackedParameter(self._encoded("meshes.textures", maps), self.graph.num_texels_per_map)

    def forward(self, meshes: Any = None) -> Any:
        """The given meshes with the maps of :meth:`maps`.

        Args:
            meshes: other meshes to put the maps on, with the same faces as the given ones; ``None`` for the given ones.

        Example:
            >>> loss = image_loss(renderer(texture(shape()), cameras))      # shape: LargeSteps of the same meshes
        """
        template = self._template
        if meshes is None:
            meshes = template
        elif not hasattr(meshes, "update_padded"):
            raise TypeError(f"meshes: expected pytorch3d.structures.Meshes, got {describe(meshes)}")
        elif meshes.num_faces_per_mesh().tolist() != template.num_faces_per_mesh().tolist():
            raise ValueError(
                f"meshes: expected {template.num_faces_per_mesh().tolist()} faces, as of the given meshes, got"
                f" {meshes.num_faces_per_mesh().tolist()}"
            )
        uvs = template.textures
        textures = TexturesUV(
            self.maps(),
            uvs.faces_uvs_list(),
            uvs.verts_uvs_list(),
            padding_mode=uvs.padding_mode,
            align_corners=uvs.align_corners,
            sampling_mode=uvs.sampling_mode,
        )
        textured = meshes.update_padded(meshes.verts_padded())
        textured.textures = textures
        return textured

    def maps(self) -> Tensor:
        """The maps (N, H, W, C), differentiable in u (and in lambda, if it is a parameter)."""
        return self.graph.scatter(self._texels(), self._background)

    @property
    def matrix(self) -> SystemMatrix:
        """M over the covered texels of all maps."""
        return self._make_matrix(self.lambda_, self.alpha, self.u.dtype) if self._learns_lambda else self._matrix

    @torch.no_grad()
    def set_maps(self, maps: Tensor) -> None:
        """Encodes other maps in place: u = M x. The optimiser keeps the parameter and its state.

        Args:
            maps: (N, H, W, C), in the shape of the given ones. From now on, texels outside of islands and gutter keep the
                values of these maps.

        Example:
            >>> steps.set_maps(steps.maps().clamp(0, 1))
        """
        if not isinstance(maps, Tensor) or maps.shape != self._background.shape:
            raise ValueError(f"maps: expected a tensor of shape {tuple(self._background.shape)}, got {describe(maps)}")
        check_float_dtype("maps", maps)
        maps = maps.detach().to(self.u)
        self.u.copy_(self._encoded("maps", maps))
        self._background = maps.clone()

    @torch.no_grad()
    def set_lambda(self, lambda_: float | Tensor | None = None, *, alpha: float | Tensor | None = None) -> None:
        """Sets another lambda or alpha, in any form of the class except a parameter. The maps do not change: u is computed
        again from them.

        Example:
            >>> steps.set_lambda(1.0)
        """
        if self._learns_lambda or isinstance(lambda_, nn.Parameter) or isinstance(alpha, nn.Parameter):
            raise ValueError(
                "lambda_: cannot replace a learned lambda_ or alpha, and cannot make one learned; change the parameter, or make"
                " a new module"
            )
        texels = self._texels()
        matrix = self._make_matrix(lambda_, alpha, self.u.dtype)
        self.u.copy_(_product(matrix, texels))
        self._matrix, self._blocks = matrix, None
        self.lambda_, self.alpha = (DEFAULT_LAMBDA if lambda_ is None and alpha is None else lambda_), alpha

    def _texels(self) -> Tensor:
        """x = M^-1 u, (T, C)."""
        sizes, matrix = self.u.num_verts_per_mesh, self.matrix
        if len(sizes) == 1 or is_direct(self.solver, self.u.device):
            return solve(matrix, self.u, self.solver)
        blocks = self._blocks
        if blocks is None or self._learns_lambda:
            blocks = self._blocks = _blocks(matrix, sizes)
        parts = zip(blocks, self.u.split(sizes), strict=True)
        return torch.cat([solve(block, part, self.solver) for block, part in parts])

    @property
    def _learns_lambda(self) -> bool:
        value = self.lambda_ if self.alpha is None else self.alpha
        return isinstance(value, Tensor) and value.requires_grad

    def _make_matrix(self, lambda_: float | Tensor | None, alpha: float | Tensor | None, dtype: torch.dtype) -> SystemMatrix:
        return self.graph.matrix(lambda_, alpha=alpha, dtype=dtype)

    @torch.no_grad()
    def _encoded(self, name: str, maps: Tensor) -> Tensor:
        check_finite(name, maps)
        return _product(self._matrix, self.graph.gather(maps))

    def get_extra_state(self) -> dict[str, Tensor]:
        """The matrix, the covered texels and the values of the others. They are saved with u, which has no meaning alone."""
        return {**state_of_matrix(self.matrix), "mask": self.graph.mask, "background": self._background}

    def set_extra_state(self, state: Any) -> None:
        """Raises if the matrix or the texels are other ones: the maps would be wrong, without any error."""
        saved = checked_state(state, (*MATRIX_KEYS, "mask", "background"), self.u.device, "system matrix")
        pattern = "maps of the same size and uvs, got other texels"
        if not torch.equal(saved["mask"], self.graph.mask) or saved["background"].shape != self._background.shape:
            raise ValueError(f"state_dict: expected the state of {pattern}")
        check_same_matrix(
            saved,
            self.matrix,
            learned=self._learns_lambda,
            pattern=pattern,
            remedy="make LargeStepsTexture with the saved ones, or transfer the maps with set_maps",
        )
        self._background = saved["background"].to(self.u)

    def _follow_parameter(self) -> None:
        self._keep_packed(self.graph.num_texels_per_map)
        u = self.u
        if self.graph.mask.device != u.device:
            self.graph, self._template = self.graph.to(u.device), self._template.to(u.device)
            for name in ("lambda_", "alpha"):
                value = getattr(self, name)
                if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                    setattr(self, name, value.to(u.device))
        self._matrix, self._blocks = self._matrix.to(u.device, u.dtype), None
        self._background = self._background.to(u)

    def extra_repr(self) -> str:
        name = "lambda_" if self.alpha is None else "alpha"
        value = getattr(self, name)
        value = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
        text = f"{float(value):g}" if value.numel() == 1 else f"{float(value.min()):g} to {float(value.max()):g}"
        solver = self.solver if isinstance(self.solver, str) else getattr(self.solver, "__name__", "given")
        return (
            f"maps={tuple(self._background.shape)}, texels={len(self.u)}, seam_edges={self.graph.num_seam_edges},"
            f" {name}={text}, solver={solver}"
        )


def _blocks(matrix: SystemMatrix, sizes: Sequence[int]) -> list[SystemMatrix]:
    """The blocks of a block-diagonal matrix."""
    blocks, first = [], 0
    for size in sizes:
        rows = matrix.crow_indices[first : first + size + 1]
        entries = slice(int(rows[0]), int(rows[-1]))
        blocks.append(SystemMatrix(rows - rows[0], matrix.col_indices[entries] - first, matrix.values[entries]))
        first += size
    return blocks


def _product(matrix: SystemMatrix, texels: Tensor) -> Tensor:
    """M x; raises if it is not finite."""
    u = (matrix @ texels).detach()
    check_finite("u", u, "; the values are too large for the dtype")
    return u
