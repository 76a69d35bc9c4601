"""noise_bias_act: every backend against the equation, and the operator contract."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from garfast.errors import ArgumentError
from garfast.ops import noise_bias_act
from tests.ops.conftest import assert_rounding

HALF = [torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
TERMS = ("scale_map", "shift_map", "noise", "noise_strength", "bias")


def arguments(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    layout: torch.memory_format = torch.contiguous_format,
    per_element: bool = False,
    shared: bool = False,
    seed: int = 0,
) -> dict[str, Tensor]:
    """x and every term, random."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    b, c = 1 if shared else batch, channels if per_element else 1

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(device, dtype)

    return {
        "x": random(*shape).to(memory_format=layout),
        "scale_map": random(b, c, height, width),
        "shift_map": random(b, c, height, width),
        "noise": random(height, width) if shared else random(batch, 1, height, width),
        "noise_strength": random(1).reshape(()),
        "bias": random(channels),
    }


def equation(a: dict[str, Any], clamp: float | None = None, slope: float = 0.2, gain: float = math.sqrt(2)) -> Tensor:
    """The formula in float64; ``a`` may lack any term."""
    a = {k: v.double() if isinstance(v, Tensor) else v for k, v in a.items()}
    v = a["x"] * a.get("scale_map", 1.0) + a.get("shift_map", 0.0)
    v = v + a.get("noise_strength", 1.0) * a.get("noise", 0.0)
    if "bias" in a:
        v = v + a["bias"].view(1, -1, 1, 1)
    v = torch.where(v > 0, v, slope * v) * gain
    return v if clamp is None else v.clamp(-clamp, clamp)


def run(a: dict[str, Tensor], **options: Any) -> Tensor:
    terms = {k: v for k, v in a.items() if k != "x"}
    return noise_bias_act(a["x"], **terms, **options)


def leaves(a: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone().requires_grad_() for k, v in a.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("per_element", [False, True])
@pytest.mark.usefixtures("poisoned")
def test_matches_the_equation_with_gradients(impl, device, dtype, layout, per_element):
    shape = (2, 5, 7, 9)
    a = arguments(shape, dtype, device, layout, per_element)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device, dtype)
    exact, mine = leaves({k: v.double() for k, v in a.items()}), leaves(a)
    expected, actual = equation(exact), run(mine, impl=impl)
    assert actual.dtype == dtype
    assert_rounding(actual, expected)
    expected_grads = torch.autograd.grad((expected * weights.double()).sum(), list(exact.values()))
    grads = torch.autograd.grad(actual, list(mine.values()), weights)
    for name, grad, want in zip(a, grads, expected_grads, strict=True):
        length = {"bias": 2 * 63, "noise_strength": 2 * 5 * 63}.get(name, 5)
        assert grad.dtype == dtype, name
        assert_rounding(grad, want, length)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 70, 33, 35), (1, 1100, 3, 5), (2, 3, 1, 1), (1, 516, 5, 4)])
@pytest.mark.usefixtures("poisoned")
def test_many_blocks(impl, device, layout, shape):
    """More channels and pixels than one block of any kernel holds, and sizes that no block divides."""
    a = arguments(shape, device=device, layout=layout)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)
    exact, mine = leaves({k: v.double() for k, v in a.items()}), leaves(a)
    expected, actual = equation(exact), run(mine, impl=impl)
    assert_rounding(actual, expected)
    expected_grads = torch.autograd.grad((expected * weights).sum(), list(exact.values()))
    grads = torch.autograd.grad(actual, list(mine.values()), weights)
    for grad, want in zip(grads, expected_grads, strict=True):
        assert_rounding(grad, want, actual.numel())


def test_every_instruction_set_agrees(isa):
    for dtype in (torch.float32, *HALF):
        a = arguments((2, 19, 6, 7), dtype)
        mine = leaves(a)
        assert_rounding(run(mine, impl="cpu"), equation(a))
        (grad,) = torch.autograd.grad(run(mine, impl="cpu").sum(), mine["bias"])
        (want,) = torch.autograd.grad(run(mine, impl="reference").sum(), mine["bias"])
        assert_rounding(grad, want.double(), 2 * 42)


