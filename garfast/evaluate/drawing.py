"""Pictures that a renderer draws of given geometry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from garfast.morphable import MorphableModel
from garfast.networks.generator import Generator
from garfast.train.portraits import Geometry, normal_maps

# Geometry of evaluations; the trainings draw theirs with other first numbers.
SEED = 7_000_003


class Condition(NamedTuple):
    """What a generator is told of a batch of faces.

    Attributes:
        maps: normal or depth maps [B, C, r, r] of the generator's resolutions, coarse to fine; None: it takes none.
        params: [B, P] for a generator that takes coefficients; else None.
        normals: [B, 3, S, S] at the generator's size, 0 off the face.
    """

    maps: list[Tensor] | None
    params: Tensor | None
    normals: Tensor

    def repeat(self, times: int) -> Condition:
        """Every face ``times`` times in a row."""
        rows = torch.arange(len(self.normals), device=self.normals.device)
        return self.rows(rows.repeat_interleave(times))

    def rows(self, rows: Tensor) -> Condition:
        """The faces with these numbers [n]."""
        maps = None if self.maps is None else [level[rows] for level in self.maps]
        return Condition(maps, None if self.params is None else self.params[rows], self.normals[rows])


def condition_of(generator: Generator, groups: Sequence[Geometry], batch: int) -> Condition:
    """Rasterise a batch of faces for a generator, on the generator's device.

    Args:
        generator: says what it takes.
        groups: the faces, on the CPU.
        batch: how many faces they are.
    """
    config = generator.config
    device = generator.constant.device
    levels = normal_maps(groups, batch, config.resolutions)
    assert isinstance(levels, list)
    levels = [level.to(device) for level in levels]
    if config.condition == "normal":
        return Condition(levels, None, levels[-1])
    from garfast.train.gar.geometry import depth_maps, parameters

    if config.condition == "depth":
        maps = depth_maps(groups, batch, config.resolutions)
        return Condition([level.to(device) for level in maps], None, levels[-1])
    # The vector is coefficients of shape and expression and three of the rotation, padded to the largest model's.
    num_shape = max(group.shape.shape[1] for group in groups)
    params = parameters(groups, batch, num_shape, config.params_dim - 3 - num_shape)
    return Condition(None, params.to(device), levels[-1])


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
        random = torch.Generator().manual_seed(1_000_003 * seed + start)
        groups = prior_geometry(model, generator.config.size, [seed, start], number, 1)
        z = torch.randn(number, generator.config.z_dim, generator=random).to(device)
        noise = [torch.randn(shape, generator=random).to(device) for shape in generator.noise_shapes(number)]
        picture = draw(generator, condition_of(generator, groups, number), z, noise=noise, truncation=truncation)
        yield to_bytes(picture)


def to_bytes(picture: Tensor) -> Tensor:
    """-1..1 to uint8 on the CPU."""
    return ((picture + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
