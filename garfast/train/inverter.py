"""Trains the inverter V on the pictures of a frozen renderer (equation 11).

    L_z = |z' - z|^2 + sum_i |G_i(n, z, noise) - R_i(I)|        I = G(n, z, noise)

as in the paper, scaled so that neither term depends on the network's size: the first is the mean over the code's
entries, with z brought to the length sqrt(d) that a Gaussian code nearly has (G normalises its input, so the length
says nothing); the second is the mean over layers of the mean absolute difference over that of G_i itself. Beside it:

    style        squared difference of the styles that M makes of both codes, by how much it shows in pictures
                 (:mod:`garfast.train.looks`; 1 for the mean style): what of a code does not show cannot be found
    noise        mean over layers of |noise' - noise|^2, weighed by the strengths with which G adds the maps
    image        mean absolute difference of I and G(n, z', noise') over three scales
    perceptual   distance of the same two pictures

With portraits, V also sees photographs with known geometry, which must come back from G (image and perceptual only).

The MLPs of V see nothing of a picture but its statistics, so these can be kept: with a pool they are trained alone, on
thousands of pictures that are drawn once, with the loss of the style, which needs no picture drawn again. A step then
costs a hundredth, and the MLPs, which never see enough pictures otherwise, can be trained to the end.

Fits over codes have to do without V's offset of the style: half of the style's loss and every other step's pictures do
so too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from garfast.errors import TrainingError
from garfast.morphable import MorphableModel
from garfast.networks.generator import Generator, on_sphere
from garfast.networks.inverter import Inversion, Inverter, style_of
from garfast.networks.perceptual import PerceptualNet
from garfast.networks.renderer import Renderer
from garfast.networks.weights import save_weights
from garfast.seeds import seeded
from garfast.train.averaged_task import AveragedTask
from garfast.train.condition import Condition, condition_of
from garfast.train.gar.geometry import GeometryPrior, GeometrySampler
from garfast.train.gar.losses import face_weight, multiscale_l1
from garfast.train.looks import looks_metric
from garfast.train.loop import Averaged, learning_rate
from garfast.train.muon import muon_for
from garfast.train.portraits import HELD_OUT, PortraitSource, taken_pictures
from garfast.train.precision import autocast

KIND = "inverter"
MEASURED = 16
"""Pictures that an evaluation looks at."""
METRIC_BATCHES, METRIC_BATCH = 16, 8
"""Pictures by which the metric of styles is made."""
POOL_BATCH = 8
"""Pictures that a pool is filled with at a time."""
_SEED = 2**31 - 3


@dataclass(frozen=True)
class InverterWeights:
    """Weights of the losses; 0 switches one off. ``latent`` and ``features`` are equation 11."""

    latent: float = 1.0
    style: float = 1.0
    features: float = 0.5
    noise: float = 0.1
    image: float = 2.0
    perceptual: float = 1.0


@dataclass(frozen=True)
class InverterTraining:
    """Settings of the inverter's training.

    Attributes:
        steps: optimiser steps in all.
        batch: pictures of the renderer a step; with a pool, of those.
        pool: pictures of the renderer that are drawn once, before the first step; the MLPs start anew and are trained
            alone. 0 trains all of V.
        paired: portraits a step, where there are some.
        rate: peak learning rate of the kernels between features (:class:`garfast.train.muon.Muon`).
        end_rate: that of everything else (AdamW).
        decay: share of the steps, at the end, over which the learning rate falls to 0.
        weights: of the losses.
        prior: distribution of the random geometry.
        seed: of everything random.
        bfloat16: run the networks in bfloat16 where the device has it.
        size: side of the pictures; the renderer decides it.
    """

    steps: int = 2000
    batch: int = 8
    pool: int = 0
    paired: int = 4
    rate: float = 0.01
    end_rate: float = 1e-3
    decay: float = 0.5
    weights: InverterWeights = field(default_factory=InverterWeights)
    prior: GeometryPrior = field(default_factory=lambda: GeometryPrior(yaw=0.45, pitch=0.15, perspective=0.75))
    seed: int = 0
    bfloat16: bool = True
    size: int = 0


def latent_loss(found: Tensor, z: Tensor) -> Tensor:
    """Mean squared difference of codes [B, d] and the true ones at length sqrt(d)."""
    return (found.float() - on_sphere(z)).square().mean()


def style_loss(found: Tensor, styles: Tensor, metric: Tensor) -> Tensor:
    """Mean of d^T H d over the differences d of styles [B, D] and the true ones; see :func:`looks_metric`."""
    difference = found.float() - styles.detach().float()
    return (difference @ metric * difference).sum(1).mean()


def feature_loss(found: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference of feature maps, in units of the mean absolute true feature."""
    parts = []
    for ours, theirs in zip(found, features, strict=True):
        true = theirs.detach().float()
        parts.append((ours.float() - true).abs().mean() / true.abs().mean().clamp_min(1e-4))
    return torch.stack(parts).mean()


