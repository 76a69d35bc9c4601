from __future__ import annotations

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError, EvaluationError
from garfast.networks.frechet import FeatureStatistics, frechet_distance


def _covariance(size: int, seed: int, rank: int | None = None) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, rank or size))
    return root @ root.T / size


def test_gaussians_in_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    assert frechet_distance([1.0], [[4.0]], [4.0], [[25.0]]) == pytest.approx(9 + 9)


def test_commuting_covariances():
    """The sum of the squared differences of the standard deviations along the common axes."""
    a, b = np.array([1.0, 4, 9, 0]), np.array([4.0, 4, 0, 0])
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum() + 4 * 0.25
    mean = np.full(4, 0.5)
    found = frechet_distance(np.zeros(4), turn @ np.diag(a) @ turn.T, mean, turn @ np.diag(b) @ turn.T)
    assert found == pytest.approx(expected)


def test_general_covariances_agree_with_the_matrix_root():
    from scipy.linalg import sqrtm

    c1, c2 = _covariance(24, 0), _covariance(24, 1)
    expected = np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(np.zeros(24), c1, np.zeros(24), c2) == pytest.approx(expected, rel=1e-6)
    tensors = [torch.from_numpy(value) for value in (np.zeros(24), c1, np.zeros(24), c2)]
    assert frechet_distance(*tensors) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rank", [1, 5, 30])
def test_it_is_zero_for_equals_and_symmetric_even_where_singular(rank):
    c1, c2 = _covariance(30, 2, rank), _covariance(30, 3, 30)
    assert frechet_distance(np.ones(30), c1, np.ones(30), c1) == pytest.approx(0, abs=1e-6)
    there, back = (
        frechet_distance(np.zeros(30), c1, np.ones(30), c2),
        frechet_distance(np.ones(30), c2, np.zeros(30), c1),
    )
    assert there == pytest.approx(back)
    assert there > 30


def test_batches_give_what_all_at_once_gives():
    features = np.random.default_rng(4).normal(1e4, 1, (57, 6)) * np.arange(1, 7)
    statistics = FeatureStatistics("x")
    for part in np.split(features, [1, 2, 20, 20, 50]):
        statistics.update(torch.from_numpy(part))
    np.testing.assert_allclose(statistics.mean, features.mean(0))
    np.testing.assert_allclose(statistics.covariance, np.cov(features.T), rtol=1e-9, atol=1e-9)
    first, second = FeatureStatistics("x"), FeatureStatistics("x")
    first.update(features[:30])
    second.update(features[30:])
    np.testing.assert_allclose(first.merged(second).covariance, statistics.covariance)
    assert first.count == 30


def test_files_come_back(tmp_path):
    statistics = FeatureStatistics("perceptual")
    statistics.update(np.random.default_rng(5).normal(size=(20, 4)))
    statistics.save(tmp_path / "s.npz")
    again = FeatureStatistics.load(tmp_path / "s.npz")
    assert (again.label, again.count) == ("perceptual", 20)
    assert again.distance(statistics) == pytest.approx(0, abs=1e-9)
    np.savez(tmp_path / "other.npz", mu=statistics.mean, sigma=statistics.covariance)
    np.testing.assert_allclose(FeatureStatistics.load(tmp_path / "other.npz").covariance, statistics.covariance)


def test_what_makes_no_sense_is_said(tmp_path):
    with pytest.raises(ArgumentError, match="covariances"):
        frechet_distance(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(ArgumentError, match="finite"):
        frechet_distance([np.nan], [[1.0]], [0.0], [[1.0]])
    statistics = FeatureStatistics("a")
    statistics.update(np.zeros((1, 3)))
    with pytest.raises(ArgumentError, match="at least two"):
        _ = statistics.covariance
    with pytest.raises(ArgumentError, match=r"\[N, 3\]"):
        statistics.update(np.zeros((2, 4)))
    with pytest.raises(ArgumentError, match="NaN"):
        statistics.update(np.full((2, 3), np.nan))
    other = FeatureStatistics("b")
    other.update(np.zeros((2, 3)))
    with pytest.raises(EvaluationError, match="different features"):
        statistics.distance(other)
    with pytest.raises(ArgumentError, match="different features"):
        statistics.merged(other)
    for name, content in (("torn.npz", b"PK\x03\x04 torn"), ("text.npz", b"hello"), ("missing.npz", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(EvaluationError, match="no readable"):
            FeatureStatistics.load(tmp_path / name)
    np.savez(tmp_path / "else.npz", x=np.zeros(3))
    with pytest.raises(EvaluationError, match="holds no feature statistics"):
        FeatureStatistics.load(tmp_path / "else.npz")
