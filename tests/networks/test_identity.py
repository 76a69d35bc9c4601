from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError, WeightsFileError
from garfast.networks.identity import ForeignIdentity, IdentityConfig, IdentityNet, fit_size, load_identity
from garfast.networks.renderer import load_network
from garfast.networks.weights import save_weights
from garfast.train.gar.task import Teachers

SMALL = IdentityConfig(size=32, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), embedding=12)


def test_embeddings_have_unit_length_and_a_gradient():
    network = IdentityNet(SMALL).eval()
    image = torch.rand(3, 3, 64, 64).mul(2).sub(1).requires_grad_()
    embedding = network(image)
    assert embedding.shape == (3, 12)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    (gradient,) = torch.autograd.grad(embedding[:, 0].sum(), image)
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    assert [list(m.shape[1:]) for m in network.features(image)] == [[8, 16, 16], [8, 8, 8], [16, 4, 4], [16, 2, 2]]


def test_larger_pictures_are_made_smaller_first():
    network = IdentityNet(SMALL).eval()
    image = torch.rand(2, 3, 32, 32)
    large = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(network(large), network(image))
    assert fit_size(torch.rand(1, 3, 48, 48), 32).shape == (1, 3, 32, 32)
    with pytest.raises(ArgumentError, match=r"shape \[B, 3, S, S\]"):
        network(torch.rand(1, 3, 32, 48))


def test_weights_come_back(tmp_path):
    network = IdentityNet(SMALL).eval()
    save_weights(tmp_path / "f.safetensors", network, kind="identity", config=SMALL.to_dict(), half=False)
    again = load_identity(tmp_path / "f.safetensors")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(image), network(image))
    torch.testing.assert_close(load_network(tmp_path / "f.safetensors", "identity")(image), network(image))
    with pytest.raises(WeightsFileError, match="there is no weight file"):
        load_identity(tmp_path / "none.safetensors")


def test_wrong_shapes_are_refused():
    with pytest.raises(ArgumentError, match="multiple of 16, not 40"):
        IdentityConfig(size=40)
    with pytest.raises(ArgumentError, match="four entries"):
        IdentityConfig(widths=(8, 8))


class _MeanColour(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean([2, 3])


@pytest.mark.parametrize("name", ["recogniser.pt", "recogniser.pt2"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_users_network_sees_the_crop_it_wants(name, tmp_path):
    path = tmp_path / name
    if path.suffix == ".pt2":
        torch.export.save(torch.export.export(_MeanColour(), (torch.rand(1, 3, 16, 12),)), path)
    else:
        torch.jit.save(torch.jit.script(_MeanColour()), str(path))
    image = -torch.ones(1, 3, 40, 40)
    image[:, :, 10:30, 10:30] = torch.tensor([1.0, 0.5, 0.0])[:, None, None]  # 1, 0.75, 0.5 in 0..1
    crop = (0.25, 0.25, 0.75, 0.75)
    network = load_identity(path, size=(16, 12), crop=crop, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 0.5), bgr=True)
    expected = torch.nn.functional.normalize(torch.tensor([[1.0, 0.75, 1.0]]), dim=1)
    torch.testing.assert_close(network(image), expected)
    Teachers(identity=network).freeze("cpu")  # as a training does
    image.requires_grad_()
    network(image)[0, 0].backward()
    assert image.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(WeightsFileError, match="no recognition network"):
        ForeignIdentity(tmp_path / "none.pt")
    for name in ("text.pt", "text.pt2"):
        (tmp_path / name).write_text("no program")
        with pytest.raises(WeightsFileError, match="holds no network"):
            load_identity(tmp_path / name)
    with pytest.raises(ArgumentError, match="crop must be"):
        ForeignIdentity(tmp_path / "text.pt", crop=(0.5, 0, 0.4, 1))
