"""Operators: the product. One module per operator, with its checks, registration, autograd and reference."""

from garfast.ops._conv_choice import convolution_times, tune_convolutions, use_convolution
from garfast.ops.modulated_conv2d import modulated_conv2d
from garfast.ops.noise_bias_act import noise_bias_act
from garfast.ops.rasterize_normals import RasterOutput, interpolate, rasterize_normals
from garfast.ops.upfirdn2d import upfirdn2d
from garfast.ops.vertex_normals import VertexAdjacency, vertex_normals

__all__ = [
    "RasterOutput",
    "VertexAdjacency",
    "convolution_times",
    "interpolate",
    "modulated_conv2d",
    "noise_bias_act",
    "rasterize_normals",
    "tune_convolutions",
    "upfirdn2d",
    "use_convolution",
    "vertex_normals",
]
