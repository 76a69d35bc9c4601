"""Muon beside AdamW: the optimiser of the networks made of dense kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update of every kernel is made orthogonal (Jordan et al., "Muon", 2024); AdamW for the rest.

    A kernel [O, I, ...] counts as a matrix [O, I * ...]. Its update has singular values near 1, so no direction waits
    for the few that dominate the gradient. On the small convolutional networks of this package it needs less than half
    of Adam's steps for the same error, for a fifth more time a step.

    Args:
        kernels: parameters of two or more dimensions that lie between features, not a first or last layer; in groups
            by the scale with which they are used (equalised learning rates), 1 where they are used as they are.
        others: the remaining parameters.
        rate: learning rate of kernels; an update of a scaled kernel has singular values of about ``rate``.
        other_rate: AdamW's learning rate.
        momentum: of kernels; Nesterov's.
        decay: AdamW's weight decay for the others.

    Every group has its base rate as ``group["rate"]``, for schedules that set ``group["lr"]``.
    """

    def __init__(
        self,
        kernels: Mapping[float, Iterable[nn.Parameter]],
        others: Iterable[nn.Parameter],
        *,
        rate: float = 0.02,
        other_rate: float = 3e-3,
        momentum: float = 0.95,
        decay: float = 1e-2,
    ) -> None:
        groups = [
            {"params": list(members), "orthogonal": True, "scale": scale, "rate": rate, "lr": rate}
            for scale, members in kernels.items()
        ]
        groups.append({"params": list(others), "orthogonal": False, "scale": 1.0, "rate": other_rate, "lr": other_rate})
        super().__init__(groups, {"momentum": momentum, "betas": (0.9, 0.999), "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the gradients there are; parameters without one stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = _orthogonal_step if group["orthogonal"] else _adam_step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, self.state[parameter], group)
        return loss


def muon_for(network: nn.Module, ends: tuple[str, ...], **settings: Any) -> Muon:
    """Muon for a network.

    Args:
        network: its convolution and matrix kernels get orthogonal updates, everything else AdamW. A layer with an
            attribute ``scale`` multiplies its kernel by that.
        ends: names of submodules, or how they begin, whose kernels go with the rest: the first and the last layers.
        settings: see :class:`Muon`.
    """
    kernels: dict[float, list[nn.Parameter]] = {}
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() >= 2 and not name.startswith(ends):
            kernels.setdefault(float(getattr(module, "scale", 1.0)), []).append(weight)
    inner = {id(kernel) for members in kernels.values() for kernel in members}
    return Muon(kernels, [p for p in network.parameters() if id(p) not in inner], **settings)


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix [M, N] with the same singular vectors and singular values between about 0.7 and 1.2.

    Five Newton-Schulz steps with the quintic of Jordan et al., which favours speed over exactness.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def _orthogonal_step(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(gradient)
    mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
    update = orthogonalised(gradient.lerp(mean, group["momentum"]).flatten(1)).view_as(parameter)
    rows, columns = parameter.shape[0], parameter[0].numel()
    parameter.add_(update, alpha=-group["lr"] / group["scale"] * max(1.0, rows / columns) ** 0.5)


def _adam_step(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if "step" not in state:
        state["step"] = 0
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    first, second = group["betas"]
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    scale = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(1e-8)
    parameter.mul_(1 - group["lr"] * group["decay"])
    parameter.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - first ** state["step"]))
