"""Camera-space normal maps of a batch of meshes, at one or many resolutions in one call.

A vertex (x, y, z) in camera space is projected to normalised device coordinates, y up, the image being [-1, 1]^2:

orthographic (sx, sy, tx, ty):  (sx x + tx, sy y + ty)
pinhole (fx, fy, cx, cy):       (fx x / w + cx, fy y / w + cy),   w = -z > near

At H x W pixels that is u = (ndc_x + 1) W / 2, v = (1 - ndc_y) H / 2; pixels are sampled at their centres p. With
r_k = (u_k, v_k) - p for the corners k of a triangle

e_k = r_{k+1} x r_{k+2}         edge functions: all positive inside a front face
q_k = e_k / w_k                 (w = 1 under orthography)
b_k = q_k / (q_0 + q_1 + q_2)   perspective-correct barycentrics
depth = sum_k b_k d_k,  d = -z
n = m / |m|,  m = sum_k b_k n_k

The nearest triangle is seen; of equally near ones, the one with the lowest index. A centre exactly on an edge belongs
to the triangle of which it is a top or left edge, so neighbours leave no holes and share no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from garfast.errors import ArgumentError, SecondDerivativeError
from garfast.ops import _dispatch
from garfast.ops import antialias_normals as _antialias_normals  # noqa: F401  registers garfast::antialias_normals
from garfast.ops.rasterize_reference import rasterize_normals_reference
from garfast.ops.vertex_normals import VertexAdjacency, check_adjacency, vertex_normals

_OP = "rasterize_normals"
_MAX_LEVELS = 16
_MAX_SIZE = 16384

Resolution = int | tuple[int, int]


class RasterOutput(NamedTuple):
    """What a mesh looks like at one resolution. Row 0 is the top of the image."""

    normals: Tensor
    """[B, 3, H, W] camera-space normals, unit length, 0 where no triangle is seen; with antialias blended, and so
    shorter, along the outline."""
    mask: Tensor
    """[B, 1, H, W] 1 where a triangle is seen, else 0; with antialias the covered part of pixels along the outline."""
    triangle_ids: Tensor
    """[B, H, W] int32, the triangle seen, -1 where there is none. No gradient."""
    barycentrics: Tensor
    """[B, 3, H, W] of the point seen, in the order of the triangle's vertices, summing to 1; 0 where there is none."""
    depth: Tensor
    """[B, 1, H, W] -z of the point seen, in the vertices' unit: the smaller the nearer, always positive for the pinhole
    camera, of any sign for the orthographic one; 0 where no triangle is seen (look at the mask)."""


