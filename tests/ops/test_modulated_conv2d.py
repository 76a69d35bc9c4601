"""modulated_conv2d: every backend against the equations, and the operator contract."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from garfast.errors import ArgumentError
from garfast.ops import modulated_conv2d
from tests.ops.conftest import assert_rounding

LAYOUTS = [torch.contiguous_format, torch.channels_last]
HALF = [torch.float16, torch.bfloat16]
ALL = ("x", "weight", "style", "scale_map", "shift_map", "noise", "noise_strength", "bias")


def arguments(
    batch: int = 2,
    inputs: int = 4,
    outputs: int = 3,
    height: int = 5,
    width: int = 6,
    size: int = 3,
    up: int = 1,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    layout: torch.memory_format = torch.contiguous_format,
    per_element: bool = False,
    shared: bool = False,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Every tensor argument, random."""
    generator = torch.Generator().manual_seed(seed)
    b, c = 1 if shared else batch, outputs if per_element else 1
    h, w = height * up, width * up

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    return {
        "x": random(batch, inputs, height, width).to(memory_format=layout),
        "weight": random(outputs, inputs, size, size),
        "style": random(batch, inputs) + 1,
        "scale_map": random(b, c, h, w),
        "shift_map": random(b, c, h, w),
        "noise": random(h, w) if shared else random(batch, 1, h, w),
        "noise_strength": random(1).reshape(()),
        "bias": random(outputs),
    }


def run(a: dict[str, Tensor], **options: Any) -> Tensor:
    rest = dict(a)
    return modulated_conv2d(rest.pop("x"), rest.pop("weight"), rest.pop("style"), **rest, **options)


def leaves(a: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone().requires_grad_() for k, v in a.items()}


def exactly(a: dict[str, Tensor], **options: Any) -> tuple[dict[str, Tensor], Tensor]:
    """float64 leaves with the values of ``a``, and the reference's result on them."""
    exact = leaves({k: v.detach().cpu().double() for k, v in a.items()})
    return exact, run(exact, impl="reference", **options)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
