"""Area-weighted unit vertex normals of a batch of meshes that share one topology.

c_f = (b - a) x (c - a)      for every triangle f = (a, b, c): twice its area times its normal
S_v = sum of c_f over the triangles at v
n_v = S_v / |S_v|            0 where |S_v| = 0
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from garfast.errors import ArgumentError, SecondDerivativeError
from garfast.ops import _dispatch

_OP = "vertex_normals"


class VertexAdjacency(NamedTuple):
    """The corners at each vertex, in compressed rows; corner c is vertex c % 3 of triangle c // 3.

    Build it once for a topology and pass it to the operators in loops: it is what lets them gather per vertex, which
    is deterministic and needs no atomics.
    """

    offsets: Tensor  # [V + 1] int32: the corners of vertex v are corners[offsets[v]:offsets[v + 1]]
    corners: Tensor  # [3F] int32, ascending within a vertex

    @staticmethod
    def build(triangles: Tensor, num_vertices: int) -> VertexAdjacency:
        """Sort the corners of ``triangles`` [F, 3] by vertex; no host synchronisation.

        Raises:
            ArgumentError: ``triangles`` is not an integer tensor [F, 3], or (on the CPU) names a missing vertex.
        """
        _dispatch.check_tensor("VertexAdjacency.build", "triangles", triangles, ["F", 3], floating=False)
        _dispatch.check_indices("VertexAdjacency.build", "triangles", triangles, num_vertices)
        return VertexAdjacency.of_checked(triangles, num_vertices)

    @staticmethod
    def of_checked(triangles: Tensor, num_vertices: int) -> VertexAdjacency:
        """As :meth:`build`, for indices that were looked at already."""
        vertex_of_corner, corners = torch.sort(triangles.reshape(-1), stable=True)
        rows = torch.arange(num_vertices + 1, device=triangles.device, dtype=vertex_of_corner.dtype)
        offsets = torch.searchsorted(vertex_of_corner, rows, out_int32=True)
        return VertexAdjacency(offsets, corners.to(torch.int32))

    def to(self, device: torch.device | str) -> VertexAdjacency:
        """The same on another device."""
        return VertexAdjacency(self.offsets.to(device), self.corners.to(device))


def vertex_normals(
    vertices: Tensor,
    triangles: Tensor,
    *,
    adjacency: VertexAdjacency | None = None,
    impl: str = "auto",
) -> Tensor:
    """Area-weighted unit vertex normals.

    Args:
        vertices: [B, V, 3] or [V, 3], any unit; float32 or float64 (float16 and bfloat16 are computed in float32).
        triangles: [F, 3] int32 or int64, counter-clockwise seen from outside.
        adjacency: VertexAdjacency.build(triangles, V); built on the fly when None.
        impl: 'auto', 'reference', 'cpu' or 'cuda'.

    Returns:
        Normals of the shape and dtype of ``vertices``: unit length, pointing outside; 0 at vertices without area.

    Differentiable once with respect to ``vertices``; the kernels keep [B, V, 4] numbers for the backward.

    Raises:
        ArgumentError: an argument has the wrong type or shape, or (on the CPU) a triangle names a missing vertex.
        BackendUnavailableError: ``impl`` cannot run here.
        SecondDerivativeError: a second derivative was asked of a kernel; impl='reference' has one.
    """
    batched = vertices.dim() != 2 if isinstance(vertices, Tensor) else True
    _dispatch.check_tensor(_OP, "vertices", vertices, ["B", "V", 3] if batched else ["V", 3])
    _dispatch.check_tensor(_OP, "triangles", triangles, ["F", 3], floating=False, like=vertices)
    backend = _dispatch.resolve(_OP, impl, vertices.device)
    mesh = vertices if batched else vertices[None]
    if mesh.dtype in (torch.float16, torch.bfloat16):
        mesh = mesh.float()
    if backend == "reference":
        _dispatch.check_indices(_OP, "triangles", triangles, mesh.shape[1])
        normals = vertex_normals_reference(mesh, triangles)
    else:
        faces = _dispatch.int32_indices(_OP, "triangles", triangles, mesh.shape[1])
        if adjacency is None:
            adjacency = VertexAdjacency.of_checked(faces, mesh.shape[1])
        else:
            check_adjacency(_OP, adjacency, triangles, mesh.shape[1])
        normals, _ = _dispatch.operator(_OP, mesh)(mesh, faces, *adjacency, backend)
    return _dispatch.as_dtype(normals if batched else normals[0], vertices.dtype)


def check_adjacency(op: str, adjacency: Any, triangles: Tensor, num_vertices: int) -> None:
    """Raise ArgumentError unless ``adjacency`` has the form of that of ``triangles`` [F, 3]."""
    if not isinstance(adjacency, VertexAdjacency):
        raise ArgumentError(f"{op}: adjacency must be a VertexAdjacency or None, not {type(adjacency).__name__}")
    for name, value, length in (
        ("adjacency.offsets", adjacency.offsets, num_vertices + 1),
        ("adjacency.corners", adjacency.corners, triangles.numel()),
    ):
        _dispatch.check_tensor(op, name, value, [length], floating=False, like=triangles)
        if value.dtype != torch.int32:
            raise ArgumentError(f"{op}: {name} must be int32, not {value.dtype}")


def vertex_normals_reference(vertices: Tensor, triangles: Tensor) -> Tensor:
    """The equations above in plain PyTorch. vertices [B, V, 3], triangles [F, 3] -> [B, V, 3]."""
    index = triangles.long()
    a, b, c = vertices[:, index[:, 0]], vertices[:, index[:, 1]], vertices[:, index[:, 2]]
    weighted = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(1, index[:, corner], weighted)
    squared = (total * total).sum(-1, keepdim=True)
    covered = squared > 0
    # The inner `where` keeps the square root's infinite slope at 0 out of the gradient.
    return torch.where(covered, total * torch.rsqrt(torch.where(covered, squared, 1.0)), 0.0)


def _forward(vertices: Tensor, triangles: Tensor, offsets: Tensor, corners: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    batch, count, _ = vertices.shape
    _dispatch.check_indices(_OP, "triangles", triangles, count)
    vertices, triangles = vertices.contiguous(), triangles.contiguous()
    normals = torch.empty_like(vertices)
    inverse_length = vertices.new_empty(batch, count)
    _dispatch.call_native(
        impl,
        f"vertex_normals_forward_{_dispatch.dtype_suffix(vertices.dtype)}",
        vertices,
        *(vertices, triangles, offsets.contiguous(), corners.contiguous(), normals, inverse_length, batch, count),
    )
    return normals, inverse_length


def _backward(
    grad_normals: Tensor,
    vertices: Tensor,
    triangles: Tensor,
    offsets: Tensor,
    corners: Tensor,
    normals: Tensor,
    inverse_length: Tensor,
    impl: str,
) -> Tensor:
    batch, count, _ = vertices.shape
    vertices, triangles, grad_normals = vertices.contiguous(), triangles.contiguous(), grad_normals.contiguous()
    grad_sum, grad_vertices = torch.empty_like(vertices), torch.empty_like(vertices)
    _dispatch.call_native(
        impl,
        f"vertex_normals_backward_{_dispatch.dtype_suffix(vertices.dtype)}",
        vertices,
        *(vertices, triangles, offsets.contiguous(), corners.contiguous(), normals, inverse_length),
        *(grad_normals, grad_sum, grad_vertices, batch, count),
    )
    return grad_vertices


def _forward_fake(
    vertices: Tensor, triangles: Tensor, offsets: Tensor, corners: Tensor, impl: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(vertices.contiguous()), vertices.new_empty(vertices.shape[:2])


_dispatch.register(
    _OP,
    "(Tensor vertices, Tensor triangles, Tensor offsets, Tensor corners, str impl) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)


def _backward_fake(grad_normals: Tensor, vertices: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(vertices.contiguous())


_dispatch.register(
    f"{_OP}_backward",
    "(Tensor grad_normals, Tensor vertices, Tensor triangles, Tensor offsets, Tensor corners, Tensor normals, "
    "Tensor inverse_length, str impl) -> Tensor",
    _backward,
    _backward_fake,
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    vertices, triangles, offsets, corners, ctx.impl = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(vertices, triangles, offsets, corners, *output)


def _autograd(ctx: Any, grad_normals: Tensor | None, grad_inverse_length: Tensor | None) -> tuple[Any, ...]:
    if grad_normals is None or not ctx.needs_input_grad[0]:
        return None, None, None, None, None
    tensors = (grad_normals, *ctx.saved_tensors)
    grad = _dispatch.operator(f"{_OP}_backward", *tensors)(*tensors, ctx.impl)
    return grad, None, None, None, None


def _second_derivative(ctx: Any, grad: Tensor) -> None:
    raise SecondDerivativeError(f"{_OP} kernels have no second derivative: use impl='reference' where one is needed")


_dispatch.register_autograd(_OP, _autograd, _setup_context)
_dispatch.register_autograd(f"{_OP}_backward", _second_derivative)
