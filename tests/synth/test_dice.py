"""Streams of random numbers: repeatable, independent, spread as they say."""

from __future__ import annotations

import numpy as np

from garfast.synth.dice import Dice


def test_streams_of_one_seed_repeat_and_differ():
    first, again = (Dice.several([3, 5], 4) for _ in range(2))
    other = Dice.several([3, 6], 4)
    numbers = [dice.random() for dice in first]
    assert numbers == [dice.random() for dice in again]
    assert len({*numbers, *(dice.random() for dice in other)}) == 8


def test_streams_are_independent():
    rows = np.stack([dice.standard_normal(20_000) for dice in Dice.several([1, 2], 10)])
    off_diagonal = np.corrcoef(rows) - np.eye(10)
    assert np.abs(off_diagonal).max() < 0.04


def test_numbers_are_spread_as_they_say():
    dice = Dice(0)
    uniform = np.array([dice.uniform(-2, 6) for _ in range(4000)])
    assert uniform.min() >= -2
    assert uniform.max() < 6
    assert abs(uniform.mean() - 2) < 0.15
    normal = dice.normal(1.0, np.array([0.5, 2.0]), (4000, 2))
    np.testing.assert_allclose(normal.mean(0), 1, atol=0.15)
    np.testing.assert_allclose(normal.std(0), [0.5, 2.0], rtol=0.1)
    logs = np.log([dice.log_uniform(0.1, 10) for _ in range(4000)])
    assert abs(logs.mean()) < 0.1
    shares = np.bincount([dice.pick([0.5, 0.0, 1.5]) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.25, 0, 0.75], atol=0.03)
    assert {dice.below(3) for _ in range(100)} == {0, 1, 2}
    assert {dice.choice("ab") for _ in range(100)} == {"a", "b"}
