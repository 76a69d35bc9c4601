"""What is measured: each operator at the sizes that matter, forward and with backward, for any backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from garfast import ops
from garfast.bench.layers import GENERATOR_256, Layer
from garfast.bench.timing import Function

DIRECTIONS = ("forward", "forward+backward")


@dataclass(frozen=True)
class Case:
    """One measurement: ``make(impl)`` gives the function that is timed."""

    op: str
    label: str
    batch: int
    dtype: torch.dtype
    direction: str
    flops: float  # of the forward
    min_bytes: float  # that the forward must move
    make: Callable[[str], Function]
    # A copy of the operator's input into newly allocated memory, the least that a pass over it can cost; or None.
    make_clone: Callable[[], Function] | None = None

    @property
    def name(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.op} {self.label} batch {self.batch} {dtype} {self.direction}"


def _timed(run: Callable[[], Tensor | list[Tensor]], leaves: Sequence[Tensor], direction: str) -> Function:
    """The forward, without recording a graph; or forward and the gradients of ``leaves``."""
    if direction == "forward":

        def forward() -> Tensor | list[Tensor]:
            with torch.no_grad():
                return run()

        return forward
    for leaf in leaves:
        leaf.requires_grad_()
    with torch.no_grad():
        out = run()
    grads = [torch.randn_like(value) for value in ([out] if isinstance(out, Tensor) else out)]

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(), leaves, grads)

    return both


def styled_arguments(layer: Layer, batch: int, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random tensor arguments of modulated_conv2d, by name."""
    size, source = layer.resolution, layer.resolution // layer.up
    new: Any = {"device": device, "dtype": dtype}
    # These the operator takes in float32: in another format it would convert them at every call.
    small: Any = {"device": device, "dtype": torch.float32 if dtype.itemsize == 2 else dtype}
    x = torch.randn(batch, layer.in_channels, source, source, **new)
    weight = torch.randn(layer.out_channels, layer.in_channels, 3, 3, **new) / math.sqrt(9 * layer.in_channels)
    if x.is_cuda and dtype.itemsize == 2:  # as the generator keeps them, see docs/convolutions.md
        x, weight = (value.contiguous(memory_format=torch.channels_last) for value in (x, weight))
    return {
        "x": x,
        "weight": weight,
        "style": 1 + 0.1 * torch.randn(batch, layer.in_channels, **small),
        "scale_map": 1 + 0.1 * torch.randn(batch, 1, size, size, **new),
        "shift_map": 0.1 * torch.randn(batch, 1, size, size, **new),
        "noise": torch.randn(batch, 1, size, size, **new),
        "noise_strength": torch.full((), 0.1, **small),
        "bias": torch.randn(layer.out_channels, **small),
    }


def modulated_conv2d_cases(
    device: str, dtype: torch.dtype, batches: Iterable[int], layers: Sequence[Layer] = tuple(GENERATOR_256)
) -> list[Case]:
    """Every styled convolution of the generator with its whole epilogue: maps, noise, bias, leaky ReLU."""
    cases = []
    for batch in batches:
        for layer in layers:
            for direction in DIRECTIONS:

                def make(impl: str, layer: Layer = layer, batch: int = batch, direction: str = direction) -> Function:
                    arguments = styled_arguments(layer, batch, device, dtype)
                    run = partial(ops.modulated_conv2d, **arguments, up=layer.up, impl=impl)  # type: ignore[arg-type]
                    return _timed(run, list(arguments.values()), direction)

                bytes_ = layer.min_bytes(batch, dtype.itemsize)
                flops = layer.flops(batch)
                cases.append(Case("modulated_conv2d", layer.name, batch, dtype, direction, flops, bytes_, make))
    return cases


def noise_bias_act_cases(
    device: str, dtype: torch.dtype, batches: Iterable[int], shapes: Iterable[tuple[int, int]] = ((256, 64), (128, 256))
) -> list[Case]:
    """The epilogue alone on [batch, channels, size, size] for (channels, size) in ``shapes``."""
    cases = []
    for batch in batches:
        for count, size in shapes:
            for direction in DIRECTIONS:

                def make(
                    impl: str, batch: int = batch, count: int = count, size: int = size, direction: str = direction
                ) -> Function:
                    new: Any = {"device": device, "dtype": dtype}
                    x = torch.randn(batch, count, size, size, **new)
                    scale_map = 1 + 0.1 * torch.randn(batch, 1, size, size, **new)
                    shift_map, noise = torch.randn(2, batch, 1, size, size, **new)
                    strength, bias = torch.full((), 0.1, **new), torch.randn(count, **new)

                    def run() -> Tensor:
                        return ops.noise_bias_act(
                            x,
                            scale_map=scale_map,
                            shift_map=shift_map,
                            noise=noise,
                            noise_strength=strength,
                            bias=bias,
                            impl=impl,
                        )

                    return _timed(run, [x, scale_map, shift_map, strength, bias], direction)

                def make_clone(batch: int = batch, count: int = count, size: int = size) -> Function:
                    return torch.randn(batch, count, size, size, device=device, dtype=dtype).clone

                elements = batch * size * size * (2 * count + 3)
                label = f"{count}x{size}x{size}"
                clone = make_clone if direction == "forward" else None
                bytes_ = elements * dtype.itemsize
                cases.append(Case("noise_bias_act", label, batch, dtype, direction, 0, bytes_, make, clone))
    return cases


