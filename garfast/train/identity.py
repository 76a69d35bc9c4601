"""Trains the identity network F, and with it the backbone of the perceptual distance, on synthetic portraits.

Pictures of one person attract each other in the embedding and those of others repel (the supervised contrastive loss,
NeurIPS 2020). Beside that the embedding tells the form of the neutral face, and the feature maps where the landmarks
are, so that the backbone sees form and place and not the colour of hair alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import TrainingError
from garfast.landmarks.alignment import TEMPLATE
from garfast.morphable import MorphableModel
from garfast.networks.identity import IdentityConfig, IdentityNet
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.weights import save_weights
from garfast.train.augment import cover, develop
from garfast.train.averaged_task import AveragedTask
from garfast.train.loop import Averaged, learning_rate
from garfast.train.portraits import HELD_OUT, PortraitSource
from garfast.train.precision import autocast
from garfast.train.views import mix_colours, random_change

KIND = "identity"
_FORM_UNIT = 4.0
"""Millimetres that the form head counts as 1: about the spread of a landmark over people."""
_PLACE_UNIT = 0.06
"""The same for the place of a landmark, fractions of the picture's side."""


@dataclass(frozen=True)
class IdentityTraining:
    """Settings of the identity network's training.

    Attributes:
        steps: optimiser steps in all.
        batch: pictures a step, two of each person.
        size: side of the pictures, pixels.
        embedding: length of the embedding.
        temperature: of the contrastive loss.
        form_weight, place_weight: weights of the losses of the neutral face's form and of the landmarks' places.
        rate: peak learning rate.
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        seed: of the network's first weights and everything random.
        bfloat16: run the convolutions in bfloat16 where the processor has it.
    """

    steps: int = 4000
    batch: int = 48
    size: int = 64
    embedding: int = 128
    temperature: float = 0.1
    form_weight: float = 0.5
    place_weight: float = 0.5
    rate: float = 2e-3
    decay: float = 0.5
    seed: int = 0
    bfloat16: bool = True


class People(NamedTuple):
    """A batch: ``images`` [B, 3, S, S] in -1..1, ``person`` [B], ``form`` [B, 204] the neutral face's landmarks and
    ``place`` [B, 136] those of the picture, both as offsets from the mean in their units."""

    images: Tensor
    person: Tensor
    form: Tensor
    place: Tensor


