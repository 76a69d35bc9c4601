"""Every operator once, small, forward and backward, for compute-sanitizer: ``python -m benchmarks.sanitized_cases``."""

from __future__ import annotations

import torch
from torch import Tensor

from garfast import ops
from garfast.bench.cases import mesh_cases, modulated_conv2d_cases, noise_bias_act_cases, sphere, upfirdn2d_cases
from garfast.bench.layers import Layer
from garfast.ops import _conv_mma, _conv_triton, _epilogue, _native


def main() -> None:
    """Run the cases on the GPU, with odd channel counts so that edges are met, and by all convolutions."""
    layers = [Layer(8, 24, 40, 1), Layer(16, 24, 20, 2)]
    for dtype in (torch.float32, torch.bfloat16):
        convolutions = modulated_conv2d_cases("cuda", dtype, [2], layers)
        for path in ("library", "mma"):
            with ops.use_convolution(path):
                for case in convolutions:
                    case.make("auto")()
        if not _native.why_not("triton"):
            for case in convolutions:
                case.make("triton")()
        run_tiles("cuda", dtype)
        cases = noise_bias_act_cases("cuda", dtype, [2], [(5, 9)])
        cases += upfirdn2d_cases("cuda", dtype, [1])
        for case in cases:
            case.make("auto")()
    for case in mesh_cases("cuda", [2]):
        case.make("auto")()
    _antialiased_outline()
    torch.cuda.synchronize()


def run_tiles(device: str, dtype: torch.dtype) -> None:
    """Every tile of the tensor-core and Triton convolutions, with every term, on maps that no tile divides."""
    batch, inputs, outputs, height, width = 2, 24, 20, 9, 11

    def normal(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(size, device=device, dtype=dtype)

    x, style = normal(batch, inputs, height, width, dtype=dtype), normal(batch, inputs)
    activation = _epilogue.Activation(0.2, 1.0, 1.0)
    for kernel, up in ((3, 1), (1, 1), (3, 2)):
        weight = normal(outputs, inputs, kernel, kernel, dtype=dtype)
        maps = [normal(batch, 1, up * height, up * width, dtype=dtype) for _ in range(3)]
        terms = (normal(batch, outputs), *maps, normal(), normal(outputs))
        taps = torch.full((4,), 0.25, device=device) if up == 2 else None
        for layout in (torch.contiguous_format, torch.channels_last):
            y = normal(batch, outputs, up * height, up * width, dtype=dtype).contiguous(memory_format=layout)
            f = torch.empty_like(y)
            if not _conv_mma.why_not(x, weight, taps):
                for tile in _conv_mma.tiles_of(x, weight, taps):
                    _conv_mma.forward(x, weight, style, taps, terms, activation, f, y, tile)
        # In one layout: each takes a second to compile.
        if not _native.why_not("triton") and not _conv_triton.why_not(x, weight, taps):
            from garfast.ops.triton import convolution

            for block in _conv_triton.TILES:
                convolution.forward(x, weight, style, terms, activation, f, y, block)


def _antialiased_outline() -> None:
    vertices, triangles = (tensor.to("cuda") for tensor in sphere(12, 9))
    mesh = vertices.expand(2, -1, -1).clone().requires_grad_()
    camera = torch.tensor([0.9, 0.9, 0.0, 0.1], device="cuda")
    for level in ops.rasterize_normals(mesh, triangles, camera, [(9, 13), (32, 32)], antialias=True):
        (level.normals.sum() + level.mask.sum()).backward(retain_graph=True)


if __name__ == "__main__":
    main()
