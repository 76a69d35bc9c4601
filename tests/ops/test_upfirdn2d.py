"""upfirdn2d: every backend against a plain convolution by SciPy, and the operator contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from garfast.errors import ArgumentError, BackendUnavailableError
from garfast.ops import upfirdn2d
from tests.ops.conftest import assert_rounding

LAYOUTS = [torch.contiguous_format, torch.channels_last]
BLUR = torch.tensor([1.0, 3, 3, 1])


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def definition(x: Tensor, filter: Tensor, up=1, down=1, padding=0, flip_filter=False, gain=1.0) -> Tensor:
    """Zeros inserted, padded or cropped, convolved and decimated one after another, in float64."""
    left, right, top, bottom = [padding] * 4 if isinstance(padding, int) else padding
    taps = filter.double().numpy()
    taps = np.outer(taps, taps) if taps.ndim == 1 else taps
    images = []
    for image in x.detach().double().cpu().numpy().reshape(-1, *x.shape[2:]):
        z = np.zeros((image.shape[0] * up, image.shape[1] * up))
        z[::up, ::up] = image
        z = np.pad(z, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
        z = z[max(-top, 0) : z.shape[0] - max(-bottom, 0), max(-left, 0) : z.shape[1] - max(-right, 0)]
        # SciPy's 'valid' swaps the operands where the image is the smaller one; 'full', cut, does not.
        full = (correlate2d if flip_filter else convolve2d)(z, taps, mode="full")
        valid = full[taps.shape[0] - 1 : z.shape[0], taps.shape[1] - 1 : z.shape[1]]
        images.append(gain * valid[::down, ::down])
    return torch.from_numpy(np.stack(images)).view(*x.shape[:2], *images[0].shape)


CASES = [
    {},
    {"padding": 2},
    {"padding": (1, 2, 3, 0), "gain": 2.5},
    {"padding": (-1, 2, 1, -2)},
    {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    {"up": 2, "padding": (-3, 6, 3, 1)},
    {"down": 2, "padding": 1},
    {"down": 2, "padding": (2, 1, -1, 5)},
    {"up": 3, "down": 2, "padding": (4, 3, -2, 5), "flip_filter": True},
    {"up": 2, "down": 3, "padding": (-3, 6, 2, 2)},
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize(
    "filter",
    [BLUR, random(4, seed=3), random(3, seed=1), random(4, 2, seed=2)],
    ids=["blur", "four taps", "separable", "2d"],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("poisoned")
def test_matches_the_definition(impl, device, options, filter, layout):
    x = random(2, 3, 7, 9).to(device).to(memory_format=layout)
    actual = upfirdn2d(x, filter.to(device), **options, impl=impl)
    assert_rounding(actual, definition(x, filter, **options), filter.numel() ** 2)
    assert actual.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dtypes(impl, device, dtype, layout):
    x = random(2, 16, 5, 6).to(device, dtype).to(memory_format=layout)
    actual = upfirdn2d(x, (BLUR / 8).to(device), up=2, padding=(2, 1, 2, 1), gain=4.0, impl=impl)
    assert actual.dtype == dtype
    assert_rounding(actual, definition(x, BLUR / 8, up=2, padding=(2, 1, 2, 1), gain=4.0), 16)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("poisoned")
def test_many_channels_and_rows(impl, device, layout):
    x = random(1, 132, 19, 37).to(device).to(memory_format=layout)
    for options in ({"padding": 1}, {"up": 2, "padding": (2, 1, 2, 1)}, {"down": 2, "padding": 1}):
        actual = upfirdn2d(x, BLUR.to(device), **options, impl=impl)
        assert_rounding(actual, definition(x, BLUR, **options), 16)


def test_every_instruction_set_agrees(isa):
    for layout in LAYOUTS:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            x = random(1, 70, 9, 11).to(dtype).to(memory_format=layout)
            actual = upfirdn2d(x, BLUR, padding=1, impl="cpu")
            assert_rounding(actual, definition(x, BLUR, padding=1), 16)


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_first_and_second_derivatives(backend, options):
    for layout, filter in zip(LAYOUTS, (BLUR.double(), random(4, 2).double()), strict=True):
        x = random(1, 1, 5, 6).double().to(memory_format=layout).requires_grad_()
        # Squared, so that the second derivative is not 0.
        assert gradcheck(lambda v, f=filter: upfirdn2d(v, f, **options, impl=backend) ** 2, x)
        assert gradgradcheck(lambda v, f=filter: upfirdn2d(v, f, **options, impl=backend) ** 2, x)


@pytest.mark.parametrize("options", CASES)
def test_gradient_is_the_adjoint(impl, device, options):
    x = random(2, 3, 7, 9).to(device).requires_grad_()
    y = upfirdn2d(x, BLUR.to(device), **options, impl=impl)
    weights = random(*y.shape, seed=3).to(device)
    (grad,) = torch.autograd.grad(y, x, weights)
    exact = x.detach().double().requires_grad_()
    expected = upfirdn2d(exact, BLUR.to(device), **options, impl="reference")
    assert_rounding(grad, torch.autograd.grad(expected, exact, weights.double())[0], 16)


def test_filter_gets_no_gradient(impl, device):
    filter = BLUR.to(device).requires_grad_()
    x = random(1, 1, 4, 4).to(device).requires_grad_()
    upfirdn2d(x, filter, padding=2, impl=impl).sum().backward()
    assert filter.grad is None


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty(impl, device, shape):
    x = torch.zeros(shape, device=device, requires_grad=True)
    y = upfirdn2d(x, BLUR.to(device), up=2, padding=(2, 1, 2, 1), impl=impl)
    assert y.shape == (*shape[:2], 8, 10)
    y.sum().backward()
    assert x.grad.shape == shape


def test_strided_input(impl, device):
    x = random(2, 6, 9, 12).to(device)[:, 1:5, 2:, ::2]
    dense = x.clone(memory_format=torch.contiguous_format)
    assert torch.equal(
        upfirdn2d(x, BLUR.to(device), padding=1, impl=impl), upfirdn2d(dense, BLUR.to(device), padding=1, impl=impl)
    )


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 9), st.integers(1, 20)),
    taps=st.one_of(st.tuples(st.integers(1, 6)), st.tuples(st.integers(1, 5), st.integers(1, 5))),
    up=st.integers(1, 4),
    down=st.integers(1, 4),
    padding=st.tuples(*[st.integers(-4, 6)] * 4),
    flip=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
def test_any_shape(shape, taps, up, down, padding, flip, layout):
    filter = random(*taps, seed=1)
    left, right, top, bottom = padding
    height, width = shape[2] * up + top + bottom, shape[3] * up + left + right
    assume(height >= taps[0] and width >= taps[-1])
    x = random(*shape).to(memory_format=layout)
    options = {"up": up, "down": down, "padding": padding, "flip_filter": flip}
    # Crops that leave nothing of one side before the other is padded are beyond the step-by-step definition.
    assume(min(left, right, top, bottom) >= 0 or (height > 0 and -min(left, right) < shape[3] * up))
    assume(-min(top, bottom) < shape[2] * up)
    expected = definition(x, filter, **options)
    exact = upfirdn2d(x.double(), filter.double(), **options, impl="reference")
    torch.testing.assert_close(exact, expected)
    assert_rounding(upfirdn2d(x, filter, **options, impl="cpu"), expected, filter.numel() ** 2)


def test_same_bits_for_any_number_of_threads():
    threads = torch.get_num_threads()
    x = random(2, 40, 30, 31)
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(upfirdn2d(x, BLUR, up=2, padding=2, impl="cpu"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_opcheck():
    x = random(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(torch.ops.garfast.upfirdn2d.default, (x, BLUR, 2, 1, [2, 1, 2, 1], False, 4.0, "cpu"))


def test_compiles_without_a_graph_break():
    def loss(x: Tensor) -> Tensor:
        return (upfirdn2d(x, BLUR, up=2, padding=(2, 1, 2, 1), impl="cpu") ** 2).sum()

    eager, compiled = random(2, 3, 4, 5).requires_grad_(), random(2, 3, 4, 5).requires_grad_()
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    torch.testing.assert_close(compiled.grad, eager.grad)


X = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"x": X[0]}, r"x must have shape \[B, C, H, W\], not \[3, 4, 5\]"),
        ({"filter": X}, r"filter must have shape \[n\], not \[2, 3, 4, 5\]"),
        ({"filter": X[0, 0, 0, :0]}, r"filter must have at least one tap, but has shape \[0\]"),
        ({"filter": [1, 3, 3, 1]}, r"filter must be a tensor of shape \[n\], not list"),
        ({"up": 0}, "up must be an integer of at least 1, not 0"),
        ({"down": 1.5}, "down must be an integer of at least 1, not 1.5"),
        ({"padding": (1, 2)}, r"padding must be an integer or \(left, right, top, bottom\), not \(1, 2\)"),
        ({"padding": 1.5}, r"padding must be an integer or .*, not 1.5"),
        ({"gain": "a"}, "gain must be a number, not 'a'"),
        ({"padding": -1}, r"nothing is left of x of shape \[2, 3, 4, 5\]"),
    ],
)
def test_malformed_arguments_get_a_sentence(impl, options, sentence):
    arguments = {"x": X, "filter": BLUR, **options}
    with pytest.raises(ArgumentError, match=f"upfirdn2d: {sentence}"):
        upfirdn2d(arguments.pop("x"), arguments.pop("filter"), **arguments, impl=impl)


def test_triton_is_refused():
    with pytest.raises(BackendUnavailableError, match="no Triton kernel"):
        upfirdn2d(X, BLUR, impl="triton")


@pytest.mark.gpu
def test_a_launch_that_fails_does_not_fail_the_next():
    x = torch.ones(1, 1, 4, 4, device="cuda")
    with pytest.raises(RuntimeError, match="upfirdn2d"):  # more taps than shared memory holds
        upfirdn2d(x, torch.ones(300, 300, device="cuda"), padding=300, impl="cuda")
    assert upfirdn2d(x, torch.ones(1, device="cuda"), impl="cuda").sum() == 16
