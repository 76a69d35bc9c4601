from __future__ import annotations

import pytest
import torch

from garfast.networks.face_finder import FaceFinder, FaceFinderConfig
from garfast.networks.landmark_net import NUM_POINTS, LandmarkNet, LandmarkNetConfig, find_landmarks, soft_argmax


def test_soft_argmax_finds_a_peak_between_cells():
    x = (torch.arange(16) + 0.5) / 16
    logits = -(((x[None] - 0.4) ** 2 + (x[:, None] - 0.7) ** 2) / (2 * 0.05**2))
    points, width = soft_argmax(logits[None, None])
    assert torch.allclose(points[0, 0], torch.tensor([0.4, 0.7]), atol=1e-3)
    assert width.item() == pytest.approx(0.05 * 2**0.5, rel=0.02)


def test_landmark_net_shapes_and_size():
    net = LandmarkNet().eval()
    assert sum(p.numel() for p in net.parameters()) <= 3_000_000
    for size in (64, 112):
        out = net(torch.zeros(2, 3, size, size))
        assert out.points.shape == (2, NUM_POINTS, 2)
        assert out.spread.shape == (2, NUM_POINTS)
        assert out.heatmaps.shape == (2, NUM_POINTS, size // 4, size // 4)
        assert out.face.shape == (2,)
        assert (out.points > 0).all()
        assert (out.points < 1).all()
        assert (out.spread > 0).all()


def test_gradients_of_the_points_reach_the_image_and_those_of_the_spread_do_not():
    net = LandmarkNet(LandmarkNetConfig(widths=(4, 4, 4, 4))).eval()
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    out = net(image)
    out.points.sum().backward(retain_graph=True)
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    (own,) = torch.autograd.grad(out.spread.sum(), image, allow_unused=True)
    assert own is None


def test_points_are_made_in_full_precision_under_autocast():
    network = LandmarkNet(LandmarkNetConfig(size=32, widths=(4, 8, 8, 8))).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    points, _ = soft_argmax(found.heatmaps)
    assert found.points.dtype == torch.float32
    torch.testing.assert_close(found.points, points, rtol=0, atol=0)


def test_configurations_survive_a_dictionary():
    config = LandmarkNetConfig(size=80, widths=(8, 8, 16, 16))
    assert LandmarkNetConfig.from_dict(config.to_dict()) == config
    finder = FaceFinderConfig(widths=(8, 8, 8), smallest=10, largest=40)
    assert FaceFinderConfig.from_dict(finder.to_dict()) == finder


def test_face_finder_shapes():
    out = FaceFinder().eval()(torch.zeros(2, 3, 64, 96))
    assert out.score.shape == out.side.shape == (2, 8, 12)
    assert out.offset.shape == (2, 2, 8, 12)
    assert (out.side > 0).all()


def test_landmarks_of_crops_come_back_to_the_picture():
    """A network that always answers the crop's middle gives the box's middle."""

    class Middle(LandmarkNet):
        def forward(self, crops):
            return super().forward(crops)._replace(points=torch.full((len(crops), 85, 2), 0.5))

    boxes = torch.tensor([[0.2, 0.3, 0.6, 0.9], [0.1, 0.1, 0.3, 0.2]])
    found = find_landmarks(Middle(LandmarkNetConfig(size=32, widths=(4, 4, 8, 8))), torch.zeros(2, 3, 32, 32), boxes)
    torch.testing.assert_close(found[:, 0], torch.tensor([[0.4, 0.6], [0.2, 0.15]]))
