"""Trains the face finder on scenes with rendered people pasted in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import TrainingError
from garfast.networks.face_finder import STRIDE, FaceFinder, FaceFinderConfig, FinderOutput
from garfast.networks.weights import save_weights
from garfast.train.augment import develop, normal, pick, uniform, warp
from garfast.train.averaged_task import AveragedTask
from garfast.train.landmarks import HELD_OUT
from garfast.train.loop import Averaged, learning_rate
from garfast.train.precision import autocast
from garfast.train.renders import Renders
from garfast.train.scenery import scenes

KIND = "faces"


@dataclass(frozen=True)
class FaceTraining:
    """Settings of the face finder's training.

    Attributes:
        steps: optimiser steps in all.
        batch: scenes a step; a third shows nobody.
        size: side of a scene, pixels.
        people: most people in a scene.
        rate: peak learning rate.
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        seed: of the network's first weights and everything random.
        bfloat16: run the convolutions in bfloat16 where the processor has it.
        background: how many scenes without people to keep in memory.
        scene_size: their side, pixels; each use cuts a window out of one.
        growing: look for new renders while they are still being made. Such a run cannot be repeated bit by bit.
    """

    steps: int = 6000
    batch: int = 16
    size: int = 160
    people: int = 4
    rate: float = 2e-3
    decay: float = 0.4
    seed: int = 0
    bfloat16: bool = True
    background: int = 1500
    scene_size: int = 224
    growing: bool = False


class Scenes(NamedTuple):
    """A batch: ``images`` [B, 3, S, S] in -1..1; per person ``boxes`` [N, 4] middle x, y, side and scene index, pixels,
    the side that of the longer side of the landmarks' box."""

    images: Tensor
    boxes: Tensor


