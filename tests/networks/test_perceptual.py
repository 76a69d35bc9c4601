from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError, WeightsFileError
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet, Vgg16Features, load_perceptual
from garfast.networks.renderer import load_network
from garfast.networks.weights import save_weights

SMALL = PerceptualConfig(size=32, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1))


def test_distance_grows_with_the_difference():
    network = PerceptualNet(SMALL).eval()
    a, change = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    assert network.distance(a, a).abs().max() == 0
    near, far = network.distance(a, a + 0.02 * change), network.distance(a, a + 0.3 * change)
    assert (far > near).all()
    assert (near > 0).all()
    torch.testing.assert_close(near, network.distance(a + 0.02 * change, a))
    assert near.shape == (2,)


def test_features_have_unit_length_and_larger_pictures_are_seen_at_halves():
    network = PerceptualNet(SMALL).eval()
    with torch.no_grad():
        assert [m.shape[-1] for m in network.features(torch.rand(1, 3, 32, 32))] == [16, 8, 4, 2]
        maps = network.features(torch.rand(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 16, 8, 4, 2]
    length = maps[0].norm(dim=1)
    torch.testing.assert_close(length[length > 0.5], torch.ones_like(length[length > 0.5]), atol=1e-3, rtol=0)
    with pytest.raises(ArgumentError, match="sides multiples of 16"):
        network.features(torch.rand(1, 3, 40, 40))


def test_distance_of_known_features():
    network = PerceptualNet(SMALL)
    network.channel_weights_0.copy_(torch.arange(8.0))
    a = [torch.zeros(1, c, 2, 2) for c in (8, 8, 16, 16)]
    b = [m.clone() for m in a]
    b[0][:, 3, 0, 0] = 1  # weight 3, one pixel of four
    b[2][:, 5] = 0.5  # weight 1, every pixel
    assert float(network.compare(a, b)) == pytest.approx(0.75 + 0.25)
    assert float(network.compare(a * 2, b * 2)) == pytest.approx(1.0)


def test_gradient_reaches_the_picture_without_infinities():
    network = PerceptualNet(SMALL).eval()
    flat = torch.full((1, 3, 32, 32), 0.3, requires_grad=True)
    network.distance(flat, torch.rand(1, 3, 32, 32)).sum().backward()
    assert flat.grad.isfinite().all()
    assert flat.grad.abs().sum() > 0


def test_own_weights_come_back(tmp_path):
    network = PerceptualNet(SMALL).eval()
    save_weights(tmp_path / "p.safetensors", network, kind="perceptual", config=SMALL.to_dict(), half=False)
    a, b = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_perceptual(tmp_path / "p.safetensors").distance(a, b), network.distance(a, b))
    torch.testing.assert_close(load_network(tmp_path / "p.safetensors", "perceptual")(a, b), network(a, b))


@pytest.fixture(scope="module")
def vgg_state() -> dict[str, torch.Tensor]:
    """Names and shapes of torchvision's VGG16."""
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
    shapes |= {17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}
    torch.manual_seed(0)
    state = {}
    for position, (out, inner) in shapes.items():
        state[f"features.{position}.weight"] = torch.randn(out, inner, 1, 1).mul(0.05).repeat(1, 1, 3, 3)
        state[f"features.{position}.bias"] = torch.zeros(out)
    return state


def test_vgg_weights_of_a_user_fit(tmp_path, vgg_state):
    path = tmp_path / "vgg16.pth"
    torch.save({**vgg_state, "classifier.6.bias": torch.zeros(1000)}, path)
    network = load_perceptual(path)
    assert isinstance(network.backbone, Vgg16Features)
    torch.testing.assert_close(network.backbone.features["28"].weight, vgg_state["features.28.weight"])
    with torch.no_grad():
        maps = network.backbone(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]


def test_lpips_layers_weigh_the_channels(tmp_path, vgg_state):
    linear = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate((64, 128, 256, 512, 512))}
    torch.save(linear, tmp_path / "lin.pth")
    torch.save(vgg_state, tmp_path / "vgg16.pth")
    apart = load_perceptual(tmp_path / "vgg16.pth", lpips=tmp_path / "lin.pth")
    torch.testing.assert_close(apart.channel_weights[2], linear["lin2.model.1.weight"].flatten())
    slices = {0: 1, 2: 1, 5: 2, 7: 2, 10: 3, 12: 3, 14: 3, 17: 4, 19: 4, 21: 4, 24: 5, 26: 5, 28: 5}
    whole = {
        f"net.slice{slices[int(name.split('.')[1])]}.{name.removeprefix('features.')}": value
        for name, value in vgg_state.items()
    }
    torch.save({**whole, **linear}, tmp_path / "lpips.pth")
    joint = load_perceptual(tmp_path / "lpips.pth")
    for name, value in apart.state_dict().items():
        assert torch.equal(value, joint.state_dict()[name]), name


def test_other_files_are_refused(tmp_path, vgg_state):
    with pytest.raises(WeightsFileError, match="there is no weight file"):
        load_perceptual(tmp_path / "none.pth")
    short = {name: value for name, value in vgg_state.items() if name != "features.10.bias"}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(WeightsFileError, match=r"lacks 'features.10.bias'"):
        load_perceptual(tmp_path / "short.pth")
    torch.save({**vgg_state, "features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "gray.pth")
    with pytest.raises(WeightsFileError, match=r"has shape \[64, 1, 3, 3\]"):
        load_perceptual(tmp_path / "gray.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(WeightsFileError, match="holds no tensors alone"):
        load_perceptual(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsFileError, match="no state dictionary"):
        load_perceptual(tmp_path / "list.pth")