def test_reference_is_the_equations_written_out(size, up, demodulate):
    """Sample by sample, output by output, tap by tap."""
    a = arguments(size=size, up=up, dtype=torch.float64)
    actual = run(a, up=up, demodulate=demodulate, activation="linear", gain=0.5, clamp=2.0, impl="reference")
    x, weight, style = a["x"], a["weight"], a["style"]
    batch, _, height, width = x.shape
    taps = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    for b in range(batch):
        for o in range(len(weight)):
            k = weight[o] * style[b, :, None, None]
            if demodulate:
                k = k / math.sqrt(float((k * k).sum()) + 1e-8)
            if up == 1:
                f = torch.zeros(height + 2, width + 2, dtype=torch.float64)
                half = size // 2
                for u in range(size):
                    for v in range(size):
                        term = (k[:, u, v, None, None] * x[b]).sum(0)
                        f[1 + half - u : 1 + half - u + height, 1 + half - v : 1 + half - v + width] += term
                f = f[1:-1, 1:-1]
            else:
                # Every input pixel paints its weights at twice its place; then the blur, centred.
                z = torch.zeros(2 * height + size - 2, 2 * width + size - 2, dtype=torch.float64)
                for u in range(size):
                    for v in range(size):
                        z[u : u + 2 * height - 1 : 2, v : v + 2 * width - 1 : 2] += (k[:, u, v, None, None] * x[b]).sum(
                            0
                        )
                lack = 3 - (size - 2)
                z = torch.nn.functional.pad(z, ((lack + 1) // 2, lack // 2) * 2)
                windows = z.unfold(0, 4, 1).unfold(1, 4, 1)
                f = 4 * (windows * torch.outer(taps, taps)).sum((2, 3))
            v = f * a["scale_map"][b, 0] + a["shift_map"][b, 0] + a["noise_strength"] * a["noise"][b, 0] + a["bias"][o]
            torch.testing.assert_close(actual[b, o], (v * 0.5).clamp(-2, 2))


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize(("size", "demodulate"), [(3, True), (3, False), (1, True)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("per_element", [False, True])
@pytest.mark.usefixtures("poisoned")
def test_matches_the_reference_with_gradients(impl, device, up, size, demodulate, layout, per_element):
    a = arguments(size=size, up=up, device=device, layout=layout, per_element=per_element)
    mine = leaves(a)
    actual = run(mine, up=up, demodulate=demodulate, impl=impl)
    exact, expected = exactly(a, up=up, demodulate=demodulate)
    assert actual.shape == (2, 3, 5 * up, 6 * up)
    terms = 4 * size * size * (16 if up == 2 else 1)
    assert_rounding(actual, expected, terms)
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(actual, list(mine.values()), weights.to(device))
    wanted = torch.autograd.grad(expected, list(exact.values()), weights.double())
    for name, grad, want in zip(ALL, grads, wanted, strict=True):
        assert grad.shape == want.shape, name
        assert_rounding(grad, want, terms + actual.numel(), operations=32)


@pytest.mark.parametrize("dtype", [torch.float64, *HALF])
@pytest.mark.parametrize("up", [1, 2])
def test_dtypes(impl, device, dtype, up):
    a = arguments(inputs=8, up=up, dtype=dtype, device=device)
    mine = leaves(a)
    actual = run(mine, up=up, impl=impl)
    assert actual.dtype == dtype
    exact, expected = exactly(a, up=up)
    grads = torch.autograd.grad(actual.double().square().sum(), list(mine.values()))
    wanted = torch.autograd.grad(expected.square().sum(), list(exact.values()))
    # The kernels round x * style and the convolution's result to the format; a rounding is at most half an eps of its
    # own size, and up to 3 of them and the result's add up before and after sums that average them out.
    bound = 8 * torch.finfo(dtype).eps
    for name, mine_one, exact_one in [("y", actual, expected), *zip(ALL, grads, wanted, strict=True)]:
        assert name == "y" or mine_one.dtype == dtype
        error = (mine_one.detach().cpu().double() - exact_one.detach()).norm() / exact_one.detach().norm()
        assert error < bound, name


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.usefixtures("poisoned")
def test_layer_of_many_channels_and_pixels(impl, device, up):
    """Beyond the blocks of every kernel and the size where the CPU changes its layout."""
    for height, inputs, outputs in ((68, 3, 35) if up == 2 else (72, 5, 70), (4, 130, 132)):
        a = arguments(1, inputs, outputs, height, height, up=up, device=device)
        mine = leaves(a)
        actual = run(mine, up=up, impl=impl)
        exact, expected = exactly(a, up=up)
        assert_rounding(actual, expected, inputs * 9 * 16)
        grads = torch.autograd.grad(actual.sum(), list(mine.values()))
        for grad, want in zip(grads, torch.autograd.grad(expected.sum(), list(exact.values())), strict=True):
            assert_rounding(grad, want, inputs * 9 * 16 + actual.numel(), operations=32)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_first_and_second_derivatives(backend, up, layout, demodulate):
    shape = {"batch": 2, "inputs": 2, "outputs": 2, "height": 2, "width": 1}
    a = leaves(arguments(**shape, up=up, dtype=torch.float64, layout=layout, shared=not demodulate))

    def function(*values: Tensor) -> Tensor:
        return run(dict(zip(a, values, strict=True)), up=up, demodulate=demodulate, impl=backend)

    assert gradcheck(function, tuple(a.values()))
    assert gradgradcheck(function, tuple(a.values()))


@pytest.mark.parametrize("wanted", ALL)
@pytest.mark.parametrize("up", [1, 2])
def test_derivatives_of_one_argument_alone(up, wanted):
    a = arguments(1, 2, 2, 2, 2, up=up, dtype=torch.float64)
    leaf = a[wanted].requires_grad_()
    assert gradcheck(lambda v: run({**a, wanted: v}, up=up, impl="cpu"), leaf)
    assert gradgradcheck(lambda v: run({**a, wanted: v}, up=up, impl="cpu"), leaf)


@pytest.mark.parametrize("missing", ["scale_map", "shift_map", "noise", "noise_strength", "bias", "all"])
@pytest.mark.parametrize("up", [1, 2])
def test_every_term_is_optional(impl, device, missing, up):
    a = arguments(up=up, device=device)
    terms = ALL[3:] if missing == "all" else (missing,)
    a = {k: v for k, v in a.items() if k not in terms}
    if missing == "noise":
        a.pop("noise_strength")
    mine = leaves(a)
    actual = run(mine, up=up, impl=impl)
    exact, expected = exactly(a, up=up)
    assert_rounding(actual, expected, 4 * 9 * 16)
    grads = torch.autograd.grad(actual.sum(), list(mine.values()))
    for grad, want in zip(grads, torch.autograd.grad(expected.sum(), list(exact.values())), strict=True):
        assert_rounding(grad, want, 4 * 9 * 16 + actual.numel(), operations=32)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 5, 10, 10, 5, 1)])
@pytest.mark.parametrize("size", [1, 3])
def test_resample_filters(impl, device, taps, size):
    a = arguments(size=size, up=2, device=device)
    actual = run(a, up=2, resample_filter=taps, impl=impl)
    assert actual.shape == (2, 3, 10, 12)
    _, expected = exactly(a, up=2, resample_filter=taps)
    assert_rounding(actual, expected, 4 * 9 * len(taps) ** 2)


def kept_by(function: Any) -> list[Tensor]:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return kept


def test_a_fit_keeps_and_computes_nothing_for_the_weights():
    a = arguments(2, 8, 8, 9, 9)
    x = a["x"].requires_grad_()
    y = None

    def forward() -> None:
        nonlocal y
        y = run(a, impl="cpu")

    kept = kept_by(forward)
    # Of the size of the image: x and the result, and not the convolution's, which only the style or a map would need.
    assert len({t.data_ptr() for t in kept if t.shape == x.shape}) == 2
    with torch.profiler.profile() as profile:
        torch.autograd.grad(y.sum(), x)
    assert not any("convolution_backward" in event.key for event in profile.key_averages())


def test_empty_batch(impl, device):
    for up in (1, 2):
        a = arguments(batch=0, up=up, device=device)
        mine = leaves(a)
        y = run(mine, up=up, impl=impl)
        assert y.shape == (0, 3, 5 * up, 6 * up)
        for name, grad in zip(ALL, torch.autograd.grad(y.sum(), list(mine.values())), strict=True):
            assert torch.equal(grad, torch.zeros_like(a[name])), name


def test_strided_input(impl, device):
    a = arguments(height=10, width=12, device=device)
    base = torch.randn(2, 8, 20, 13, device=device)
    a["x"] = base[:, ::2, ::2, 1:]
    dense = {**a, "x": a["x"].clone(memory_format=torch.contiguous_format)}
    torch.testing.assert_close(run(a, impl=impl), run(dense, impl=impl), rtol=1e-5, atol=1e-5)


def test_same_bits_every_time_and_for_any_number_of_threads_around_the_convolution():
    """The library's convolution is repeatable for a given number of threads; what is ours is for any number."""
    a = arguments(2, 16, 16, 40, 40, up=2)
    results = []
    for _ in range(2):
        mine = leaves(a)
        y = run(mine, up=2, impl="cpu")
        results.append((y.detach(), *torch.autograd.grad((y * y).sum(), list(mine.values()))))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def sizes_of_gradients(a: dict[str, Tensor], up: int, demodulate: bool) -> dict[str, float]:
    """How large the sums are of which each gradient of ``y.sum()`` is made, if none of their terms cancel.

    Demodulation takes back what the convolution gives weight and style: with one input channel all of it, and the
    smaller the style is, the more that is.
    """
    exact, y = exactly({name: value.abs() for name, value in a.items()}, up=up, demodulate=False, activation="linear")
    sizes = [float(grad.abs().max()) for grad in torch.autograd.grad(y.sum(), list(exact.values()))]
    weight, style = exact["weight"], exact["style"]
    d = (style.square() @ weight.square().sum((2, 3)).T).rsqrt().max().item() if demodulate else 1.0
    return {name: size * max(1.0, d) for name, size in zip(exact, sizes, strict=True)}


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.sampled_from([1, 3]),
    up=st.sampled_from([1, 2]),
    demodulate=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    missing=st.sets(st.sampled_from(["scale_map", "shift_map", "noise_strength", "bias"])),
    seed=st.integers(0, 1000),
)
@example(3, 1, 6, 4, 6, 3, 2, True, torch.contiguous_format, set(), 0)  # a style that is nearly 0
def test_any_shape(batch, inputs, outputs, height, width, size, up, demodulate, layout, missing, seed):
    a = arguments(batch, inputs, outputs, height, width, size, up, layout=layout, seed=seed)
    a = {k: v for k, v in a.items() if k not in missing}
    # Linear, because rounding beside a kink would decide the slope.
    options = {"up": up, "demodulate": demodulate, "activation": "linear"}
    mine = leaves(a)
    actual = run(mine, **options, impl="cpu")
    exact, expected = exactly(a, **options)
    # Cancellation: the terms of a sum may be larger than all the sums; style and weights reach about 4 each.
    assert_rounding(actual, expected, inputs * 144, operations=200)
    grads = torch.autograd.grad(actual.sum(), list(mine.values()))
    sizes, longest = sizes_of_gradients(a, up, demodulate), batch * outputs * height * width * 144
    for name, grad, want in zip(mine, grads, torch.autograd.grad(expected.sum(), list(exact.values())), strict=True):
        assert_rounding(grad, want, longest, size=sizes[name])


