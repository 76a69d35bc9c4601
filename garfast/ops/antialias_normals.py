"""Anti-aliasing of rasterised normals and mask: the kernels behind ``rasterize_normals(..., antialias=True)``.

The equations and a reference in plain PyTorch are in ``garfast.ops.antialias_reference``. Images are flat buffers that
hold one resolution after the other, as ``rasterize_normals`` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from garfast.errors import SecondDerivativeError
from garfast.ops import _dispatch

_OP = "antialias_normals"


def _forward(
    normals: Tensor,
    mask: Tensor,
    ids: Tensor,
    depth: Tensor,
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    vertex_normals: Tensor,
    offsets: Tensor,
    corners: Tensor,
    sizes: Sequence[int],
    pinhole: bool,
    cull: bool,
    near: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blended normals and mask, the sum of weights blended into each pixel, and the slots."""
    batch, count, _ = vertices.shape
    blended_normals, blended_mask, total, slots = _outputs(normals, mask, batch, sizes)
    mesh = (vertices, triangles, camera, vertex_normals, offsets, corners)
    screen = vertices.new_empty(batch, count, 8)
    _dispatch.call_native(
        impl,
        f"antialias_normals_forward_{_dispatch.dtype_suffix(vertices.dtype)}",
        vertices,
        (*(t.contiguous() for t in mesh), normals.contiguous(), mask.contiguous(), ids, depth, screen, slots),
        (blended_normals, blended_mask, total),
        *(list(sizes), batch, count, triangles.shape[0], pinhole, cull, near),
    )
    return blended_normals, blended_mask, total, slots


def _backward(
    grad_normals: Tensor | None,
    grad_mask: Tensor | None,
    normals: Tensor,
    mask: Tensor,
    ids: Tensor,
    depth: Tensor,
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    vertex_normals: Tensor,
    offsets: Tensor,
    corners: Tensor,
    blended_normals: Tensor,
    blended_mask: Tensor,
    total: Tensor,
    slots: Tensor,
    sizes: Sequence[int],
    pinhole: bool,
    cull: bool,
    near: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, count, _ = vertices.shape
    faces = triangles.shape[0]
    mesh = tuple(t.contiguous() for t in (vertices, triangles, camera, vertex_normals, offsets, corners))
    screen, grad_corners = vertices.new_empty(batch, count, 8), vertices.new_empty(batch, 3 * faces, 6)
    grad_input, grad_vertices = torch.empty_like(normals), torch.empty_like(mesh[0])
    grad_vertex_normals, grad_camera_parts = torch.empty_like(mesh[0]), vertices.new_empty(batch, count, 4)
    grads = tuple(None if grad is None else grad.contiguous() for grad in (grad_normals, grad_mask))
    _dispatch.call_native(
        impl,
        f"antialias_normals_backward_{_dispatch.dtype_suffix(vertices.dtype)}",
        vertices,
        (*mesh, normals.contiguous(), mask.contiguous(), ids, depth, screen, slots),
        (blended_normals, blended_mask, total, *grads),
        (grad_corners, grad_input, grad_vertices, grad_vertex_normals, grad_camera_parts),
        *(list(sizes), batch, count, faces, pinhole, cull, near),
    )
    return grad_input, grad_vertices, grad_camera_parts.sum(1), grad_vertex_normals


def _forward_fake(
    normals: Tensor,
    mask: Tensor,
    ids: Tensor,
    depth: Tensor,
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    vertex_normals: Tensor,
    offsets: Tensor,
    corners: Tensor,
    sizes: Sequence[int],
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _outputs(normals, mask, vertices.shape[0], sizes)


def _outputs(normals: Tensor, mask: Tensor, batch: int, sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bordered = sum((height + 2) * (width + 2) for height, width in zip(sizes[::2], sizes[1::2], strict=True))
    slots = mask.new_empty(4 * batch * bordered, dtype=torch.int64)
    return normals.new_empty(normals.shape), mask.new_empty(mask.shape), mask.new_empty(mask.shape), slots


def _backward_fake(
    grad_normals: Tensor | None,
    grad_mask: Tensor | None,
    normals: Tensor,
    mask: Tensor,
    ids: Tensor,
    depth: Tensor,
    vertices: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = vertices.contiguous()
    camera = vertices.new_empty(vertices.shape[0], 4)
    return torch.empty_like(normals), torch.empty_like(like), camera, torch.empty_like(like)


_dispatch.register(
    _OP,
    "(Tensor normals, Tensor mask, Tensor ids, Tensor depth, Tensor vertices, Tensor triangles, Tensor camera, "
    "Tensor vertex_normals, Tensor offsets, Tensor corners, int[] sizes, bool pinhole, bool cull, float near, str impl)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_dispatch.register(
    f"{_OP}_backward",
    "(Tensor? grad_normals, Tensor? grad_mask, Tensor normals, Tensor mask, Tensor ids, Tensor depth, Tensor vertices, "
    "Tensor triangles, Tensor camera, Tensor vertex_normals, Tensor offsets, Tensor corners, Tensor blended_normals, "
    "Tensor blended_mask, Tensor total, Tensor slots, int[] sizes, bool pinhole, bool cull, float near, str impl) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.sizes, ctx.pinhole, ctx.cull, ctx.near, ctx.impl = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2], output[3])
    ctx.save_for_backward(*tensors, *output)


def _autograd(
    ctx: Any, grad_normals: Tensor | None, grad_mask: Tensor | None, grad_total: Tensor | None, grad_slots: Any
) -> tuple[Any, ...]:
    if grad_normals is None and grad_mask is None:
        return (None,) * 15
    tensors = (grad_normals, grad_mask, *ctx.saved_tensors)
    op = _dispatch.operator(f"{_OP}_backward", *tensors)
    normals, vertices, camera, vertex_normals = op(*tensors, ctx.sizes, ctx.pinhole, ctx.cull, ctx.near, ctx.impl)
    return normals, None, None, None, vertices, None, camera, vertex_normals, *((None,) * 7)


def _second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise SecondDerivativeError(
        "rasterize_normals kernels have no second derivative: use impl='reference' where one is needed"
    )


_dispatch.register_autograd(_OP, _autograd, _setup_context)
_dispatch.register_autograd(f"{_OP}_backward", _second_derivative)
