"""Trains the landmark network on rendered faces."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import TrainingError
from garfast.landmarks.detection import IBUG_FLIP
from garfast.networks.landmark_net import CROP, NUM_POINTS, LandmarkNet, LandmarkNetConfig, LandmarkOutput
from garfast.networks.weights import save_weights
from garfast.train.augment import cover, develop, normal, pick, uniform, warp
from garfast.train.averaged_task import AveragedTask
from garfast.train.loop import Averaged, learning_rate
from garfast.train.muon import muon_for
from garfast.train.precision import autocast
from garfast.train.renders import Renders
from garfast.train.scenery import scenes

KIND = "landmarks"
HELD_OUT = 512
"""Rows of the renders, from the first, that are never trained on."""
POINT_FLIP = np.concatenate([IBUG_FLIP, 68 + IBUG_FLIP[:17]])
"""[85] the index that each of the network's points has in a mirrored picture."""


@dataclass(frozen=True)
class LandmarkTraining:
    """Settings of the landmark network's training.

    Attributes:
        steps: optimiser steps in all.
        batch: crops a step; one in six shows no face, or a face far out of place.
        coarse_steps: how many of the steps, from the first, see crops of ``coarse_size`` pixels: half the work.
        coarse_size: side of the first crops, pixels.
        size: side of the crops after that, pixels.
        rate: peak learning rate: AdamW's, or with ``muon`` that of the kernels between features.
        muon: orthogonal updates of those kernels (:mod:`garfast.train.muon`), and AdamW at a sixth of ``rate`` for the
            rest; else AdamW for all.
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        seed: of the network's first weights and everything random.
        bfloat16: run the convolutions in bfloat16 where the processor has it.
        background: how many scenes to keep in memory.
        growing: look for new renders while they are still being made. Such a run cannot be repeated bit by bit.
    """

    steps: int = 12000
    batch: int = 40
    coarse_steps: int = 6000
    coarse_size: int = 64
    size: int = 96
    rate: float = 1.5e-3
    muon: bool = False
    decay: float = 0.4
    seed: int = 0
    bfloat16: bool = True
    background: int = 1500
    growing: bool = False


@dataclass(frozen=True)
class Crops:
    """A batch: ``images`` [B, 3, S, S] in -1..1, ``points`` [B, 85, 2] fractions of the crop, ``extent`` [B] the longer
    side of the landmarks' box as a fraction of the crop, ``face`` [B] 1 or 0."""

    images: Tensor
    points: Tensor
    extent: Tensor
    face: Tensor


