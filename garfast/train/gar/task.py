"""The training step of the renderer: G against D, tied to its geometry by frozen networks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import TrainingError
from garfast.morphable import MorphableModel
from garfast.networks.discriminator import Discriminator
from garfast.networks.generator import Generator, GeneratorConfig, on_sphere
from garfast.networks.identity import IdentityNet
from garfast.networks.inverter import Inverter
from garfast.networks.landmark_net import LandmarkNet, find_landmarks
from garfast.networks.normal_estimator import NormalEstimator
from garfast.networks.perceptual import PerceptualNet
from garfast.networks.projected import ProjectedDiscriminator
from garfast.networks.renderer import Renderer, save_renderer
from garfast.seeds import seeded
from garfast.train.condition import Condition, condition_of
from garfast.train.gar import distributed
from garfast.train.gar.augment import AdaController, augment
from garfast.train.gar.geometry import GeometrySampler
from garfast.train.gar.losses import (
    PathLength,
    discriminator_adversarial,
    face_weight,
    generator_adversarial,
    identity_consistency,
    landmark_consistency,
    multiscale_l1,
    normal_consistency,
    r1_penalty,
    spread_on_sphere,
)
from garfast.train.gar.presets import GarTraining
from garfast.train.gar.report import Meter, Reporter
from garfast.train.loop import Averaged, learning_rate
from garfast.train.photos import PhotoSource, ShardedOrder
from garfast.train.portraits import HELD_OUT, Geometry, Photos, PortraitSource, landmark_places, resize, taken_pictures
from garfast.train.precision import autocast


@dataclass(eq=False)
class Teachers:
    """The frozen networks of equations 6 to 8 and of the perceptual loss; what is None switches its loss off."""

    normals: NormalEstimator | None = None
    landmarks: LandmarkNet | None = None
    identity: IdentityNet | None = None
    perceptual: PerceptualNet | None = None

    def freeze(self, device: torch.device | str) -> None:
        """Move all of them, in evaluation mode and without gradients of their weights."""
        for network in (self.normals, self.landmarks, self.identity, self.perceptual):
            if network is not None:
                network.to(device).eval().requires_grad_(False)


class Scene(NamedTuple):
    """Geometry of a batch."""

    given: Condition  # what G is told, and the normals that N should see, at N's size
    landmarks: Tensor  # [B, 68, 2] where the landmarks are, the picture spans -1..1, y down

    @property
    def normals(self) -> Tensor:
        """[B, 3, r, r] at the estimator's size."""
        return self.given.normals

    def repeat(self, times: int) -> Scene:
        """Every geometry ``times`` times in a row."""
        return Scene(self.given.repeat(times), self.landmarks.repeat_interleave(times, 0))


class Judged(NamedTuple):
    """What D is asked about: views of G's pictures, without their graphs, and of photographs, and these themselves."""

    fake: list[Tensor]
    real: list[Tensor]
    photos: Tensor


