"""The tensor-core convolution against the equation in float64: every tile, dtype, layout and term."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sanitized_cases import run_tiles
from garfast.ops import (
    _conv_choice,
    _conv_mma,
    _dispatch,
    _epilogue,
    modulated_conv2d,
    tune_convolutions,
    use_convolution,
)

_TAPS = torch.tensor([1.0, 3.0, 3.5, 0.5]) / 8  # not symmetric, so that its direction shows


class Case(NamedTuple):
    batch: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    tile: str

    @property
    def up(self) -> int:
        return 2 if self.tile.startswith("up") else 1

    @property
    def kernel(self) -> int:
        return 1 if self.tile == "1x1" else 3


# Sizes that no tile divides, one pixel, several chunks of channels, several blocks along channels, rows, columns.
CASES = [
    Case(2, 32, 32, 8, 16, "narrow"),
    Case(1, 64, 20, 11, 5, "same"),
    Case(2, 24, 130, 3, 19, "same"),
    Case(1, 5, 70, 9, 17, "narrow"),
    Case(3, 72, 3, 5, 9, "1x1"),
    Case(1, 8, 65, 1, 1, "1x1"),
    Case(2, 40, 33, 7, 3, "up"),
    Case(1, 16, 7, 3, 15, "up"),
    Case(1, 48, 5, 15, 2, "up-large"),
]


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where the kernel runs: compiled for the CPU, or on the GPU."""
    if request.param == "host":
        request.getfixturevalue("cuda_on_host")
        return "cpu"
    return "cuda"


