"""UniformAdam: Adam whose second moment is one number per mesh, the maximum.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3.5 and the
released code. Adam divides each component of the gradient by its own scale, which undoes the smoothness from the
parameterisation; one scale for the whole mesh keeps the direction smooth:

    m_t = beta_1 m_{t-1} + (1 - beta_1) g_t              v_t = beta_2 v_{t-1} + (1 - beta_2) g_t^2
    theta_t = theta_{t-1} - lr  m_t / (1 - beta_1^t)  /  (eps + max_i sqrt(v_t,i / (1 - beta_2^t)))

The released code takes the maximum over each parameter tensor. This code does the same, except for the parameter of a batch of
meshes (PackedParameter): there each mesh has its own maximum, so that it moves as it would alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pt3d_largesteps._checks import check_finite, check_number
from pt3d_largesteps.optim.packed import Segments, segments

_FLAGS = ("amsgrad", "maximize", "capturable")


class UniformAdam(torch.optim.Optimizer):
    """Adam with a uniform second moment, for the differential coordinates u.

    The step does not depend on the scale of the gradient: each step moves the component with the largest gradient by about
    ``lr``. The maximum is taken per mesh for the parameter of :class:`~pt3d_largesteps.LargeSteps` (any
    :class:`~pt3d_largesteps.PackedParameter`), and over the whole tensor for any other parameter.

    Args:
        params: tensors, or dicts of parameter groups.
        lr: step size, in the units of u: a number, a tensor of one (with ``capturable``, on the device of the parameters, a
            schedule can then reach into a captured graph), or a tensor (N,) of one for each mesh of the parameters.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to the divisor, at least 0.
        weight_decay: decoupled, as in AdamW: each step first multiplies the parameter by 1 - lr weight_decay.
        amsgrad: the divisor never falls: it uses the largest maximum so far.
        maximize: maximises the objective instead of minimising it.
        foreach: updates all tensors of a group at once by torch's foreach functions; default: only on CUDA.
        capturable: the step count stays on the device, so that a step can be captured in a CUDA graph.

    Raises:
        TypeError, ValueError: a hyperparameter out of its range; in ``step``, on the CPU, a gradient that is NaN or infinite
            (not checked on CUDA, because that would wait for the device).
        RuntimeError: in ``step``, a sparse gradient.

    Example:
        >>> optimizer = UniformAdam(steps.parameters(), lr=3e-2)
        >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.998)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**options, "maximize": maximize, "foreach": foreach, "capturable": capturable})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group after checking its hyperparameters."""
        options = {**self.defaults, **param_group}
        lr = options["lr"]
        per_mesh = isinstance(lr, Tensor) and lr.dim() == 1 and lr.numel() != 1
        for one in lr.tolist() if per_mesh else [lr]:
            check_number("lr", one, low=0.0)
        check_number("betas[0]", options["betas"][0], low=0.0, high=1.0)
        check_number("betas[1]", options["betas"][1], low=0.0, high=1.0)
        check_number("eps", options["eps"], low=0.0)
        check_number("weight_decay", options["weight_decay"], low=0.0)
        for name in (*_FLAGS, "foreach"):
            if not isinstance(options[name], bool) and not (name == "foreach" and options[name] is None):
                raise TypeError(f"{name}: expected True or False, got {options[name]!r}")
        super().add_param_group(param_group)
        if per_mesh:
            sizes = {len(self._segments(parameter).num_verts_per_mesh) for parameter in self.param_groups[-1]["params"]}
            if sizes != {len(lr)}:
                self.param_groups.pop()
                raise ValueError(f"lr: expected one for each mesh of each parameter, {sorted(sizes)}, got {len(lr)}")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # of a state saved before there was the option
            for name, default in (("weight_decay", 0.0), ("foreach", None), *((flag, False) for flag in _FLAGS)):
                group.setdefault(name, default)
        for state in self.state.values():
            if "step" in state and not isinstance(state["step"], Tensor):
                state["step"] = torch.tensor(float(state["step"]))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` computes the loss again and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updates = [
            (group, [parameter for parameter in group["params"] if parameter.grad is not None and parameter.numel() > 0])
            for group in self.param_groups
        ]
        for _, parameters in updates:  # all of them before the first update: a refused step changes nothing
            for parameter in parameters:
                _check_gradient(parameter.grad)
        for group, parameters in updates:
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self._state_of(parameter, group) for parameter in parameters]
        gradients = [self._gradient(parameter) for parameter in parameters]
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        for state in states:
            state["step"] += 1
        foreach = group["foreach"]
        if all(p.is_cuda for p in parameters) if foreach is None else foreach:
            if group["maximize"]:
                gradients = list(torch._foreach_neg(gradients))
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        else:
            for gradient, mean, square in zip(gradients, means, squares, strict=True):
                gradient = -gradient if group["maximize"] else gradient
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        for parameter, state in zip(parameters, states, strict=True):
            if group["weight_decay"]:
                segments = self._segments(parameter)
                decay = parameter.new_full((len(segments.num_verts_per_mesh),), -group["weight_decay"]) * group["lr"]
                segments.add_scaled_(self._rows(parameter), self._rows(parameter.clone()), decay)
            self._add_step(parameter, state["exp_avg"], self._scales(parameter, state, group))

    def _gradient(self, parameter: Tensor) -> Tensor:
        assert parameter.grad is not None  # those without one are not updated
        return parameter.grad

    def _rows(self, numbers: Tensor) -> Tensor:
        """A view with a row for each vertex."""
        return numbers

    def _segments(self, parameter: Tensor) -> Segments:
        sizes = getattr(parameter, "num_verts_per_mesh", None)
        return segments((len(parameter) if parameter.dim() else 1,) if sizes is None else sizes)

    def _add_step(self, parameter: Tensor, mean: Tensor, scales: Tensor) -> None:
        self._segments(parameter).add_scaled_(parameter, mean, scales)

    def _state_of(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            # On the device only if needed: reading it would wait for the device.
            state["step"] = torch.zeros((), device=parameter.device if group["capturable"] else "cpu")
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        if group["amsgrad"] and "max_uniform_sq" not in state:
            state["max_uniform_sq"] = parameter.new_zeros(len(self._segments(parameter).num_verts_per_mesh))
        return state

    def _scales(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """(N,), the factor of the mean gradient of each mesh."""
        largest = self._segments(parameter).maxima(self._rows(state["exp_avg_sq"]))
        if group["amsgrad"]:
            largest = torch.maximum(state["max_uniform_sq"], largest, out=state["max_uniform_sq"])
        beta1, beta2 = group["betas"]
        # In double precision: 1 - 0.999 has few correct digits in single precision.
        step, lr, largest = state["step"].double(), group["lr"], largest.double()
        if isinstance(lr, Tensor) and lr.dim() > 0:  # of a batch that was moved since
            lr = lr.to(largest.device)
        if not group["capturable"] and not torch.compiler.is_compiling():
            step = step.item()  # on the CPU
            if largest.numel() == 1 and largest.is_cpu and not isinstance(lr, Tensor):  # numbers cost less than tensors
                divisor = math.sqrt(largest.item() / (1 - beta2**step)) + group["eps"]
                return parameter.new_tensor([-lr / (1 - beta1**step) / (divisor if divisor > 0 else 1)])
        divisor = (largest / (1 - beta2**step)).sqrt() + group["eps"]
        # No gradient yet and eps = 0: do not move, and do not divide zero by zero.
        divisor = torch.where(divisor > 0, divisor, 1)
        return (-lr / (1 - beta1**step) / divisor).to(parameter.dtype)


def _check_gradient(gradient: Tensor) -> None:
    if gradient.is_sparse:
        raise RuntimeError("UniformAdam: expected dense gradients, got a sparse one")
    if gradient.device.type == "cpu" and not torch.compiler.is_compiling():
        # One NaN would reach every component through the maximum.
        check_finite("gradient", gradient)
