"""Trains the normal estimator N on synthetic portraits with known normals."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import TrainingError
from garfast.networks.normal_estimator import NormalEstimate, NormalEstimator, NormalEstimatorConfig, mirror_normals
from garfast.networks.weights import save_weights
from garfast.train.augment import cover, develop, normal
from garfast.train.averaged_task import AveragedTask
from garfast.train.loop import Averaged, learning_rate
from garfast.train.muon import muon_for
from garfast.train.portraits import HELD_OUT, PortraitSource
from garfast.train.precision import autocast
from garfast.train.views import mix_colours, random_change

KIND = "normals"
SIZE = 128
"""Side of the pictures, pixels, where the portraits have as many: what the renderer and the fit show the network."""


REMEMBERED = 200_000
"""Of at most so many portraits the normal maps are kept in memory."""
ROUNDED = 0.02
"""Radians about 0 within which the loss of an angle is rounded off."""


@dataclass(frozen=True)
class NormalTraining:
    """Settings of the normal estimator's training.

    Attributes:
        steps: optimiser steps in all.
        batch: pictures a step.
        size: side of the pictures, pixels; one for all, since batch normalisation learns the statistics of one scale.
        plain: share of the pictures that are seen as they are but for mirroring and exposure: what renderers draw. The
            others are turned, covered, blurred, ... as photographs are.
        rate: peak learning rate of the kernels between features (:class:`garfast.train.muon.Muon`).
        end_rate: that of everything else (AdamW).
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        mask_weight: weight of the mask's cross-entropy beside the normals' loss.
        seed: of the network's first weights and everything random.
        bfloat16: run the convolutions in bfloat16 where the processor has it.
    """

    steps: int = 6000
    batch: int = 10
    size: int = SIZE
    plain: float = 0.5
    rate: float = 0.02
    end_rate: float = 3e-3
    decay: float = 0.7
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

    def __init__(self, portraits: PortraitSource) -> None:
        self.portraits = portraits
        self._maps: Tensor | None = None
        self._known = torch.zeros(portraits.count, dtype=torch.bool)

    def training(self, rng: torch.Generator, count: int, size: int, plain: float = 0.0) -> Views:
        """Views of random portraits: a share ``plain`` of them as they are but for mirroring and exposure, the others
        with every augmentation."""
        simple = round(count * plain)
        rows = torch.randint(HELD_OUT, len(self._known), (count,), generator=rng).numpy()
        images, normals = self.portraits.take(rows).float().div_(255), self._remembered(rows)
        parts = []
        if simple < count:
            change = random_change(rng, count - simple)
            seen = change.pictures(images[simple:], size)
            seen = cover(rng, seen, self.portraits.take(rows).roll(1, 0), 0.2)
            seen = mix_colours(rng, develop(rng, seen, jpeg=0.1))
            parts.append(_views(seen, change.normals(normals[simple:], size)))
        if simple:
            parts.append(_views(*_mirrored(rng, _shrunk(images[:simple], size), _shrunk(normals[:simple], size))))
        return Views(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def held_out(self, rows: np.ndarray, size: int) -> Views:
        """Portraits as they are."""
        images = self.portraits.take(rows).float().div_(255)
        images = _shrunk(images, size)
        normals = self.portraits.normal_maps(rows, size)
        assert isinstance(normals, Tensor)
        return _views(images, normals)

    def _remembered(self, rows: np.ndarray) -> Tensor:
        """True normals at full size, rasterised once and kept in steps of 1/127 (0.3 degrees): a training sees each
        portrait several times, and to rasterise it costs as much as to learn from it. Portraits without end are seen
        once."""
        side = self.portraits.size
        if self.portraits.count > REMEMBERED:
            maps = self.portraits.normal_maps(rows, side)
            assert isinstance(maps, Tensor)
            return maps
        if self._maps is None:
            self._maps = torch.empty(len(self._known), 3, side, side, dtype=torch.int8)
        new = np.unique(rows[~self._known[rows].numpy()])
        if len(new):
            normals = self.portraits.normal_maps(new, side)
            assert isinstance(normals, Tensor)
            self._maps[new] = (normals * 127).round().to(torch.int8)
            self._known[new] = True
        return self._maps[rows].float().div_(127)


def _shrunk(images: Tensor, size: int) -> Tensor:
    return images if size == images.shape[-1] else functional.interpolate(images, size=(size, size), mode="area")


def _mirrored(rng: torch.Generator, images: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Every other picture mirrored without resampling, under slightly other light."""
    count = len(images)
    mirrored = (torch.rand(count, generator=rng) < 0.5)[:, None, None, None]
    exposure = (normal(rng, (count, 1, 1, 1), 0.15) + normal(rng, (count, 3, 1, 1), 0.05)).exp()
    images = (torch.where(mirrored, images.flip(3), images) * exposure).clamp(0, 1)
    return images, torch.where(mirrored, mirror_normals(normals), normals)


