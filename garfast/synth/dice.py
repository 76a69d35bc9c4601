"""Random numbers one at a time, for a fraction of what numpy's generator takes for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

T = TypeVar("T")


class Dice:
    """A stream of random numbers.

    Args:
        seed: two streams of one seed are equal; or the generator to take the numbers from.
    """

    __slots__ = ("random", "standard_normal")

    def __init__(self, seed: int | np.random.BitGenerator | np.random.Generator) -> None:
        generator = np.random.default_rng(seed)
        self.random = generator.random
        self.standard_normal = generator.standard_normal

    @classmethod
    def several(cls, seed: Sequence[int], count: int) -> list[Dice]:
        """Independent streams of one seed."""
        words = np.random.SeedSequence(seed).generate_state(_Words.COUNT * count, np.uint64)
        # A fifth of the time that seed sequences of their own would take.
        return [cls(np.random.PCG64(_Words(part))) for part in words.reshape(count, -1)]  # type: ignore[arg-type]

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | tuple[int, ...] | None = None) -> Any:
        """From ``low`` to ``high``: one number, or an array of ``size``."""
        return low + (high - low) * self.random(size)

    def log_uniform(self, low: float, high: float) -> float:
        """A positive number whose logarithm is uniform."""
        return float(low * (high / low) ** self.random())

    def normal(
        self, mean: float = 0.0, spread: float | NDArray[np.floating] = 1.0, size: int | tuple[int, ...] | None = None
    ) -> Any:
        """About ``mean`` with a standard deviation of ``spread``: one number, or an array of ``size``."""
        return mean + spread * self.standard_normal(size)

    def below(self, count: int) -> int:
        """0 .. count - 1."""
        return int(self.random() * count)

    def choice(self, options: Sequence[T]) -> T:
        """One of several."""
        return options[self.below(len(options))]

    def pick(self, shares: Sequence[float] | NDArray[np.floating]) -> int:
        """An index, with probabilities in proportion to ``shares``."""
        left = self.random() * sum(shares)
        for index, share in enumerate(shares):
            left -= share
            if left < 0:
                return index
        return len(shares) - 1


class _Words(ISeedSequence):
    """What PCG64 asks of a seed: well-mixed words."""

    COUNT = 4

    def __init__(self, words: NDArray) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray:
        return self.words