class PeopleSampler:
    """Draws pairs of pictures of people; everything random comes from the generator it is given."""

    def __init__(self, portraits: PortraitSource) -> None:
        self.portraits = portraits
        person = portraits.person(np.arange(HELD_OUT, portraits.count)).numpy()
        # A person whose pictures are on both sides of the split belongs to neither.
        known = set(portraits.person(np.arange(HELD_OUT)).tolist())
        starts = np.flatnonzero(np.r_[True, person[1:] != person[:-1]])
        ends = np.r_[starts[1:], len(person)]
        self.ranges = [
            (HELD_OUT + int(a), HELD_OUT + int(b))
            for a, b in zip(starts, ends, strict=True)
            if b - a > 1 and int(person[a]) not in known
        ]
        self._forms: dict[str, Tensor] = {}
        self._template = torch.tensor(TEMPLATE)

    def training(self, rng: torch.Generator, count: int, size: int) -> People:
        """Augmented pictures, rows 2k and 2k + 1 of the same person."""
        people = torch.randperm(len(self.ranges), generator=rng)[: count // 2].tolist()
        rows = []
        for k in people:
            low, high = self.ranges[k]
            rows += (low + torch.randperm(high - low, generator=rng)[:2]).tolist()
        index = np.array(rows)
        change = random_change(rng, len(index))
        images = change.pictures(self.portraits.take(index).float().div_(255), size)
        places = change.landmarks(self.portraits.landmarks(index) / self.portraits.size)
        images = cover(rng, images, self.portraits.take(index).roll(2, 0), 0.15)
        # Colour belongs to the looks: half of the camera's faults, and few mixed channels.
        plain = torch.rand(len(index), generator=rng) < 0.5
        images = torch.where(plain[:, None, None, None], images, develop(rng, images, jpeg=0.1))
        images = mix_colours(rng, images, 0.04)
        place = (places - self._template).flatten(1) / _PLACE_UNIT
        return People(images * 2 - 1, self.portraits.person(index), self._form(index), place)

    def held_out(self, rows: np.ndarray, size: int) -> Tensor:
        """Portraits as they are, [B, 3, S, S] in -1..1."""
        images = self.portraits.take(rows).float().div_(255)
        if size != images.shape[-1]:
            images = functional.interpolate(images, size=(size, size), mode="area")
        return images * 2 - 1

    def _form(self, rows: np.ndarray) -> Tensor:
        """[B, 204] landmarks of the neutral faces, offsets from the model's mean."""
        form = torch.zeros(len(rows), 204)
        for group in self.portraits.geometry(rows):
            form[group.rows] = group.shape @ self._form_basis(group.model)
        return form

    def _form_basis(self, model: MorphableModel) -> Tensor:
        """[S, 204] what a standard deviation of each shape coefficient does to the landmarks."""
        if model.name not in self._forms:
            self._forms[model.name] = model.landmarks(model.shape_basis).flatten(1) / _FORM_UNIT
        return self._forms[model.name]


class IdentityLearner(nn.Module):
    """The identity network with the heads that only its training needs."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        self.identity = IdentityNet(config)
        self.form = nn.Linear(config.embedding, 204)
        self.place = nn.Linear(config.widths[-1] * (config.size // 16) ** 2, 136)
        nn.init.zeros_(self.form.weight)
        nn.init.zeros_(self.place.weight)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images [B, 3, S, S] -> embeddings of unit length, form [B, 204] and place [B, 136]."""
        last = self.identity.features(images)[-1]
        raw = self.identity.project_features(last)
        embedding = functional.normalize(raw.float(), dim=1, eps=1e-6)
        return embedding, self.form(raw).float(), self.place(last.flatten(1)).float()


def contrastive_loss(embedding: Tensor, person: Tensor, temperature: float) -> Tensor:
    """Mean over pictures and their partners of ``-log softmax``: how surely a partner is picked out of all the others.

    Args:
        embedding: [B, E] of unit length.
        person: [B]; equal numbers are partners, and each picture has at least one.
        temperature: the smaller, the more the nearest strangers count.
    """
    alike = embedding @ embedding.T / temperature
    self_ = torch.eye(len(person), dtype=torch.bool, device=alike.device)
    log_share = alike.masked_fill(self_, -torch.inf).log_softmax(1).masked_fill(self_, 0)
    partner = (person[:, None] == person[None]) & ~self_
    return -((log_share * partner).sum(1) / partner.sum(1)).mean()


def identity_loss(out: tuple[Tensor, Tensor, Tensor], people: People, settings: IdentityTraining) -> dict[str, Tensor]:
    """Scalars: ``loss`` and its parts ``contrast``, ``form`` and ``place``."""
    embedding, form, place = out
    parts = {
        "contrast": contrastive_loss(embedding, people.person, settings.temperature),
        "form": functional.smooth_l1_loss(form, people.form),
        "place": functional.smooth_l1_loss(place, people.place, beta=0.1),
    }
    loss = parts["contrast"] + settings.form_weight * parts["form"] + settings.place_weight * parts["place"]
    return {"loss": loss, **parts}


class IdentityTask(AveragedTask):
    """A :class:`garfast.train.loop.Task`."""

    def __init__(
        self, settings: IdentityTraining, portraits: PortraitSource, config: IdentityConfig | None = None
    ) -> None:
        if portraits.count <= HELD_OUT:
            raise TrainingError(f"there are {portraits.count} portraits: more than {HELD_OUT} are needed")
        self.sampler = PeopleSampler(portraits)
        if portraits.size < settings.size:
            raise TrainingError(
                f"the portraits have {portraits.size} pixels a side: at least {settings.size} are needed"
            )
        if len(self.sampler.ranges) < settings.batch // 2:
            raise TrainingError(
                f"the portraits show {len(self.sampler.ranges)} people beside the first {HELD_OUT} portraits, "
                f"which are held out: at least {settings.batch // 2} with several pictures each are needed"
            )
        self.settings = settings
        torch.manual_seed(settings.seed)
        config = config or IdentityConfig(size=settings.size, embedding=settings.embedding)
        self.network = IdentityLearner(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=settings.rate, weight_decay=2e-2)
        self.average = Averaged(self.network, 0.998)

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        people = self.sampler.training(rng, settings.batch, settings.size)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * learning_rate(step, settings.steps, decay=settings.decay)
        self.network.train()
        with autocast("cpu", settings.bfloat16):
            out = self.network(people.images.contiguous(memory_format=torch.channels_last))
        return self.descend(identity_loss(out, people, settings), step, 2.0)

    def evaluate(self, step: int) -> dict[str, float]:
        return evaluate_identity(self.averaged_network().identity, self.sampler, self.settings.size)

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the averaged weights, and beside them the backbone as perceptual.safetensors; returns the checksum of
        the former."""
        identity = self.averaged_network().identity
        config = identity.config
        perceptual = PerceptualNet(PerceptualConfig("faces", config.size, config.widths, config.depths))
        perceptual.backbone.load_state_dict(identity.backbone.state_dict())
        beside = Path(path).with_name("perceptual.safetensors")
        save_weights(beside, perceptual, kind="perceptual", config=perceptual.config.to_dict(), notes=notes)
        return save_weights(path, identity, kind=KIND, config=config.to_dict(), notes=notes)


@torch.no_grad()
def evaluate_identity(network: IdentityNet, sampler: PeopleSampler, size: int) -> dict[str, float]:
    """How well the network tells the people of the held-out portraits apart.

    Returns:
        ``same`` and ``other``: mean cosines of pictures of one person and of two; ``auc``: the chance that a pair of
        the first kind has the larger cosine; ``eer``: the share of errors at the threshold that errs either way alike.
    """
    rows = np.arange(HELD_OUT)
    embeddings = torch.cat(
        [network(sampler.held_out(part, size)) for part in np.array_split(rows, max(1, HELD_OUT // 64))]
    )
    return verification(embeddings, sampler.portraits.person(rows))


def verification(embeddings: Tensor, person: Sequence[int] | Tensor) -> dict[str, float]:
    """How well cosines tell people apart; see :func:`evaluate_identity`.

    Args:
        embeddings: [N, E] of unit length.
        person: [N] who each is.
    """
    who = torch.as_tensor(person)
    first, second = torch.triu_indices(len(who), len(who), 1)
    cosine = (embeddings[first] * embeddings[second]).sum(1).double()
    alike = who[first] == who[second]
    same, other = cosine[alike], cosine[~alike].sort().values
    below = (torch.searchsorted(other, same) + torch.searchsorted(other, same, right=True)) / 2
    ranked = same.sort().values
    missed = torch.searchsorted(ranked, ranked) / len(same)
    taken = 1 - torch.searchsorted(other, ranked) / len(other)
    eer = float(torch.maximum(missed, taken).min())
    return {
        "same": float(same.mean()),
        "other": float(other.mean()),
        "auc": float(below.mean() / len(other)),
        "eer": eer,
    }
