"""How much a change of style shows in pictures: a metric of styles, in which the inverter's answers are compared.

Most directions of w hardly change a picture, and a few change nearly all of it. Where G is linear in w, a style that is
off by d gives a picture that is off by J d, so that the mean square error of the picture is d^T E[J^T J] d: a small
matrix that a few hundred backward passes estimate once, after which a training needs no pictures drawn again to know
what its errors look like.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from garfast.networks.perceptual import PerceptualNet

_PROBES = 2
"""Random directions of each picture's change."""
_EVEN = 0.05
"""Share of the metric in which all directions count alike, so that none is free."""


def looks_metric(
    draw: Callable[[int], tuple[Tensor, Callable[[Tensor], Tensor]]],
    batches: int,
    mean: Tensor,
    perceptual: PerceptualNet | None,
    random: torch.Generator,
) -> Tensor:
    """The metric H of one renderer.

    Args:
        draw: batch number -> styles [B, D] with random codes, and what draws pictures [B, 3, H, W] with given styles
            under the batch's geometry and noise.
        batches: how many to look at.
        mean: [D] the mean style.
        perceptual: whose features have a say beside pixels, half each; None for pixels alone.
        random: decides the probes; on the CPU.

    Returns:
        float32 [D, D], symmetric and positive; d^T H d is 1 on average where d is a random style minus the mean one.
    """
    size = len(mean)
    parts = [torch.zeros(size, size, device=mean.device) for _ in range(1 if perceptual is None else 2)]
    spread = torch.zeros_like(parts[0])
    for number in range(batches):
        styles, picture_of = draw(number)
        offset = styles.detach().float() - mean
        spread += offset.T @ offset / len(offset)
        with torch.enable_grad():
            w = styles.detach().clone().requires_grad_()
            image = picture_of(w).float()
            seen = [[image]] if perceptual is None else [[image], perceptual.features(image)]
            for probe in range(_PROBES):
                for k, maps in enumerate(seen):
                    # A vector-Jacobian product with white noise v: E[(J^T v) (J^T v)^T] = J^T J.
                    value = torch.stack([_probe(values, random) for values in maps]).sum()
                    last = probe == _PROBES - 1 and k == len(seen) - 1
                    (slope,) = torch.autograd.grad(value, w, retain_graph=not last)
                    parts[k] += slope.float().T @ slope.float()
    even = torch.eye(size, device=mean.device)
    parts = [part / (part * spread).sum().clamp_min(1e-20) for part in parts]
    metric = (1 - _EVEN) * torch.stack(parts).mean(0) + _EVEN * even / spread.trace().clamp_min(1e-20)
    return metric * batches


def _probe(values: Tensor, random: torch.Generator) -> Tensor:
    """White noise times values [B, C, h, w], of the size with which their mean square over the picture counts."""
    noise = torch.randn(values.shape, generator=random).to(values.device)
    return (values.float() * noise).sum() / (values.shape[-2] * values.shape[-1]) ** 0.5