class CropSampler:
    """Makes augmented crops out of renders and scenes; everything random comes from the generator it is given."""

    def __init__(self, renders: Renders, scenery: Tensor, alarms: Tensor | None = None) -> None:
        self.renders, self.scenery, self.alarms = renders, scenery, alarms
        self._flip = torch.from_numpy(POINT_FLIP)

    def training(self, rng: torch.Generator, count: int, size: int) -> Crops:
        """Crops with every augmentation; the last sixth shows no face or one that is far out of place."""
        rows = torch.randint(HELD_OUT, self.renders.count, (count,), generator=rng).numpy()
        images, points = self.renders.take(rows)
        wrong = count // 6
        face = torch.ones(count)
        face[count - wrong :] = 0
        matrix, points, extent = self._place(rng, points, face)
        keep = torch.rand(count, generator=rng) < 0.4
        out = self._compose(rng, images, matrix, size, keep)
        empty = wrong // 3
        if empty:
            out[count - empty :] = pick(rng, self.scenery, empty, size)
        if self.alarms is not None:
            # In place of all that is cut beside a face but a third of it.
            alarms = slice(count - wrong + wrong // 3, count - empty // 2)
            out[alarms] = pick(rng, self.alarms, len(out[alarms]), size)
        out = cover(rng, cover(rng, out, self.scenery, 0.3), self.scenery, 0.1)
        return Crops(develop(rng, out) * 2 - 1, points, extent, face)

    def held_out(self, rng: torch.Generator, rows: np.ndarray, size: int, *, faults: bool) -> Crops:
        """Faces of given rows, placed as a finder would; as rendered, or with other scenes and all faults."""
        images, points = self.renders.take(rows)
        face = torch.ones(len(rows))
        matrix, points, extent = self._place(rng, points, face, strength=0.5, turn=6.0)
        out = self._compose(rng, images, matrix, size, torch.full((len(rows),), not faults))
        if faults:
            out = develop(rng, cover(rng, out, self.scenery, 0.3))
        return Crops(out * 2 - 1, points, extent, face)

    def _place(
        self, rng: torch.Generator, points: Tensor, face: Tensor, *, strength: float = 1.0, turn: float = 14.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where to cut: [B, 2, 3] crop (-1..1) -> pixels, the points in the crop, the box's extent in the crop."""
        count = len(points)
        mirrored = torch.rand(count, generator=rng) < 0.5
        angle = torch.deg2rad(normal(rng, (count,), turn))
        if strength == 1.0:
            far = torch.rand(count, generator=rng) < 0.12
            angle = torch.where(far, torch.deg2rad(uniform(rng, (count,), -60, 60)), angle)
        stretch = normal(rng, (count,), 0.05 * strength).exp()
        sign = torch.where(mirrored, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        forward = torch.stack(
            [
                torch.stack([cos * stretch * sign, -sin / stretch], -1),
                torch.stack([sin * stretch * sign, cos / stretch], -1),
            ],
            1,
        )
        middle = 0.5 * (points[:, :68].amin(1) + points[:, :68].amax(1))
        turned = (points - middle[:, None]) @ forward.transpose(1, 2)
        low, high = turned[:, :68].amin(1), turned[:, :68].amax(1)
        extent = (high - low).amax(1)
        side = extent * CROP * normal(rng, (count,), 0.11 * strength).clamp(-0.25, 0.28).exp()
        centre = 0.5 * (low + high) + normal(rng, (count, 2), 0.065 * strength) * extent[:, None]
        # No face to be seen: cut beside it, inside it, or far around it.
        way = torch.rand(count, generator=rng)
        aside = uniform(rng, (count,), 0, 2 * np.pi)
        away = torch.stack([aside.cos(), aside.sin()], -1) * (uniform(rng, (count,), 0.75, 1.3) * extent)[:, None]
        wrong = face == 0
        centre = torch.where((wrong & (way < 0.5))[:, None], centre + away, centre)
        side = torch.where(wrong & (way >= 0.5) & (way < 0.75), side * uniform(rng, (count,), 0.22, 0.42), side)
        side = torch.where(wrong & (way >= 0.75), side * uniform(rng, (count,), 2.6, 4.0), side)
        inverse = torch.linalg.inv(forward)
        shift = middle + (inverse @ centre[..., None])[..., 0]
        matrix = torch.cat([inverse * (side / 2)[:, None, None], shift[..., None]], 2)
        placed = (turned - centre[:, None]) / side[:, None, None] + 0.5
        placed = torch.where(mirrored[:, None, None], placed[:, self._flip], placed)
        return matrix, placed, extent / side

    def _compose(self, rng: torch.Generator, images: Tensor, matrix: Tensor, size: int, keep: Tensor) -> Tensor:
        """[B, 3, S, S] in 0..1: the person over its own background where ``keep``, else over another scene."""
        layers = images.float().div_(255)
        layers[keep, 3] = 1
        layers = warp(layers, matrix, size)
        coverage = layers[:, 3:]
        return torch.lerp(pick(rng, self.scenery, len(images), size), layers[:, :3], coverage)


def landmark_loss(out: LandmarkOutput, batch: Crops) -> dict[str, Tensor]:
    """Scalars: ``loss`` and its parts. ``nme`` is the mean distance over the longer side of the landmarks' box."""
    faces = batch.face > 0.5
    offset = (out.points[faces] - batch.points[faces]) / batch.extent[faces, None, None]
    distance = (offset.square().sum(-1) + 1e-8).sqrt()
    nme = distance.mean()
    heat = _heatmap_loss(out.heatmaps[faces], batch.points[faces])
    error = (distance * batch.extent[faces, None]).detach()
    spread = (error / out.spread[faces] + out.spread[faces].log()).mean()
    face = functional.binary_cross_entropy_with_logits(out.face, batch.face)
    loss = nme + 0.02 * heat + 0.02 * face + 0.01 * spread
    return {"loss": loss, "nme": nme, "heat": heat, "spread": spread, "face": face}


def _heatmap_loss(logits: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy to a narrow bump about each point: says at once where to look, which the mean alone does slowly."""
    height, width = logits.shape[-2:]
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    across = (-0.5 * ((x - points[..., :1].clamp(0, 1)) * (width / 0.75)).square()).softmax(-1)
    down = (-0.5 * ((y - points[..., 1:].clamp(0, 1)) * (height / 0.75)).square()).softmax(-1)
    target = down[..., :, None] * across[..., None, :]
    return -(target.flatten(2) * logits.flatten(2).log_softmax(-1)).sum(-1).mean()


class LandmarkTask(AveragedTask):
    """A :class:`garfast.train.loop.Task`."""

    def __init__(
        self,
        settings: LandmarkTraining,
        renders: Renders,
        *,
        scenery: Tensor | None = None,
        alarms: Tensor | None = None,
    ) -> None:
        if renders.count <= HELD_OUT + settings.batch:
            raise TrainingError(
                f"{renders.folder} holds {renders.count} renders: more than {HELD_OUT + settings.batch} are needed"
            )
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.network = LandmarkNet(LandmarkNetConfig(size=settings.size)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.muon:
            rates = {"rate": settings.rate, "other_rate": settings.rate / 6}
            self.optimizer = muon_for(self.network, ("stem", "heatmaps", "spread", "face"), decay=1e-3, **rates)
        else:
            groups = [{"params": list(self.network.parameters()), "rate": settings.rate}]
            self.optimizer = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=1e-3)
        self.average = Averaged(self.network, 0.999)
        if scenery is None:
            scenery = scenes(settings.seed, settings.background, settings.size)
        self.sampler = CropSampler(renders, scenery, alarms)

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        if settings.growing and step % 100 == 0:
            self.sampler.renders.refresh()
        rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        size = settings.coarse_size if step < settings.coarse_steps else settings.size
        batch = self.sampler.training(rng, settings.batch, size)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate(step, settings.steps, decay=settings.decay)
        self.network.train()
        with autocast("cpu", settings.bfloat16):
            out = self.network(batch.images.contiguous(memory_format=torch.channels_last))
        parts = landmark_loss(out, batch)
        return self.descend(parts, step, 1.0)

    def evaluate(self, step: int) -> dict[str, float]:
        network = self.averaged_network()
        size = self.settings.coarse_size if step <= self.settings.coarse_steps else self.settings.size
        return evaluate_landmarks(network, self.sampler, size)

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the averaged weights; returns their checksum."""
        return save_weights(
            path,
            self.averaged_network(),
            kind=KIND,
            config=self.network.config.to_dict(),
            notes={"crop": CROP, **notes},
        )


@torch.no_grad()
def evaluate_landmarks(network: LandmarkNet, sampler: CropSampler, size: int) -> dict[str, float]:
    """Errors on the held-out renders, in percent of the square root of the landmark box's area.

    Returns:
        ``nme`` of the 68 points on pictures as rendered, ``nme_faults`` with other backgrounds, things in front and
        a camera's faults, and for the first ``contour`` (the jaw on the outline), ``nme_30``, ``nme_60``, ``nme_90``
        by yaw.
    """
    yaw = np.degrees(np.abs(sampler.renders.angles[:HELD_OUT, 0]))
    figures: dict[str, float] = {}
    for name, faults in (("nme", False), ("nme_faults", True)):
        rng = torch.Generator().manual_seed(99)
        errors = []
        for rows in np.array_split(np.arange(HELD_OUT), 8):
            crops = sampler.held_out(rng, rows, size, faults=faults)
            points = network(crops.images).points
            box = (crops.points[:, :68].amax(1) - crops.points[:, :68].amin(1)).prod(1).sqrt()
            errors.append(100 * (points - crops.points).norm(dim=-1) / box[:, None])
        error = torch.cat(errors)
        figures[name] = float(error[:, :68].mean())
        if not faults:
            figures["contour"] = float(error[:, 68:NUM_POINTS].mean())
            for low, high in ((0, 30), (30, 60), (60, 90)):
                chosen = torch.from_numpy((yaw >= low) & (yaw < high))
                if chosen.any():
                    figures[f"nme_{high}"] = float(error[chosen, :68].mean())
    return figures
