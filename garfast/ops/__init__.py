"""Operators: the product. One module per operator, with its checks, registration, autograd and reference."""

from garfast.ops.noise_bias_act import noise_bias_act
from garfast.ops.upfirdn2d import upfirdn2d
from garfast.ops.vertex_normals import VertexAdjacency, vertex_normals

__all__ = ["VertexAdjacency", "noise_bias_act", "upfirdn2d", "vertex_normals"]
