"""The driver: minimises a loss of meshes from coarse to fine, with steps relative to the edge lengths.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 4.2 (remeshing, and
the step size that follows the edges).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pt3d_largesteps._checks import describe
from pt3d_largesteps.optim.replacing import replace_parameter
from pt3d_largesteps.optimization.checkpoint import (
    checked_path,
    digest,
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)
from pt3d_largesteps.optimization.config import OptimizationConfig, check_installed
from pt3d_largesteps.optimization.history import History
from pt3d_largesteps.optimization.parameterizations import Parameterization, check_packed, large_steps
from pt3d_largesteps.optimization.progress import Progress
from pt3d_largesteps.optimization.views import Loss, ShuffledViews, evaluate
from pt3d_largesteps.surfaces.remeshing import remesh
from pt3d_largesteps.surfaces.untangling import untangle
from pt3d_largesteps.systems.pins import pinned_mask

# Of the state in a checkpoint, those that have no parts of their own here
_NAMES = (
    "step", "ended", "verts", "faces", "has_textures", "features", "pinned", "module", "optimizer", "random",
)  # fmt: skip


@dataclass(frozen=True)
class OptimizationResult:
    """What :func:`optimize` returns.

    Attributes:
        meshes: the ``Meshes``, detached.
        history: the numbers of every step.
        ended: "steps" (all were done), "stalled" (the last stage stopped improving) or "stopped" (by a callback).
        repaired: (N,) int64, the number of self-intersecting faces of each mesh before the repair; None without repair.
    """

    meshes: Any
    history: History
    ended: str
    repaired: Tensor | None


def optimize(
    start: Any,
    loss: Loss,
    config: OptimizationConfig | None = None,
    *,
    held_out: Loss | None = None,
    pinned: Tensor | Sequence[Tensor] | None = None,
    parameterize: Parameterization | None = None,
    callbacks: Sequence[Callable[[Optimization], Any]] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    checkpoint_label: str = "",
) -> OptimizationResult:
    """Minimises a loss of a batch of meshes, coarse to fine.

    Each mesh of the batch has its own step size. With one loss per mesh (N,) the meshes do not affect each other, except that
    ``config.patience`` looks at their mean loss.

    Args:
        start: ``Meshes``, any batch; their textures are kept as far as :func:`~pt3d_largesteps.remesh` can.
        loss: called with the meshes or, if it has an attribute ``num_views``, with the meshes and a list of views, like
            :class:`~pt3d_largesteps.renderers.ImageLoss`. Returns one number, or (N,), one for each mesh.
        config: default: ``OptimizationConfig()``.
        held_out: a loss of held-out data, called with all its views. It is recorded in the history
            and decides when to stop (``config.patience``).
        pinned: pinned vertices, as for :class:`~pt3d_largesteps.LargeSteps`.
        parameterize: makes the module and its optimiser; default: :func:`large_steps`.
        callbacks: called after each step with the :class:`Optimization`; its ``stop()`` ends the run.
        checkpoint: a file, written every ``checkpoint_every`` steps and at the end. If it exists, the run resumes; the result
            is bit-identical to that of an uninterrupted run if losses draw random numbers only from torch.
        checkpoint_every: steps.
        checkpoint_label: identifies the run further, such as the name of the target. A checkpoint of another start, config,
            number of views or label is refused.

    Raises:
        ImportError: a package that the config needs is not installed.
        TypeError, ValueError: a loss that is not a tensor of one or N numbers, or is NaN or infinite (with step and mesh); a
            checkpoint of another run; arguments out of range.

    Example:
        >>> loss = ImageLoss(renderer, cameras, images)
        >>> result = optimize(ico_sphere(3), loss, callbacks=[lambda run: print(run.step, run.history.losses[-1])])
        >>> result.meshes, result.history.plot("loss.png")
    """
    optimization = Optimization(
        start,
        loss,
        config,
        held_out=held_out,
        pinned=pinned,
        parameterize=parameterize,
        callbacks=callbacks,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        checkpoint_label=checkpoint_label,
    )
    return optimization.run()


class Optimization:
    """A running optimisation. :func:`optimize` runs it and passes it to callbacks; the arguments are the same.

    Attributes:
        config, history: the config and the history so far.
        step: steps done.
        module, optimizer: those of the current stage; a call of the module returns the meshes, with gradients.
        edge_lengths: (N,), mean edge length of each mesh at the start of the stage.

    Example:
        >>> optimization = Optimization(start, loss)
        >>> try:
        ...     meshes = optimization.run().meshes
        ... except KeyboardInterrupt:
        ...     meshes = optimization.meshes()
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        start: Any,
        loss: Loss,
        config: OptimizationConfig | None = None,
        *,
        held_out: Loss | None = None,
        pinned: Tensor | Sequence[Tensor] | None = None,
        parameterize: Parameterization | None = None,
        callbacks: Sequence[Callable[[Optimization], Any]] = (),
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        checkpoint_label: str = "",
    ) -> None:
        if not hasattr(start, "update_padded"):
            raise TypeError(f"start: expected pytorch3d.structures.Meshes, got {describe(start)}")
        self.config = config = OptimizationConfig() if config is None else config
        if not isinstance(config, OptimizationConfig):
            raise TypeError(f"config: expected an OptimizationConfig, got {describe(config)}")
        for name, function in (("loss", loss), ("held_out", held_out)):
            if not callable(function) and not (name == "held_out" and function is None):
                raise TypeError(f"{name}: expected a function of the meshes, got {describe(function)}")
        if isinstance(checkpoint_every, bool) or not isinstance(checkpoint_every, int) or checkpoint_every < 1:
            raise ValueError(f"checkpoint_every: expected an integer of at least 1, got {describe(checkpoint_every)}")
        self._callbacks = tuple(callbacks) if isinstance(callbacks, Sequence) else (callbacks,)
        for callback in self._callbacks:
            if not callable(callback):
                raise TypeError(f"callbacks: expected functions of the optimisation, got {describe(callback)}")
        check_installed(config)
        self.history, self.step = History(), 0
        self._loss, self._held_out = loss, held_out
        self._parameterize = large_steps() if parameterize is None else parameterize
        self._checkpoint_every = checkpoint_every
        self._checkpoint = None if checkpoint is None else checked_path(checkpoint)
        self._progress = Progress(config)
        self._views = ShuffledViews(getattr(loss, "num_views", 0), config)
        self._ended: str | None = None
        sizes = start.num_verts_per_mesh().tolist()
        self._pinned = None if pinned is None else pinned_mask(pinned, sizes, start.device)
        self._begin = start.detach()  # the meshes as their stage began
        self._run_of = {
            "config": asdict(config),
            "start": digest([*start.verts_list(), *start.faces_list(), self._pinned]),
            "number of views": self._views.num_views,
            "label": checkpoint_label,
        }
        if self._checkpoint is not None and self._checkpoint.exists():
            self._resume(self._checkpoint)
        else:
            self._begin_stage()

    @torch.no_grad()
    def meshes(self) -> Any:
        """The current meshes, detached."""
        return self.module().detach()

    @property
    def stage_ends(self) -> bool:
        """Whether the step was the last one of its stage."""
        return self._ended is not None or self._progress.stage_is_due

    def stop(self) -> None:
        """For callbacks: ends the run after this step. Another call of :meth:`run`, or the checkpoint, resumes it."""
        self._ended = self._ended or "stopped"

    def run(self) -> OptimizationResult:
        """Takes the remaining steps."""
        self._ended = None if self._ended == "stopped" else self._ended
        while self._ended is None:
            if self._progress.stage_is_due:
                self._next_stage()
            self._take_step()
            self._ended = self._progress.advance(self.step, self.history, self._evaluate_held_out)
            for callback in self._callbacks:
                callback(self)
            if self._checkpoint is not None and (self._ended or self.step % self._checkpoint_every == 0):
                save_checkpoint(self._checkpoint, self._state())
        if not self.config.untangle:
            return OptimizationResult(self.meshes(), self.history, self._ended, None)
        untangled = untangle(self.meshes(), keep=self._pinned)
        return OptimizationResult(untangled.meshes, self.history, self._ended, untangled.before)

    def _take_step(self) -> None:
        start = time.perf_counter()
        lrs = self._progress.lr * (self.edge_lengths if self.config.lr_unit == "edge" else torch.ones_like(self.edge_lengths))
        per_mesh = len(set(lrs.tolist())) > 1  # not every optimiser accepts a tensor
        for group in self.optimizer.param_groups:
            group["lr"] = lrs if per_mesh else float(lrs.sum()) / max(len(lrs), 1)
        self.optimizer.zero_grad()
        losses = evaluate("loss", self._loss, self.module(), self._views.draw(), self.step)
        if len(self._begin.verts_packed()):
            if not losses.requires_grad:
                raise ValueError("loss: expected a tensor that depends on the vertices and requires gradients, got one without")
            losses.sum().backward()
            self.optimizer.step()
        self.history.losses.append(losses.detach().reshape(-1).tolist())
        self.history.lrs.append(lrs.tolist())
        self.history.seconds.append(time.perf_counter() - start)
        self.step += 1

    @torch.no_grad()
    def _evaluate_held_out(self) -> float | None:
        if self._held_out is None:
            return None
        views = list(range(getattr(self._held_out, "num_views", 0)))
        return float(evaluate("held_out", self._held_out, self.module(), views, self.step).mean())

    def _next_stage(self) -> None:
        """Remeshes if the stage has a target, and makes a new parameter from the positions."""
        start = time.perf_counter()
        self._progress.begin_stage()
        old = self.optimizer
        self._begin = self.meshes()
        remeshing = None
        if self._progress.stage.remeshing:
            remeshing = remesh(self._begin, keep=self._pinned, **self._progress.stage.remeshing)
            self._begin = remeshing.meshes
            self._pinned = None if self._pinned is None else remeshing.kept
        self._begin_stage()
        if self.config.moments == "interpolate":
            pairs = list(zip(_parameters(old), _parameters(self.optimizer), strict=True))
            for parameter, new in pairs:
                if remeshing is not None:
                    check_packed(new, len(self._begin.verts_packed()))
                replace_parameter(old, parameter, new, (lambda rows: rows) if remeshing is None else remeshing.transfer)
            self.optimizer = old
        self.history.remesh_seconds += time.perf_counter() - start

    def _begin_stage(self) -> None:
        self._set_stage()
        self.history.stages.append((self.step, len(self._begin.verts_packed())))

    def _set_stage(self) -> None:
        self.edge_lengths = mean_edge_lengths(self._begin)
        self.module, self.optimizer = self._parameterize(self._begin, self._progress.stage.lambda_, self._pinned)

    def _state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on. The parameter belongs to the meshes at the start of the stage."""
        textures = self._begin.textures
        return {
            "run_of": self._run_of,
            "step": self.step,
            "ended": None if self._ended == "stopped" else self._ended,
            "verts": self._begin.verts_list(),
            "faces": self._begin.faces_list(),
            "has_textures": textures is not None,
            "features": textures.verts_features_list() if hasattr(textures, "verts_features_list") else None,
            "pinned": self._pinned,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self._progress.state_dict(),
            "views": self._views.state_dict(),
            "history": self.history.state_dict(),
            "random": random_states(),
        }

    def _resume(self, path: Path) -> None:
        names = {
            **dict.fromkeys(_NAMES),
            "run_of": {**dict.fromkeys(self._run_of), "config": dict.fromkeys(asdict(self.config))},
            **{
                name: dict.fromkeys(part.state_dict())
                for name, part in (("progress", self._progress), ("views", self._views), ("history", self.history))
            },
        }
        state, device = load_checkpoint(path, names, self._run_of), self._begin.device
        self.step, self._ended = state["step"], state["ended"]
        self._pinned = None if state["pinned"] is None else state["pinned"].to(device)
        verts, faces = ([one.to(device) for one in state[name]] for name in ("verts", "faces"))
        textures: Any = self._begin.textures if state["has_textures"] else None  # unless a remeshing has dropped them
        if state["features"] is not None:
            textures = textures.__class__(verts_features=[one.to(device) for one in state["features"]])
        self._begin = self._begin.__class__(verts=verts, faces=faces, textures=textures)
        self._progress.load_state_dict(state["progress"])
        self._views.load_state_dict(state["views"])
        self.history = History(**state["history"])
        self._set_stage()
        try:
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:  # whatever a module and an optimiser of one's own raise
            raise ValueError(
                f"checkpoint: expected one of the same parameterization, got {path}, which it refuses ({error});"
                " remove it to begin anew"
            ) from error
        set_random_states(state["random"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def mean_edge_lengths(meshes: Any) -> Tensor:
    """(N,), the mean edge length of each mesh, each edge counted once; 0 for a mesh without edges.

    Example:
        >>> optimizer.param_groups[0]["lr"] = 0.5 * mean_edge_lengths(meshes)
    """
    verts = meshes.verts_packed().detach()
    sums = counts = verts.new_zeros(len(meshes))
    if not meshes.isempty():
        edges = meshes.edges_packed()
        lengths = (verts[edges[:, 0]] - verts[edges[:, 1]]).norm(dim=1)
        mesh = meshes.edges_packed_to_mesh_idx()
        sums, counts = sums.index_add(0, mesh, lengths), counts.index_add(0, mesh, torch.ones_like(lengths))
    return sums / counts.clamp_min(1)
