"""UniformAdam: Adam whose second moment is one number per parameter tensor, the maximum.

Source: Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG 40(6), 2021, Sec. 3.5 and the
released code. Adam divides each component of the gradient by its own scale, which undoes the smoothness that the
parameterisation gave it; one scale for the whole tensor keeps the direction smooth:

    m_t = beta_1 m_{t-1} + (1 - beta_1) g_t              v_t = beta_2 v_{t-1} + (1 - beta_2) g_t^2
    theta_t = theta_{t-1} - lr  m_t / (1 - beta_1^t)  /  (eps + max_i sqrt(v_t,i / (1 - beta_2^t)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from pt3d_largesteps._checks import check_finite, check_number


class UniformAdam(torch.optim.Optimizer):
    """Adam with a uniform second moment, for the differential coordinates u.

    The step does not depend on the scale of the gradient: each one moves the component of the largest gradient by about
    ``lr``. The maximum is taken over each parameter tensor by itself.

    Args:
        params: tensors, or dicts of parameter groups.
        lr: step size, in the units of u.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to the divisor, at least 0.

    Raises:
        ValueError: a hyperparameter out of its range; in ``step``, on the CPU, a gradient that is NaN or infinite
            (on CUDA it is not looked for, since that would wait for the device).
        RuntimeError: in ``step``, a sparse gradient.

    Example:
        >>> optimizer = UniformAdam(steps.parameters(), lr=3e-2)
        >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.998)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, after a look at its hyperparameters."""
        options = {**self.defaults, **param_group}
        check_number("lr", options["lr"], low=0.0)
        check_number("betas[0]", options["betas"][0], low=0.0, high=1.0)
        check_number("betas[1]", options["betas"][1], low=0.0, high=1.0)
        check_number("eps", options["eps"], low=0.0)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` computes the loss again and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updates = [
            (parameter, group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.numel() > 0
        ]
        for parameter, _ in updates:  # all of them before the first update: a refused step changes nothing
            _check_gradient(parameter.grad)
        for parameter, group in updates:
            self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
        exp_avg.lerp_(gradient, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        divisor = (exp_avg_sq.max() / (1 - beta2 ** state["step"])).sqrt() + group["eps"]
        divisor = torch.where(divisor > 0, divisor, 1)  # no gradient yet, and no eps: stay, do not divide zero by zero
        parameter.sub_(exp_avg / divisor * (group["lr"] / (1 - beta1 ** state["step"])))


def _check_gradient(gradient: torch.Tensor) -> None:
    if gradient.is_sparse:
        raise RuntimeError("UniformAdam: expected dense gradients, got a sparse one")
    if gradient.device.type == "cpu":
        # One NaN would reach every component through the maximum.
        check_finite("gradient", gradient)
