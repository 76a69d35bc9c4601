"""Pictures that a renderer draws of given geometry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from garfast.morphable import MorphableModel
from garfast.networks.generator import Generator
from garfast.seeds import seeded
from garfast.train.condition import Condition, condition_of
from garfast.train.portraits import Geometry

# Geometry of evaluations; the trainings draw theirs with other first numbers.
SEED = 7_000_003


def condition_for(generator: Generator, groups: Sequence[Geometry], batch: int) -> Condition:
    """What a generator is told of a batch of faces, on its device."""
    return condition_of(generator.config, groups, batch, device=generator.constant.device)


def draw(
    generator: Generator,
    condition: Condition,
    z: Tensor,
    *,
    noise: Sequence[Tensor] | str | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """Pictures [B, 3, S, S] in -1..1 of faces with the looks z [B, z_dim]; fresh noise where None."""
    w = generator.styles(z, params=condition.params, truncation=truncation)
    return draw_styles(generator, condition, w, noise)


def draw_styles(
    generator: Generator, condition: Condition, w: Tensor, noise: Sequence[Tensor] | str | None = None
) -> Tensor:
    """The same with styles [B, style_dim] or [B, num_styles, style_dim]."""
    return generator(condition.maps, w=w, noise=noise).image.float().clamp(-1, 1)


def prior_geometry(
    model: MorphableModel, size: int, seed: Sequence[int], persons: int, variants: int
) -> list[Geometry]:
    """Random aligned faces: ``persons`` identities with ``variants`` expressions and poses each, person by person."""
    from garfast.train.gar.geometry import GeometrySampler

    return GeometrySampler([(model, 1.0)], size).sample([SEED, *seed], persons, variants)


@torch.no_grad()
def drawn_pictures(
    generator: Generator, model: MorphableModel, count: int, *, batch: int = 16, truncation: float = 1.0, seed: int = 0
) -> Iterator[Tensor]:
    """Pictures uint8 [B, 3, S, S] of random faces of a model with random looks; the same seed gives the same ones."""
    device = generator.constant.device
    for start in range(0, count, batch):
        number = min(batch, count - start)
        random = seeded(seed, start)
        groups = prior_geometry(model, generator.config.size, [seed, start], number, 1)
        z = torch.randn(number, generator.config.z_dim, generator=random).to(device)
        noise = [torch.randn(shape, generator=random).to(device) for shape in generator.noise_shapes(number)]
        picture = draw(generator, condition_for(generator, groups, number), z, noise=noise, truncation=truncation)
        yield to_bytes(picture)


def to_bytes(picture: Tensor) -> Tensor:
    """-1..1 to uint8 on the CPU."""
    return ((picture + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