def noise_loss(found: Sequence[Tensor], noise: Sequence[Tensor], strengths: Tensor) -> Tensor:
    """Mean squared difference of noise maps, averaged over layers with the strengths [L] as weights."""
    parts = torch.stack([(ours.float() - true).square().mean() for ours, true in zip(found, noise, strict=True)])
    weights = strengths.detach().abs().float()
    return (parts * weights).sum() / weights.sum().clamp_min(1e-6)


def noise_strengths(generator: Generator) -> Tensor:
    """[L] how strongly each convolution adds its noise map, coarse to fine."""
    named = dict(generator.named_parameters())
    return torch.stack([value.detach() for name, value in named.items() if name.endswith("noise_strength")])


class Pool(NamedTuple):
    """Pictures of the renderer as the inverter's MLPs see them."""

    statistics: Tensor  # [K, N]
    styles: Tensor  # [K, D] that they were drawn with
    params: Tensor | None  # [K, P] what G was told beside the style


class InverterTask(AveragedTask):
    """A :class:`garfast.train.loop.Task`.

    Args:
        settings: see :class:`InverterTraining`.
        renderer: G, and the perceptual network and the inverter to start from where there are such.
        models: face models for the random geometry and their shares.
        portraits: photographs with known geometry, or None.
        fresh: start from new weights even if the renderer has an inverter.
        device: where to train.
        impl: backend of the operators.

    Raises:
        TrainingError: there are too few portraits, or a pool is asked for and there is no inverter to start from or no
            loss of the style.
    """

    def __init__(
        self,
        settings: InverterTraining,
        renderer: Renderer,
        models: Sequence[tuple[MorphableModel, float]],
        *,
        portraits: PortraitSource | None = None,
        fresh: bool = False,
        device: torch.device | str = "cpu",
        impl: str = "auto",
    ) -> None:
        if portraits is not None and portraits.count <= HELD_OUT:
            raise TrainingError(f"there are {portraits.count} portraits: more than {HELD_OUT} are needed")
        if settings.pool and (renderer.inverter is None or fresh):
            raise TrainingError("a pool trains an inverter's last layers alone: train one without a pool first")
        if settings.pool and not settings.weights.style > 0:
            raise TrainingError("with a pool there is no loss but that of the style: its weight must be positive")
        config = renderer.generator.config
        self.settings = replace(settings, size=config.size, paired=settings.paired if portraits is not None else 0)
        self.device, self.impl, self.portraits = torch.device(device), impl, portraits
        self.generator = renderer.generator.to(self.device).eval().requires_grad_(False)
        self.perceptual: PerceptualNet | None = None
        if renderer.perceptual is not None:
            self.perceptual = renderer.perceptual.to(self.device).eval().requires_grad_(False)
        self.sampler = GeometrySampler(
            [(model.to(self.device), share) for model, share in models], config.size, settings.prior
        )
        torch.manual_seed(settings.seed)
        self.network = Inverter(config, impl=impl).to(self.device)
        if renderer.inverter is not None and not fresh:
            self.network.load_state_dict(renderer.inverter.state_dict())
        self.metric = self._looks_metric() if settings.weights.style > 0 else torch.empty(0)
        self.pool = self._fill_pool() if settings.pool else None
        if self.pool is not None:
            self.network.requires_grad_(False)
            self.network.standardise(self.pool.statistics)
            self.network.mlp.requires_grad_(True)
            self.network.offset.requires_grad_(True)
        self.optimizer = muon_for(
            self.network, ends=("from_rgb", "noise_heads"), rate=settings.rate, other_rate=settings.end_rate, decay=0.0
        )
        self.average = Averaged(self.network, 0.995)

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate(step, settings.steps, warmup=50, decay=settings.decay)
        random = np.random.default_rng([settings.seed, step])
        photos = None
        if settings.paired and self.portraits is not None:  # their geometry is made in full precision
            photos = self._photos(random, settings.paired)
        losses = self._losses_of_drawn(step) if self.pool is None else self._losses_of_pool(self.pool, random)
        if photos is not None:
            with self._autocast():
                photo, scene = photos
                found = self.network(photo)
                weight = face_weight(scene.normals, settings.size)
                losses |= self._picture_losses("photo_", scene, self._shown(found, step), photo, weight)
        total = torch.stack([weight * value for weight, value in losses.values()]).sum()
        return self.descend({"loss": total} | {name: value for name, (_, value) in losses.items()}, step, math.inf)

    def _losses_of_drawn(self, step: int) -> dict[str, tuple[float, Tensor]]:
        """Losses of new pictures of the renderer, with their weights."""
        settings, weights = self.settings, self.settings.weights
        scene, z, noise = self._draw([settings.seed, step], settings.batch)
        losses: dict[str, tuple[float, Tensor]] = {}
        with self._autocast():
            with torch.no_grad():
                out = self.generator(scene.maps, z, params=scene.params, noise=noise)
            image = out.image.float()
            found = self.network(image)
            if weights.latent > 0:
                losses["latent"] = (weights.latent, latent_loss(found.z, z))
            if weights.style > 0:
                losses["style"] = (weights.style, self._style_loss(found.z, found.offset, out.w[:, 0], scene.params))
            if weights.features > 0:
                losses["features"] = (weights.features, feature_loss(found.features, out.features))
            if weights.noise > 0:
                strengths = noise_strengths(self.generator)
                losses["noise"] = (weights.noise, noise_loss(found.noise, noise, strengths))
            return losses | self._picture_losses("", scene, self._shown(found, step), image, None)

    def _losses_of_pool(self, pool: Pool, random: np.random.Generator) -> dict[str, tuple[float, Tensor]]:
        """Loss of the styles of some pictures of the pool, with its weight."""
        rows = torch.from_numpy(random.integers(0, len(pool.styles), self.settings.batch)).to(self.device)
        params = None if pool.params is None else pool.params[rows]
        z, offset = self.network.answer(pool.statistics[rows])
        return {"style": (self.settings.weights.style, self._style_loss(z, offset, pool.styles[rows], params))}

    def _style_loss(self, z: Tensor, offset: Tensor, styles: Tensor, params: Tensor | None) -> Tensor:
        """With the offset and without, half each."""
        again = style_of(self.generator, z, torch.zeros_like(offset), params)
        return (style_loss(again + offset, styles, self.metric) + style_loss(again, styles, self.metric)) / 2

    @staticmethod
    def _shown(found: Inversion, step: int) -> Inversion:
        """What pictures are drawn of: every other step leaves the offset out."""
        return found._replace(offset=torch.zeros_like(found.offset)) if step % 2 else found

    def _picture_losses(
        self, prefix: str, scene: Condition, found: Inversion, picture: Tensor, weight: Tensor | None
    ) -> dict[str, tuple[float, Tensor]]:
        """Losses of a picture that G draws again from what V found in it, with their weights."""
        weights = self.settings.weights
        losses: dict[str, tuple[float, Tensor]] = {}
        perceptual = self.perceptual if weights.perceptual > 0 else None
        if weights.image == 0 and perceptual is None:
            return losses
        again = self._again(scene, found)
        if weights.image > 0:
            losses[f"{prefix}image"] = (weights.image, multiscale_l1(again, picture, weight))
        if perceptual is not None:
            distance = perceptual.distance(again, picture).float().mean()
            losses[f"{prefix}perceptual"] = (weights.perceptual, distance)
        return losses

    def _again(self, scene: Condition, found: Inversion) -> Tensor:
        w = style_of(self.generator, found.z, found.offset, scene.params)
        return self.generator(scene.maps, w=w, params=scene.params, noise=found.noise).image.float()

    def _draw(self, seed: Sequence[int], count: int) -> tuple[Condition, Tensor, list[Tensor]]:
        """Random geometries, codes and noise maps, decided by the seed alone."""
        groups = self.sampler.sample([*seed, 7], count, 1)
        scene = condition_of(self.generator.config, groups, count)
        rng = seeded(*seed)
        z = torch.randn(count, self.generator.config.z_dim, generator=rng).to(self.device)
        shapes = self.generator.noise_shapes(count)
        return scene, z, [torch.randn(shape, generator=rng).to(self.device) for shape in shapes]

    @torch.no_grad()
    def _fill_pool(self) -> Pool:
        parts = []
        batches = range(-(-self.settings.pool // POOL_BATCH))
        for number in tqdm(batches, desc="pool", leave=False, disable=None):
            scene, z, noise = self._draw([self.settings.seed, number, 2], POOL_BATCH)
            with self._autocast():
                out = self.generator(scene.maps, z, params=scene.params, noise=noise)
                seen = self.network.statistics(self.network.features(out.image.float()))
            parts.append(Pool(seen, out.w[:, 0].float(), scene.params))
        params = [part.params for part in parts if part.params is not None]
        return Pool(
            torch.cat([part.statistics for part in parts]),
            torch.cat([part.styles for part in parts]),
            torch.cat(params) if params else None,
        )

    def _looks_metric(self) -> Tensor:
        def draw(number: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            scene, z, noise = self._draw([self.settings.seed, number, 1], METRIC_BATCH)
            with torch.no_grad():
                styles = self.generator.mapping(z, scene.params)
            return styles, lambda w: self.generator(scene.maps, w=w, noise=noise).image

        mean = self.generator.mapping.mean_w.float()
        return looks_metric(draw, METRIC_BATCHES, mean, self.perceptual, seeded(self.settings.seed, 1))

    def _photos(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Condition]:
        assert self.portraits is not None
        return self._photo_rows(rng.integers(HELD_OUT, self.portraits.count, count))

    def _photo_rows(self, rows: np.ndarray) -> tuple[Tensor, Condition]:
        assert self.portraits is not None
        config = self.generator.config
        groups = [group.to(self.device) for group in self.portraits.geometry(rows)]
        photo = taken_pictures(self.portraits, rows, config.size, self.device)
        return photo, condition_of(config, groups, len(rows))

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.settings.bfloat16)

    def averaged_network(self) -> Inverter:
        network = Inverter(self.generator.config, impl=self.impl)
        network.load_state_dict(self.average.state)
        return network.eval().requires_grad_(False).to(self.device)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """On pictures of fixed geometries and codes that the training does not see.

        Returns:
            ``cosine`` of the found and the true codes; ``noise_correlation``, weighed by the strengths; ``image`` and
            ``perceptual``, mean absolute and perceptual difference of the picture drawn again; ``mean_image`` and
            ``mean_perceptual``, the same for the mean latent; with portraits ``photo_image`` and, for the mean latent,
            ``photo_mean_image``.
        """
        network = self.averaged_network()
        scene, z, noise = self._draw([_SEED], MEASURED)
        image = self.generator(scene.maps, z, params=scene.params, noise=noise).image
        found = network(image)
        strengths = noise_strengths(self.generator)
        figures = {
            "cosine": float(functional.cosine_similarity(found.z, z).mean()),
            # Both maps have unit variance: their mean squared difference is 2 (1 - correlation).
            "noise_correlation": 1 - float(noise_loss(found.noise, noise, strengths)) / 2,
        }
        figures |= self._compared("", scene, found, image)
        if self.portraits is not None:
            photo, scene = self._photo_rows(np.arange(0, min(4 * MEASURED, HELD_OUT), 4))
            found = network(photo)
            figures |= self._compared("photo_", scene, found, photo)
        return figures

    def _compared(self, prefix: str, scene: Condition, found: Inversion, picture: Tensor) -> dict[str, float]:
        w = self.generator.mapping.mean_w.expand(len(picture), -1)
        mean = self.generator(scene.maps, w=w, params=scene.params, noise="zero").image
        figures = {}
        for name, again in (("", self._again(scene, found)), ("mean_", mean)):
            figures[f"{prefix}{name}image"] = float((again - picture).abs().mean())
            if self.perceptual is not None:
                figures[f"{prefix}{name}perceptual"] = float(self.perceptual.distance(again, picture).mean())
        return figures

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the averaged weights; returns their checksum."""
        network = self.averaged_network()
        return save_weights(path, network, kind=KIND, config=asdict(network.config), notes=notes)