@pytest.mark.parametrize("missing", [*TERMS, "all"])
def test_every_term_is_optional(impl, device, missing):
    a = arguments((2, 3, 4, 5), device=device)
    a = {"x": a["x"]} if missing == "all" else {k: v for k, v in a.items() if k != missing}
    if missing == "noise":
        a.pop("noise_strength")
    mine = leaves(a)
    actual = run(mine, impl=impl)
    assert_rounding(actual, equation(a))
    grads = torch.autograd.grad(actual.sum(), list(mine.values()))
    exact = leaves({k: v.double() for k, v in a.items()})
    for grad, want in zip(grads, torch.autograd.grad(equation(exact).sum(), list(exact.values())), strict=True):
        assert_rounding(grad, want, actual.numel())


@pytest.mark.parametrize(("activation", "slope"), [("linear", 1.0), ("relu", 0.0), ("lrelu", 0.3)])
@pytest.mark.parametrize("gain", [None, 0.7])
def test_activations(impl, device, activation, slope, gain):
    a = arguments((2, 3, 4, 5), device=device)
    default = 1.0 if activation == "linear" else math.sqrt(2)
    actual = run(a, activation=activation, alpha=0.3, gain=gain, impl=impl)
    assert_rounding(actual, equation(a, slope=slope, gain=gain or default))


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_clamped_elements_have_no_gradient(impl, device, dtype):
    x = torch.tensor([-9.0, -1.0, 1.0, 9.0], device=device, dtype=dtype).view(1, 1, 2, 2).requires_grad_()
    y = noise_bias_act(x, gain=1.0, clamp=1.3, impl=impl)
    assert_rounding(y, torch.tensor([-1.3, -0.2, 1.0, 1.3]).double().view(1, 1, 2, 2))
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert_rounding(grad, torch.tensor([0.0, 0.2, 1.0, 0.0]).double().view(1, 1, 2, 2))