def test_reference_takes_a_single_pixel_in_channels_last():
    mine = leaves(arguments(2, 2, 1, 1, 1, layout=torch.channels_last))
    grads = torch.autograd.grad(run(mine, impl="reference").sum(), list(mine.values()))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("up", [1, 2])
def test_autocast_runs_in_its_dtype_and_demodulates_in_float32(impl, device, up):
    a = arguments(up=up, device=device)
    mine = leaves(a)
    with torch.autocast(device, torch.bfloat16):
        y = run(mine, up=up, impl=impl)
    assert y.dtype == torch.bfloat16
    half = {k: v.bfloat16().float() if k in ("x", "weight") else v for k, v in a.items()}
    _, expected = exactly(half, up=up)
    error = (y.detach().cpu().double() - expected.detach()).norm() / expected.detach().norm()
    assert error < 4 * torch.finfo(torch.bfloat16).eps
    y.float().sum().backward()
    assert all(v.grad.dtype == torch.float32 for v in mine.values())


def test_autocast_leaves_float64_alone():
    a = {name: value.double() for name, value in arguments().items()}
    with torch.autocast("cpu", torch.bfloat16):
        y = run(a, impl="cpu")
    torch.testing.assert_close(y, run(a, impl="cpu"))


@pytest.mark.parametrize("up", [1, 2])
def test_opcheck(up):
    a = leaves(arguments(up=up))
    taps = torch.tensor([1.0, 3, 3, 1]) / 8 if up == 2 else None
    d = torch.rand(2, 3, requires_grad=True)
    tensors = (*(a[name] for name in ALL[:3]), d, *(a[name] for name in ALL[3:]), taps)
    torch.library.opcheck(torch.ops.garfast.modulated_conv2d.default, (*tensors, 0.2, 1.4, math.nan, True, "cpu"))