def _views(images: Tensor, normals: Tensor) -> Views:
    length = normals.square().sum(1, keepdim=True).sqrt()  # several times faster than `norm` across channels
    mask = (length > 0.5).float()
    return Views(images * 2 - 1, normals / length.clamp_min(1e-6) * mask, mask)


def normal_loss(estimate: NormalEstimate, views: Views, mask_weight: float) -> dict[str, Tensor]:
    """Scalars: ``loss`` and its parts: ``normals``, the mean angle in radians where a face is, and ``mask``,
    cross-entropy.

    For the angle stands the distance of the two unit vectors, 0.2% less at 12 degrees, and rounded off within a degree,
    where it has no gradient.
    """
    square = (estimate.normals - views.normals).square().sum(1, True)
    distance = (square + ROUNDED**2).sqrt() - ROUNDED
    normals = (distance * views.mask).sum() / views.mask.sum().clamp_min(1)
    mask = functional.binary_cross_entropy_with_logits(estimate.mask_logits, views.mask)
    return {"loss": normals + mask_weight * mask, "normals": normals, "mask": mask}


class NormalTask(AveragedTask):
    """A :class:`garfast.train.loop.Task`."""

    def __init__(
        self, settings: NormalTraining, portraits: PortraitSource, config: NormalEstimatorConfig | None = None
    ) -> None:
        if portraits.count <= HELD_OUT + settings.batch:
            raise TrainingError(
                f"there are {portraits.count} portraits: more than {HELD_OUT + settings.batch} are needed"
            )
        self.settings = settings
        torch.manual_seed(settings.seed)
        config = replace(config or NormalEstimatorConfig(), size=settings.size)
        self.network = NormalEstimator(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The first and the last layer deal with colours and normals, which are no features among many.
        self.optimizer = muon_for(self.network, ends=("stem", "head"), rate=settings.rate, other_rate=settings.end_rate)
        self.average = Averaged(self.network, 0.998)
        self.sampler = ViewSampler(portraits)

    def tensors_beyond(self, config: dict[str, Any]) -> dict[str, Tensor]:
        """Residual blocks below and beside those of ``config``; they start as identities."""
        known = NormalEstimatorConfig.from_dict(config)
        stages = [("bottom", self.network.bottom, known.depth)]
        stages += [(f"refiners.{k}", blocks, known.fine_depth) for k, blocks in enumerate(self.network.refiners)]
        beyond: dict[str, Tensor] = {}
        for stage, blocks, count in stages:
            for k, block in itertools.islice(enumerate(blocks), count, None):
                nn.init.zeros_(block.norm.weight)
                beyond |= {f"{stage}.{k}.{name}": value for name, value in block.state_dict().items()}
        return beyond

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        views = self.sampler.training(rng, settings.batch, settings.size, settings.plain)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate(step, settings.steps, decay=settings.decay)
        self.network.train()
        with autocast("cpu", settings.bfloat16):
            estimate = self.network(views.images.contiguous(memory_format=torch.channels_last))
        return self.descend(normal_loss(estimate, views, settings.mask_weight), step, math.inf)

    def evaluate(self, step: int) -> dict[str, float]:
        return evaluate_normals(self.averaged_network(), self.sampler, self.settings.size)

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
