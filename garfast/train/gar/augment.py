"""Adaptive discriminator augmentation.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data".

Real and generated pictures alike are transformed at random before the discriminator sees them, each transform with
probability p, and p follows a measure of overfitting. Every transform is linear in the picture and differentiable any
number of times, so that the gradient penalty may go through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.train.gar import distributed


@dataclass(frozen=True)
class AugmentConfig:
    """Which transforms there are, and how strong; a strength of 0 leaves one out.

    The faces are aligned, so turns are small. A mirrored picture belongs to a mirrored normal map whose x components
    are negated; the discriminator sees no normals, but whoever pairs the two must mirror both.
    """

    flip: bool = False  # mirror half of the pictures that are drawn
    shift: float = 0.125  # largest shift, as a fraction of the side, in whole pixels
    scale: float = 0.2  # standard deviation of log2 of the scale
    turn: float = 10.0  # largest turn, degrees
    brightness: float = 0.2  # standard deviation of what is added, in a range of -1..1
    contrast: float = 0.5  # standard deviation of log2 of the factor
    luma_flip: bool = False  # negate the luma of half of the pictures that are drawn
    hue: float = 180.0  # largest turn about the luma axis, degrees
    saturation: float = 1.0  # standard deviation of log2 of the factor
    noise: float = 0.0  # standard deviation of the standard deviation of pixel noise
    cutout: float = 0.0  # side of a gray square, as a fraction of the picture's


def augment(
    images: Tensor, p: float | Tensor, rng: torch.Generator | None = None, config: AugmentConfig | None = None
) -> Tensor:
    """Transform pictures at random.

    Args:
        images: [B, 3, H, W] RGB, about -1..1, any floating dtype.
        p: probability of each transform, 0..1: a number, or a tensor [] or [B].
        rng: generator of the random numbers, on the CPU or the pictures' device; None for the CPU's global one.
        config: the transforms.

    Returns:
        [B, 3, H, W] float32, the same object if p is the number 0. What a turn or shift uncovers is the mirrored
        picture. Differentiable with respect to the images, any number of times.

    Raises:
        ArgumentError: the pictures have another shape.
    """
    config = config or AugmentConfig()
    if images.dim() != 4 or images.shape[1] != 3:
        raise ArgumentError(f"augment: images must have shape [B, 3, H, W], not {list(images.shape)}")
    if isinstance(p, (int, float)) and p == 0:
        return images
    draws = _Draws(images, p, rng)
    with torch.autocast(images.device.type, enabled=False):
        moved = _move(images.float(), draws, config)
        coloured = _colour(moved, draws, config)
        return _spoil(coloured, draws, config)


class _Draws:
    """Random numbers of a batch."""

    def __init__(self, images: Tensor, p: float | Tensor, rng: torch.Generator | None) -> None:
        self.count, self.device, self.rng = len(images), images.device, rng
        self.where = rng.device if rng is not None else torch.device("cpu")
        self.p = torch.as_tensor(p, dtype=torch.float32, device=images.device).expand(self.count)

    def uniform(self, *more: int) -> Tensor:
        """[B, ...] in 0..1."""
        return torch.rand((self.count, *more), generator=self.rng, device=self.where).to(self.device)

    def normal(self, *more: int) -> Tensor:
        """[B, ...] Gaussian."""
        return torch.randn((self.count, *more), generator=self.rng, device=self.where).to(self.device)

    def chosen(self, value: Tensor, otherwise: float) -> Tensor:
        """``value`` [B, ...] for a share p of the samples, ``otherwise`` for the rest."""
        take = self.uniform() < self.p
        return torch.where(take.view(-1, *[1] * (value.dim() - 1)), value, otherwise)


def _move(images: Tensor, draws: _Draws, config: AugmentConfig) -> Tensor:
    height, width = images.shape[-2:]
    one = torch.ones(draws.count, device=draws.device)
    flip = draws.chosen(1 - 2 * (draws.uniform() < 0.5).float(), 1.0) if config.flip else one
    shift = torch.zeros(draws.count, 2, device=draws.device)
    if config.shift:
        size = torch.tensor([width, height], device=draws.device)
        pixels = ((2 * draws.uniform(2) - 1) * config.shift * size).round()
        shift = draws.chosen(pixels * 2 / size, 0.0)
    scale = draws.chosen(torch.exp2(config.scale * draws.normal()), 1.0) if config.scale else one
    angle = 0 * one
    if config.turn:
        angle = draws.chosen((2 * draws.uniform() - 1) * math.radians(config.turn), 0.0)
    if not (config.flip or config.shift or config.scale or config.turn):
        return images
    # Where a pixel of the result comes from, in coordinates -1..1; the turn is one of pixels, which need not be square.
    cosine, sine, aspect = angle.cos() / scale, angle.sin() / scale, width / height
    linear = torch.stack([cosine * flip, sine * flip / aspect, -sine * aspect, cosine], -1).view(-1, 2, 2)
    matrix = torch.cat([linear, -(linear @ shift[..., None])], -1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return _Sample.apply(images, grid)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class _Sample(torch.autograd.Function):
    """Bilinear sampling as the linear map of the picture that it is; torch's own has only a first derivative."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return _sample(images, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.shape), None