def rasterize_normals(
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    resolutions: Resolution | Sequence[Resolution],
    *,
    projection: str = "orthographic",
    normals: Tensor | None = None,
    adjacency: VertexAdjacency | None = None,
    cull_backfaces: bool = True,
    antialias: bool = False,
    near: float = 1e-2,
    impl: str = "auto",
) -> Any:
    """Render camera-space normals, mask, triangle ids, barycentrics and depth of a batch of meshes.

    Args:
        vertices: [B, V, 3] in camera space (x right, y up, the camera looks along -z), any unit; float32 or float64
            (float16 and bfloat16 are computed in float32; CUDA tensors in float64 by the reference).
        triangles: [F, 3] int32 or int64, counter-clockwise seen from outside.
        camera: [B, 4] or [4], independent of the resolution: (sx, sy, tx, ty) or (fx, fy, cx, cy) as above; the
            cameras of ``garfast.morphable`` give it with ``.ndc()``.
        resolutions: pixels: N (for N x N) or a tuple (H, W); or a sequence of at most 16 of them, which is rendered
            in one pass. A tuple of two ints is one resolution (H, W), a list of two ints is two resolutions.
        projection: 'orthographic' or 'pinhole'.
        normals: [B, V, 3] the vertices' normals in camera space; ``vertex_normals(vertices, triangles)`` when None.
        adjacency: VertexAdjacency.build(triangles, V); built on the fly when None. Give it in loops.
        cull_backfaces: leave out triangles that are clockwise on the image.
        antialias: blend normals and mask along the outline by how much of each pixel it covers, so that they change
            continuously with the mesh and their gradient moves the outline (``garfast.ops.antialias_reference`` says
            how). Continuous except where what is hidden changes and at corners of outlines parallel to the pixel grid.
        near: pinhole: triangles with a vertex that is not farther than this are left out, whole (they are not clipped).
        impl: 'auto', 'reference', 'cpu' or 'cuda'.

    Returns:
        A RasterOutput for one resolution, a list of them for a sequence; in the dtype of ``vertices``.

    Triangles with a vertex that is not finite, or more than 1e5 half-images off centre, are left out, as are triangles
    without area on the image. Normals, barycentrics and depth are differentiable once with respect to ``vertices``,
    ``camera`` and ``normals`` (through pixel positions too), so is the mask with ``antialias``; ids are not. The
    kernels keep the arguments and the triangle ids for the backward (with ``antialias`` also 64 bytes a pixel) and are
    deterministic, whatever the number of threads.

    Raises:
        ArgumentError: an argument has the wrong type or shape, or (on the CPU) a triangle names a missing vertex.
        BackendUnavailableError: ``impl`` cannot run here.
        SecondDerivativeError: a second derivative was asked of a kernel; impl='reference' has one.
    """
    _dispatch.check_tensor(_OP, "vertices", vertices, ["B", "V", 3])
    _dispatch.check_tensor(_OP, "triangles", triangles, ["F", 3], floating=False, like=vertices)
    batch, count, _ = vertices.shape
    one_camera = isinstance(camera, Tensor) and camera.dim() == 1
    _dispatch.check_tensor(_OP, "camera", camera, [4] if one_camera else [batch, 4], like=vertices)
    if normals is not None:
        _dispatch.check_tensor(_OP, "normals", normals, [batch, count, 3], like=vertices)
    if projection not in ("orthographic", "pinhole"):
        raise ArgumentError(f"{_OP}: projection must be 'orthographic' or 'pinhole', not {projection!r}")
    _dispatch.check_number(_OP, "near", near)
    if projection == "pinhole" and not near > 0:
        raise ArgumentError(f"{_OP}: near must be positive, not {near}")
    sizes, single = _sizes(resolutions)
    backend = _dispatch.resolve(_OP, impl, vertices.device)
    dtype = torch.float32 if vertices.dtype in (torch.float16, torch.bfloat16) else vertices.dtype
    if backend == "cuda" and dtype == torch.float64:
        if impl == "cuda":
            raise ArgumentError(f"{_OP}: impl='cuda' computes in float32: convert the vertices or use impl='reference'")
        backend = "reference"
    mesh = _dispatch.as_dtype(vertices, dtype)
    cameras = _dispatch.expanded(_dispatch.as_dtype(camera, dtype), (batch, 4))
    if normals is not None:
        normals = _dispatch.as_dtype(normals, dtype)
    pinhole = projection == "pinhole"
    if backend == "reference":
        _dispatch.check_indices(_OP, "triangles", triangles, count)
        if normals is None:
            normals = vertex_normals(mesh, triangles, adjacency=adjacency, impl=impl)
        levels = [
            RasterOutput(
                *rasterize_normals_reference(
                    mesh, triangles, cameras, normals, size, pinhole, cull_backfaces, near, antialias
                )
            )
            for size in sizes
        ]
    else:
        faces = _dispatch.int32_indices(_OP, "triangles", triangles, count)
        if adjacency is None:
            adjacency = VertexAdjacency.of_checked(faces, count)
        else:
            check_adjacency(_OP, adjacency, triangles, count)
        options = ([length for size in sizes for length in size], pinhole, cull_backfaces, near, backend)
        op = _dispatch.operator(_OP, mesh, cameras, normals)
        n, m, ids, b, d, own_normals, _ = op(mesh, faces, cameras, normals, *adjacency, *options)
        if antialias:
            seen = (n, m, ids, d.detach(), mesh, faces, cameras, own_normals if normals is None else normals)
            n, m, _, _ = _dispatch.operator("antialias_normals", *seen)(*seen, *adjacency, *options)
        levels = _levels((n, m, ids, b, d), batch, sizes)
    if dtype != vertices.dtype:
        levels = [
            RasterOutput(n.to(vertices.dtype), m.to(vertices.dtype), ids, b.to(vertices.dtype), d.to(vertices.dtype))
            for n, m, ids, b, d in levels
        ]
    return levels[0] if single else levels