@pytest.mark.parametrize("up", [1, 2])
def test_compiles_without_a_graph_break(up):
    a = arguments(up=up)

    def loss(*values: Tensor) -> Tensor:
        return (run(dict(zip(a, values, strict=True)), up=up, impl="cpu") ** 2).sum()

    eager, compiled = leaves(a), leaves(a)
    loss(*eager.values()).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled.values()).backward()
    for name in a:
        torch.testing.assert_close(compiled[name].grad, eager[name].grad)


def test_path_length_penalty_matches_the_reference():
    """The second derivative as training uses it: the gradient of the length of a gradient over style and maps."""
    a = arguments(2, 4, 4, 4, 4, up=2)
    results = []
    for impl in ("reference", "cpu"):
        mine = leaves(a)
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        y = run(mine, up=2, impl=impl)
        inner = torch.autograd.grad((y * noise).sum(), [mine["style"], mine["scale_map"]], create_graph=True)
        penalty = sum(g.square().sum() for g in inner).sqrt()
        leaf_names = ("x", "weight", "style", "scale_map")
        results.append(torch.autograd.grad(penalty, [mine[name] for name in leaf_names]))
    for grad, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "up"), [(3, 1), (3, 2), (1, 1)])
def test_backward_within_autocast_is_that_without(size, up):
    generator = torch.Generator().manual_seed(4)
    # Large enough for the products of tiles, which would be the first to be rounded.
    shapes = [(1, 16, 16, 16), (24, 16, size, size), (1, 16)]
    leaves = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    # The demodulation's own gradient is PyTorch's matrix product, which autocast rounds.
    y = modulated_conv2d(*leaves, up=up, demodulate=False, impl="cpu")
    g = torch.randn(y.shape, generator=generator)
    expected = torch.autograd.grad(y, leaves, g, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        actual = torch.autograd.grad(y, leaves, g)
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


def test_the_kept_filter_serves_later_calls():
    from torch._subclasses.fake_tensor import FakeTensorMode

    # A filter of its own, so that no other test has kept it.
    options = {"up": 2, "resample_filter": (1.0, 2.0, 2.0, 1.25), "impl": "cpu"}
    with FakeTensorMode():
        fake = modulated_conv2d(torch.ones(1, 4, 5, 6), torch.ones(3, 4, 3, 3), torch.ones(1, 4), **options)
    with torch.inference_mode():
        first = modulated_conv2d(torch.ones(1, 4, 5, 6), torch.ones(3, 4, 3, 3), torch.ones(1, 4), **options)
    x = torch.ones(1, 4, 5, 6, requires_grad=True)
    again = modulated_conv2d(x, torch.ones(3, 4, 3, 3), torch.ones(1, 4), **options)
    again.sum().backward()
    assert x.grad is not None
    assert fake.shape == again.shape
    assert torch.equal(first, again)


X, WEIGHT, STYLE = torch.zeros(2, 4, 5, 6), torch.zeros(3, 4, 3, 3), torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"x": X[0]}, r"x must have shape \[B, I, H, W\], not \[4, 5, 6\]"),
        ({"weight": WEIGHT[:, :3]}, r"weight must have shape \[O, 4, k, k\], not \[3, 3, 3, 3\]"),
        ({"weight": WEIGHT[..., :2]}, r"weight must have 1x1 or 3x3 taps, but has shape \[3, 4, 3, 2\]"),
        ({"style": STYLE[:1]}, r"style must have shape \[2, 4\], not \[1, 4\]"),
        ({"style": None}, r"style must be a tensor of shape \[2, 4\], not NoneType"),
        ({"up": 3}, "up must be 1 or 2, not 3"),
        ({"up": 2, "resample_filter": (1, 2, 1)}, r"resample_filter must be an even number of taps"),
        ({"up": 2, "resample_filter": None}, r"resample_filter must be an even number of taps .*, not None"),
        ({"up": 2, "resample_filter": "abcd"}, r"resample_filter must be an even number of taps .*, not 'abcd'"),
        ({"up": 2, "noise": X[:, :1]}, r"noise must have shape \[2, 1, 10, 12\], not \[2, 1, 5, 6\]"),
        ({"scale_map": X}, r"scale_map must have shape \[2, 1, 5, 6\], not \[2, 4, 5, 6\]"),
        ({"bias": X[0, :, 0, 0]}, r"bias must have shape \[3\], not \[4\]"),
        ({"activation": "tanh"}, "activation must be one of"),
    ],
)
def test_malformed_arguments_get_a_sentence(impl, options, sentence):
    a = {"x": X, "weight": WEIGHT, "style": STYLE, **options}
    with pytest.raises(ArgumentError, match=f"modulated_conv2d: {sentence}"):
        modulated_conv2d(a.pop("x"), a.pop("weight"), a.pop("style"), **a, impl=impl)
