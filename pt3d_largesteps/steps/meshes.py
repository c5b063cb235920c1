"""The parameterisation u = (I + lambda L) x as a module on a batch of ``Meshes``.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3. Gradient
descent on u is descent on x with the gradient multiplied by (I + lambda L)^-2 (Eq. 13). Each step is smooth over the
whole surface, and x can still take any shape.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import check_finite, check_float_dtype, check_solvable_dtype, describe
from pt3d_largesteps.matrices.lambda_alpha import DEFAULT_LAMBDA
from pt3d_largesteps.matrices.laplacian import packed_verts_faces
from pt3d_largesteps.matrices.system import SystemMatrix
from pt3d_largesteps.optim.packed import PackedParameter
from pt3d_largesteps.solvers.base import SolverFactory
from pt3d_largesteps.steps.module import MATRIX_KEYS, PackedModule, check_same_matrix, checked_state, state_of_matrix
from pt3d_largesteps.steps.remeshed import remeshed_steps
from pt3d_largesteps.surfaces.remeshing import Remeshed
from pt3d_largesteps.systems.batch import BatchSystem, Held
from pt3d_largesteps.systems.pins import pinned_mask


class LargeSteps(PackedModule):
    """The differential coordinates of a batch of meshes, as a module with one parameter.

    ``forward()`` returns the batch with the vertices x = M^-1 u. Optimise ``parameters()`` with
    :class:`~pt3d_largesteps.UniformAdam` and any loss on the meshes. No mesh influences another: each moves as it would
    alone. Meshes that share a topology also share work; ``repr`` shows which.

    Args:
        meshes: ``Meshes``, of one topology or of many, float32 or float64; some may be empty. The
            returned meshes keep the textures and refer to the same tensors, so these can be optimised too.
        lambda_: smoothing strength, at least 0; 19 if ``alpha`` is not given either. A larger lambda gives smoother
            steps; typically 1 to 100. A number, one per mesh (N,), or one per vertex (V,), V = sum(V_n): then an edge
            takes the mean of its ends. A ``nn.Parameter`` becomes a parameter of the module, and is learned.
        alpha: in [0, 1), instead of ``lambda_`` and in the same forms: M = (1 - alpha) I + alpha L.
        laplacian: "combinatorial" (the paper's), "cotangent" (of the given positions), or a matrix of your own (V, V).
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory.
        pinned: vertices that do not move: a mask (V,), packed indices (K,), or a list with a mask or indices per mesh.
            They act on their neighbours. Their u gets no gradient.

    Attributes:
        u: the parameter, packed (V, 3), with the sizes of the meshes (:class:`~pt3d_largesteps.PackedParameter`).
        system: the :class:`~pt3d_largesteps.BatchSystem`.
        laplacian: "combinatorial", "cotangent" or "given".
        remeshing: the :class:`~pt3d_largesteps.Remeshed`, if :meth:`remeshed` has made this module; else None.

    Raises:
        TypeError, ValueError: see :func:`~pt3d_largesteps.compute_matrix`; also positions that are NaN or infinite, a pinned
            index out of range, or all vertices pinned.

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
        lambda_: float | Tensor | None = None,
        *,
        alpha: float | Tensor | None = None,
        laplacian: str | Any = "combinatorial",
        solver: str | SolverFactory = "auto",
        pinned: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(meshes, "update_padded"):
            raise TypeError(f"meshes: expected pytorch3d.structures.Meshes, got {describe(meshes)}")
        verts = packed_verts_faces(meshes)[0].detach()
        check_solvable_dtype("meshes", verts)
        _check_positions("meshes", verts, meshes)
        self.lambda_ = DEFAULT_LAMBDA if lambda_ is None and alpha is None else lambda_  # registered where it is a parameter
        self.alpha = alpha
        self.laplacian = laplacian if isinstance(laplacian, str) else "given"
        self.system = BatchSystem(meshes, lambda_=lambda_, alpha=alpha, laplacian=laplacian, solver=solver)
        self._template = _topology(meshes)
        self._anchors: Tensor | None = None  # positions; the rows of pinned vertices are used
        self._held: Held | None = None  # their effect on the others; None if lambda is learned: it changes
        self.remeshing: Remeshed | None = None
        self.u = PackedParameter(self._encoded(verts), self.system.num_verts_per_mesh)
        if pinned is not None:
            self._hold(pinned_mask(pinned, self.system.num_verts_per_mesh, verts.device), verts)

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
        meshes = _moved(template, padded.view(num_meshes, max_verts, 3), verts)
        # Textures cache results of their tensors. So each batch gets its own object, with an empty cache.
        meshes.textures = copy.copy(template.textures)
        return meshes

    def verts_packed(self) -> Tensor:
        """The vertices x = M^-1 u, packed (V, 3), differentiable in u (and in lambda, if it is a parameter)."""
        return self.system.from_differential(self.u, self._anchors if self._held is None else self._held)

    @property
    def matrix(self) -> SystemMatrix:
        """M of the whole batch, block-diagonal, without pinned vertices; made at each access."""
        return self.system.to_matrix()

    @property
    def pinned(self) -> Tensor | None:
        """(V,) bool, or None."""
        return self.system.pinned

    @torch.no_grad()
    def set_verts(self, verts: Any) -> None:
        """Encodes new positions in place: u = M verts. The optimiser keeps the parameter and its state.

        Args:
            verts: packed positions (V, 3), or ``Meshes`` with the same faces. Pinned vertices stay at these positions.

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
        self._move_to(verts)

    @torch.no_grad()
    def set_pinned(self, pinned: Tensor | Sequence[Tensor] | None) -> None:
        """Pins other vertices at their current positions, or none. Needs no new analysis. The shape does not change.

        Args:
            pinned: see the class.

        Example:
            >>> steps.set_pinned(steps.verts_packed()[:, 1] < -0.9)      # the feet
        """
        mask = None if pinned is None else pinned_mask(pinned, self.system.num_verts_per_mesh, self.u.device)
        self._hold(mask, self.verts_packed())

    @torch.no_grad()
    def set_lambda(self, lambda_: float | Tensor | None = None, *, alpha: float | Tensor | None = None) -> None:
        """Sets another lambda or alpha, in any form of the class except a parameter. Needs no new analysis. The shape does not
        change: u is computed again from the positions.

        Example:
            >>> steps.set_lambda(5.0)
        """
        if self.system.learns_lambda or isinstance(lambda_, nn.Parameter) or isinstance(alpha, nn.Parameter):
            raise ValueError(
                "lambda_: cannot replace a learned lambda_ or alpha, and cannot make one learned; change the parameter, or make"
                " a new module"
            )
        verts = self.verts_packed()
        self.system.set_lambda(lambda_, alpha=alpha)
        self.lambda_, self.alpha = (DEFAULT_LAMBDA if lambda_ is None and alpha is None else lambda_), alpha
        self._move_to(verts)

    @torch.no_grad()
    def refactorize(self) -> None:
        """Computes the cotangent weights of the current surface. Needs no new analysis. The shape does not change: u is
        computed again from the positions. Call it every few steps if the weights should follow the surface.

        Example:
            >>> if step % 10 == 0:
            ...     steps.refactorize()
        """
        verts = self.verts_packed()
        self.system.refactorize(verts)
        self._move_to(verts)

    @torch.no_grad()
    def remeshed(self, *, optimizer: torch.optim.Optimizer | None = None, moments: str = "reset", **options: Any) -> LargeSteps:
        """A new module for the same surfaces with other, even triangles; see :func:`~pt3d_largesteps.remesh`.

        Pinned vertices do not move and stay pinned. lambda per vertex is interpolated. u is computed again from the
        positions. The new module's ``remeshing`` transfers other tensors: ``steps.remeshing.transfer(colors)``.

        Args:
            optimizer: gets the new u instead of the old one (and the new lambda, if it is learned and one per vertex). Its
                step sizes and schedulers stay.
            moments: of the optimiser: "reset" (they start from zero), or "interpolate".
            options: of :func:`~pt3d_largesteps.remesh`; ``num_verts``, ``edge_length`` or ``edge_scale`` is required.

        Raises:
            ValueError: the Laplacian is your own matrix, which belongs to its faces; the optimiser does not contain u.

        Example:
            >>> steps = steps.remeshed(num_verts=5000, optimizer=optimizer)
        """
        return remeshed_steps(self, optimizer, moments, options)

    def _hold(self, mask: Tensor | None, verts: Tensor) -> None:
        """Pins the vertices of a mask at the positions ``verts``."""
        self.system.set_pinned(mask)
        self._move_to(verts)

    @torch.no_grad()
    def _move_to(self, verts: Tensor) -> None:
        """Sets u = M x, also at pinned vertices: there u matters only when the vertex becomes free again."""
        self.u.copy_(self._encoded(verts))
        self._hold_at(None if self.system.pinned is None else verts.detach().clone())

    @torch.no_grad()
    def _hold_at(self, anchors: Tensor | None) -> None:
        """Holds the pinned vertices at ``anchors``. Call it again after every change of the system."""
        self._anchors = anchors
        self._held = None if anchors is None or self.system.learns_lambda else self.system.hold(anchors)

    def _encoded(self, verts: Tensor) -> Tensor:
        with torch.no_grad():
            u = self.system.multiply(verts)
        check_finite("u", u, "; the positions are too large for the dtype")
        return u

    def get_extra_state(self) -> dict[str, Tensor | None]:
        """The matrix and the pinned vertices. They are saved with u, because u has no meaning without them."""
        return {**state_of_matrix(self.matrix), "pinned": self.pinned, "anchors": self._anchors}

    def set_extra_state(self, state: Any) -> None:
        """Takes the pinned vertices. Raises if the matrix is another one: the shape would be wrong, without any error."""
        saved = checked_state(state, (*MATRIX_KEYS, "pinned", "anchors"), self.u.device, "system matrix")
        check_same_matrix(
            saved,
            self.matrix,
            learned=self.system.learns_lambda,
            pattern="meshes with the same faces, got another topology",
            remedy="make LargeSteps with the saved ones, or transfer the positions with set_verts",
        )
        self.system.set_pinned(saved["pinned"])
        self._hold_at(None if saved["anchors"] is None else saved["anchors"].to(self.u))

    def _follow_parameter(self) -> None:
        self._keep_packed(self.system.num_verts_per_mesh)
        u = self.u
        if self.system.learns_lambda:
            self.system.set_lambda(None if self.alpha is not None else self.lambda_, alpha=self.alpha)
        if (u.device, u.dtype) != (self.system.device, self.system.dtype):
            self.system = self.system.to(u.device, u.dtype)
            self._hold_at(None if self._anchors is None else self._anchors.to(u))
            if self._template.device != u.device:
                self._template = _topology(self._template.to(u.device))

    def extra_repr(self) -> str:
        system, name = self.system, "lambda_" if self.alpha is None else "alpha"
        value = getattr(self, name)
        value = value.detach() if isinstance(value, Tensor) else value
        solver = system.solver if isinstance(system.solver, str) else getattr(system.solver, "__name__", "given")
        is_number = not isinstance(value, Tensor) or value.numel() == 1
        text = f"{float(value):g}" if is_number else f"{float(value.min()):g} to {float(value.max()):g}"
        pinned = "" if self.pinned is None else f", pinned={int(self.pinned.sum())}"
        return (
            f"meshes={len(self._template)}, verts={system.num_verts}, {name}={text}, laplacian={self.laplacian},"
            f" solver={solver}{pinned}; {system.describe()}"
        )


def _topology(meshes: Any) -> Any:
    """The batch without gradients and without cached geometry. Its edges are found once, for all batches made from it.

    Everything that ``forward`` needs is computed here. Inside a transform of torch.func, the cache would keep tensors of the
    transform.
    """
    verts = [verts.detach().clone() for verts in meshes.verts_list()]
    template = meshes.__class__(verts=verts, faces=list(meshes.faces_list()), textures=meshes.textures)
    if not template.isempty():
        template.edges_packed()
        template.verts_padded()
        template.faces_padded()
        template.verts_padded_to_packed_idx()
    return template


_OF_POSITIONS = ("_verts_list", "_verts_normals_packed", "_faces_normals_packed", "_faces_areas_packed", "_laplacian_packed")


def _moved(template: Any, padded: Tensor, packed: Tensor) -> Any:
    """The batch with other positions. ``Meshes.update_padded`` does the same, but looks at all faces again, which takes longer
    than the solve."""
    meshes = copy.copy(template)
    if not all(hasattr(meshes, name) for name in ("_verts_padded", "_verts_packed", *_OF_POSITIONS)):
        return template.update_padded(padded)  # another version of PyTorch3D
    meshes._verts_padded, meshes._verts_packed = padded, packed
    for name in _OF_POSITIONS:
        setattr(meshes, name, None)
    return meshes


def _check_positions(name: str, verts: Tensor, meshes: Any) -> None:
    """Raises ``ValueError`` with mesh and vertex if a packed position is NaN or infinite."""
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
    """The mesh of a packed vertex, and the vertex's index in that mesh."""
    mesh = int(meshes.verts_packed_to_mesh_idx()[vertex])
    return mesh, vertex - int(meshes.mesh_to_verts_packed_first_idx()[mesh])
