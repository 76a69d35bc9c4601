"""Frechet distances between sets of pictures: what `garfast eval fid` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError, EvaluationError, GarfastWarning, ImageFileError
from garfast.evaluate.features import FeatureExtractor
from garfast.io.images import is_image, read_image
from garfast.networks.frechet import FeatureStatistics, frechet_distance

__all__ = ["BlockedStatistics", "FeatureStatistics", "extrapolated_distance", "folder_pictures", "frechet_distance"]

BLOCKS = 8


@dataclass(eq=False)
class BlockedStatistics:
    """Statistics of a set, and of its parts, from which the bias of a finite set can be told.

    Attributes:
        blocks: disjoint parts of the set, pictures dealt out in turn.
    """

    blocks: list[FeatureStatistics]

    @classmethod
    def empty(cls, label: str, blocks: int = BLOCKS) -> BlockedStatistics:
        """No pictures yet."""
        return cls([FeatureStatistics(label) for _ in range(blocks)])

    @property
    def count(self) -> int:
        """How many pictures."""
        return sum(block.count for block in self.blocks)

    def whole(self) -> FeatureStatistics:
        """Statistics of the whole set."""
        return self.blocks[0].merged(*self.blocks[1:])

    def update(self, features: Tensor) -> None:
        """Deal out features [N, D] to the blocks."""
        start, number = self.count, len(self.blocks)
        for k, block in enumerate(self.blocks):
            block.update(features[(k - start) % number :: number])


Side = BlockedStatistics | FeatureStatistics
"""One of two sets: pictures that were looked at, or statistics from a file."""


@dataclass(frozen=True)
class SetDistance:
    """How far two sets of pictures are from each other.

    Attributes:
        distance: the Frechet distance.
        extrapolated: what it would be with infinitely many pictures; None where there are too few to tell.
        first, second: how many pictures there were.
        features: what they were compared by.
        note: what a reader must know of that.
    """

    distance: float
    extrapolated: float | None
    first: int
    second: int
    features: str
    note: str


def set_distance(first: Side, second: Side, extractor: FeatureExtractor) -> SetDistance:
    """The distance of two sets; pictures beat statistics from a file where it comes to extrapolating.

    Raises:
        EvaluationError: they were compared by different features.
        ArgumentError: one of them has fewer than two pictures.
    """
    a, b = _whole(first), _whole(second)
    value = a.distance(b)
    blocked = [side for side in (second, first) if isinstance(side, BlockedStatistics)]
    extrapolated = None
    if blocked and min(side.count for side in blocked) >= max(1.5 * len(a.mean), 4 * BLOCKS):
        other = blocked[1] if len(blocked) == 2 else (a if blocked[0] is second else b)
        extrapolated = extrapolated_distance(blocked[0], other)
    return SetDistance(value, extrapolated, a.count, b.count, extractor.label, extractor.note)


def save_statistics(side: Side, path: str | os.PathLike[str]) -> None:
    """Keep a set's statistics in an .npz file.

    Raises:
        EvaluationError: the name ends otherwise.
        OutputError: it cannot be written.
    """
    if Path(path).suffix != ".npz":
        raise EvaluationError(f"statistics are kept in .npz files, but {path} was named")
    _whole(side).save(path)


def _whole(side: Side) -> FeatureStatistics:
    return side if isinstance(side, FeatureStatistics) else side.whole()


def gather(
    pictures: Iterable[Tensor], extractor: FeatureExtractor, *, blocks: int = BLOCKS, limit: int | None = None
) -> BlockedStatistics:
    """Statistics of pictures that arrive as uint8 [B, 3, H, W]; only one batch is held at a time.

    Raises:
        EvaluationError: there are fewer than two pictures.
    """
    out = BlockedStatistics.empty(extractor.label, blocks)
    for batch in pictures:
        out.update(extractor(batch if limit is None else batch[: limit - out.count]))
        if limit is not None and out.count >= limit:
            break
    if out.count < 2:
        raise EvaluationError(f"a distance between sets needs at least two pictures in each, got {out.count}")
    whole = len(out.blocks[0].mean)
    if out.count <= whole:
        warnings.warn(
            f"{out.count} pictures are fewer than the {whole} features they are compared by: the distance is far too "
            "large, use more pictures",
            GarfastWarning,
            stacklevel=2,
        )
    return out


def extrapolated_distance(first: BlockedStatistics, second: BlockedStatistics | FeatureStatistics) -> float:
    """The distance that infinitely many pictures would have (Chong and Forsyth, CVPR 2020).

    The distance of finite sets is too large by about a constant over their size. It is measured for parts of the sets
    of growing size, averaged over the choice of parts, and its line over 1 / N is followed to 0.

    Args:
        first: the set whose parts are taken.
        second: the other one; where it comes in blocks its parts grow alike, else it counts as infinitely large.

    Raises:
        ArgumentError: fewer than two blocks, or too few pictures in them.
    """
    number = len(first.blocks)
    if isinstance(second, BlockedStatistics):
        number = min(number, len(second.blocks))
    if number < 2 or min(block.count for block in first.blocks[:number]) < 2:
        raise ArgumentError("the distance of infinitely many pictures needs two blocks of at least two pictures")
    inverse, values = [], []
    # Below as many pictures as features the distance follows another law.
    each = min(block.count for block in first.blocks[:number])
    smallest = min(max(1, number // 4, -(-len(first.blocks[0].mean) // each)), number - 1)
    for take in range(smallest, number + 1):
        starts = range(0, number, take) if take < number else range(1)
        for start in starts:
            chosen = [(start + k) % number for k in range(take)]
            part = _merge(first, chosen)
            other = second if isinstance(second, FeatureStatistics) else _merge(second, chosen)
            inverse.append(1 / part.count)
            values.append(part.distance(other))
    _, level = np.polyfit(inverse, values, 1)
    return float(level)


def _merge(statistics: BlockedStatistics, chosen: list[int]) -> FeatureStatistics:
    parts = [statistics.blocks[k] for k in chosen]
    return parts[0].merged(*parts[1:])


def folder_pictures(folder: str | os.PathLike[str], size: int, batch: int = 32) -> Iterator[Tensor]:
    """The pictures of a folder and its subfolders, uint8 [B, 3, size, size]; a folder of portraits likewise.

    The middle square of each is brought to ``size``; files that cannot be read are passed over with a warning.

    Raises:
        EvaluationError: there is no picture.
    """
    root = Path(folder)
    if (root / "images.npy").is_file():
        yield from _portraits(root, size, batch)
        return
    if not root.is_dir():
        raise EvaluationError(f"{root} is neither a folder of pictures nor an .npz file of feature statistics")
    paths = sorted(p for p in root.rglob("*") if is_image(p))
    pending: list[Tensor] = []
    found = 0
    for path in paths:
        try:
            photo = read_image(path)
        except ImageFileError as error:
            warnings.warn(f"passed over: {error}", GarfastWarning, stacklevel=2)
            continue
        pending.append(square(torch.from_numpy(photo).permute(2, 0, 1), size))
        found += 1
        if len(pending) == batch:
            yield torch.stack(pending)
            pending = []
    if pending:
        yield torch.stack(pending)
    if not found:
        raise EvaluationError(f"there is no readable picture in {root}")


def square(picture: Tensor, size: int) -> Tensor:
    """The middle square of a picture uint8 [3, H, W], brought to uint8 [3, size, size]."""
    side = min(picture.shape[1:])
    top, left = ((extent - side) // 2 for extent in picture.shape[1:])
    cut = picture[:, top : top + side, left : left + side]
    if side == size:
        return cut
    image = functional.interpolate(
        cut[None].float(), (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return image[0].round().clamp(0, 255).to(torch.uint8)


def _portraits(root: Path, size: int, batch: int) -> Iterator[Tensor]:
    from garfast.train.portraits import Portraits

    portraits = Portraits(root)
    for start in range(0, portraits.count, batch):
        images = portraits.take(range(start, min(start + batch, portraits.count)))
        yield torch.stack([square(image, size) for image in images])


def same_features(statistics: FeatureStatistics, extractor: FeatureExtractor) -> FeatureStatistics:
    """Statistics from a file as features of an extractor: those without a label are taken for its own.

    Raises:
        EvaluationError: they are of other features.
    """
    if statistics.label in ("", extractor.label):
        out = FeatureStatistics(extractor.label)
        out.count, out.mean, out.scatter = statistics.count, statistics.mean, statistics.scatter
        return out
    raise EvaluationError(
        f"the statistics were made with '{statistics.label}', but the pictures are compared by '{extractor.label}'"
    )
