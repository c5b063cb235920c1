"""The parameterisation u = (I + lambda L) x, as functions and as a module on a batch of ``Meshes``.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3. Gradient
descent on u is descent on x with the gradient multiplied by (I + lambda L)^-2 (Eq. 13): it becomes a smooth step
for the whole surface, while x itself can take any shape.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import check_finite, check_float_dtype, describe
from pt3d_largesteps.laplacian import packed_verts_faces
from pt3d_largesteps.mesh_system import compute_matrix
from pt3d_largesteps.solvers import NotPositiveDefiniteError, solve
from pt3d_largesteps.solvers.base import SolverFactory, check_solver
from pt3d_largesteps.strength import DEFAULT_LAMBDA
from pt3d_largesteps.system import SystemMatrix


def to_differential(matrix: SystemMatrix, verts: Tensor) -> Tensor:
    """The differential coordinates u = M x.

    Args:
        matrix: of :func:`compute_matrix`.
        verts: (V,) or (V, C) float: positions, colours or any other quantity per vertex.

    Returns:
        u, of the same shape. Differentiable in ``verts`` and in ``matrix.values``.

    Example:
        >>> u = to_differential(matrix, meshes.verts_packed())
    """
    _check_matrix(matrix)
    matrix.check_rhs("verts", verts)
    return matrix @ verts


def from_differential(matrix: SystemMatrix, u: Tensor, solver: str | SolverFactory = "auto") -> Tensor:
    """The positions x = M^-1 u; the inverse of :func:`to_differential`.

    Args:
        matrix: of :func:`compute_matrix`; factorised at the first call, and the factorisation kept with it.
        u: (V,) or (V, C) float.
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory.

    Returns:
        x, of the same shape. Differentiable in ``u`` and in ``matrix.values``, as often as one likes; the backward pass
        is a solve with the same factorisation.

    Example:
        >>> verts = from_differential(matrix, u)
    """
    _check_matrix(matrix)
    return solve(matrix, u, solver)


class LargeSteps(nn.Module):
    """The differential coordinates of a batch of meshes, as a module with one parameter.

    ``forward()`` returns the batch with the vertices x = M^-1 u; optimise ``parameters()`` with
    :class:`~pt3d_largesteps.UniformAdam` and any loss on the meshes.

    Args:
        meshes: ``Meshes``, of one topology or of many, float32 or float64; empty meshes may be among them. Their
            textures stay on what comes back, by reference to their tensors, so that these can be optimised too. The
            matrix couples no mesh with another; the solve of a Cholesky solver does not either.
        lambda_: strength of the smoothing, at least 0; 19 if ``alpha`` is not given either. The larger, the smoother
            the steps; typically 1 to 100.
        alpha: in [0, 1), instead of ``lambda_``: M = (1 - alpha) I + alpha L.
        laplacian: "combinatorial" (the paper's), "cotangent" (of the given positions), or a matrix of your own.
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory.

    Attributes:
        u: the parameter, packed (sum(V_n), 3).
        matrix: the :class:`~pt3d_largesteps.SystemMatrix`.

    Raises:
        TypeError, ValueError: as :func:`~pt3d_largesteps.compute_matrix`; positions that are NaN or infinite.

    Example:
        >>> steps = LargeSteps(ico_sphere(4), lambda_=19.0)
        >>> optimizer = UniformAdam(steps.parameters(), lr=3e-2)
        >>> for _ in range(500):
        ...     optimizer.zero_grad()
        ...     loss = image_loss(renderer(steps(), cameras))
        ...     loss.backward()
        ...     optimizer.step()
    """

    def __init__(
        self,
        meshes: Any,
        lambda_: float | None = None,
        *,
        alpha: float | None = None,
        laplacian: str | Any = "combinatorial",
        solver: str | SolverFactory = "auto",
    ) -> None:
        super().__init__()
        if not hasattr(meshes, "update_padded"):
            raise TypeError(f"meshes: expected pytorch3d.structures.Meshes, got {describe(meshes)}")
        check_solver(solver)
        verts, _ = packed_verts_faces(meshes)
        _check_positions("meshes", verts.detach(), meshes)
        with torch.no_grad():
            matrix = compute_matrix(meshes, lambda_=lambda_, alpha=alpha, laplacian=laplacian)
        lambda_ = DEFAULT_LAMBDA if lambda_ is None else lambda_
        self._description = f"lambda_={float(lambda_):g}" if alpha is None else f"alpha={float(alpha):g}"
        self._description += f", laplacian={laplacian if isinstance(laplacian, str) else 'given'}"
        self.matrix = matrix.detach()
        self.solver = solver
        self._template = _topology(meshes)
        self.u = nn.Parameter(self._encoded(verts.detach()))

    def forward(self) -> Any:
        """The batch as ``Meshes``, with the vertices x = M^-1 u, the given textures and the cached topology."""
        template = self._template
        if self.u.shape[0] == 0:
            return template.clone()
        num_meshes, max_verts = len(template), int(template.verts_padded().shape[1])
        padded = verts = self.verts_packed()
        if verts.shape[0] != num_meshes * max_verts:
            padded = verts.new_zeros(num_meshes * max_verts, 3)
            padded = padded.index_copy(0, template.verts_padded_to_packed_idx(), verts)
        meshes = template.update_padded(padded.view(num_meshes, max_verts, 3))
        # Textures keep what they compute of their tensors: each batch gets an object of its own, that starts with nothing.
        meshes.textures = copy.copy(template.textures)
        return meshes

    def verts_packed(self) -> Tensor:
        """The vertices x = M^-1 u, packed (sum(V_n), 3), differentiable in u."""
        try:
            return solve(self.matrix, self.u, self.solver)
        except NotPositiveDefiniteError as error:
            mesh, vertex = _mesh_and_vertex(self._template, error.vertex)
            raise NotPositiveDefiniteError(f"{error} (vertex {vertex} of mesh {mesh})", error.vertex) from error

    @torch.no_grad()
    def set_verts(self, verts: Any) -> None:
        """Encodes new positions, in place: u = M verts. An optimiser keeps the parameter and its state.

        Args:
            verts: packed positions (sum(V_n), 3), or ``Meshes`` with the same faces.

        Example:
            >>> steps.set_verts(steps.verts_packed().clamp(min=-1, max=1))
        """
        if hasattr(verts, "verts_packed"):
            given = verts
            verts = given.verts_packed()
            template = self._template
            same_sizes = given.num_verts_per_mesh().tolist() == template.num_verts_per_mesh().tolist()
            if not same_sizes or not torch.equal(given.faces_packed().to(self.u.device), template.faces_packed()):
                raise ValueError("verts: expected Meshes with the same faces; for other faces make a new LargeSteps")
        if not isinstance(verts, Tensor) or verts.shape != self.u.shape:
            raise ValueError(f"verts: expected packed positions of shape {tuple(self.u.shape)}, got {describe(verts)}")
        check_float_dtype("verts", verts)
        verts = verts.detach().to(self.u)
        _check_positions("verts", verts, self._template)
        self.u.copy_(self._encoded(verts))

    def _encoded(self, verts: Tensor) -> Tensor:
        u = to_differential(self.matrix, verts)
        check_finite("u", u, "; the positions are too large for the dtype")
        return u

    def get_extra_state(self) -> dict[str, Tensor]:
        """The matrix, saved with u: u means nothing without it."""
        matrix = self.matrix
        return {"crow_indices": matrix.crow_indices, "col_indices": matrix.col_indices, "values": matrix.values}

    def set_extra_state(self, state: Any) -> None:
        """Refuses the coordinates of another matrix, whose shape would come out wrong without a word."""
        matrix = self.matrix
        if not isinstance(state, dict) or set(state) != {"crow_indices", "col_indices", "values"}:
            raise ValueError(f"state_dict: expected the system matrix beside u, got {describe(state)}")
        saved = {name: tensor.to(matrix.device) for name, tensor in state.items()}
        same_pattern = torch.equal(saved["crow_indices"], matrix.crow_indices) and torch.equal(
            saved["col_indices"], matrix.col_indices
        )
        if not same_pattern:
            raise ValueError("state_dict: expected the state of meshes with the same faces, got another topology")
        values = saved["values"].to(matrix.dtype)
        tolerance = 1e-5 * float(matrix.values.abs().max()) if matrix.nnz else 0.0
        if not torch.allclose(values, matrix.values, rtol=0.0, atol=tolerance):
            raise ValueError(
                "state_dict: expected the state of the same system matrix, got another lambda or another Laplacian;"
                " make LargeSteps with the saved ones, or carry positions over with set_verts"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:  # before u is touched: a refused state changes nothing
            self.set_extra_state(state_dict[prefix + "_extra_state"])
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._follow_parameter()

    def _apply(self, fn: Any, recurse: bool = True) -> LargeSteps:
        module = super()._apply(fn, recurse)
        self._follow_parameter()
        return module

    def _follow_parameter(self) -> None:
        """Takes everything else to the device and dtype of u."""
        if (self.u.device, self.u.dtype) != (self.matrix.device, self.matrix.dtype):
            self.matrix = self.matrix.to(device=self.u.device, dtype=self.u.dtype)
            if self._template.device != self.u.device:
                self._template = _topology(self._template.to(self.u.device))

    def extra_repr(self) -> str:
        template = self._template
        solver = self.solver if isinstance(self.solver, str) else getattr(self.solver, "__name__", "given")
        return f"meshes={len(template)}, verts={self.u.shape[0]}, {self._description}, solver={solver}"


def _topology(meshes: Any) -> Any:
    """The batch without its gradients and caches of geometry; its edges are found once, for all batches made of it."""
    verts = [verts.detach().clone() for verts in meshes.verts_list()]
    template = meshes.__class__(verts=verts, faces=list(meshes.faces_list()), textures=meshes.textures)
    if not template.isempty():
        template.edges_packed()
        template.verts_padded_to_packed_idx()
    return template


def _check_matrix(matrix: Any) -> None:
    if not isinstance(matrix, SystemMatrix):
        raise TypeError(
            "matrix: expected a SystemMatrix (of compute_matrix, or SystemMatrix.from_sparse of your own),"
            f" got {describe(matrix)}"
        )


def _check_positions(name: str, verts: Tensor, meshes: Any) -> None:
    """Raises ``ValueError`` with mesh and vertex where a packed position is NaN or infinite."""
    bad = ~torch.isfinite(verts).all(1)
    if not bool(bad.any()):
        return
    vertex = int(bad.nonzero()[0])
    mesh, local = _mesh_and_vertex(meshes, vertex)
    raise ValueError(
        f"{name}: expected finite positions, got {verts[vertex].tolist()} at vertex {local} of mesh {mesh}"
        f" ({int(bad.sum())} vertices are NaN or infinite)"
    )


def _mesh_and_vertex(meshes: Any, vertex: int) -> tuple[int, int]:
    """The mesh of a packed vertex, and its place there."""
    mesh = int(meshes.verts_packed_to_mesh_idx()[vertex])
    return mesh, vertex - int(meshes.mesh_to_verts_packed_first_idx()[mesh])
