"""Smooth series and bridged gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from garfast.errors import ArgumentError
from garfast.fit.smoothing import penalty, smoothed, smoothed_rotations


def test_straight_lines_stay_and_noise_goes() -> None:
    time = np.arange(60.0)
    line = np.stack([2 * time - 5, -time], 1)
    np.testing.assert_allclose(smoothed(line, np.ones(60), 10.0), line, atol=1e-8)
    noise = np.random.default_rng(0).normal(size=(60, 2))
    rough, smooth = line + noise, smoothed(line + noise, np.ones(60), 10.0)
    assert np.diff(smooth - line, 2, axis=0).std() < 0.1 * np.diff(rough - line, 2, axis=0).std()
    assert np.abs(smooth - line).mean() < 0.6 * np.abs(noise).mean()


def test_solves_its_equation() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=(9, 1)), rng.uniform(0.5, 2, 9)
    second = np.diff(np.eye(9), 2, axis=0)
    expected = np.linalg.solve(np.diag(weights) + 3.0 * second.T @ second, weights[:, None] * values)
    np.testing.assert_allclose(smoothed(values, weights, 3.0), expected, atol=1e-9)


def test_passes_half_of_what_has_the_time_constant() -> None:
    fps, seconds = 50.0, 0.1
    frequency = 1 / (2 * np.pi * seconds)
    wave = np.sin(2 * np.pi * frequency * np.arange(2000) / fps)[:, None]
    out = smoothed(wave, np.ones(2000), penalty(seconds, fps))
    assert np.ptp(out[500:1500]) / 2 == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("strength", [0.0, 5.0])
def test_bridges_gaps_and_holds_the_ends(strength: float) -> None:
    values = np.arange(20.0)[:, None].copy()
    values[[0, 1, 8, 9, 10, 19]] = np.nan
    out = smoothed(values, np.isfinite(values[:, 0]).astype(float), strength)[:, 0]
    np.testing.assert_allclose(out[3:18], np.arange(3, 18), atol=0.1)
    assert out[0] == out[1] == out[2]
    assert out[19] == out[18]
    with pytest.raises(ArgumentError, match="without any known"):
        smoothed(np.full((3, 1), np.nan), np.zeros(3), 1.0)
    with pytest.raises(ArgumentError, match="seconds"):
        penalty(-1.0, 25)


def test_rotations_go_the_short_way() -> None:
    angles = np.linspace(150, 210, 31)  # passes 180 degrees, where quaternions change sides
    matrices = Rotation.from_euler("y", angles[:, None], degrees=True).as_matrix()
    matrices[10:14] = np.nan
    out = smoothed_rotations(matrices, np.ones(31), 1.0)
    back = Rotation.from_matrix(out).as_rotvec()[:, 1]
    np.testing.assert_allclose(np.rad2deg(np.unwrap(back)) % 360, angles, atol=0.3)
    np.testing.assert_allclose(out @ out.transpose(0, 2, 1), np.broadcast_to(np.eye(3), out.shape), atol=1e-9)


@pytest.mark.parametrize(("seconds", "fps"), [(-1, 25), (1000, 25), (math.nan, 25), (0.1, math.nan), (0.1, 0)])
def test_times_that_make_no_sense(seconds: float, fps: float) -> None:
    with pytest.raises(ArgumentError):
        penalty(seconds, fps)
