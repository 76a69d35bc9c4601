"""Trains the normal estimator N on synthetic portraits with known normals."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import TrainingError
from garfast.networks.normal_estimator import NormalEstimate, NormalEstimator, NormalEstimatorConfig
from garfast.networks.weights import save_weights
from garfast.train.augment import cover, develop
from garfast.train.averaged_task import AveragedTask
from garfast.train.loop import Averaged, learning_rate
from garfast.train.portraits import HELD_OUT
from garfast.train.views import mix_colours, random_change

KIND = "normals"
SIZES = (64, 96, 128)
"""Sides of the pictures, pixels, that one training makes the network fit for."""


class NormalSource(Protocol):
    """What the training needs of :class:`garfast.train.portraits.Portraits`."""

    @property
    def count(self) -> int:
        """How many portraits there are."""

    @property
    def size(self) -> int:
        """Side of the pictures, pixels."""

    def take(self, rows: np.ndarray) -> Tensor:
        """uint8 [B, 3, size, size] sRGB."""

    def normal_maps(self, rows: np.ndarray, resolutions: int) -> Tensor | list[Tensor]:
        """[B, 3, r, r] true normals, 0 in the background."""


@dataclass(frozen=True)
class NormalTraining:
    """Settings of the normal estimator's training.

    Attributes:
        steps: optimiser steps in all.
        batch: pictures a step at 64 pixels; fewer of larger ones, so that steps cost the same.
        coarse_share: share of the steps, from the first, that see pictures of 64 pixels only; after that half of the
            steps see the portraits' full size, and the rest the sizes between.
        size: largest side of the pictures, pixels.
        rate: peak learning rate.
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        mask_weight: weight of the mask's cross-entropy beside the normals' loss.
        seed: of the network's first weights and everything random.
        bfloat16: run the convolutions in bfloat16.
    """

    steps: int = 4000
    batch: int = 32
    coarse_share: float = 0.5
    size: int = 128
    rate: float = 3e-3
    decay: float = 0.5
    mask_weight: float = 0.1
    seed: int = 0
    bfloat16: bool = True


class Views(NamedTuple):
    """A batch: ``images`` [B, 3, S, S] in -1..1, ``normals`` [B, 3, S, S] unit or 0, ``mask`` [B, 1, S, S] 1 or 0."""

    images: Tensor
    normals: Tensor
    mask: Tensor


class ViewSampler:
    """Makes augmented views of portraits, normals along; everything random comes from the generator it is given."""

    def __init__(self, portraits: NormalSource) -> None:
        self.portraits = portraits
        self._maps: Tensor | None = None
        self._known = torch.zeros(portraits.count, dtype=torch.bool)

    def training(self, rng: torch.Generator, count: int, size: int) -> Views:
        """Views of random portraits with every augmentation."""
        rows = torch.randint(HELD_OUT, len(self._known), (count,), generator=rng).numpy()
        images, normals = self.portraits.take(rows).float().div_(255), self._remembered(rows)
        change = random_change(rng, count)
        images, normals = change.pictures(images, size), change.normals(normals, size)
        pool = self.portraits.take(rows).roll(1, 0)
        images = cover(rng, images, pool, 0.2)
        images = mix_colours(rng, develop(rng, images, jpeg=0.1))
        return _views(images, normals)

    def held_out(self, rows: np.ndarray, size: int) -> Views:
        """Portraits as they are."""
        images = self.portraits.take(rows).float().div_(255)
        if size < images.shape[-1]:
            images = functional.interpolate(images, size=(size, size), mode="area")
        normals = self.portraits.normal_maps(rows, size)
        assert isinstance(normals, Tensor)
        return _views(images, normals)

    def _remembered(self, rows: np.ndarray) -> Tensor:
        """True normals at full size, rasterised once and kept in steps of 1/127 (0.3 degrees): a training sees each
        portrait several times, and to rasterise it costs as much as to learn from it."""
        side = self.portraits.size
        if self._maps is None:
            self._maps = torch.empty(len(self._known), 3, side, side, dtype=torch.int8)
        new = np.unique(rows[~self._known[rows].numpy()])
        if len(new):
            normals = self.portraits.normal_maps(new, side)
            assert isinstance(normals, Tensor)
            self._maps[new] = (normals * 127).round().to(torch.int8)
            self._known[new] = True
        return self._maps[rows].float().div_(127)


def _views(images: Tensor, normals: Tensor) -> Views:
    length = normals.norm(dim=1, keepdim=True)
    mask = (length > 0.5).float()
    return Views(images * 2 - 1, normals / length.clamp_min(1e-6) * mask, mask)


def normal_loss(estimate: NormalEstimate, views: Views, mask_weight: float) -> dict[str, Tensor]:
    """Scalars: ``loss`` and its parts: ``normals``, smooth L1 where a face is, and ``mask``, cross-entropy."""
    distance = functional.smooth_l1_loss(estimate.normals, views.normals, beta=0.1, reduction="none").sum(1, True)
    normals = (distance * views.mask).sum() / views.mask.sum().clamp_min(1)
    mask = functional.binary_cross_entropy_with_logits(estimate.mask_logits, views.mask)
    return {"loss": normals + mask_weight * mask, "normals": normals, "mask": mask}


class NormalTask(AveragedTask):
    """A :class:`garfast.train.loop.Task`."""

    def __init__(
        self, settings: NormalTraining, portraits: NormalSource, config: NormalEstimatorConfig | None = None
    ) -> None:
        if portraits.count <= HELD_OUT + settings.batch:
            raise TrainingError(
                f"there are {portraits.count} portraits: more than {HELD_OUT + settings.batch} are needed"
            )
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.network = NormalEstimator(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=settings.rate, weight_decay=1e-2)
        self.average = Averaged(self.network, 0.998)
        self.sampler = ViewSampler(portraits)

    def picture_size(self, rng: torch.Generator, step: int) -> int:
        """Side of the pictures of a step, pixels."""
        settings = self.settings
        chance = float(torch.rand((), generator=rng))
        if step < settings.coarse_share * settings.steps:
            return min(SIZES[0], settings.size)
        return min(SIZES[2 if chance < 0.5 else 1 if chance < 0.7 else 0], settings.size)

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        size = self.picture_size(rng, step)
        count = max(2, round(settings.batch * (SIZES[0] / size) ** 2 * (1 if size == SIZES[0] else 1.3)))
        views = self.sampler.training(rng, min(count, settings.batch), size)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * learning_rate(step, settings.steps, decay=settings.decay)
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            estimate = self.network(views.images.contiguous(memory_format=torch.channels_last))
        return self.descend(normal_loss(estimate, views, settings.mask_weight), step, 1.0)

    def evaluate(self, step: int) -> dict[str, float]:
        sizes = sorted({min(size, self.settings.size) for size in (SIZES[0], SIZES[-1])})
        network = self.averaged_network()
        return {
            name if size == sizes[-1] else f"{name}_{size}": value
            for size in sizes
            for name, value in evaluate_normals(network, self.sampler, size).items()
        }

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the averaged weights; returns their checksum."""
        network = self.averaged_network()
        return save_weights(path, network, kind=KIND, config=network.config.to_dict(), notes=notes)


@torch.no_grad()
def evaluate_normals(network: NormalEstimator, sampler: ViewSampler, size: int) -> dict[str, float]:
    """On the held-out portraits as they are: ``degrees``, the mean angle to the true normals where a face is;
    ``median``, its median over pixels; ``overlap``, the mask's intersection over union."""
    angles, inside, either = [], 0.0, 0.0
    for rows in np.array_split(np.arange(HELD_OUT), max(1, HELD_OUT // 32)):
        views = sampler.held_out(rows, size)
        estimate = network(views.images.contiguous(memory_format=torch.channels_last))
        cosine = (estimate.normals * views.normals).sum(1, keepdim=True).clamp(-1, 1)
        angles.append(torch.rad2deg(cosine.acos())[views.mask > 0.5])
        found = (estimate.mask_logits > 0).float()
        inside += float((found * views.mask).sum())
        either += float((found + views.mask - found * views.mask).sum())
    angle = torch.cat(angles)
    return {"degrees": float(angle.mean()), "median": float(angle.median()), "overlap": inside / max(either, 1.0)}