@pytest.fixture
def allow_tf32(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether convolutions may multiply float32 as tf32, for the length of a test."""
    return lambda value: monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", value)


def make(case: Case, dtype: torch.dtype, seed: int = 0, per_element: bool = False) -> dict[str, Any]:
    """Random arguments with every term."""
    random = torch.Generator().manual_seed(seed)
    b, c, o, h, w, _ = case
    k, up = case.kernel, case.up

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random)

    map_channels = o if per_element else 1
    return {
        "x": normal(b, c, h, w).to(dtype),
        "weight": (normal(o, c, k, k) / math.sqrt(c * k * k)).to(dtype),
        "style": normal(b, c),
        "scale_channel": normal(b, o).exp(),
        "terms": _epilogue.Terms(
            normal(b, map_channels, up * h, up * w).to(dtype),
            normal(b, map_channels, up * h, up * w).to(dtype),
            normal(b, 1, up * h, up * w).to(dtype),
            torch.tensor(0.3),
            normal(o),
        ),
        "activation": _epilogue.Activation(0.2, math.sqrt(2), 1.5),
        "taps": _TAPS if up == 2 else None,
    }


def expected(args: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The equation in float64, and how much the magnitudes that it adds up to can be off by per unit of rounding."""
    x, weight = args["x"].double(), args["weight"].double()
    if args["style"] is not None:
        x = x * args["style"].double()[:, :, None, None]

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        if args["taps"] is None:
            return F.conv2d(x, weight, padding=weight.shape[2] // 2)
        u = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        line = 2 * args["taps"].double().flip(0)
        taps, channels = line[:, None] * line, u.shape[1]
        return F.conv2d(F.pad(u, (1, 1, 1, 1)), taps.expand(channels, 1, 4, 4), groups=channels)

    terms = _epilogue.Terms(*(None if t is None else t.double() for t in args["terms"]))
    d = None if args["scale_channel"] is None else args["scale_channel"].double()
    activation = args["activation"]
    value = _epilogue.reference(convolve(x, weight), d, terms, activation)
    size = convolve(x.abs(), weight.abs()) * activation.gain
    if d is not None:
        size = size * d[:, :, None, None]
    if terms.scale_map is not None:
        size = size * terms.scale_map.abs()
    return value, size


def run(args: dict[str, Any], device: str, tile: str, layout: torch.memory_format, keep: bool = False) -> Tensor:
    """The result, or with ``keep`` the convolution alone, in ``layout`` from x in ``layout``."""

    def move(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    x = args["x"].to(device).contiguous(memory_format=layout)
    up = 1 if args["taps"] is None else 2
    size = (x.shape[0], args["weight"].shape[0], up * x.shape[2], up * x.shape[3])
    y = torch.empty(size, dtype=x.dtype, device=device, memory_format=layout)
    f = torch.empty_like(y) if keep else None
    terms = tuple(move(term) for term in (args["scale_channel"], *args["terms"]))
    weight, style, taps = (move(args[name]) for name in ("weight", "style", "taps"))
    _conv_mma.forward(x, weight, style, taps, terms, args["activation"], f, y, _conv_mma.TILES[tile])
    return y if f is None else f


def assert_close(actual: Tensor, args: dict[str, Any]) -> None:
    """Each factor and each product s x is rounded once to what the tensor cores multiply, the sum many times to float32
    (at random, so by the root of its length), the result once."""
    value, size = expected(args)
    x, weight = args["x"], args["weight"]
    unit = {torch.float32: 2.0**-11, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}[x.dtype]
    roundings = 2 if x.dtype == torch.float32 else 1
    length = weight[0].numel()
    per_unit = (roundings * unit + (8 + math.sqrt(length)) * 2.0**-24) * size
    # Independent roundings of a sum of `length` products cancel; 6 standard deviations of it, at most all of it.
    tolerance = per_unit * min(1.0, 6 / math.sqrt(length)) + 2.0**-22 + torch.finfo(x.dtype).eps * value.abs()
    error = (actual.cpu().double() - value).abs()
    assert not torch.isnan(actual).any()
    assert (error <= tolerance).all(), f"{float((error / tolerance).max()):.2f} times the tolerance"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["tf32", "fp16", "bf16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_matches_the_equation(device, poisoned, case, dtype):
    layout = torch.channels_last if (case.height + case.width) % 2 else torch.contiguous_format
    args = make(case, dtype)
    result = run(args, device, case.tile, layout)
    assert_close(result, args)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize("tile", ["narrow", "up"])
def test_maps_per_element(device, poisoned, tile, layout):
    args = make(Case(2, 8, 6, 3, 5, tile), torch.bfloat16, per_element=True)
    assert_close(run(args, device, tile, layout), args)


@pytest.mark.parametrize("tile", ["1x1", "up"])
@pytest.mark.parametrize("term", ["style", "scale_channel", *_epilogue.Terms._fields, "all"])
def test_every_term_is_optional(device, poisoned, tile, term):
    args = make(Case(2, 8, 6, 4, 3, tile), torch.float16)
    for name in ("style", "scale_channel"):
        if term in (name, "all"):
            args[name] = None
    args["terms"] = _epilogue.Terms(
        *(None if term in (name, "all") else value for name, value in args["terms"]._asdict().items())
    )
    if term == "all":
        args["activation"] = _epilogue.Activation(1.0, 1.0, math.nan)
    assert_close(run(args, device, tile, torch.contiguous_format), args)


def test_memory_that_starts_anywhere(device, poisoned):
    args = make(Case(1, 8, 6, 5, 5, "narrow"), torch.bfloat16)
    layout = torch.channels_last
    expected_result = run(args, device, "narrow", layout)
    for name in ("x", "weight", "style"):
        value = args[name]
        whole = torch.zeros(value.numel() + 1, dtype=value.dtype)
        view = whole[1:].view(value.permute(0, 2, 3, 1).shape if value.dim() == 4 else value.shape)
        args[name] = (view.permute(0, 3, 1, 2) if value.dim() == 4 else view).copy_(value)
    assert torch.equal(run(args, device, "narrow", layout), expected_result)


@pytest.mark.parametrize("size", [(0, 8, 4, 3, 3), (2, 8, 0, 3, 3), (2, 8, 4, 0, 3)])
def test_empty(device, size):
    args = make(Case(*size, "up"), torch.float32)
    assert run(args, device, "up", torch.contiguous_format).shape == (size[0], size[2], 2 * size[3], 2 * size[4])


def test_same_bits_every_time(device):
    args = make(Case(1, 40, 9, 6, 6, "up"), torch.float32)
    first, second = (run(args, device, "up", torch.contiguous_format) for _ in range(2))
    assert torch.equal(first, second)


def test_the_tile_with_the_least_to_compute():
    def name(up: int, out_channels: int, size: int, kernel: int = 3, large: bool = True, batch: int = 8) -> str:
        return _conv_mma.tiles_in_order(kernel, up, out_channels, size, size, large, batch)[0].name

    assert name(1, 128, 256) == "same"
    assert name(1, 192, 64) == "narrow"
    assert name(1, 3, 256, kernel=1) == "1x1"
    assert name(2, 128, 128) == "up-large"
    assert name(2, 128, 128, large=False) == "up"
    assert name(2, 512, 4) == "up"
    assert name(1, 512, 32, batch=8) == "same"
    assert name(1, 512, 32, batch=1) == "narrow"  # twice the blocks, which still fit on the GPU at once


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize(("tile", "outputs"), [("narrow", 8), ("narrow", 6), ("up", 8), ("up", 7)])
def test_keeps_the_convolution_for_the_backward(device, poisoned, tile, outputs, layout):
    args = make(Case(2, 8, outputs, 3, 5, tile), torch.bfloat16)
    f = run(args, device, tile, layout, keep=True)
    alone = args | {
        "scale_channel": None,
        "terms": _epilogue.Terms(*[None] * 5),
        "activation": _epilogue.Activation(1.0, 1.0, math.nan),
    }
    assert_close(f, alone)


def test_says_what_it_cannot_take(cuda_on_host, allow_tf32):
    x, weight, taps = torch.zeros(1, 8, 4, 4).half(), torch.zeros(64, 8, 3, 3).half(), torch.ones(4)
    why_not = _conv_mma.why_not
    assert why_not(x, weight, taps) == ""
    assert "float64" in why_not(x.double(), weight, None)
    assert "5x5" in why_not(x, torch.zeros(64, 8, 5, 5), None)
    assert "1x1" in why_not(x, weight[:, :, :1, :1], taps)
    assert "4 taps, not 6" in why_not(x, weight, torch.ones(6))
    assert "2^31" in why_not(torch.empty(1, 8, 2**14, 2**14, device="meta").half(), weight, None)
    allow_tf32(False)
    assert "does not allow tf32" in why_not(x.float(), weight, None)
    allow_tf32(True)
    assert why_not(x.float(), weight, None) == ""


def test_tf32_is_allowed_where_it_is_to_the_library(allow_tf32):
    allow_tf32(True)
    assert _dispatch.tf32_allowed()
    allow_tf32(False)
    assert not _dispatch.tf32_allowed()


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this PyTorch has one switch")
@pytest.mark.parametrize(("precision", "allowed"), [("tf32", True), ("ieee", False), ("none", False)])
def test_follows_the_newer_switch_of_tf32(precision, allowed):
    switch = torch.backends.cudnn.conv
    before = switch.fp32_precision
    switch.fp32_precision = precision
    try:
        assert _dispatch.tf32_allowed() == allowed
    finally:
        switch.fp32_precision = before


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every run of the kernel."""
    runs: list[int] = []
    forward = _conv_mma.forward

    def count(*args: Any) -> None:
        runs.append(1)
        forward(*args)

    monkeypatch.setattr(_conv_mma, "forward", count)
    return runs


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize(("up", "size"), [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["tf32", "bf16"])
def test_behind_the_operator_with_gradients(device, poisoned, allow_tf32, launches, dtype, up, size, layout):
    allow_tf32(True)
    names = ("x", "weight", "style", "scale_map", "shift_map", "noise", "bias")
    b, c, o, h, w = 2, 8, 7, 4, 5
    sizes = ((b, c, h, w), (o, c, size, size), (b, c), *((b, 1, up * h, up * w),) * 3, (o,))
    random = torch.Generator().manual_seed(5)
    leaves = {
        name: torch.randn(size, generator=random).to(device, dtype) for name, size in zip(names, sizes, strict=True)
    }
    leaves["x"] = leaves["x"].contiguous(memory_format=layout)
    weights = torch.randn(b, o, up * h, up * w, generator=random)

    def derive(where: str, dtype: torch.dtype, impl: str) -> list[Tensor]:
        args = {name: leaf.detach().to(where, dtype).requires_grad_() for name, leaf in leaves.items()}
        y = modulated_conv2d(*(args[name] for name in names[:3]), **{n: args[n] for n in names[3:]}, up=up, impl=impl)
        return [y.detach(), *torch.autograd.grad((y * weights.to(y)).sum(), list(args.values()))]

    with use_convolution("mma"):
        actual = derive(device, dtype, "cuda")
    assert len(launches) == 1
    unit = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
    for name, value, exact in zip(("y", *names), actual, derive("cpu", torch.float64, "reference"), strict=True):
        assert value.dtype == dtype
        # A handful of roundings in a row, each of its own size, some of them met by a kink of the activation.
        error = (value.cpu().double() - exact).norm() / exact.norm()
        assert error < 8 * unit, f"{name} is off by {error / unit:.1f} roundings"


def test_float32_stays_exact_unless_tf32_is_allowed(device, allow_tf32, launches):
    allow_tf32(False)
    x, weight = torch.randn(1, 8, 4, 4, device=device), torch.randn(8, 8, 3, 3, device=device)
    with use_convolution("mma"):
        modulated_conv2d(x, weight, torch.ones(1, 8, device=device), impl="cuda")
    assert launches == []


def test_tuning_runs_every_tile_and_the_library_and_keeps_the_result(device, launches, monkeypatch, tmp_path):
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path))
    monkeypatch.setattr(_conv_choice, "_state", _conv_choice._State())
    x, weight = torch.randn(1, 8, 4, 4, device=device).half(), torch.randn(8, 8, 3, 3, device=device).half()
    style = torch.ones(1, 8, device=device)
    with use_convolution("library"):
        expected_result = modulated_conv2d(x, weight, style, impl="cuda")
    with tune_convolutions():
        result = modulated_conv2d(x, weight, style, impl="cuda")
    assert len(launches) >= 3
    assert (tmp_path / "convolutions.json").exists()
    ((times,),) = (layers.values() for layers in _conv_choice.convolution_times().values())
    assert times.keys() == {"mma", "mma same", "library"}
    torch.testing.assert_close(result, expected_result, rtol=0, atol=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("path", ["mma", "auto"])
def test_in_a_cuda_graph_where_nothing_is_measured(up, path, tmp_path, monkeypatch):
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path))
    monkeypatch.setenv("GARFAST_CONV", path)
    monkeypatch.setattr(_conv_choice, "_state", _conv_choice._State())
    sizes = ((2, 64, 16, 16), (64, 64, 3, 3), (2, 64))
    x, weight, style = (torch.randn(size, device="cuda") for size in sizes)
    x = x.half().contiguous(memory_format=torch.channels_last)
    expected_result = modulated_conv2d(x, weight, style, up=up, impl="cuda")
    graph = torch.cuda.CUDAGraph()
    with tune_convolutions(save=False), torch.cuda.graph(graph):
        result = modulated_conv2d(x, weight, style, up=up, impl="cuda")
    result.fill_(math.nan)
    graph.replay()
    assert torch.equal(result, expected_result)


def test_the_sanitizer_meets_every_tile(cuda_on_host, monkeypatch):
    forward, met = _conv_mma.forward, set()

    def note(*args: Any) -> None:
        met.add(args[-1].name)
        forward(*args)

    monkeypatch.setattr(_conv_mma, "forward", note)
    run_tiles("cpu", torch.bfloat16)
    assert met == set(_conv_mma.TILES)
