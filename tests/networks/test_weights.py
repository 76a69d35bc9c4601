from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from garfast.errors import WeightsFileError
from garfast.networks.weights import fill_network, load_weights, save_weights


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_round_trip_in_half_precision(tmp_path):
    net = _network()
    path = tmp_path / "a.safetensors"
    digest = save_weights(path, net, kind="test", config={"width": 4})
    config, state = load_weights(path, kind="test")
    assert config == {"width": 4}
    assert len(digest) == 64
    assert state["0.weight"].dtype == torch.float32
    assert torch.equal(state["0.weight"], net[0].weight.detach().half().float())
    assert torch.equal(state["1.running_var"], net[1].running_var)  # vectors keep their precision
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    fill_network(other, state, path)
    assert not other.training
    assert save_weights(tmp_path / "b.safetensors", other, kind="test", config={}) == digest


def test_files_that_are_not_ours_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsFileError, match="there is no weight file"):
        load_weights(path, kind="test")
    save_weights(path, _network(), kind="test", config={})
    with pytest.raises(WeightsFileError, match="'test', but weights for 'other'"):
        load_weights(path, kind="other")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(WeightsFileError, match="not a complete safetensors file"):
        load_weights(path, kind="test")
    path.write_bytes(whole[:-10] + bytes(10))
    with pytest.raises(WeightsFileError, match="checksum"):
        load_weights(path, kind="test")
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(WeightsFileError, match="not a complete safetensors file"):
        load_weights(path, kind="test")
    save_file({"a": torch.zeros(2)}, str(path))
    with pytest.raises(WeightsFileError, match="not written by garfast"):
        load_weights(path, kind="test")


def test_values_that_cannot_be_stored_are_refused(tmp_path):
    net = _network()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsFileError, match="not finite"):
        save_weights(tmp_path / "a.safetensors", net, kind="test", config={})
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = 1e6
    with pytest.raises(WeightsFileError, match="half precision"):
        save_weights(tmp_path / "a.safetensors", net, kind="test", config={})
    assert not list(tmp_path.iterdir())


def test_weights_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, _network(), kind="test", config={})
    _, state = load_weights(path, kind="test")
    with pytest.raises(WeightsFileError, match="differ in name or shape"):
        fill_network(nn.Conv2d(3, 4, 3), state, path)
