"""Which convolution runs: who may say so, what is measured and kept, what the model says without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from garfast.errors import ArgumentError, OutputError
from garfast.ops import _conv_choice, _timing
from garfast.ops._conv_choice import (
    Layer,
    choose,
    convolution_times,
    layer_of,
    tune_convolutions,
    use_convolution,
)

_SMALL = Layer(1, 512, 512, 4, 4, 3, 1, "bfloat16", True, True, False)
_DEVICE = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing measured, nothing asked for, an empty data folder; the kernels on the host but for tests on a GPU."""
    if request.node.get_closest_marker("gpu") is None:
        request.getfixturevalue("cuda_on_host")
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path))
    monkeypatch.delenv("GARFAST_CONV", raising=False)
    monkeypatch.setattr(_conv_choice, "_state", _conv_choice._State())
    _conv_choice._gpu.cache_clear()
    yield
    _conv_choice._gpu.cache_clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are not timed but counted; 'mma' takes half as long."""
    calls: list[str] = []

    def take(call):
        call()
        return {"mma": 0.001, "library": 0.002}[calls[-1]]

    monkeypatch.setattr(_timing, "timer", lambda call, device: lambda: take(call))
    return calls


def runs(calls: list[str]) -> dict:
    return {path: lambda path=path: calls.append(path) for path in ("mma", "library")}


def test_the_model_leaves_small_layers_to_the_library():
    assert choose(_SMALL, _DEVICE) == "library"
    assert _conv_choice.estimate(_SMALL)["mma"] > 0


def test_the_environment_overrules_the_model(monkeypatch):
    monkeypatch.setenv("GARFAST_CONV", "mma")
    assert choose(_SMALL, _DEVICE) == "mma"
    monkeypatch.setenv("GARFAST_CONV", "auto")
    assert choose(_SMALL, _DEVICE) == "library"
    monkeypatch.setenv("GARFAST_CONV", "fast")
    with pytest.raises(ArgumentError, match="GARFAST_CONV must be mma, triton, library or auto, not 'fast'"):
        choose(_SMALL, _DEVICE)


def test_the_block_overrules_the_environment(monkeypatch):
    monkeypatch.setenv("GARFAST_CONV", "library")
    with use_convolution("mma"):
        assert choose(_SMALL, _DEVICE) == "mma"
        with use_convolution("library"):
            assert choose(_SMALL, _DEVICE) == "library"
        assert choose(_SMALL, _DEVICE) == "mma"
    assert choose(_SMALL, _DEVICE) == "library"
    with pytest.raises(ArgumentError, match="path must be mma, triton or library"), use_convolution("fast"):
        pass


def test_measures_once_and_only_when_asked(clock):
    assert choose(_SMALL, _DEVICE, runs(clock)) == "library"
    assert clock == []
    with tune_convolutions():
        assert choose(_SMALL, _DEVICE, runs(clock)) == "mma"
        count = len(clock)
        assert count > 2
        assert choose(_SMALL, _DEVICE, runs(clock)) == "mma"
    assert choose(_SMALL, _DEVICE, runs(clock)) == "mma"
    assert len(clock) == count
    for other in ({"batch": 2}, {"keep": True}, {"weight_channels_last": False}):
        assert choose(_SMALL._replace(**other), _DEVICE) == "library"


def test_a_layer_is_what_its_time_depends_on(monkeypatch):
    x, weight = torch.zeros(2, 3, 4, 5), torch.zeros(7, 3, 3, 3)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert layer_of(x, weight, None, True) == Layer(2, 3, 7, 4, 5, 3, 1, "tf32", False, False, True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    weight = weight.contiguous(memory_format=torch.channels_last)
    assert layer_of(x, weight, torch.ones(4), False) == Layer(2, 3, 7, 4, 5, 3, 2, "float32", False, True, False)


@pytest.mark.parametrize("own", ["mma", "triton"])
def test_the_model_knows_that_what_is_kept_must_be_written(own):
    layer = Layer(8, 64, 128, 256, 256, 1, 1, "bfloat16", True, True, False)
    assert _conv_choice.estimate(layer._replace(keep=True), own)[own] > _conv_choice.estimate(layer, own)[own]


def test_times_of_an_earlier_version_are_passed_over(tmp_path):
    (tmp_path / "convolutions.json").write_text('{"host": {"1-512-512-4-4-3-1-bfloat16-1": {"mma": 1, "library": 2}}}')
    assert choose(_SMALL, _DEVICE) == "library"


def test_triton_has_times_of_its_own_and_its_tiles_are_measured_too(monkeypatch):
    calls: list[str] = []

    def take(call):
        call()
        return {"triton": 3.0, "triton 64x64": 1.0, "library": 2.0}[calls[-1]]

    monkeypatch.setattr(_timing, "timer", lambda call, device: lambda: take(call))
    run = {path: lambda path=path: calls.append(path) for path in ("triton", "triton 64x64", "library")}
    assert choose(_SMALL, _DEVICE, run, "triton") in run
    with tune_convolutions():
        assert choose(_SMALL, _DEVICE, run, "triton") == "triton 64x64"
    with use_convolution("triton"):
        assert choose(_SMALL, _DEVICE, run, "triton") == "triton 64x64"
        del run["triton 64x64"]
        assert choose(_SMALL, _DEVICE, run, "triton") == "triton"
    assert choose(_SMALL, _DEVICE, run, "triton") == "library"
    with use_convolution("library"):
        assert choose(_SMALL, _DEVICE, run, "triton") == "library"
    assert choose(_SMALL, _DEVICE) == "library"
    assert [key for times in convolution_times().values() for key in times] == [_SMALL.key + "-triton"]


def test_times_are_kept_for_the_next_process(clock, monkeypatch, tmp_path):
    with tune_convolutions():
        choose(_SMALL, _DEVICE, runs(clock))
    saved = json.loads((tmp_path / "convolutions.json").read_text())
    assert saved == convolution_times()
    assert list(saved.values()) == [{"1-512-512-4-4-3-1-bfloat16-1-1-0": {"library": 2.0, "mma": 1.0}}]
    monkeypatch.setattr(_conv_choice, "_state", _conv_choice._State())
    assert choose(_SMALL, _DEVICE) == "mma"


def test_times_need_not_be_kept(clock, tmp_path):
    with tune_convolutions(save=False):
        choose(_SMALL, _DEVICE, runs(clock))
    assert list(tmp_path.iterdir()) == []
    assert choose(_SMALL, _DEVICE) == "mma"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"host": 3}', '{"host": {"1-512": {"mma": "x", "library": 1}}}'])
def test_a_damaged_file_counts_as_none(text, tmp_path):
    (tmp_path / "convolutions.json").write_text(text)
    assert choose(_SMALL, _DEVICE) == "library"


def test_nothing_is_measured_during_a_capture(clock, monkeypatch):
    monkeypatch.setattr(_conv_choice, "_capturing", lambda device: True)
    with tune_convolutions():
        assert choose(_SMALL, _DEVICE, runs(clock)) == "library"
    assert clock == []


def test_says_where_it_cannot_keep_the_times(clock, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError), tune_convolutions():
        choose(_SMALL, _DEVICE, runs(clock))
    assert choose(_SMALL, _DEVICE) == "mma"


@pytest.mark.gpu
def test_measures_on_the_device():
    device = torch.device("cuda", 0)
    a, b = (torch.ones(size, size, device=device) for size in (2048, 64))
    with tune_convolutions():
        assert choose(_SMALL, device, {"mma": lambda: b @ b, "library": lambda: a @ a}) == "mma"
