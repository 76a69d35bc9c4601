"""Every operator once, small, forward and backward, for compute-sanitizer: ``python -m benchmarks.sanitized_cases``."""

from __future__ import annotations

import torch

from garfast import ops
from garfast.bench.cases import mesh_cases, modulated_conv2d_cases, noise_bias_act_cases, sphere, upfirdn2d_cases
from garfast.bench.layers import Layer


def main() -> None:
    """Run the cases on the GPU, with odd channel counts so that edges are met, and by all convolutions."""
    layers = [Layer(8, 24, 40, 1), Layer(16, 24, 20, 2)]
    for dtype in (torch.float32, torch.bfloat16):
        convolutions = modulated_conv2d_cases("cuda", dtype, [2], layers)
        for path in ("library", "mma"):
            with ops.use_convolution(path):
                for case in convolutions:
                    case.make("auto")()
        for case in convolutions:
            case.make("triton")()
        cases = noise_bias_act_cases("cuda", dtype, [2], [(5, 9)])
        cases += upfirdn2d_cases("cuda", dtype, [1])
        for case in cases:
            case.make("auto")()
    for case in mesh_cases("cuda", [2]):
        case.make("auto")()
    _antialiased_outline()
    torch.cuda.synchronize()


def _antialiased_outline() -> None:
    vertices, triangles = (tensor.to("cuda") for tensor in sphere(12, 9))
    mesh = vertices.expand(2, -1, -1).clone().requires_grad_()
    camera = torch.tensor([0.9, 0.9, 0.0, 0.1], device="cuda")
    for level in ops.rasterize_normals(mesh, triangles, camera, [(9, 13), (32, 32)], antialias=True):
        (level.normals.sum() + level.mask.sum()).backward(retain_graph=True)


if __name__ == "__main__":
    main()
