"""The parameterisation u = (I + lambda L) x as a module on a batch of ``Meshes``.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3. Gradient
descent on u is descent on x with the gradient multiplied by (I + lambda L)^-2 (Eq. 13): it becomes a smooth step
for the whole surface, while x itself can take any shape.
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

    ``forward()`` returns the batch with the vertices x = M^-1 u; optimise ``parameters()`` with
    :class:`~pt3d_largesteps.UniformAdam` and any loss on the meshes. No mesh of the batch reaches another: each goes the way
    that it would go alone. What the meshes have in common is found here and used; ``repr`` tells.

    Args:
        meshes: ``Meshes``, of one topology or of many, float32 or float64; empty meshes may be among them. Their
            textures stay on what comes back, by reference to their tensors, so that these can be optimised too.
        lambda_: strength of the smoothing, at least 0; 19 if ``alpha`` is not given either. The larger, the smoother
            the steps; typically 1 to 100. A number, one per mesh (N,), or one per vertex (V,), V = sum(V_n), where an edge
            counts with the mean of its ends. A ``nn.Parameter`` becomes a parameter of the module, and is learned.
        alpha: in [0, 1), instead of ``lambda_`` and in the same forms: M = (1 - alpha) I + alpha L.
        laplacian: "combinatorial" (the paper's), "cotangent" (of the given positions), or a matrix of your own (V, V).
        solver: "auto", a name of :func:`~pt3d_largesteps.solvers.available_solvers`, or a factory.
        pinned: vertices that stay where they are: a mask (V,), packed indices (K,), or a list with a mask or indices of each
            mesh. Their neighbours feel them, and their u gets no gradient.

    Attributes:
        u: the parameter, packed (V, 3); it knows its meshes (:class:`~pt3d_largesteps.PackedParameter`).
        system: the :class:`~pt3d_largesteps.BatchSystem`.
        laplacian: "combinatorial", "cotangent" or "given".
        remeshing: of a module that :meth:`remeshed` has made, the :class:`~pt3d_largesteps.Remeshed`; else None.

    Raises:
        TypeError, ValueError: as :func:`~pt3d_largesteps.compute_matrix`; positions that are NaN or infinite; pins out of
            range, or on all vertices.

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
        self._anchors: Tensor | None = None  # positions, of which those of pinned vertices are held
        self._held: Held | None = None  # what they do to the others; None where lambda is learned, and changes
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
        meshes = template.update_padded(padded.view(num_meshes, max_verts, 3))
        # Textures keep what they compute of their tensors: each batch gets an object of its own, that starts with nothing.
        meshes.textures = copy.copy(template.textures)
        return meshes

    def verts_packed(self) -> Tensor:
        """The vertices x = M^-1 u, packed (V, 3), differentiable in u (and in lambda, where it is a parameter)."""
        return self.system.from_differential(self.u, self._anchors if self._held is None else self._held)

    @property
    def matrix(self) -> SystemMatrix:
        """M of the whole batch, block-diagonal, without pins; made when asked for."""
        return self.system.to_matrix()

    @property
    def pinned(self) -> Tensor | None:
        """(V,) bool, or None."""
        return self.system.pinned

    @torch.no_grad()
    def set_verts(self, verts: Any) -> None:
        """Encodes new positions, in place: u = M verts. An optimiser keeps the parameter and its state.

        Args:
            verts: packed positions (V, 3), or ``Meshes`` with the same faces. Pinned vertices are held there from now on.

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
        """Pins other vertices, where they are now, or none. Nothing is analysed again; the shape does not change.

        Args:
            pinned: as for the class.

        Example:
            >>> steps.set_pinned(steps.verts_packed()[:, 1] < -0.9)      # the feet
        """
        mask = None if pinned is None else pinned_mask(pinned, self.system.num_verts_per_mesh, self.u.device)
        self._hold(mask, self.verts_packed())

    @torch.no_grad()
    def set_lambda(self, lambda_: float | Tensor | None = None, *, alpha: float | Tensor | None = None) -> None:
        """Another lambda or alpha, in any of the forms of the class but a parameter. Nothing is analysed again, and the shape
        does not change: u is made anew from the positions.

        Example:
            >>> steps.set_lambda(5.0)
        """
        if self.system.learns_lambda or isinstance(lambda_, nn.Parameter) or isinstance(alpha, nn.Parameter):
            raise ValueError(
                "lambda_: expected numbers for numbers; where it is learned, change the parameter, or make a new module"
            )
        verts = self.verts_packed()
        self.system.set_lambda(lambda_, alpha=alpha)
        self.lambda_, self.alpha = (DEFAULT_LAMBDA if lambda_ is None and alpha is None else lambda_), alpha
        self._move_to(verts)

    @torch.no_grad()
    def refactorize(self) -> None:
        """Cotangent weights of the surface as it is now. Nothing is analysed again, and the shape does not change: u is made
        anew from the positions. To be called every few steps where the weights shall follow the surface.

        Example:
            >>> if step % 10 == 0:
            ...     steps.refactorize()
        """
        verts = self.verts_packed()
        self.system.refactorize(verts)
        self._move_to(verts)

    @torch.no_grad()
    def remeshed(self, *, optimizer: torch.optim.Optimizer | None = None, moments: str = "reset", **options: Any) -> LargeSteps:
        """The module of the same surfaces with other, even triangles; see :func:`~pt3d_largesteps.remesh`.

        Pinned vertices stay where they are and stay pinned; lambda per vertex is interpolated. u is made anew from the
        positions. The new module's ``remeshing`` carries other tensors over: ``steps.remeshing.transfer(colors)``.

        Args:
            optimizer: gets the new u in the place of the old one (and lambda, where it is learned and one per vertex); its
                step sizes and schedulers stay.
            moments: of the optimiser: "reset" (they begin anew), or "interpolate".
            options: of :func:`~pt3d_largesteps.remesh`, of which ``num_verts``, ``edge_length`` or ``edge_scale`` is needed.

        Raises:
            ValueError: a Laplacian of your own, which belongs to its faces; an optimiser that has not got u.

        Example:
            >>> steps = steps.remeshed(num_verts=5000, optimizer=optimizer)
        """
        return remeshed_steps(self, optimizer, moments, options)

    def _hold(self, mask: Tensor | None, verts: Tensor) -> None:
        """Pins the vertices of a mask at these positions."""
        self.system.set_pinned(mask)
        self._move_to(verts)

    @torch.no_grad()
    def _move_to(self, verts: Tensor) -> None:
        """u = M x, with and without pins: what u is at a pinned vertex matters only when it is freed again."""
        self.u.copy_(self._encoded(verts))
        self._hold_at(None if self.system.pinned is None else verts.detach().clone())

    @torch.no_grad()
    def _hold_at(self, anchors: Tensor | None) -> None:
        """To be called again after every change of the system."""
        self._anchors = anchors
        self._held = None if anchors is None or self.system.learns_lambda else self.system.hold(anchors)

    def _encoded(self, verts: Tensor) -> Tensor:
        with torch.no_grad():
            u = self.system.multiply(verts)
        check_finite("u", u, "; the positions are too large for the dtype")
        return u

    def get_extra_state(self) -> dict[str, Tensor | None]:
        """The matrix and the pins, saved with u: u means nothing without them."""
        return {**state_of_matrix(self.matrix), "pinned": self.pinned, "anchors": self._anchors}

    def set_extra_state(self, state: Any) -> None:
        """Takes the pins; refuses the coordinates of another matrix, whose shape would come out wrong without a word."""
        saved = checked_state(state, (*MATRIX_KEYS, "pinned", "anchors"), self.u.device, "system matrix")
        check_same_matrix(
            saved,
            self.matrix,
            learned=self.system.learns_lambda,
            pattern="meshes with the same faces, got another topology",
            remedy="make LargeSteps with the saved ones, or carry positions over with set_verts",
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
    """The batch without its gradients and caches of geometry; its edges are found once, for all batches made of it.

    All that ``forward`` asks it for is made here: within a transform of torch.func it would keep tensors of the transform.
    """
    verts = [verts.detach().clone() for verts in meshes.verts_list()]
    template = meshes.__class__(verts=verts, faces=list(meshes.faces_list()), textures=meshes.textures)
    if not template.isempty():
        template.edges_packed()
        template.verts_padded()
        template.faces_padded()
        template.verts_padded_to_packed_idx()
    return template


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