class _Spread(torch.autograd.Function):
    """The transpose of :class:`_Sample`; each is the derivative of the other."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            images = torch.zeros(shape, dtype=gradient.dtype, device=gradient.device, requires_grad=True)
            (spread,) = torch.autograd.grad(_sample(images, grid), images, gradient.detach())
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradient, grid), None, None


def _colour(images: Tensor, draws: _Draws, config: AugmentConfig) -> Tensor:
    unit = torch.eye(3, device=draws.device)
    axis = torch.full((3, 1), 3**-0.5, device=draws.device)
    luma = axis @ axis.T
    matrix, offset = unit.expand(draws.count, 3, 3), torch.zeros(draws.count, device=draws.device)
    if config.brightness:
        offset = draws.chosen(config.brightness * draws.normal(), 0.0)
    if config.contrast:
        factor = draws.chosen(torch.exp2(config.contrast * draws.normal()), 1.0)
        matrix, offset = matrix * factor[:, None, None], offset * factor
    if config.luma_flip:
        negated = draws.chosen((draws.uniform() < 0.5).float(), 0.0)[:, None, None]
        matrix, offset = (unit - 2 * luma * negated) @ matrix, offset * (1 - 2 * negated[:, 0, 0])
    # The offset is gray, so what follows, which turns and stretches about the gray axis, leaves it alone.
    if config.hue:
        angle = draws.chosen((2 * draws.uniform() - 1) * math.radians(config.hue), 0.0)[:, None, None]
        cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=draws.device) * 3**-0.5
        matrix = (luma + (unit - luma) * angle.cos() + cross * angle.sin()) @ matrix
    if config.saturation:
        factor = draws.chosen(torch.exp2(config.saturation * draws.normal()), 1.0)[:, None, None]
        matrix = (luma + (unit - luma) * factor) @ matrix
    return (matrix @ images.flatten(2)).view_as(images) + offset[:, None, None, None]


def _spoil(images: Tensor, draws: _Draws, config: AugmentConfig) -> Tensor:
    if config.noise:
        strength = draws.chosen((config.noise * draws.normal()).abs(), 0.0)
        images = images + strength[:, None, None, None] * draws.normal(*images.shape[1:])
    if config.cutout:
        height, width = images.shape[-2:]
        half = draws.chosen(torch.full((draws.count,), config.cutout / 2, device=draws.device), 0.0)[:, None, None]
        centre = draws.uniform(2)[:, :, None, None]
        x = (torch.arange(width, device=draws.device) + 0.5) / width
        y = (torch.arange(height, device=draws.device) + 0.5) / height
        inside = ((x - centre[:, 0]).abs() < half) & ((y[:, None] - centre[:, 1]).abs() < half)
        images = images * (~inside)[:, None]
    return images


class AdaController:
    """Chooses the probability p so that the discriminator overfits as much as ``target`` says.

    The measure is the mean sign of D on real pictures: 0 if it cannot tell them from generated ones, 1 if it has
    learned them by heart. With several processes it is that of all of them, and p is the same everywhere.

    Args:
        target: of the measure.
        interval: updates between changes of p.
        kimg: thousands of real pictures in which p can go from 0 to 1.
        p: where it starts.
        limit: p goes no higher; at 1 the generator may start to produce augmented pictures.
    """

    def __init__(
        self, target: float = 0.6, interval: int = 4, kimg: float = 500.0, *, p: float = 0.0, limit: float = 0.85
    ) -> None:
        if not -1 < target < 1 or interval < 1 or kimg <= 0 or not 0 <= p <= limit <= 1:
            raise ArgumentError(
                "AdaController: expected -1 < target < 1, interval >= 1, kimg > 0 and 0 <= p <= limit <= 1, "
                f"got target {target}, interval {interval}, kimg {kimg}, p {p}, limit {limit}"
            )
        self.target, self.interval, self.kimg, self.limit = target, interval, kimg, limit
        self.p = float(p)
        self.measure = 0.0
        self._signs: Tensor | None = None
        self._seen = 0
        self._updates = 0

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        """Take in D's answers [B, ...], one or several a picture, to this process's real pictures; no wait for the
        device."""
        signs = real_logits.detach().float().sign().reshape(len(real_logits), -1).mean(1).sum()
        self._signs = signs if self._signs is None else self._signs + signs
        self._seen += len(real_logits)

    def update(self) -> float:
        """Call once a step, in all processes; every ``interval`` calls p is changed. Returns p."""
        self._updates += 1
        if self._updates % self.interval or self._signs is None:
            return self.p
        signs, seen = self._sums()
        self.measure = signs / seen
        step = seen / (1000 * self.kimg)
        self.p = min(max(self.p + math.copysign(step, self.measure - self.target), 0.0), self.limit)
        self._signs, self._seen = None, 0
        return self.p

    def _sums(self) -> tuple[float, float]:
        """Sum of the signs, and of how many, over all processes."""
        if self._signs is None:
            return 0.0, 0.0
        signs = self._signs.double()
        both = distributed.total(torch.stack([signs, torch.full_like(signs, self._seen)])).tolist()
        return both[0], both[1]

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, sums of all processes included; call it in all of them."""
        signs, seen = self._sums()
        return {"p": self.p, "measure": self.measure, "updates": self._updates, "signs": signs, "seen": int(seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, in any number of processes."""
        self.p, self.measure, self._updates = float(state["p"]), float(state["measure"]), int(state["updates"])
        mine = distributed.is_first()
        self._seen = int(state["seen"]) if mine else 0
        self._signs = torch.tensor(float(state["signs"]) if mine else 0.0) if state["seen"] else None
