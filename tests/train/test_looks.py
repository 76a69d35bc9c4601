from __future__ import annotations

import pytest
import torch

from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.train.looks import looks_metric


def _linear(matrix: torch.Tensor):
    """A renderer of 16x16 pictures that is linear in three style numbers."""

    def draw(number: int):
        random = torch.Generator().manual_seed(number)
        styles = torch.randn(64, 3, generator=random) * torch.tensor([1.0, 2.0, 0.5]) + 1
        return styles, lambda w: (w @ matrix.T).view(-1, 3, 16, 16)

    return draw


def test_for_a_linear_renderer_it_is_the_squared_jacobian():
    torch.manual_seed(0)
    matrix = torch.randn(3 * 16 * 16, 3) * torch.tensor([1.0, 0.3, 0.0])
    metric = looks_metric(_linear(matrix), 60, torch.ones(3), None, torch.Generator().manual_seed(1))
    torch.testing.assert_close(metric, metric.T)
    true = matrix.T @ matrix
    spread = torch.tensor([1.0, 4.0, 0.25])
    true = 0.95 * true / (true.diagonal() * spread).sum() + 0.05 * torch.eye(3) / spread.sum()
    # 7680 probes: a share of sqrt(2 / 7680) of the largest entries is left to chance.
    torch.testing.assert_close(metric, true, atol=5 * (2 / 7680) ** 0.5 * float(true.max()), rtol=0)


def test_random_styles_are_one_from_the_mean_also_with_features():
    torch.manual_seed(0)
    network = PerceptualNet(PerceptualConfig(size=16, widths=(4, 4, 4, 4), depths=(0, 0, 0, 0))).eval()
    draw = _linear(0.1 * torch.randn(3 * 16 * 16, 3))
    metric = looks_metric(draw, 8, torch.ones(3), network, torch.Generator().manual_seed(1))
    offsets = torch.cat([draw(number)[0] for number in range(8)]) - 1
    assert float((offsets @ metric * offsets).sum(1).mean()) == pytest.approx(1, rel=1e-3)
    assert float(torch.linalg.eigvalsh(metric).min()) > 0