def interpolate(attributes: Tensor, triangles: Tensor, output: RasterOutput) -> Tensor:
    """Per-vertex attributes (colours, texture coordinates, positions) at the pixels of a rasterised mesh.

    Args:
        attributes: [B, V, C] or [V, C], floating point.
        triangles: [F, 3], as given to ``rasterize_normals``.
        output: what it returned.

    Returns:
        [B, C, H, W] sum_k b_k a_k, 0 where no triangle is seen. Differentiable in ``attributes`` and through
        ``output.barycentrics``.

    Raises:
        ArgumentError: an argument has the wrong type or shape.
    """
    batch = output.triangle_ids.shape[0]
    shared = isinstance(attributes, Tensor) and attributes.dim() == 2
    _dispatch.check_tensor("interpolate", "attributes", attributes, ["V", "C"] if shared else [batch, "V", "C"])
    _dispatch.check_tensor("interpolate", "triangles", triangles, ["F", 3], floating=False, like=attributes)
    if triangles.shape[0] == 0:
        return attributes.new_zeros(batch, attributes.shape[-1], *output.triangle_ids.shape[1:])
    corners = triangles.long()[output.triangle_ids.clamp(min=0).long()]  # [B, H, W, 3]
    if shared:
        values = attributes[corners]
    else:
        sample = torch.arange(batch, device=attributes.device)[:, None, None, None]
        values = attributes[sample, corners]  # [B, H, W, 3, C]
    weights = output.barycentrics.permute(0, 2, 3, 1)[..., None]
    mixed = (values * weights).sum(-2).permute(0, 3, 1, 2)
    # Not by a weight of 0: an attribute that is not finite would still show.
    return torch.where(output.triangle_ids[:, None] >= 0, mixed, 0)


def _sizes(resolutions: Any) -> tuple[list[tuple[int, int]], bool]:
    """The resolutions as (height, width) and whether there is just one, not a sequence."""
    single = isinstance(resolutions, int) or _is_pair(resolutions)
    entries = [resolutions] if single else resolutions
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ArgumentError(f"{_OP}: resolutions must be N, (H, W) or a sequence of them, not {resolutions!r}")
    sizes = []
    for entry in entries:
        if not (isinstance(entry, int) or _is_pair(entry)):
            raise ArgumentError(f"{_OP}: a resolution must be N or (H, W), not {entry!r}")
        height, width = (entry, entry) if isinstance(entry, int) else entry
        if not (1 <= height <= _MAX_SIZE and 1 <= width <= _MAX_SIZE):
            raise ArgumentError(f"{_OP}: a resolution must lie in 1..{_MAX_SIZE}, not {entry!r}")
        sizes.append((height, width))
    if not 1 <= len(sizes) <= _MAX_LEVELS:
        raise ArgumentError(f"{_OP}: 1 to {_MAX_LEVELS} resolutions can be rendered in one call, not {len(sizes)}")
    if sum(height * width for height, width in sizes) >= 2**31:  # pixels are numbered in int32
        raise ArgumentError(f"{_OP}: resolutions must have fewer than 2^31 pixels together, not {resolutions!r}")
    return sizes, single


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(length, int) for length in value)


