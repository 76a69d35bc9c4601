"""The Triton convolution, by name and by choice, against the reference: every tile, dtype and layout, odd sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from garfast.ops import _conv_choice, _conv_triton, use_convolution
from garfast.ops.triton import convolution
from tests.ops.conftest import assert_rounding
from tests.ops.test_modulated_conv2d import ALL, HALF, LAYOUTS, arguments, exactly, leaves, run


@pytest.fixture(autouse=True)
def own_convolution() -> Iterator[None]:
    """Every forward that it can take runs in Triton's convolution."""
    with use_convolution("triton"):
        yield


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[_conv_triton.Tile]:
    """The tiles it ran in."""
    tiles: list[_conv_triton.Tile] = []
    forward = convolution.forward
    monkeypatch.setattr(convolution, "forward", lambda *a: (tiles.append(a[-1]), forward(*a))[1])
    return tiles


@pytest.mark.parametrize(
    ("size", "demodulate", "per_element", "shared"),
    [(3, True, False, False), (3, True, True, False), (1, False, False, True)],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_the_reference_with_gradients(device, launches, size, demodulate, per_element, shared, layout):
    a = arguments(size=size, device=device, layout=layout, per_element=per_element, shared=shared)
    mine = leaves(a)
    actual = run(mine, demodulate=demodulate, impl="triton")
    assert launches == [_conv_triton.TILES[-1]]
    exact, expected = exactly(a, demodulate=demodulate)
    terms = 4 * size * size * 16
    assert_rounding(actual, expected, terms)
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(actual, list(mine.values()), weights.to(device))
    wanted = torch.autograd.grad(expected, list(exact.values()), weights.double())
    for name, grad, want in zip(ALL, grads, wanted, strict=True):
        assert grad.shape == want.shape, name
        assert_rounding(grad, want, terms + actual.numel(), operations=32)


@pytest.mark.parametrize("tile", _conv_triton.TILES, ids=lambda tile: tile.name)
@pytest.mark.parametrize("size", [1, 3])
def test_every_tile_across_its_edges(device, monkeypatch, tile, size):
    monkeypatch.setattr(_conv_triton, "choose_tile", lambda *shape: tile)
    inputs = tile.inputs + 6
    a = arguments(1, inputs, tile.outputs + 3, 3, tile.pixels // 3 + 5, size, device=device)
    assert_rounding(run(a, clamp=3.0, impl="triton"), exactly(a, clamp=3.0)[1], inputs * size * size * 16)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_16_bit_formats(device, launches, dtype, layout):
    a = {k: v if k == "style" else v.to(dtype).float() for k, v in arguments(2, 20, 9, 7, 5).items()}
    _, expected = exactly(a)
    wide = ("style", "bias", "noise_strength")
    given = {k: v.to(device) if k in wide else v.to(device, dtype) for k, v in a.items()}
    given["x"] = given["x"].to(memory_format=layout)
    actual = run(given, impl="triton")
    assert launches
    assert actual.dtype == dtype
    # x * style is rounded once more before the products, and the convolution before the epilogue where it is kept.
    scale = float(expected.detach().abs().max())
    error = (actual.double().cpu() - expected.detach()).abs().max()
    assert error < 4 * torch.finfo(dtype).eps * scale


@pytest.mark.parametrize("missing", [("scale_map",), ("shift_map",), ("noise", "noise_strength"), ("bias",), ALL[3:]])
def test_every_term_is_optional(device, missing):
    a = {k: v for k, v in arguments(1, 5, 18, 6, 9, device=device).items() if k not in missing}
    assert_rounding(run(a, impl="triton"), exactly(a)[1], 5 * 9 * 16)


def test_up_sampling_and_float64_stay_with_the_library(device, launches):
    run(arguments(up=2, device=device), up=2, impl="triton")
    with use_convolution("library"):
        run(arguments(device=device), impl="triton")
    assert launches == []
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert _conv_triton.why_not(x, x, None) == "it has no torch.float64"


def test_needs_the_shared_memory_of_later_gpus(monkeypatch):
    with FakeTensorMode():
        x, weight = torch.empty(1, 8, 4, 4, device="cuda"), torch.empty(8, 8, 3, 3, device="cuda")
    for capability, reason in (((7, 5), "it needs compute capability 8.0"), ((8, 0), "")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert _conv_triton.why_not(x, weight, None) == reason


def test_is_measured_against_the_library(device, monkeypatch, tmp_path):
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path))
    monkeypatch.setattr(_conv_choice, "_state", _conv_choice._State())
    monkeypatch.setattr(_conv_choice, "_measure", lambda paths, device: {path: float(len(path)) for path in paths})
    with _conv_choice.tune_convolutions(save=False):
        run(arguments(1, 2, 2, 2, 2, device=device), impl="triton")
    (layers,) = _conv_choice.convolution_times().values()
    (times,) = layers.values()
    assert set(times) == {"triton", "library", *(tile.name for tile in _conv_triton.TILES[:-1])}