class SceneSampler:
    """Makes scenes; everything random comes from the generator it is given."""

    def __init__(
        self, renders: Renders, scenery: Tensor, config: FaceFinderConfig, alarms: Tensor | None = None
    ) -> None:
        self.renders, self.scenery, self.config, self.alarms = renders, scenery, config, alarms

    def sample(self, rng: torch.Generator, count: int, size: int, people: int, *, held_out: bool = False) -> Scenes:
        """``count`` scenes; every third shows nobody. With ``alarms``, these and another third are made of them."""
        images = pick(rng, self.scenery, count, size)
        if self.alarms is not None and not held_out:
            hard = torch.tensor([k for k in range(count) if k % 3])
            images[hard] = pick(rng, self.alarms, len(hard), size)
        low, high = (0, HELD_OUT) if held_out else (HELD_OUT, self.renders.count)
        where: list[int] = []
        boxes: list[tuple[float, ...]] = []
        for k in range(count):
            if k % 3 == 2:
                continue
            number = int(torch.randint(1, people + 1, (1,), generator=rng))
            if float(torch.rand(1, generator=rng)) < 0.3:
                number = 1
            for _ in range(number):
                where.append(k)
        total = len(where)
        rows = torch.randint(low, high, (total,), generator=rng).numpy()
        faces, points = self.renders.take(rows)
        points = points[:, :68]
        matrix, side, middle = self._place(rng, points, size)
        # Half of them with a strip of their own background, so that a cut-out edge is no sign of a face.
        faces = faces.float().div_(255)
        faces[torch.rand(total, generator=rng) < 0.35, 3] = 1
        for m in range(total):
            k = where[m]
            others = [b for b in boxes if b[3] == k]
            if any(_overlap(middle[m], float(side[m]), b) for b in others):
                continue
            images[k] = self._paste(images[k], faces[m], matrix[m], float(side[m]), middle[m])
            boxes.append((float(middle[m, 0]), float(middle[m, 1]), float(side[m]), k))
        images = develop(rng, images)
        kept = torch.tensor(boxes) if boxes else torch.zeros(0, 4)
        return Scenes(images * 2 - 1, kept)

    def _place(self, rng: torch.Generator, points: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """[N, 2, 3] scene pixels -> render pixels, sides and middles [N, 2] of the landmarks' boxes in the scene."""
        count = len(points)
        config = self.config
        side = torch.exp(uniform(rng, (count,), np.log(0.8 * config.smallest), np.log(1.25 * config.largest)))
        huge = torch.rand(count, generator=rng) < 0.1  # too large to be found here: must not be called a face
        side = torch.where(huge, uniform(rng, (count,), 1.6, 2.6) * config.largest, side)
        angle = torch.deg2rad(normal(rng, (count,), 14))
        far = torch.rand(count, generator=rng) < 0.15
        angle = torch.where(far, torch.deg2rad(uniform(rng, (count,), -60, 60)), angle)
        sign = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cos * sign, -sin], -1), torch.stack([sin * sign, cos], -1)], 1)
        centre = 0.5 * (points.amin(1) + points.amax(1))
        turned = (points - centre[:, None]) @ turn.transpose(1, 2)
        low, high = turned.amin(1), turned.amax(1)
        scale = side / (high - low).amax(1)
        room = (side / 2)[:, None].clamp_max(0.45 * size)
        middle = room + torch.rand((count, 2), generator=rng) * (size - 2 * room)
        # scene = (turn (p - centre) - box middle) * scale + middle
        inverse = torch.linalg.inv(turn) / scale[:, None, None]
        shift = centre + (torch.linalg.inv(turn) @ (0.5 * (low + high))[..., None])[..., 0]
        shift = shift - (inverse @ middle[..., None])[..., 0]
        return torch.cat([inverse, shift[..., None]], 2), side, middle

    def _paste(self, image: Tensor, face: Tensor, matrix: Tensor, side: float, middle: Tensor) -> Tensor:
        """The scene [3, S, S] with a render [4, 144, 144] over it."""
        size = image.shape[-1]
        shrink = max(1, int(0.55 * face.shape[-1] / side))
        if shrink > 1:  # average, so that small faces are small and not coarse
            face = functional.avg_pool2d(face[None], shrink)[0]
            matrix = matrix / shrink
        reach = 1.4 * side
        x0, y0 = (int(max(0, float(c) - reach)) for c in middle)
        x1, y1 = (int(min(size, float(c) + reach + 1)) for c in middle)
        window = max(x1 - x0, y1 - y0)
        x0, y0 = min(x0, size - window), min(y0, size - window)
        # Window coordinates -1..1 -> scene pixels -> render pixels.
        half = window / 2
        linear = matrix[:, :2] * half
        offset = matrix[:, :2] @ torch.tensor([x0 + half, y0 + half]) + matrix[:, 2]
        cut = warp(face[None], torch.cat([linear, offset[:, None]], 1)[None], window)[0]
        place = image[:, y0 : y0 + window, x0 : x0 + window]
        place.copy_(torch.lerp(place, cut[:3], cut[3:]))
        return image


def _overlap(middle: Tensor, side: float, other: tuple[float, ...]) -> bool:
    apart = max(abs(float(middle[0]) - other[0]), abs(float(middle[1]) - other[1]))
    return apart < 0.9 * max(side, other[2])


