"""Smooth series: a quadratic penalty on the second differences, which bridges what is missing and delays nothing."""

from __future__ import annotations

import itertools
import math

import numpy as np

from garfast.errors import ArgumentError

# Weight of a sample that is missing: it only keeps the equations solvable.
_MISSING = 1e-4
# Seconds; beyond, the equations cannot be solved in double precision for long.
_LONGEST = 10.0


def penalty(seconds: float, fps: float) -> float:
    """The weight of the second differences that halves the power of motions whose time constant is ``seconds``.

    Whittaker's smoother passes ``1 / (1 + penalty (2 pi f / fps)^4)`` of a motion of frequency f; the time constant is
    1 / (2 pi f).

    Raises:
        ArgumentError: the time is negative or too long, or the frames a second are no positive number.
    """
    if not 0 <= seconds <= _LONGEST:
        raise ArgumentError(f"the smoothing time must be a number of seconds from 0 to {_LONGEST:g}, not {seconds}")
    if not 0 < fps < math.inf:
        raise ArgumentError(f"the frames a second must be a positive number, not {fps}")
    return (seconds * fps) ** 4


def smoothed(values: np.ndarray, weights: np.ndarray, strength: float) -> np.ndarray:
    """The minimum over x of ``sum_t w_t |x_t - y_t|^2 + strength sum_t |x_t-1 - 2 x_t + x_t+1|^2``.

    Args:
        values: [T, C]; NaN where missing.
        weights: [T] not negative, about 1; 0 where a frame is missing.
        strength: 0 only fills in what is missing, by straight lines.

    Returns:
        [T, C] float64.
    """
    from scipy.linalg import solveh_banded

    values = np.asarray(values, np.float64)
    count = len(values)
    known = (np.asarray(weights) > 0) & np.isfinite(values).all(1)
    if not known.any():
        raise ArgumentError("a series without any known sample cannot be smoothed")
    frames = np.arange(count)
    filled = np.stack([np.interp(frames, frames[known], column[known]) for column in values.T], 1)
    if strength == 0 or count < 3:
        return filled
    weight = np.where(known, weights, _MISSING)
    bands = np.zeros((3, count))  # upper diagonals of W + strength D^T D, as scipy wants them
    for offset, row in ((0, (1.0, 4.0, 1.0)), (1, (-2.0, -2.0)), (2, (1.0,))):
        for k, value in enumerate(row):
            bands[2 - offset, offset + k : count - 2 + offset + k] += strength * value
    bands[2] += weight
    smooth = solveh_banded(bands, weight[:, None] * filled)
    # Before the first known sample and after the last nobody knows where things go: they stay.
    first, last = np.nonzero(known)[0][[0, -1]]
    smooth[:first], smooth[last + 1 :] = smooth[first], smooth[last]
    return smooth


def smoothed_rotations(matrices: np.ndarray, weights: np.ndarray, strength: float) -> np.ndarray:
    """Rotation matrices [T, 3, 3], smoothed as unit quaternions; NaN where missing."""
    from scipy.spatial.transform import Rotation

    known = np.isfinite(matrices).all((1, 2))
    quaternions = np.full((len(matrices), 4), np.nan)
    quaternions[known] = Rotation.from_matrix(matrices[known]).as_quat()
    rows = np.nonzero(known)[0]
    for before, row in itertools.pairwise(rows):
        if quaternions[before] @ quaternions[row] < 0:  # the same rotation, on the other side of the sphere
            quaternions[row] *= -1
    smooth = smoothed(quaternions, np.where(known, weights, 0), strength)
    return Rotation.from_quat(smooth).as_matrix()