def test_noise_without_strength_and_strength_as_a_number(impl, device):
    a = arguments((2, 3, 4, 5), device=device)
    plain = noise_bias_act(a["x"], noise=a["noise"], impl=impl)
    assert torch.equal(plain, noise_bias_act(a["x"], noise=a["noise"], noise_strength=1.0, impl=impl))
    strength = torch.tensor([0.5], device=device)
    assert torch.equal(
        noise_bias_act(a["x"], noise=a["noise"], noise_strength=strength, impl=impl),
        noise_bias_act(a["x"], noise=a["noise"], noise_strength=0.5, impl=impl),
    )
    assert torch.equal(noise_bias_act(a["x"], noise_strength=strength, impl=impl), noise_bias_act(a["x"], impl=impl))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("per_element", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_first_and_second_derivatives(backend, layout, per_element, shared):
    clamp = None if shared else 1.0
    a = leaves(arguments((2, 2, 1, 3), torch.float64, "cpu", layout, per_element, shared))

    def function(*values: Tensor) -> Tensor:
        return run(dict(zip(a, values, strict=True)), clamp=clamp, impl=backend)

    assert gradcheck(function, tuple(a.values()))
    assert gradgradcheck(function, tuple(a.values()))


@pytest.mark.parametrize("wanted", ["x", *TERMS])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_derivatives_of_one_argument_alone(backend, wanted):
    a = arguments((2, 3, 2, 2), torch.float64)
    a[wanted].requires_grad_()
    assert gradcheck(lambda v: run({**a, wanted: v}, impl=backend), a[wanted])
    assert gradgradcheck(lambda v: run({**a, wanted: v}, impl=backend), a[wanted])


@pytest.mark.parametrize("wanted", ["x", *TERMS])
def test_gradient_of_one_argument_is_that_among_all(impl, device, wanted):
    a = arguments((2, 3, 4, 5), device=device)
    every = leaves(a)
    expected = torch.autograd.grad(run(every, impl=impl).sum(), every[wanted])
    one = a[wanted].requires_grad_()
    assert torch.equal(torch.autograd.grad(run(a, impl=impl).sum(), one)[0], expected[0])


def test_keeps_x_only_for_the_scale_map():
    """Activations decide how large a network fits: without a map to learn, the result alone is kept."""
    a = leaves(arguments((2, 3, 4, 5)))
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = noise_bias_act(a["x"] * 1, noise=a["noise"], bias=a["bias"], impl="cpu")
    assert [t.shape for t in kept if t.shape == y.shape and t.data_ptr() != y.data_ptr()] == []


def test_strided_and_offset_input(impl, device):
    base = torch.randn(2, 6, 9, 12, device=device)
    for x in (base[:, 1:5, 2:, ::2], base.transpose(2, 3)[:, :4], base.flatten()[3 : 3 + 2 * 4 * 25].view(2, 4, 5, 5)):
        dense = x.clone(memory_format=torch.contiguous_format)
        assert torch.equal(noise_bias_act(x, impl=impl), noise_bias_act(dense, impl=impl))


def test_layout_is_kept(impl, device):
    x = torch.randn(2, 4, 5, 6, device=device)
    assert noise_bias_act(x, impl=impl).is_contiguous()
    last = x.to(memory_format=torch.channels_last)
    assert noise_bias_act(last, impl=impl).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty(impl, device, shape):
    a = leaves(arguments(shape, device=device))
    y = run(a, impl=impl)
    assert y.shape == shape
    for name, grad in zip(a, torch.autograd.grad(y.sum(), list(a.values())), strict=True):
        assert torch.equal(grad, torch.zeros_like(a[name]))


def test_nan_passes_through(impl, device):
    x = torch.tensor([math.nan, 1.0, math.inf, -math.inf], device=device).view(1, 1, 2, 2)
    for clamp in (None, 5.0):
        y = noise_bias_act(x, gain=1.0, clamp=clamp, impl=impl).flatten().tolist()
        top = math.inf if clamp is None else clamp
        assert math.isnan(y[0])
        assert y[1:] == [1.0, top, -top]


def test_same_bits_for_any_number_of_threads():
    a = arguments((3, 40, 50, 60))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            mine = leaves(a)
            y = run(mine, impl="cpu")
            results.append((y.detach(), *torch.autograd.grad((y * y).sum(), list(mine.values()))))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 9), st.integers(1, 40)),
    per_element=st.booleans(),
    shared=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    missing=st.sets(st.sampled_from(["scale_map", "shift_map", "noise_strength", "bias"])),
    clamp=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 1000),
)
def test_any_shape(shape, per_element, shared, layout, missing, clamp, seed):
    a = arguments(shape, layout=layout, per_element=per_element, shared=shared, seed=seed)
    a = {k: v for k, v in a.items() if k not in missing}
    mine, exact = leaves(a), leaves({k: v.double() for k, v in a.items()})
    actual, expected = run(mine, impl="cpu", clamp=clamp), equation(exact, clamp)
    assert_rounding(actual, expected)
    # Beside a kink rounding decides the slope; leave those elements out.
    near = (expected.abs() < 1e-5) | ((expected.abs() - (clamp or math.inf)).abs() < 1e-5)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    weights = torch.where(near & (expected.abs() != clamp), 0.0, weights).detach()
    grads = torch.autograd.grad(actual, list(mine.values()), weights)
    for grad, want in zip(grads, torch.autograd.grad(expected, list(exact.values()), weights.double()), strict=True):
        # Terms of about 1 and of both signs.
        size = math.sqrt(actual.numel() / want.numel())
        assert_rounding(grad, want + 0.0, actual.numel(), operations=16 + shape[1], size=size)


def test_autocast_leaves_the_dtype_of_x(impl, device):
    a = arguments((2, 3, 4, 5), device=device)
    with torch.autocast(device, torch.bfloat16):
        assert run(a, impl=impl).dtype == torch.float32
        assert run({**a, "x": a["x"].bfloat16()}, impl=impl).dtype == torch.bfloat16


def test_opcheck():
    a = leaves(arguments((2, 3, 4, 5)))
    x, m, t, n, s, b = a.values()
    d = torch.rand(2, 3, requires_grad=True)
    torch.library.opcheck(torch.ops.garfast.noise_bias_act.default, (x, d, m, t, n, s, b, 0.2, 1.4, math.nan, "cpu"))
    torch.library.opcheck(
        torch.ops.garfast.noise_bias_act.default, (x, None, None, None, None, None, None, 0.2, 1.4, 1.0, "cpu")
    )
    constants = [a.detach() for a in (x, d, m, t, n, s, b)]
    torch.library.opcheck(torch.ops.garfast.noise_bias_act.default, (*constants, 0.2, 1.4, math.nan, "cpu"))
    grad, y = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5)
    torch.library.opcheck(
        torch.ops.garfast.noise_bias_act_backward.default,
        (grad, y, x, d, m, n, s, False, 0.2, 1.4, math.nan, [True] * 7, "cpu"),
    )