def _levels(images: Sequence[Tensor], batch: int, sizes: list[tuple[int, int]]) -> list[RasterOutput]:
    """Cut the flat images of all levels into levels; `split` makes the backward one concatenation."""
    pixels = [batch * height * width for height, width in sizes]
    pixels3 = [3 * n for n in pixels]
    normals, mask, ids, barycentrics, depth = images
    flat = zip(
        normals.split_with_sizes(pixels3),
        mask.split_with_sizes(pixels),
        ids.split_with_sizes(pixels),
        barycentrics.split_with_sizes(pixels3),
        depth.split_with_sizes(pixels),
        sizes,
        strict=True,
    )
    return [
        RasterOutput(
            n.view(batch, 3, height, width),
            m.view(batch, 1, height, width),
            i.view(batch, height, width),
            b.view(batch, 3, height, width),
            d.view(batch, 1, height, width),
        )
        for n, m, i, b, d, (height, width) in flat
    ]


def _pixels(batch: int, sizes: Sequence[int]) -> int:
    return batch * sum(height * width for height, width in zip(sizes[::2], sizes[1::2], strict=True))


def _forward(
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    normals: Tensor | None,
    offsets: Tensor,
    corners: Tensor,
    sizes: Sequence[int],
    pinhole: bool,
    cull: bool,
    near: float,
    impl: str,
) -> tuple[Tensor, ...]:
    batch, count, _ = vertices.shape
    _dispatch.check_indices(_OP, "triangles", triangles, count)
    vertices, triangles = vertices.contiguous(), triangles.contiguous()
    *images, own_normals, inverse_length = outputs = _outputs(vertices, triangles, normals is None, sizes)
    dtype = _dispatch.dtype_suffix(vertices.dtype)
    if normals is None:
        _dispatch.call_native(
            impl,
            f"vertex_normals_forward_{dtype}",
            vertices,
            *(vertices, triangles, offsets.contiguous(), corners.contiguous(), own_normals, inverse_length),
            *(batch, count),
        )
        normals = own_normals
    screen = vertices.new_empty(batch, count, 8)
    keys = vertices.new_empty(_pixels(batch, sizes), dtype=torch.int64) if impl == "cuda" else None
    _dispatch.call_native(
        impl,
        f"rasterize_normals_forward_{dtype}",
        vertices,
        *(vertices, triangles, camera.contiguous(), normals.contiguous(), *images, screen, keys),
        *(list(sizes), batch, count, triangles.shape[0], pinhole, cull, near),
    )
    return outputs