def upfirdn2d_cases(device: str, dtype: torch.dtype, batches: Iterable[int]) -> list[Case]:
    """The ToRGB skip's up-sampling and a blur of a wide layer."""
    cases = []
    for batch in batches:
        for count, size, up in ((3, 128, 2), (128, 64, 1)):
            for direction in DIRECTIONS:

                def make(
                    impl: str,
                    batch: int = batch,
                    count: int = count,
                    size: int = size,
                    up: int = up,
                    direction: str = direction,
                ) -> Function:
                    x = torch.randn(batch, count, size, size, device=device, dtype=dtype)
                    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device) / 8
                    padding = (2, 1, 2, 1) if up == 2 else (1, 2, 1, 2)

                    def run() -> Tensor:
                        return ops.upfirdn2d(x, taps, up=up, padding=padding, gain=up * up, impl=impl)

                    return _timed(run, [x], direction)

                elements = batch * count * size * size * (1 + up * up)
                label = f"{count}x{size}x{size} up {up}"
                cases.append(Case("upfirdn2d", label, batch, dtype, direction, 0, elements * dtype.itemsize, make))
    return cases


def sphere(rows: int, columns: int, radius: float = 0.9) -> tuple[Tensor, Tensor]:
    """A bumpy closed mesh [V, 3] with about 2 * rows * columns triangles [F, 3], as dense as a face model's."""
    theta, phi = torch.meshgrid(
        torch.linspace(0.02, math.pi - 0.02, rows + 1), torch.linspace(0, 2 * math.pi, columns + 1)[:-1], indexing="ij"
    )
    r = radius * (1 + 0.04 * torch.sin(9 * theta) * torch.cos(7 * phi))
    vertices = torch.stack([r * theta.sin() * phi.sin(), r * theta.cos(), r * theta.sin() * phi.cos()], -1)
    i = torch.arange((rows + 1) * columns).reshape(rows + 1, columns)
    a, b, c, d = i[:-1], i[1:], i[1:].roll(-1, 1), i[:-1].roll(-1, 1)
    triangles = torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)], 2)
    return vertices.reshape(-1, 3).contiguous(), triangles.reshape(-1, 3).to(torch.int32)


def mesh_cases(device: str, batches: Iterable[int]) -> list[Case]:
    """vertex_normals, and rasterize_normals of the pyramid 4..256, on a mesh of 15,000 triangles."""
    vertices, triangles = (t.to(device) for t in sphere(86, 87))
    adjacency = ops.VertexAdjacency.build(triangles, len(vertices))
    camera = torch.tensor([1.0, 1.0, 0.0, 0.0], device=device)
    sizes = [4, 8, 16, 32, 64, 128, 256]
    cases = []
    for batch in batches:
        for direction in DIRECTIONS:

            def make_normals(impl: str, batch: int = batch, direction: str = direction) -> Function:
                mesh = vertices.expand(batch, -1, -1).contiguous()
                return _timed(
                    lambda: ops.vertex_normals(mesh, triangles, adjacency=adjacency, impl=impl), [mesh], direction
                )

            def make_maps(impl: str, batch: int = batch, direction: str = direction) -> Function:
                mesh = vertices.expand(batch, -1, -1).contiguous()

                def run() -> list[Tensor]:
                    levels = ops.rasterize_normals(mesh, triangles, camera, sizes, adjacency=adjacency, impl=impl)
                    return [level.normals for level in levels]

                return _timed(run, [mesh], direction)

            mesh_bytes = 4.0 * (batch * 6 * len(vertices) + 2 * triangles.numel())
            map_bytes = 4.0 * batch * sum(size * size for size in sizes) * 9
            label = f"{len(triangles)} triangles"
            f32 = torch.float32
            cases.append(Case("vertex_normals", label, batch, f32, direction, 0, mesh_bytes, make_normals))
            label += ", pyramid 4..256"
            cases.append(Case("rasterize_normals", label, batch, f32, direction, 0, mesh_bytes + map_bytes, make_maps))
    return cases