class GarTask:
    """Trains G, D and, where the settings say so, V.

    Args:
        settings: see :class:`GarTraining`.
        photos: aligned photographs for D.
        models: face models for the random geometry and their shares.
        teachers: frozen networks.
        portraits: photographs with known geometry for the reconstruction losses.
        device: where to train.
        impl: backend of the operators.

    Raises:
        TrainingError: there are too few photographs, or none with geometry though a loss needs them; or G is to take
            the coefficients of other models than these.
    """

    def __init__(
        self,
        settings: GarTraining,
        photos: Photos,
        models: Sequence[tuple[MorphableModel, float]],
        teachers: Teachers,
        *,
        portraits: PortraitSource | None = None,
        device: torch.device | str = "cpu",
        impl: str = "auto",
    ) -> None:
        if settings.paired and settings.weights.pairs and portraits is None:
            raise TrainingError("the reconstruction losses need portraits with known geometry: see --portraits")
        settings = replace(settings, generator=_told_of(settings.generator, [model for model, _ in models]))
        self.settings, self.photos, self.portraits, self.teachers = settings, photos, portraits, teachers
        self.reporter: Reporter | None = None
        """Takes a picture of samples at each evaluation; none where None."""
        self.meter = Meter(device)
        self.first = _first_row(photos)
        if photos.count <= self.first:
            raise TrainingError("there are no photographs to train on")
        self.device, self.impl = torch.device(device), impl
        teachers.freeze(self.device)
        self.sampler = GeometrySampler(
            [(model.to(self.device), share) for model, share in models], settings.generator.size, settings.prior
        )
        torch.manual_seed(settings.seed)
        self.generator = Generator(settings.generator, impl=impl).to(self.device)
        self.discriminator = _adversary(settings, teachers, impl).to(self.device)
        self.inverter = Inverter(settings.generator, impl=impl).to(self.device) if settings.weights.inverts else None
        self.path_length = PathLength().to(self.device)
        trained = [*self.generator.parameters(), *(self.inverter.parameters() if self.inverter else ())]
        # Lazy regularisation changes what Adam averages over (StyleGAN2, appendix B).
        self.generator_optimizer = _adam(trained, settings.rate, settings.path_length_every)
        self.discriminator_optimizer = _adam(self.discriminator.parameters(), settings.rate, settings.r1_every)
        self.ada = None
        if settings.ada_target is not None:
            self.ada = AdaController(settings.ada_target, kimg=settings.ada_images / 1000)
        self.order = ShardedOrder(photos.count, settings.seed, first=self.first)
        for part in (self.generator, self.discriminator, *([] if self.inverter is None else [self.inverter])):
            distributed.same_start(part)
        decay = 0.5 ** (distributed.joint_size(settings.batch) / settings.half_life)
        self.average = Averaged(self.generator, decay)
        self.inverter_average = None if self.inverter is None else Averaged(self.inverter, decay)

    # One step.

    def step(self, step: int) -> dict[str, float]:
        settings = self.settings
        factor = learning_rate(step, settings.steps, warmup=100, decay=settings.decay)
        adversary_rate = settings.rate if settings.adversary_rate is None else settings.adversary_rate
        for optimizer, rate, every in (
            (self.generator_optimizer, settings.rate, settings.path_length_every),
            (self.discriminator_optimizer, adversary_rate, settings.r1_every),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor * every / (every + 1)
        scalars: dict[str, float] = {}
        # D is asked about the pictures that G has just been judged by, so they are drawn once.
        judged = self._descend_generator(step, scalars)
        if step >= settings.warmup:
            self._descend_discriminator(step, judged, scalars)
        scalars["loss"] = sum(value for name, value in scalars.items() if name.startswith("g_"))
        self.meter.step(distributed.joint_size(settings.batch))
        return distributed.average_scalars(scalars)

    def _parts_of(self, step: int, stage: int) -> Iterator[int]:
        """The numbers of this process's parts of the joint batch; each starts the random numbers anew.

        So W processes do what a single one does with W times as many parts.
        """
        first = distributed.rank() * self.settings.accumulate
        for part in range(first, first + self.settings.accumulate):
            words = np.random.SeedSequence([self.settings.seed, step, part, stage]).generate_state(2)
            torch.manual_seed(int(words[0]) << 31 ^ int(words[1]))
            yield part

    def _descend_discriminator(self, step: int, judged: list[list[Judged]], scalars: dict[str, float]) -> None:
        settings = self.settings
        regularise = settings.weights.r1 > 0 and step % settings.r1_every == 0
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        for _, pairs in zip(self._parts_of(step, 0), judged, strict=True):
            with self._autocast():
                logits_fake = self._judge(_joined([pair.fake for pair in pairs]))
                logits_real = self._judge(_joined([pair.real for pair in pairs]))
            if self.ada is not None:
                self.ada.observe(logits_real)
            loss = discriminator_adversarial(logits_real, logits_fake)
            _note(scalars, "d_adversarial", loss, settings.accumulate)
            _note(scalars, "d_real", logits_real.mean(), settings.accumulate)
            _note(scalars, "d_fake", logits_fake.mean(), settings.accumulate)
            if regularise:
                photos = pairs[0].photos.requires_grad_()
                with self._autocast():
                    logits = self._judge(self._look(photos))
                penalty = r1_penalty(logits.mean(1), photos)
                _note(scalars, "d_r1", penalty, settings.accumulate)
                loss = loss + 0.5 * settings.weights.r1 * settings.r1_every * penalty
            (loss / settings.accumulate).backward()
        distributed.average_gradients(self.discriminator.parameters())
        self.discriminator_optimizer.step()
        if self.ada is not None:
            scalars["ada"] = self.ada.update()

    def _descend_generator(self, step: int, scalars: dict[str, float]) -> list[list[Judged]]:
        """Returns, for each part, what D has to learn from."""
        settings, weights = self.settings, self.settings.weights
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(False)
        judged = []
        for part in self._parts_of(step, 1):
            losses: dict[str, tuple[float, Tensor]] = {}
            pairs: list[Judged] = []
            if step >= settings.warmup:
                losses |= self._renderer_losses(step, part, pairs)
            if settings.paired and weights.pairs:
                losses |= self._paired_losses(step, part, pairs)
            judged.append(pairs)
            total = torch.stack([weight * value for weight, value in losses.values()]).sum()
            (total / settings.accumulate).backward()
            for name, (_, value) in losses.items():
                _note(scalars, f"g_{name}", value, settings.accumulate)
        if weights.path_length > 0 and step >= settings.warmup and step % settings.path_length_every == 0:
            penalty = self._path_length(step)
            (weights.path_length * settings.path_length_every * penalty).backward()
            scalars["path_length"] = float(penalty.detach())
        self.discriminator.requires_grad_(True)
        distributed.average_gradients(self.generator.parameters())
        distributed.average(self.generator.mapping.mean_w)
        if self.inverter is not None:
            distributed.average_gradients(self.inverter.parameters())
        self.generator_optimizer.step()
        self.average.update(self.generator, step)
        if self.inverter is not None and self.inverter_average is not None:
            self.inverter_average.update(self.inverter, step)
        return judged

    def _renderer_losses(self, step: int, part: int, judged: list[Judged]) -> dict[str, tuple[float, Tensor]]:
        """Losses of pictures of random geometry (equation 9, and V on G's pictures), with their weights; adds to what D
        is asked about."""
        weights, teachers = self.settings.weights, self.teachers
        scene = self._scene(step, part, stage=1).repeat(2)
        persons = len(scene.normals) // 4
        mixed = float(torch.rand(())) < self.settings.mixing
        z = torch.randn(2 * persons, self.settings.generator.z_dim, device=self.device)
        losses: dict[str, tuple[float, Tensor]] = {}
        with self._autocast():
            w = self._styles(scene, persons, z=z, mixed=mixed)
            image = self._render(scene, w).image
            seen = self._look(image)
            losses["adversarial"] = (weights.adversarial, generator_adversarial(self._judge(seen)))
            photos = self._real(step, part)
            with torch.no_grad():
                judged.append(Judged(_detached(seen), self._look(photos), photos))
            if weights.normal > 0 and teachers.normals is not None:
                small = resize(image, scene.normals.shape[-1])
                losses["normal"] = (
                    weights.normal,
                    normal_consistency(teachers.normals(small).normals.float(), scene.normals),
                )
            if weights.landmark > 0 and teachers.landmarks is not None:
                points = self.landmark_points(image, scene.landmarks).view(2 * persons, 2, -1, 2)
                losses["landmark"] = (weights.landmark, landmark_consistency(points[:, 0], points[:, 1]))
            if weights.identity > 0 and teachers.identity is not None:
                codes = teachers.identity(image).float().view(persons, 2, 2, -1)
                losses["identity"] = (
                    weights.identity,
                    identity_consistency(codes[:, 0].flatten(0, 1), codes[:, 1].flatten(0, 1)),
                )
            if weights.latent > 0 and self.inverter is not None and not mixed:
                found = functional.normalize(self.inverter(image).z.float(), dim=1)
                true = functional.normalize(per_picture(z, persons), dim=1)
                losses["latent"] = (weights.latent, (found - true).square().sum(1).mean())
        self.generator.mapping.update_mean(w[:, 0])
        return losses

    def _paired_losses(self, step: int, part: int, judged: list[Judged]) -> dict[str, tuple[float, Tensor]]:
        """Losses of photographs with known geometry, drawn again by G with V's code, with their weights; adds to what D
        is asked about."""
        settings, weights = self.settings, self.settings.weights
        assert self.portraits is not None
        assert self.inverter is not None
        count = settings.paired // settings.accumulate
        rng = np.random.default_rng([settings.seed, step, part, 2])
        rows = rng.integers(_first_row(self.portraits), self.portraits.count, count)
        photo = self.pictures(self.portraits, rows)
        groups = self.portraits.geometry(rows)
        if settings.exchanged:
            groups = [_exchanged(group) for group in groups]
        scene = self.scene(groups, count)
        losses: dict[str, tuple[float, Tensor]] = {}
        with self._autocast():
            code = self.inverter(photo).z.float()
            z = on_sphere(code)
            w = self.generator.styles(z, params=scene.given.params)
            image = self._render(scene, w).image.float()
        weight = face_weight(scene.normals, image.shape[-1])
        losses["reconstruction"] = (weights.reconstruction, multiscale_l1(image, photo, weight))
        perceptual = self.teachers.perceptual if weights.perceptual > 0 else None
        with self._autocast():
            if weights.redrawn > 0 and step >= settings.warmup:
                seen = self._look(image)
                with torch.no_grad():
                    true = self._look(photo)
                losses["redrawn"] = (weights.redrawn, generator_adversarial(self._judge(seen)))
                judged.append(Judged(_detached(seen), true, photo))
                # A projected adversary without augmentation has seen what the perceptual network sees.
                known = settings.projected and self.ada is None
            else:
                known = False
            if perceptual is not None:
                distance = perceptual.compare(seen, true) if known else perceptual.distance(image, photo)
                losses["perceptual"] = (weights.perceptual, distance.float().mean())
        if weights.spread > 0:
            losses["spread"] = (weights.spread, spread_on_sphere(code))
        return losses

    def _path_length(self, step: int) -> Tensor:
        settings = self.settings
        persons = max(1, settings.batch // settings.accumulate // 8)
        scene = self._scene(step, distributed.rank() * settings.accumulate, stage=3, persons=persons)
        maps = [level.requires_grad_() for level in scene.given.maps or ()]
        z = torch.randn(len(scene.normals), settings.generator.z_dim, device=self.device)
        w = self.generator.styles(z, params=scene.given.params)
        image = self._render(scene, w).image
        return self.path_length(image, w, maps, torch.randn_like(image))

    # What the step is made of.

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.settings.bfloat16)

    def pictures(self, photos: Photos, rows: Sequence[int] | np.ndarray) -> Tensor:
        """Photographs in -1..1 at the generator's size."""
        return taken_pictures(photos, rows, self.settings.generator.size, self.device)

    def _real(self, step: int, part: int) -> Tensor:
        settings = self.settings
        order = self.order
        parts = settings.accumulate * distributed.world()
        count = settings.batch // settings.accumulate
        pictures = self.pictures(self.photos, order.rows(step * parts + part, count))
        if isinstance(self.photos, PhotoSource):
            # What comes next is decoded while this is computed.
            last = (part + 1) % settings.accumulate == 0
            turn = (step + 1) * parts + part + 1 - settings.accumulate if last else step * parts + part + 1
            self.photos.prepare(order.rows(turn, count))
        if not settings.mirror:
            return pictures
        flip = torch.rand(len(pictures), 1, 1, 1, device=self.device) < 0.5
        return torch.where(flip, pictures.flip(-1), pictures)

    def _scene(self, step: int, part: int, stage: int, persons: int | None = None) -> Scene:
        """Two geometries for each person."""
        settings = self.settings
        persons = persons or settings.batch // settings.accumulate // 4
        groups = self.sampler.sample([settings.seed, step, part, stage], persons)
        return self.scene(groups, 2 * persons)

    def scene(self, groups: Sequence[Geometry], batch: int) -> Scene:
        """Rasterise a batch of geometries for G and N."""
        config, device = self.settings.generator, self.device
        groups = [group.to(device) for group in groups]
        seen = min(self.settings.normals_size, config.size)
        given = condition_of(config, groups, batch, normals_size=seen)
        return Scene(given, landmark_places(groups, batch))

    def _styles(self, scene: Scene, persons: int, z: Tensor | None = None, mixed: bool | None = None) -> Tensor:
        """w of every picture [4 * persons, L, D]: two codes a person, each for both of the person's geometries."""
        settings, generator = self.settings, self.generator
        if z is None:
            z = torch.randn(2 * persons, settings.generator.z_dim, device=self.device)
        if mixed is None:
            mixed = float(torch.rand(())) < settings.mixing
        codes: list[Tensor] = [per_picture(z, persons)]
        layer = None
        if mixed:
            codes.append(per_picture(torch.randn_like(z), persons))
            layer = int(torch.randint(1, settings.generator.num_styles, ()))
        return generator.styles(codes if mixed else codes[0], params=scene.given.params, mixing_layer=layer)

    def _look(self, images: Tensor) -> list[Tensor]:
        """What D sees of pictures, augmented as much as the controller says."""
        return self.discriminator.look(images if self.ada is None else augment(images, self.ada.p))

    def _judge(self, seen: list[Tensor]) -> Tensor:
        """D's logits [B, P] of what it has seen."""
        return self.discriminator.judge(seen).float()

    def _render(self, scene: Scene, w: Tensor) -> Any:
        return self.generator(scene.given.maps, w=w)

    def landmark_points(self, image: Tensor, around: Tensor) -> Tensor:
        """Landmarks [B, 68, 2] that the landmark network sees in pictures, the picture spans -1..1.

        Args:
            image: [B, 3, S, S] in -1..1.
            around: [B, 68, 2] where the landmarks should be: the network looks at a crop around their box.
        """
        network = self.teachers.landmarks
        assert network is not None
        boxes = (torch.cat([around.amin(1), around.amax(1)], 1) + 1) / 2
        return 2 * find_landmarks(network, image, boxes, self.settings.landmark_size) - 1

    # Results.

    def renderer(self) -> Renderer:
        """The averaged generator and inverter with the teachers, for evaluation and export."""
        generator = Generator(self.settings.generator, impl=self.impl)
        generator.load_state_dict(self.average.state)
        _centre(generator)
        inverter = None
        if self.inverter_average is not None:
            inverter = Inverter(self.settings.generator, impl=self.impl)
            inverter.load_state_dict(self.inverter_average.state)
            inverter.eval().requires_grad_(False)
        return Renderer(
            generator.eval().requires_grad_(False),
            inverter,
            self.teachers.normals,
            self.teachers.identity,
            self.teachers.perceptual,
        ).to(self.device)

    def evaluate(self, step: int) -> dict[str, float]:
        from garfast.train.gar.measure import measure_renderer, sample_sheet

        numbers = self.meter.read()
        if self.reporter is not None and distributed.is_first():
            self.reporter.picture(step, "sheet", sample_sheet(self))
        figures = {**measure_renderer(self), **numbers}
        if isinstance(self.photos, PhotoSource):
            figures["skipped_photos"] = float(self.skipped)
        self.meter.read()
        return figures

    @property
    def skipped(self) -> int:
        """How many photographs this process could not decode so far."""
        return self.photos.skipped if isinstance(self.photos, PhotoSource) else 0

    def export(self, path: str | os.PathLike[str], notes: dict[str, Any]) -> str:
        """Write the folder of weight files that ``load_renderer`` reads; returns the generator's checksum."""
        renderer = self.renderer()
        renderer.notes = notes
        return save_renderer(path, renderer)["generator"]

    def state_dict(self) -> dict[str, Any]:
        return {
            "seed": self.settings.seed,
            "batch": self.settings.batch,
            **{name: part.state_dict() for name, part in self._parts().items()},
            "average": self.average.state,
            "average_age": self.average.age,
            "inverter_average": None if self.inverter_average is None else self.inverter_average.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["seed"] != self.settings.seed or state["batch"] != self.settings.batch:
            raise ValueError("other settings")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.average.state = {k: v.to(self.device) for k, v in state["average"].items()}
        self.average.age = int(state.get("average_age", 0))
        if self.inverter_average is not None:
            self.inverter_average.state = {k: v.to(self.device) for k, v in state["inverter_average"].items()}

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "path_length": self.path_length,
            **({} if self.ada is None else {"ada": self.ada}),
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return parts if self.inverter is None else {**parts, "inverter": self.inverter}


def _adversary(settings: GarTraining, teachers: Teachers, impl: str) -> Discriminator | ProjectedDiscriminator:
    if not settings.projected:
        # Pictures of one person must not share a deviation: they are more alike than photographs drawn by lot.
        persons = max(1, settings.batch // settings.accumulate // 4)
        group = min(settings.discriminator.group_size, persons)
        return Discriminator(replace(settings.discriminator, group_size=group), impl=impl)
    if teachers.perceptual is None:
        raise TrainingError("a projected adversary looks at the perceptual network's features: give that network")
    return ProjectedDiscriminator(teachers.perceptual, settings.generator.size, impl=impl)


def _exchanged(group: Geometry) -> Geometry:
    """Every face with the shape and expression of the one before; the mean face where there is one alone."""
    several = len(group.rows) > 1
    return group._replace(shape=group.shape.roll(1, 0) * several, exp=group.exp.roll(1, 0) * several)


def _detached(seen: list[Tensor]) -> list[Tensor]:
    return [view.detach() for view in seen]


def _joined(batches: list[list[Tensor]]) -> list[Tensor]:
    """Views of several batches as those of one."""
    return [torch.cat(views) for views in zip(*batches, strict=True)]


@torch.no_grad()
def _centre(generator: Generator) -> None:
    """Put the mean style where it is. The running mean starts at 0, and a short training does not move it all the way;
    where parameters enter beside z, it is the best there is."""
    if generator.config.condition != "params":
        z = torch.randn(8192, generator.config.z_dim, generator=seeded(0))
        generator.mapping.mean_w.copy_(generator.mapping(z).mean(0))


def _told_of(config: GeneratorConfig, models: Sequence[MorphableModel]) -> GeneratorConfig:
    """The configuration of a generator that may take the coefficients of these models."""
    if config.condition != "params":
        return config
    num_shape, num_exp = max(m.num_shape for m in models), max(m.num_exp for m in models)
    needed = num_shape + num_exp + 3
    if config.params_dim != needed:
        raise TrainingError(
            f"the face models have up to {num_shape} and {num_exp} coefficients of shape and expression: set "
            f"generator.params_dim={needed}, with 3 for the rotation, instead of {config.params_dim}"
        )
    return replace(config, params_shape=num_shape)


def _first_row(photos: Photos) -> int:
    """The first picture that is trained on. Every training leaves out the same portraits, so that they stay unseen; of
    other photographs some are left out where there are many."""
    few = HELD_OUT if isinstance(photos, PortraitSource) else 2 * HELD_OUT
    return HELD_OUT if photos.count > few else 0


def _adam(parameters: Any, rate: float, every: int) -> torch.optim.Adam:
    share = every / (every + 1)
    return torch.optim.Adam(parameters, lr=rate * share, betas=(0.0, 0.99**share), eps=1e-8)


def _note(scalars: dict[str, float], name: str, value: Tensor, parts: int) -> None:
    scalars[name] = scalars.get(name, 0.0) + float(value.detach()) / parts


def per_picture(codes: Tensor, persons: int) -> Tensor:
    """Two codes a person [2 P, d] -> one a picture [4 P, d]: pictures run over person, geometry, code."""
    return codes.view(persons, 1, 2, -1).expand(-1, 2, -1, -1).reshape(4 * persons, -1)
