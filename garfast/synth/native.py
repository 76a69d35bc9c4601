"""The native kernels of ``garfast.synth`` on numpy arrays; shapes are checked here, addresses passed on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import BackendUnavailableError
from garfast.ops import _native
from garfast.synth.noise import noise_bank

Floats = NDArray[np.float32]


class Visibility(NamedTuple):
    """What each sample of a picture sees of one mesh."""

    ids: NDArray[np.int32]  # [H, W] triangle, -1 where there is none
    barycentrics: Floats  # [2, H, W] weights of the triangle's first two corners
    depth: Floats  # [H, W] distance along -z, inf where there is nothing


def kernels() -> object:
    """``garfast._cpu``.

    Raises:
        BackendUnavailableError: the native module is missing; the message says how to get it.
    """
    if reason := _native.why_not("cpu"):
        raise BackendUnavailableError(f"synthetic faces are drawn by native code: {reason}")
    return _native.cpu()


def parameter_names() -> tuple[str, ...]:
    """The names of all material parameters, in the kernel's order."""
    return kernels().synth_parameters  # type: ignore[attr-defined,no-any-return]


def num_attributes() -> int:
    """How many attributes each vertex carries (csrc/include/garfast/synth.h says what they mean)."""
    return kernels().synth_attributes  # type: ignore[attr-defined,no-any-return]


def blend(mean: Floats, basis: NDArray[np.int16], step: Floats, weights: Floats, rows: slice) -> Floats:
    """Vertices ``rows`` of ``mean + sum_k weights_k step_k basis_k``; the same bits every time.

    Args:
        mean: [V, 3].
        basis: [K, V, 3].
        step, weights: [K]; rows of weight 0 cost nothing.
    """
    start, stop, _ = rows.indices(len(mean))
    out = np.empty((stop - start, 3), np.float32)
    _check(np.float32, mean, step, weights)
    _check(np.int16, basis)
    kernels().synth_blend(  # type: ignore[attr-defined]
        mean.ctypes.data + 12 * start,
        basis.ctypes.data + 6 * start,
        step.ctypes.data,
        weights.ctypes.data,
        out.ctypes.data,
        len(step),
        out.size,
        mean.size,
    )
    return out


def visibility(
    positions: Floats,
    triangles: NDArray[np.int32],
    camera: Floats,
    size: tuple[int, int],
    *,
    orthographic: bool,
    cull: bool,
) -> Visibility:
    """Nearest triangle at each sample.

    Args:
        positions: [V, 3] camera space, mm.
        triangles: [F, 3], counter-clockwise from outside.
        camera: [4] NDC coefficients, as for ``garfast.ops.rasterize_normals``.
        size: (H, W) of the sample grid.
        cull: leave out triangles seen from inside.
    """
    result = Visibility(np.empty(size, np.int32), np.empty((2, *size), np.float32), np.empty(size, np.float32))
    _visibility(positions, triangles, camera, result.ids, result.barycentrics, result.depth, orthographic, cull, True)
    return result


def depth_map(
    positions: Floats,
    triangles: NDArray[np.int32],
    camera: Floats,
    size: int,
    into: Floats | None = None,
    *,
    cull: bool = False,
) -> Floats:
    """Orthographic depth [size, size] of a mesh, inf where there is nothing; ``into`` adds to an earlier map."""
    depth = np.empty((size, size), np.float32) if into is None else into
    _visibility(positions, triangles, camera, None, None, depth, True, cull, into is None)
    return depth


def _visibility(
    positions: Floats,
    triangles: NDArray[np.int32],
    camera: Floats,
    ids: NDArray[np.int32] | None,
    barycentrics: Floats | None,
    depth: Floats,
    orthographic: bool,
    cull: bool,
    clear: bool,
) -> None:
    _check(np.float32, positions, camera, depth)
    _check(np.int32, triangles)
    kernels().synth_visibility(  # type: ignore[attr-defined]
        positions.ctypes.data,
        triangles.ctypes.data,
        camera.ctypes.data,
        0 if ids is None else ids.ctypes.data,
        0 if barycentrics is None else barycentrics.ctypes.data,
        depth.ctypes.data,
        len(positions),
        len(triangles),
        *depth.shape,
        orthographic,
        cull,
        clear,
    )


class Layer(NamedTuple):
    """One mesh of a scene, ready to be drawn."""

    positions: Floats  # [V, 3] camera space, mm
    normals: Floats  # [V, 3]
    attributes: Floats  # [V, A]
    triangles: NDArray[np.int32]  # [F, 3]
    materials: NDArray[np.uint8]  # [F]
    cull: bool


class Frame(NamedTuple):
    """A picture in the making, at two samples a side."""

    colour: Floats  # [2H, 2W, 4] linear, premultiplied
    depth: Floats  # [2H, 2W]

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Frame:
        """A frame for a picture of (H, W) pixels."""
        height, width = size
        depth = np.full((2 * height, 2 * width), np.inf, np.float32)
        return cls(np.zeros((2 * height, 2 * width, 4), np.float32), depth)


def shade(
    layer: Layer, seen: Visibility, parameters: Floats, ambient: Floats, shadow: Floats | None, frame: Frame
) -> None:
    """Draw a layer into the frame wherever it is nearer than what is there.

    Args:
        parameters: [P], in the order of :func:`parameter_names`.
        ambient: [9, 3] irradiance coefficients.
        shadow: [M, M] depth map from the key light, or None.
    """
    bank = noise_bank()
    _check(np.float32, layer.positions, layer.normals, layer.attributes, parameters, ambient, frame.colour, frame.depth)
    _check(np.int32, layer.triangles)
    _check(np.uint8, layer.materials)
    height, width = frame.depth.shape
    kernels().synth_shade(  # type: ignore[attr-defined]
        layer.positions.ctypes.data,
        layer.normals.ctypes.data,
        layer.attributes.ctypes.data,
        layer.triangles.ctypes.data,
        layer.materials.ctypes.data,
        seen.ids.ctypes.data,
        seen.barycentrics.ctypes.data,
        seen.depth.ctypes.data,
        parameters.ctypes.data,
        ambient.ctypes.data,
        0 if shadow is None else shadow.ctypes.data,
        bank.ctypes.data,
        frame.colour.ctypes.data,
        frame.depth.ctypes.data,
        height // 2,
        width // 2,
        0 if shadow is None else len(shadow),
    )


def _check(dtype: type, *arrays: np.ndarray) -> None:
    for array in arrays:
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise TypeError(f"a contiguous array of {np.dtype(dtype)} is needed, got {array.dtype} {array.strides}")
