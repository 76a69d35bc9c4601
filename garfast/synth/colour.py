"""Colours of people and things, as linear RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from garfast.synth.dice import Dice
from garfast.synth.quick import limited

Floats = NDArray[np.float32]

# Skin of Fitzpatrick types I to VI in even light, sRGB.
_SKIN = np.array(
    [[243, 208, 190], [232, 188, 163], [211, 163, 133], [174, 124, 94], [122, 82, 61], [72, 48, 38]], np.float64
)
_SKIN_SPREAD = np.array([0.012, 0.02, 0.03])
# sRGB of black, dark brown, brown, light brown, blond, light blond, auburn, red, grey and white hair.
_HAIR = np.array(
    [
        [20, 17, 16],
        [42, 30, 24],
        [72, 50, 36],
        [112, 80, 54],
        [168, 130, 84],
        [206, 174, 126],
        [96, 46, 28],
        [150, 76, 40],
        [128, 126, 124],
        [214, 210, 204],
    ],
    np.float64,
)
_HAIR_SHARE_FAIR = np.array([0.12, 0.18, 0.2, 0.14, 0.11, 0.07, 0.05, 0.04, 0.06, 0.03])
_HAIR_SHARE_DARK = np.array([0.52, 0.26, 0.07, 0.02, 0.01, 0.01, 0.02, 0.01, 0.05, 0.03])
# sRGB of brown, dark brown, hazel, green, blue and grey irises.
_IRIS = np.array(
    [[84, 52, 30], [50, 32, 22], [112, 88, 50], [96, 108, 70], [92, 122, 150], [118, 128, 134]], np.float64
)
_IRIS_SHARE_FAIR = np.array([0.25, 0.15, 0.16, 0.12, 0.2, 0.12])
_IRIS_SHARE_DARK = np.array([0.38, 0.55, 0.04, 0.01, 0.01, 0.01])


def to_linear(srgb: NDArray[np.floating]) -> Floats:
    """Linear 0..1 of sRGB values 0..255."""
    if np.size(srgb) == 3:  # in a fifth of the time
        return np.array([_linear(value / 255) for value in srgb.tolist()], np.float32)
    value = limited(np.asarray(srgb, np.float64) / 255, 0, 1)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _linear(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def from_linear(light: NDArray[np.floating]) -> Floats:
    """sRGB values 0..1 of linear light 0..1."""
    value = np.asarray(light, np.float64)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055).astype(np.float32)


def skin_colour(rng: Dice, tone: float) -> Floats:
    """[3] skin albedo; ``tone`` runs evenly from type I (0) to type VI (1)."""
    place = tone * (len(_SKIN) - 1)
    below = min(int(place), len(_SKIN) - 2)
    colour = _SKIN[below] + (place - below) * (_SKIN[below + 1] - _SKIN[below])
    colour = colour * (rng.uniform(0.93, 1.06) * np.exp(rng.normal(0, _SKIN_SPREAD, 3)))
    return to_linear(limited(colour, 20, 250))


def hair_colour(rng: Dice, tone: float) -> Floats:
    """[3] hair albedo, dark more often the darker the skin; rarely dyed."""
    if rng.random() < 0.02:
        return to_linear(rng.uniform(20, 220, 3))
    share = _HAIR_SHARE_FAIR + (_HAIR_SHARE_DARK - _HAIR_SHARE_FAIR) * min(max(tone * 1.4 - 0.1, 0), 1)
    colour = _HAIR[rng.pick(share)]
    return to_linear(limited(colour * rng.uniform(0.75, 1.25) * np.exp(rng.normal(0, 0.04, 3)), 6, 240))


def iris_colour(rng: Dice, tone: float) -> Floats:
    """[3] iris albedo, brown more often the darker the skin."""
    share = _IRIS_SHARE_FAIR + (_IRIS_SHARE_DARK - _IRIS_SHARE_FAIR) * min(max(tone * 1.6 - 0.2, 0), 1)
    colour = _IRIS[rng.pick(share)]
    return to_linear(limited(colour * rng.uniform(0.7, 1.25), 8, 220))


def cloth_colour(rng: Dice) -> Floats:
    """[3] albedo of cloth: often grey, dark or pale, sometimes strong."""
    if rng.random() < 0.5:
        return to_linear(limited(rng.uniform(12, 245) * np.exp(rng.normal(0, 0.06, 3)), 5, 245))
    return to_linear(rng.uniform(10, 235, 3))
