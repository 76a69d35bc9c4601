from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from garfast.errors import EvaluationError, GarfastWarning, WeightsFileError
from garfast.evaluate.features import FeatureExtractor, inception_features
from garfast.evaluate.fid import (
    BlockedStatistics,
    extrapolated_distance,
    folder_pictures,
    gather,
    same_features,
    save_statistics,
    set_distance,
    square,
)
from garfast.networks.frechet import FeatureStatistics


def _gaussian(seed: int, count: int, shift: float = 0.0, size: int = 12) -> BlockedStatistics:
    out = BlockedStatistics.empty("gaussian")
    rng = np.random.default_rng(seed)
    for start in range(0, count, 37):
        out.update(torch.from_numpy(rng.normal(shift, 1, (min(37, count - start), size))))
    return out


COLOUR = FeatureExtractor("mean colour", "for tests", lambda images: images.mean((2, 3)))


def test_blocks_deal_out_everything_once():
    statistics = _gaussian(0, 100)
    assert statistics.count == 100
    assert sorted(block.count for block in statistics.blocks) == [12] * 4 + [13] * 4
    whole = np.random.default_rng(0)
    features = np.concatenate([whole.normal(0, 1, (n, 12)) for n in (37, 37, 26)])
    np.testing.assert_allclose(statistics.whole().mean, features.mean(0))
    np.testing.assert_allclose(statistics.whole().covariance, np.cov(features.T))


def test_extrapolation_removes_most_of_the_bias_of_finite_sets():
    """True distance 12 * 0.25 = 3; two finite sets of one distribution have a distance of 0 but measure more."""
    first, second = _gaussian(1, 800), _gaussian(2, 800)
    assert abs(extrapolated_distance(first, second)) < 0.5 * first.whole().distance(second.whole())
    moved = _gaussian(3, 800, shift=0.5)
    assert extrapolated_distance(first, moved) == pytest.approx(3, abs=0.25)
    result = set_distance(first, moved.whole(), COLOUR)
    assert (result.first, result.second) == (800, 800)
    assert result.extrapolated is not None
    assert set_distance(_gaussian(1, 20), second, COLOUR).extrapolated is None


def test_pictures_of_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "inner").mkdir()
    for k in range(5):
        picture = np.full((20, 30, 3), 40 * k, np.uint8)
        picture[:, :5] = picture[:, 25:] = rng.integers(0, 255, 3)  # off the middle square
        Image.fromarray(picture).save(tmp_path / ("inner" if k % 2 else ".") / f"{k}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.warns(GarfastWarning, match="passed over"):
        batches = list(folder_pictures(tmp_path, 8, batch=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    values = sorted(int(picture.float().mean()) for batch in batches for picture in batch)
    assert values == [0, 40, 80, 120, 160]
    assert batches[0].shape == (2, 3, 8, 8)
    with pytest.raises(EvaluationError, match="neither a folder"):
        list(folder_pictures(tmp_path / "nowhere", 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="no readable picture"):
        list(folder_pictures(tmp_path / "empty", 8))


def test_sets_of_colours_have_the_distance_of_their_means(tmp_path):
    """Colours spread alike around two means: the covariances cancel."""
    spread = torch.randint(0, 60, (40, 3, 1, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    one, other = (spread + shift for shift in (20, 50))
    pictures = [side.expand(-1, -1, 4, 4) for side in (one, other)]
    first, second = (gather([side], COLOUR) for side in pictures)
    assert set_distance(first, second, COLOUR).distance == pytest.approx(3 * 30**2)
    assert gather([pictures[0], pictures[1]], COLOUR, limit=55).count == 55
    save_statistics(first, tmp_path / "s.npz")
    again = same_features(FeatureStatistics.load(tmp_path / "s.npz"), COLOUR)
    assert set_distance(again, second, COLOUR).distance == pytest.approx(3 * 30**2)
    with pytest.raises(EvaluationError, match=r"\.npz"):
        save_statistics(first, tmp_path / "s.json")
    with pytest.raises(EvaluationError, match="compared by 'other'"):
        same_features(again, FeatureExtractor("other", "", lambda images: images))


def test_too_few_pictures_are_said():
    pictures = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(EvaluationError, match="at least two"):
        gather([pictures], COLOUR)
    with pytest.warns(GarfastWarning, match="fewer than the 3 features"):
        gather([pictures.repeat(3, 1, 1, 1)], COLOUR)


def test_the_middle_square():
    picture = torch.arange(24, dtype=torch.uint8).view(1, 4, 6).repeat(3, 1, 1)
    assert torch.equal(square(picture, 4), picture[:, :, 1:5])
    assert square(picture, 2).shape == (3, 2, 2)


class _Stylegan(torch.nn.Module):
    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        out = images.mean((2, 3))
        return out if return_features else out.sum(1, keepdim=True)


class _Torchvision(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 299
        return images.mean((2, 3))


def test_inception_files_of_both_kinds(tmp_path):
    pictures = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    torch.jit.script(_Stylegan()).save(str(tmp_path / "stylegan.pt"))
    extractor = inception_features(tmp_path / "stylegan.pt")
    torch.testing.assert_close(extractor(pictures), pictures.float().mean((2, 3)))
    assert extractor.note == "InceptionV3 FID"
    torch.jit.script(_Torchvision()).save(str(tmp_path / "torchvision.pt"))
    extractor = inception_features(tmp_path / "torchvision.pt")
    assert extractor(pictures).shape == (2, 3)
    assert extractor(torch.full((2, 3, 32, 32), 255, dtype=torch.uint8))[0, 0] == pytest.approx((1 - 0.485) / 0.229)
    assert "not comparable" in extractor.note
    with pytest.raises(WeightsFileError, match="there is no InceptionV3 file"):
        inception_features(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(WeightsFileError, match="no TorchScript file"):
        inception_features(tmp_path / "text.pt")


def test_a_network_that_takes_no_such_pictures_is_said():
    extractor = FeatureExtractor("broken", "", lambda images: images.reshape(7))
    with pytest.raises(EvaluationError, match="'broken' cannot take pictures"):
        extractor(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    extractor = FeatureExtractor("flat", "", lambda images: images.sum())
    with pytest.raises(EvaluationError, match="gives no features"):
        extractor(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