def finder_loss(out: FinderOutput, scenes_: Scenes, config: FaceFinderConfig) -> dict[str, Tensor]:
    """Penalty-reduced focal loss on the score, L1 on place and size at the middles of faces of the right sizes."""
    _, rows, columns = out.score.shape
    target = torch.zeros_like(out.score)
    weight = torch.ones_like(out.score)
    y = (torch.arange(rows)[:, None] + 0.5) * STRIDE
    x = (torch.arange(columns)[None] + 0.5) * STRIDE
    placed: list[tuple[int, int, int, float, float, float]] = []
    for cx, cy, side, index in scenes_.boxes.tolist():
        k = int(index)
        spread = max(0.11 * side, 0.55 * STRIDE)
        bump = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread**2))
        row, column = min(int(cy / STRIDE), rows - 1), min(int(cx / STRIDE), columns - 1)
        if config.smallest <= side <= config.largest:
            target[k] = torch.maximum(target[k], bump)
            target[k, row, column] = 1
            near = ((x - cx).abs() < 0.75 * STRIDE) & ((y - cy).abs() < 0.75 * STRIDE)
            placed += [(k, int(r), int(c), cx, cy, side) for r, c in near.nonzero().tolist()]
        elif side < 1.3 * config.largest:  # in between: neither right nor wrong
            weight[k] = torch.where(bump > 0.05, 0.0, weight[k])
    probability = out.score.sigmoid()
    positive = target >= 0.999
    log_yes, log_no = functional.logsigmoid(out.score), functional.logsigmoid(-out.score)
    focal = torch.where(positive, -((1 - probability) ** 2) * log_yes, -((1 - target) ** 4) * probability**2 * log_no)
    faces = max(1, int(positive.sum()))
    score = (focal * weight).sum() / faces
    if placed:
        image, r, c = (torch.tensor([p[j] for p in placed]) for j in range(3))
        middle_x, middle_y, sides = (torch.tensor([p[j] for p in placed]) for j in range(3, 6))
        found = out.offset[image, :, r, c]
        wanted = torch.stack([middle_x - (c + 0.5) * STRIDE, middle_y - (r + 0.5) * STRIDE], 1)
        place = ((found - wanted).abs() / sides[:, None]).mean()
        size = (out.side[image, r, c].log() - sides.log()).abs().mean()
    else:
        place = size = out.offset.sum() * 0
    loss = score + place + size
    return {"loss": loss, "score": score, "place": place, "size": size}


class FaceTask(AveragedTask):
    """A :class:`garfast.train.loop.Task`."""

    def __init__(
        self,
        settings: FaceTraining,
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
        self.network = FaceFinder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=settings.rate, weight_decay=1e-3)
        self.average = Averaged(self.network, 0.998)
        if scenery is None:
            scenery = scenes(settings.seed + 1, settings.background, settings.scene_size, photographs=0.7)
        self.sampler = SceneSampler(renders, scenery, self.network.config, alarms)

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        if settings.growing and step % 100 == 0:
            self.sampler.renders.refresh()
        rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        batch = self.sampler.sample(rng, settings.batch, settings.size, settings.people)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * learning_rate(step, settings.steps, decay=settings.decay)
        self.network.train()
        with autocast("cpu", settings.bfloat16):
            out = self.network(batch.images.contiguous(memory_format=torch.channels_last))
        parts = finder_loss(out, batch, self.network.config)
        return self.descend(parts, step, 5.0)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """Held-out scenes: ``recall`` of the faces whose cell scores above 0.5, and cells above 0.5 off any face."""
        network = self.averaged_network()
        rng = torch.Generator().manual_seed(7)
        hits = faces = false = 0
        for _ in range(4):
            batch = self.sampler.sample(rng, 24, self.settings.size, self.settings.people, held_out=True)
            score = network(batch.images).score.sigmoid()
            free = torch.ones_like(score, dtype=torch.bool)
            y = (torch.arange(score.shape[1])[:, None] + 0.5) * STRIDE
            x = (torch.arange(score.shape[2])[None] + 0.5) * STRIDE
            for cx, cy, side, k in batch.boxes.tolist():
                near = ((x - cx).abs() < 0.3 * side + STRIDE) & ((y - cy).abs() < 0.3 * side + STRIDE)
                free[int(k)] &= ~near
                if network.config.smallest <= side <= network.config.largest:
                    faces += 1
                    hits += int((score[int(k)][near] > 0.5).any())
            false += int((free & (score > 0.5)).sum())
        return {"recall": hits / max(1, faces), "false_cells": float(false)}

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the averaged weights; returns their checksum."""
        return save_weights(path, self.averaged_network(), kind=KIND, config=self.network.config.to_dict(), notes=notes)