def _outputs(vertices: Tensor, triangles: Tensor, own_normals: bool, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """The results of the forward, unwritten."""
    batch, count, _ = vertices.shape
    pixels = _pixels(batch, sizes)
    return (
        vertices.new_empty(3 * pixels),
        vertices.new_empty(pixels),
        triangles.new_empty(pixels),
        vertices.new_empty(3 * pixels),
        vertices.new_empty(pixels),
        vertices.new_empty((batch, count, 3) if own_normals else 0),
        vertices.new_empty((batch, count) if own_normals else 0),
    )


def _backward(
    grad_normals: Tensor | None,
    grad_barycentrics: Tensor | None,
    grad_depth: Tensor | None,
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    normals: Tensor,
    offsets: Tensor,
    corners: Tensor,
    ids: Tensor,
    sizes: Sequence[int],
    pinhole: bool,
    cull: bool,
    near: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, count, _ = vertices.shape
    faces = triangles.shape[0]
    vertices = vertices.contiguous()
    grads = [None if grad is None else grad.contiguous() for grad in (grad_normals, grad_barycentrics, grad_depth)]
    screen, grad_corners = vertices.new_empty(batch, count, 8), vertices.new_empty(batch, 3 * faces, 6)
    grad_vertices, grad_vertex_normals = torch.empty_like(vertices), torch.empty_like(vertices)
    grad_camera_parts = vertices.new_empty(batch, count, 4)
    _dispatch.call_native(
        impl,
        f"rasterize_normals_backward_{_dispatch.dtype_suffix(vertices.dtype)}",
        vertices,
        *(vertices, triangles.contiguous(), camera.contiguous(), normals.contiguous(), offsets.contiguous()),
        *(corners.contiguous(), ids.contiguous(), *grads, screen, grad_corners),
        *(grad_vertices, grad_vertex_normals, grad_camera_parts),
        *(list(sizes), batch, count, faces, pinhole, cull, near),
    )
    return grad_vertices, grad_camera_parts.sum(1), grad_vertex_normals


def _forward_fake(
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    normals: Tensor | None,
    offsets: Tensor,
    corners: Tensor,
    sizes: Sequence[int],
    *rest: Any,
) -> tuple[Tensor, ...]:
    return _outputs(vertices, triangles, normals is None, sizes)


# Without `normals` it makes the vertices' own: its last result but one. The last is what their backward needs.
_dispatch.register(
    _OP,
    "(Tensor vertices, Tensor triangles, Tensor camera, Tensor? normals, Tensor offsets, Tensor corners, int[] sizes, "
    "bool pinhole, bool cull, float near, str impl) -> (Tensor normals, Tensor mask, Tensor ids, Tensor barycentrics, "
    "Tensor depth, Tensor vertex_normals, Tensor inverse_length)",
    _forward,
    _forward_fake,
)


def _backward_fake(
    grad_normals: Tensor | None,
    grad_barycentrics: Tensor | None,
    grad_depth: Tensor | None,
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    like = vertices.contiguous()
    return torch.empty_like(like), vertices.new_empty(vertices.shape[0], 4), torch.empty_like(like)


_dispatch.register(
    f"{_OP}_backward",
    "(Tensor? grad_normals, Tensor? grad_barycentrics, Tensor? grad_depth, Tensor vertices, Tensor triangles, "
    "Tensor camera, Tensor normals, Tensor offsets, Tensor corners, Tensor ids, int[] sizes, bool pinhole, bool cull, "
    "float near, str impl) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    vertices, triangles, camera, normals, offsets, corners, *ctx.options = inputs
    _, mask, ids, _, _, own_normals, inverse_length = output
    ctx.own_normals = normals is None
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(mask, ids, inverse_length, *(() if ctx.own_normals else (own_normals,)))
    ctx.save_for_backward(
        *(vertices, triangles, camera, own_normals if normals is None else normals, offsets, corners, ids),
        inverse_length if ctx.own_normals else None,
    )


def _autograd(
    ctx: Any,
    grad_images: Tensor | None,
    grad_mask: Tensor | None,
    grad_ids: Tensor | None,
    grad_barycentrics: Tensor | None,
    grad_depth: Tensor | None,
    grad_own_normals: Tensor | None,
    grad_inverse_length: Tensor | None,
) -> tuple[Any, ...]:
    *mesh, ids, inverse_length = ctx.saved_tensors
    vertices, triangles, _, normals, offsets, corners = mesh
    grad_vertices = grad_camera = grad_normals = None
    if not (grad_images is None and grad_barycentrics is None and grad_depth is None):
        tensors = (grad_images, grad_barycentrics, grad_depth, *mesh, ids)
        op = _dispatch.operator(f"{_OP}_backward", *tensors)
        grad_vertices, grad_camera, grad_normals = op(*tensors, *ctx.options)
    if ctx.own_normals:
        # Where the anti-aliasing used them too, its share comes back here.
        grad_own_normals = _sum(grad_normals, grad_own_normals)
        grad_normals = None
        if grad_own_normals is not None and ctx.needs_input_grad[0]:
            tensors = (grad_own_normals, vertices, triangles, offsets, corners, normals, inverse_length)
            through_normals = _dispatch.operator("vertex_normals_backward", *tensors)(*tensors, ctx.options[-1])
            grad_vertices = _sum(grad_vertices, through_normals)
    return grad_vertices, None, grad_camera, grad_normals, *((None,) * 7)


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """first + second; None counts as nothing."""
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise SecondDerivativeError(f"{_OP} kernels have no second derivative: use impl='reference' where one is needed")


_dispatch.register_autograd(_OP, _autograd, _setup_context)
_dispatch.register_autograd(f"{_OP}_backward", _second_derivative)
