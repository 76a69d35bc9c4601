"""Noise that is the same for every seed: a tiling bank for the shaders and smooth fields over points."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from garfast.synth.dice import Dice

_SIZE = 64
_WHITE = 1 << 20
_CELLS = 5.0  # cells per feature; csrc/include/garfast/synth_noise.h divides by the same number


@lru_cache(maxsize=1)
def noise_bank() -> NDArray[np.int8]:
    """[64, 64, 65, 4] int8: band-limited noise that tiles, and its gradient; 127 is 1 (two standard deviations).

    The last layer along the third axis repeats the first, so that neighbours along it always lie side by side.
    """
    rng = np.random.default_rng(20210621)
    spectrum = np.fft.fftn(rng.standard_normal((_SIZE,) * 3))
    frequency = np.fft.fftfreq(_SIZE)
    grid = np.meshgrid(frequency, frequency, frequency, indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid))
    spectrum *= np.exp(-0.5 * ((radius * _CELLS - 0.6) / 0.22) ** 2)
    value = np.fft.ifftn(spectrum).real
    layers = [value] + [np.fft.ifftn(spectrum * 2j * np.pi * axis).real for axis in grid]
    scaled = [layer / layer.std() * 0.5 for layer in layers]
    bank = (np.clip(np.stack(scaled, -1), -1, 1) * 127).astype(np.int8)
    return np.ascontiguousarray(np.concatenate([bank, bank[:, :, :1]], 2))


@lru_cache(maxsize=1)
def noise_corners() -> NDArray[np.int8]:
    """[64, 64, 64, 4] int8: the bank's values at (y, z), (y, z + 1), (y + 1, z) and (y + 1, z + 1)."""
    value = noise_bank()[:, :, :-1, 0]
    below = np.roll(value, -1, 1)
    return np.stack([value, np.roll(value, -1, 2), below, np.roll(below, -1, 2)], -1)


def white_noise(rng: Dice, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise, [*shape], to be read alone: a random stretch of a million numbers drawn once."""
    count = math.prod(shape)
    if count > _WHITE // 4:
        return rng.standard_normal(shape, np.float32)
    start = rng.below(_WHITE - count)
    return _white()[start : start + count].reshape(shape)


@lru_cache(maxsize=1)
def _white() -> NDArray[np.float32]:
    return np.random.default_rng(20210625).standard_normal(_WHITE, np.float32)


def smooth_fields(points: NDArray[np.floating], size: float, count: int, seed: int) -> NDArray[np.float32]:
    """``count`` smooth random fields over points, about normal with standard deviation 1.

    Args:
        points: [N, D] places, mm.
        size: the fields' typical feature size, mm.

    Returns:
        float32 [count, N].
    """
    rng = np.random.default_rng(seed)
    waves = 24
    out = np.empty((count, len(points)), np.float32)
    places = points.astype(np.float32)  # a cosine of it takes a fifth of the time
    for field in out:
        vectors = (rng.standard_normal((waves, points.shape[1])) * (1.6 / size)).astype(np.float32)
        phases = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
        field[:] = np.cos(places @ vectors.T + phases).sum(1) * np.sqrt(2 / waves)
    return out
