"""How many steps of optimisation the inverter saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from garfast.errors import EvaluationError
from garfast.evaluate.drawing import condition_for, draw, draw_styles
from garfast.evaluate.renderer_quality import HeldOut, random_noise
from garfast.networks.generator import Generator
from garfast.networks.inverter import style_of
from garfast.networks.renderer import Renderer
from garfast.seeds import seeded
from garfast.train.condition import Condition

RATES = (0.01, 0.03, 0.1)
"""Adam's steps that the optimisation from the mean style is tried with; the best counts at every step."""
CODE_RATES = (0.03, 0.1, 0.3)
"""The same for codes, whose numbers are larger."""


@dataclass(frozen=True)
class InversionCurve:
    """Errors of pictures found again, means over faces.

    Attributes:
        inverter: error of ``G(n, V(I))``: 'pixel' (mean absolute difference, -1..1) and 'perceptual'.
        steps: numbers of optimisation steps ...
        optimiser: ... and the errors after so many, by the same names, with the best of the rates.
        saved: the first of ``steps`` at which the optimisation is as good as the inverter, by name; None if it is at
            none of them.
    """

    inverter: dict[str, float]
    steps: tuple[int, ...]
    optimiser: dict[str, tuple[float, ...]]
    saved: dict[str, int | None]


def inversion_curves(
    renderer: Renderer,
    held_out: HeldOut,
    *,
    faces: int = 8,
    steps: int = 200,
    every: int = 10,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    code_rates: Sequence[float] = CODE_RATES,
) -> dict[str, InversionCurve]:
    """Find the looks of pictures again, by the inverter and by gradient descent.

    Descent is with Adam, from no noise: over noise and w (every layer's own) from the mean style; or over noise and z,
    as in equation 10, from random codes, as codes have no mean that is one. The geometry is given to all.

    Args:
        renderer: G, V and a perceptual network.
        held_out: whose geometry, and whose portraits.
        faces: how many, optimised together.
        steps: of the descent.
        every: steps between two measurements.
        seed: of the looks.
        rates, code_rates: see `RATES` and `CODE_RATES`.

    Returns:
        'pictures': of G's own pictures with random looks; 'photos': of held-out portraits, which G may not be able to
        draw; 'codes': of the pictures, over z.

    Raises:
        EvaluationError: there is no V.
    """
    if renderer.inverter is None:
        raise EvaluationError("there is no inverter in these weights")
    device = renderer.generator.constant.device
    rows = list(range(0, held_out.count, max(1, held_out.count // faces)))[:faces]
    condition = condition_for(renderer.generator, held_out.portraits.geometry(rows), len(rows))
    random = seeded(seed)
    z = torch.randn(len(rows), renderer.generator.config.z_dim, generator=random).to(device)
    with torch.no_grad():
        drawn = draw(renderer.generator, condition, z, noise=random_noise(renderer, len(rows), random))
    style = _mean_style(renderer.generator, len(rows))
    code = torch.randn(z.shape, generator=random).to(device)
    photos = held_out.photos(rows).to(device)
    return {
        "pictures": _curve(renderer, condition, drawn, style, steps, every, rates),
        "photos": _curve(renderer, condition, photos, style, steps, every, rates),
        "codes": _curve(renderer, condition, drawn, code, steps, every, code_rates),
    }


def _curve(
    renderer: Renderer,
    condition: Condition,
    target: Tensor,
    start: Tensor,
    steps: int,
    every: int,
    rates: Sequence[float],
) -> InversionCurve:
    assert renderer.inverter is not None
    with torch.no_grad():
        found = renderer.inverter(target)
        w = style_of(renderer.generator, found.z, found.offset, condition.params)
        again = draw_styles(renderer.generator, condition, w, found.noise)
        inverter = _errors(renderer, again, target)
    curves = [_descent(renderer, condition, target, start, steps, every, rate) for rate in rates]
    marks = tuple(range(0, steps + 1, every))
    best = {name: tuple(min(values) for values in zip(*(c[name] for c in curves), strict=True)) for name in inverter}
    saved = {
        name: next((step for step, error in zip(marks, best[name], strict=True) if error <= inverter[name]), None)
        for name in inverter
    }
    return InversionCurve(inverter, marks, best, saved)


def _mean_style(generator: Generator, batch: int) -> Tensor:
    config, mean = generator.config, generator.mapping.mean_w
    if not bool(mean.any()):  # a generator whose running mean was never set
        with torch.no_grad():
            mean = generator.mapping(torch.randn(1024, config.z_dim, device=mean.device)).mean(0)
    return mean.detach().float().expand(batch, config.num_styles, -1)


def _descent(
    renderer: Renderer, condition: Condition, target: Tensor, start: Tensor, steps: int, every: int, rate: float
) -> dict[str, list[float]]:
    """Errors of pictures on the way from ``start``, styles [B, L, D] or codes [B, z_dim]."""
    generator = renderer.generator
    latent = start.clone().requires_grad_()
    shapes = generator.noise_shapes(len(target))
    noise = [torch.zeros(shape, device=target.device, requires_grad=True) for shape in shapes]
    optimiser = torch.optim.Adam([latent, *noise], lr=rate, betas=(0.9, 0.99))
    errors: dict[str, list[float]] = {}
    for step in range(steps + 1):
        w = latent if start.dim() == 3 else generator.styles(latent, params=condition.params)
        picture = generator(condition.maps, w=w, noise=noise).image.float()
        if step % every == 0:
            with torch.no_grad():
                for name, value in _errors(renderer, picture.clamp(-1, 1), target).items():
                    errors.setdefault(name, []).append(value)
        if step == steps:
            break
        loss = (picture - target).abs().mean((1, 2, 3)).sum()
        if renderer.perceptual is not None:
            loss = loss + renderer.perceptual.distance(picture, target).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # The best so far: an optimiser may keep what it found.
    return {name: [min(values[: k + 1]) for k in range(len(values))] for name, values in errors.items()}


def _errors(renderer: Renderer, picture: Tensor, target: Tensor) -> dict[str, float]:
    out = {"pixel": float((picture - target).abs().mean())}
    if renderer.perceptual is not None:
        out["perceptual"] = float(renderer.perceptual.distance(picture, target).mean())
    return out
