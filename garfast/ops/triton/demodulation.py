"""What a modulated convolution's results are divided by, in one launch, see csrc/cuda/demodulation.cu."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from garfast.ops import _dispatch

_OUTPUTS, _INPUTS = 4, 128


@triton.jit
def _garfast_demodulation_kernel(
    weight, style, d, norms, batch, outputs, inputs, input_stride, tap_stride, eps,
    TAPS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    # Some outputs of some samples; the weights' norms are summed again for every group of samples.
    output_blocks = tl.cdiv(outputs, OUTPUTS)
    first = tl.program_id(0) // output_blocks
    output = tl.program_id(0) % output_blocks * OUTPUTS + tl.arange(0, OUTPUTS)
    sample = first * SAMPLES + tl.arange(0, SAMPLES)
    row = output[:, None].to(tl.int64) * inputs
    total = tl.zeros((SAMPLES, OUTPUTS), tl.float32)
    for start in range(0, inputs, INPUTS):
        channel = start + tl.arange(0, INPUTS)
        inside = (output < outputs)[:, None] & (channel < inputs)[None, :]
        norm = tl.zeros((OUTPUTS, INPUTS), tl.float32)
        for tap in range(TAPS):
            at = row * TAPS + channel[None, :] * input_stride + tap * tap_stride
            w = tl.load(weight + at, inside, 0).to(tl.float32)
            norm += w * w
        if first == 0:
            tl.store(norms + row + channel[None, :], norm, inside)
        there = (sample < batch)[:, None] & (channel < inputs)[None, :]
        s = tl.load(style + sample[:, None] * inputs + channel[None, :], there, 0)
        total += tl.sum((s * s)[:, None, :] * norm[None, :, :], 2)
    there = (sample < batch)[:, None] & (output < outputs)[None, :]
    tl.store(d + sample[:, None] * outputs + output[None, :], 1 / tl.sqrt(total + eps), there)


def demodulation(weight: Tensor, style: Tensor, eps: float, d: Tensor, norms: Tensor) -> None:
    """Write d [B, O] and the norms [O, I].

    Args:
        weight: [O, I, k, k], contiguous or channels_last.
        style: [B, I] float32, contiguous.
    """
    batch, inputs = style.shape
    outputs, _, height, width = weight.shape
    samples = min(8, triton.next_power_of_2(max(batch, 1)))
    grid = (triton.cdiv(outputs, _OUTPUTS) * max(triton.cdiv(batch, samples), 1),)
    with _dispatch.device_of(weight):
        _garfast_demodulation_kernel[grid](
            *(weight, style, d, norms, batch, outputs, inputs, weight.stride(1), weight.stride(3), eps),
            TAPS=height * width,
            OUTPUTS=_OUTPUTS,
            INPUTS=_INPUTS,
            SAMPLES=samples,
        )
