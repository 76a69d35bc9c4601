"""Operators: the product. One module per operator, with its checks, registration, autograd and reference."""

from garfast.ops.vertex_normals import VertexAdjacency, vertex_normals

__all__ = ["VertexAdjacency", "vertex_normals"]
