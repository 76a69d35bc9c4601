"""What a renderer is told of faces with known geometry: maps, or coefficients beside its code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.networks.generator import GeneratorConfig
from garfast.train.portraits import Geometry, normal_maps, rasterized


class Condition(NamedTuple):
    """A batch of faces as a generator takes them.

    Attributes:
        maps: normal or depth maps [B, C, r, r] of the generator's resolutions, coarse to fine; None: it takes none.
        params: [B, P] for a generator that takes coefficients; else None.
        normals: [B, 3, S, S] at the generator's size or the one that was asked for, 0 off the face.
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


def condition_of(
    config: GeneratorConfig,
    groups: Sequence[Geometry],
    batch: int,
    *,
    device: torch.device | str | None = None,
    normals_size: int | None = None,
) -> Condition:
    """Rasterise a batch of faces for a generator.

    Args:
        config: the generator's.
        groups: the faces.
        batch: how many they are.
        device: where to do it; where the faces are, if None.
        normals_size: side of ``normals``; the generator's where None.
    """
    if device is not None:
        groups = [group.to(device) for group in groups]
    side = normals_size or config.size
    sizes = sorted({*config.resolutions, side})
    levels = dict(zip(sizes, normal_maps(groups, batch, sizes), strict=True))
    if config.condition == "params":
        num_exp = config.params_dim - config.params_shape - 3
        return Condition(None, parameters(groups, batch, config.params_shape, num_exp), levels[side])
    if config.map_channels == 0:  # nothing injects the maps
        return Condition(None, None, levels[side])
    if config.condition == "depth":
        return Condition(depth_maps(groups, batch, config.resolutions), None, levels[side])
    return Condition([levels[resolution] for resolution in config.resolutions], None, levels[side])


def depth_maps(groups: Sequence[Geometry], batch: int, resolutions: Sequence[int]) -> list[Tensor]:
    """Depth [B, 1, r, r] of a batch, for the ablation that conditions on it.

    In units of 100 mm toward the viewer, relative to the middle of the head, plus 2, so that the background's 0 is far
    behind every face.
    """
    maps: list[Tensor] = []
    for group in groups:
        vertices, outputs = rasterized(group, resolutions)
        middle = -vertices[..., 2].mean(1)[:, None, None, None]
        near = [((middle - output.depth) / 100 + 2) * (output.mask > 0) for output in outputs]
        maps = maps or [level.new_zeros(batch, *level.shape[1:]) for level in near]
        maps = [whole.index_copy(0, group.rows, level) for whole, level in zip(maps, near, strict=True)]
    return maps


def parameters(groups: Sequence[Geometry], batch: int, num_shape: int, num_exp: int) -> Tensor:
    """Coefficients and rotation [B, num_shape + num_exp + 3], for the ablation that conditions on them.

    Raises:
        ArgumentError: a face model has more coefficients than these.
    """
    out: Tensor | None = None
    for group in groups:
        model = group.model
        if model.num_shape > num_shape or model.num_exp > num_exp:
            raise ArgumentError(
                f"the generator takes {num_shape} and {num_exp} coefficients of shape and expression, but the face "
                f"model '{model.name}' has {model.num_shape} and {model.num_exp}"
            )
        padded = [
            functional.pad(group.shape, (0, num_shape - group.shape.shape[1])),
            functional.pad(group.exp, (0, num_exp - group.exp.shape[1])),
            group.pose.rotation,
        ]
        values = torch.cat(padded, 1)
        if out is None:
            out = values.new_zeros(batch, values.shape[1])
        out = out.index_copy(0, group.rows, values)
    assert out is not None
    return out