def test_compiles_without_a_graph_break():
    a = arguments((2, 3, 4, 5))

    def loss(*values: Tensor) -> Tensor:
        return (run(dict(zip(a, values, strict=True)), impl="cpu") ** 2).sum()

    eager, compiled = leaves(a), leaves(a)
    loss(*eager.values()).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled.values()).backward()
    for name in a:
        torch.testing.assert_close(compiled[name].grad, eager[name].grad)


def test_compiled_numbers_may_change():
    compiled = torch.compile(lambda x, gain: noise_bias_act(x, gain=gain), fullgraph=True, backend="eager")
    x = torch.randn(1, 2, 3, 4)
    for gain in (1.5, 0.7, 0.8):
        torch.testing.assert_close(compiled(x, gain), noise_bias_act(x, gain=gain))


def test_no_channels_have_gradients_too():
    x, shift = torch.randn(1, 0, 3, 2), torch.randn(1, 0, 3, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(noise_bias_act(x, shift_map=shift, impl="cpu").sum(), shift)
    assert grad.shape == shift.shape


X = torch.zeros(2, 3, 4, 5)


def test_forward_mode_is_refused_by_kernels():
    x = torch.randn(1, 2, 3, 3)
    _, tangent = torch.func.jvp(lambda v: noise_bias_act(v, impl="reference"), (x,), (torch.ones_like(x),))
    assert (tangent != 0).all()
    with pytest.raises(ArgumentError, match="no forward-mode derivative: use impl='reference'"):
        torch.func.jvp(lambda v: noise_bias_act(v, impl="cpu"), (x,), (torch.ones_like(x),))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"x": X[0]}, r"x must have shape \[B, C, H, W\], not \[3, 4, 5\]"),
        ({"x": X.int()}, "x must be floating point, not torch.int32"),
        ({"scale_map": X[:, :2]}, r"scale_map must have shape \[2, 1, 4, 5\], not \[2, 2, 4, 5\]"),
        ({"shift_map": X[..., :4]}, r"shift_map must have shape \[2, 3, 4, 5\], not \[2, 3, 4, 4\]"),
        ({"noise": X}, r"noise must have shape \[2, 1, 4, 5\], not \[2, 3, 4, 5\]"),
        ({"noise": X[0, 0, 0]}, r"noise must have shape \[2, 1, 4, 5\], not \[5\]"),
        ({"noise": X[0, 0].T}, r"noise must have shape \[4, 5\], not \[5, 4\]"),
        ({"noise": X[:, :1], "noise_strength": X[0, 0, 0]}, r"noise_strength must have shape \[1\], not \[5\]"),
        ({"noise": X[:, :1], "noise_strength": "1"}, "noise_strength must be a number or a tensor .*, not str"),
        ({"bias": X[0, 0, 0]}, r"bias must have shape \[3\], not \[5\]"),
        ({"bias": 1.0}, r"bias must be a tensor of shape \[3\], not float"),
        ({"activation": "swish"}, "activation must be one of linear, relu, lrelu, not 'swish'"),
        ({"alpha": -0.1}, "alpha must be finite and not negative"),
        ({"alpha": "a"}, "alpha must be a number, not 'a'"),
        ({"alpha": None}, "alpha must be a number, not None"),
        ({"clamp": "1"}, "clamp must be a number, not '1'"),
        ({"gain": 0.0}, "gain must be finite and positive"),
        ({"gain": float("inf")}, "gain must be finite and positive"),
        ({"clamp": -1.0}, "clamp must be positive or None"),
    ],
)
def test_malformed_arguments_get_a_sentence(impl, options, sentence):
    arguments = {"x": X, **options}
    with pytest.raises(ArgumentError, match=f"noise_bias_act: {sentence}"):
        noise_bias_act(arguments.pop("x"), **arguments, impl=impl)


def test_second_derivatives_in_float64_are_exact():
    def second(impl: str) -> torch.Tensor:
        x = torch.linspace(-1, 1, 24, dtype=torch.float64).view(1, 2, 3, 4).requires_grad_()
        weight = torch.linspace(1, 2, 24, dtype=torch.float64).view(1, 2, 3, 4).requires_grad_()
        y = noise_bias_act(x, gain=2**0.5, impl=impl)
        (first,) = torch.autograd.grad((y * weight).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    # Numbers that pass through float32 on the way differ by 1e-8.
    torch.testing.assert_close(second("cpu"), second("reference"), rtol=1e-14, atol=0)
