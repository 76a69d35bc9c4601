"""What a generator is shown of a mesh: its normals at all resolutions, each averaged from samples twice as dense.

Where lids, lips and nostrils are thinner than a pixel, single samples fall on their edges or miss them as it happens,
and a generator makes dots of eyes and teeth.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from garfast.errors import WeightsFileError
from garfast.networks.generator import Generator
from garfast.ops import RasterOutput


def check_draws_normals(generator: Generator) -> None:
    """See that a generator draws from normal maps.

    Raises:
        WeightsFileError: it does not.
    """
    config = generator.config
    if config.condition != "normal" or config.nim == "none":
        raise WeightsFileError(
            f"the renderer's weights are for the condition '{config.condition}' (nim '{config.nim}'): faces need one "
            "that takes normal maps"
        )


def sample_sizes(generator: Generator) -> list[int]:
    """The resolutions to rasterise for :func:`averaged_normals`: the generator's, and twice its last one."""
    resolutions = list(generator.config.resolutions)
    return [*resolutions, 2 * resolutions[-1]]


def averaged_normals(levels: Sequence[RasterOutput]) -> list[Tensor]:
    """The normal maps [B, 3, r, r] of all levels but the last; 0 where the middle of a pixel shows no face.

    Args:
        levels: each twice as large as the one before.
    """
    return [F.normalize(F.avg_pool2d(finer.normals, 2), dim=1) * level.mask for level, finer in pairwise(levels)]
