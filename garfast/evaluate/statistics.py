"""Means with their uncertainty, and tables of them as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError
from garfast.io.atomic import atomic_path

_RESAMPLES = 4000


@dataclass(frozen=True)
class Summary:
    """What N numbers say.

    Attributes:
        count: N.
        mean, median: of the numbers.
        std: their standard deviation (with N - 1), 0 for one number.
        low, high: 95% bootstrap interval of the mean (percentiles of the means of resamples).
    """

    count: int
    mean: float
    median: float
    std: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for JSON."""
        return asdict(self)


def summarise(values: Sequence[float] | NDArray[np.floating], *, seed: int = 0) -> Summary:
    """Summarise numbers; the same numbers and seed give the same interval.

    Raises:
        ArgumentError: there are none, or one is not finite.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ArgumentError("a summary needs at least one number, and all of them finite")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [numbers[rng.integers(len(numbers), size=(500, len(numbers)))].mean(1) for _ in range(_RESAMPLES // 500)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Summary(
        count=len(numbers),
        mean=float(numbers.mean()),
        median=float(np.median(numbers)),
        std=float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0,
        low=float(low),
        high=float(high),
    )


@dataclass(frozen=True)
class Comparison:
    """How a second row of measurements of the same things differs from a first.

    Attributes:
        difference: of ``second - first``; its interval excludes 0 where the difference is more than chance.
        better: share of the things for which the second is smaller.
    """

    difference: Summary
    better: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Comparison:
    """Compare paired measurements where smaller is better.

    Raises:
        ArgumentError: their numbers differ, there are none, or one is not finite.
    """
    if len(first) != len(second):
        raise ArgumentError(f"paired measurements must be as many, got {len(first)} and {len(second)}")
    difference = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    return Comparison(summarise(difference, seed=seed), float((difference < 0).mean()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns padded; the first is left-aligned, the others to the right."""
    table = [list(map(str, header)), *[list(map(str, row)) for row in rows]]
    widths = [max(3, *(len(row[k]) for row in table)) for k in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            text.ljust(width) if k == 0 else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [("-" * width if k == 0 else "-" * (width - 1) + ":") for k, width in enumerate(widths)]
    return "\n".join([line(table[0]), f"| {' | '.join(rule)} |", *map(line, table[1:])]) + "\n"


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> Path:
    """Write JSON whole or not at all; NaN and infinity become null.

    Raises:
        OutputError: it cannot be written.
    """
    return write_text(path, json.dumps(_plain(data), indent=1, ensure_ascii=False) + "\n")


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write a CSV file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return write_text(path, buffer.getvalue())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
