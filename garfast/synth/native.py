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
    """What each sample of a picture sees of one mesh. Outside ``bounds`` the arrays hold anything."""

    ids: NDArray[np.int32]  # [H, W] triangle, -1 where there is none
    barycentrics: Floats  # [2, H, W] weights of the triangle's first two corners
    depth: Floats  # [H, W] distance along -z, inf where there is nothing
    bounds: NDArray[np.int64]  # [4] first and last-plus-one row and column that the mesh may reach, all even


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


def blend(mean: Floats, basis: NDArray[np.int16], step: Floats, weights: Floats, rows: slice, into: Floats) -> Floats:
    """Vertices ``rows`` of ``mean + sum_k weights_k step_k basis_k``; the same bits every time.

    Args:
        mean: [V, 3].
        basis: [K, V, 3].
        step, weights: [K]; rows of weight 0 cost nothing.
        into: [V, 3] takes the vertices.

    Returns:
        The part ``rows`` of ``into``.
    """
    start, stop, _ = rows.indices(len(mean))
    out = into[start:stop]
    _check(np.float32, mean, step, weights, into)
    _check(np.int16, basis)
    kernels().synth_blend(  # type: ignore[attr-defined]
        _at(mean) + 12 * start,
        _at(basis) + 6 * start,
        _at(step),
        _at(weights),
        _at(out),
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
    middles: bool = False,
) -> tuple[Visibility, Visibility | None]:
    """Nearest triangle at each sample.

    Args:
        positions: [V, 3] camera space, mm.
        triangles: [F, 3], counter-clockwise from outside.
        camera: [4] NDC coefficients, as for ``garfast.ops.rasterize_normals``.
        size: (H, W) of the sample grid, even.
        cull: leave out triangles seen from inside.
        middles: see also what the middles of blocks of 2x2 samples see, for a fraction of a pass of its own.

    Returns:
        What the samples see, [H, W], and what the middles see, [H / 2, W / 2], or None.
    """
    seen = _unseen(size)
    coarse = _unseen((size[0] // 2, size[1] // 2)) if middles else None
    _visibility(positions, triangles, camera, None, seen.depth, seen, coarse, orthographic, cull, True)
    if coarse is not None:
        np.floor_divide(seen.bounds, 2, out=coarse.bounds)
    return seen, coarse


def _unseen(size: tuple[int, int]) -> Visibility:
    return Visibility(
        np.empty(size, np.int32), np.empty((2, *size), np.float32), np.empty(size, np.float32), np.empty(4, np.int64)
    )


def depth_map(
    positions: Floats,
    triangles: NDArray[np.int32],
    camera: Floats,
    size: int,
    into: Floats | None = None,
    *,
    frame: Floats | None = None,
    cull: bool = False,
) -> Floats:
    """Orthographic depth [size, size] of a mesh, inf where there is nothing.

    Args:
        into: an earlier map, to which the mesh is added.
        frame: [3, 4] turns and moves the positions first.
    """
    depth = np.empty((size, size), np.float32) if into is None else into
    _visibility(positions, triangles, camera, frame, depth, None, None, True, cull, into is None)
    return depth


def _visibility(
    positions: Floats,
    triangles: NDArray[np.int32],
    camera: Floats,
    frame: Floats | None,
    depth: Floats,
    seen: Visibility | None,
    middles: Visibility | None,
    orthographic: bool,
    cull: bool,
    clear: bool,
) -> None:
    _check(np.float32, positions, camera, *([] if frame is None else [frame]), depth)
    _check(np.int32, triangles)
    kernels().synth_visibility(  # type: ignore[attr-defined]
        *map(_at, (positions, triangles, camera, frame)),
        *map(_at, (None, None, depth, None) if seen is None else seen),
        *map(_at, (None, None, None) if middles is None else middles[:3]),
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
        _at(layer.positions),
        _at(layer.normals),
        _at(layer.attributes),
        _at(layer.triangles),
        _at(layer.materials),
        _at(seen.ids),
        _at(seen.barycentrics),
        _at(seen.depth),
        _at(parameters),
        _at(ambient),
        _at(shadow),
        _at(bank),
        _at(frame.colour),
        _at(frame.depth),
        _at(seen.bounds),
        height // 2,
        width // 2,
        0 if shadow is None else len(shadow),
    )


def dress_head(
    vertices: Floats,
    rotation: Floats,
    translation: Floats,
    triangles: NDArray[np.int32],
    constants: Floats,
    closed: Floats,
    opened: Floats,
    light: Floats,
    mouth: float,
    scalp: Floats | None,
    beard: Floats | None,
    broad: Floats,
    fine: Floats,
) -> tuple[Floats, Floats, Floats]:
    """A head's vertices in camera space, with what the shaders want to know of them.

    Args:
        vertices: [V, 3] model space; the first V of the template's W.
        rotation, translation: [3, 3] and [3] model space to camera space.
        triangles: [F, 3].
        constants: [W, A] attributes that are the same for every face.
        closed, opened: [2, 9, W] light arriving with the head's own occlusion and without, mouth closed and open.
        light: [9] coefficients of the light around, in the head's frame.
        mouth: 0..1 how far the mouth is open.
        scalp, beard, broad, fine: [W] attributes 11 to 14; of the first two None for the constant ones.

    Returns:
        Positions [V, 3], unit normals [V, 3] (area-weighted means of the triangles around) and attributes [V, A].
    """
    given = [array for array in (scalp, beard) if array is not None]
    _check(np.float32, vertices, rotation, translation, constants, closed, opened, light, broad, fine, *given)
    _check(np.int32, triangles)
    count = len(vertices)
    positions, normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    attributes = np.empty((count, constants.shape[1]), np.float32)
    kernels().synth_head(  # type: ignore[attr-defined]
        *map(_at, (vertices, rotation, translation, triangles, constants, closed, opened, light)),
        mouth,
        *map(_at, (scalp, beard, broad, fine, positions, normals, attributes)),
        count,
        len(triangles),
        closed.shape[2],
    )
    return positions, normals, attributes


def normals_seen(layer: Layer, seen: Visibility) -> tuple[Floats, NDArray[np.uint8]]:
    """A layer's unit normals [3, H, W] where it is seen, 0 elsewhere, and where that is [H, W]."""
    _check(np.float32, layer.normals)
    size = seen.ids.shape
    out, mask = np.empty((3, *size), np.float32), np.empty(size, np.uint8)
    kernels().synth_normal_map(  # type: ignore[attr-defined]
        _at(layer.normals),
        _at(layer.triangles),
        _at(seen.ids),
        _at(seen.barycentrics),
        _at(seen.bounds),
        _at(out),
        _at(mask),
        *size,
    )
    return out, mask


def resolve(frame: Frame) -> tuple[Floats, NDArray[np.float64]]:
    """The picture [H, W, 4] of a frame, linear and premultiplied, and the sums [4] of its channels."""
    height, width = frame.depth.shape[0] // 2, frame.depth.shape[1] // 2
    picture, sums = np.empty((height, width, 4), np.float32), np.empty(4, np.float64)
    kernels().synth_resolve(_at(frame.colour), _at(picture), _at(sums), height, width)  # type: ignore[attr-defined]
    return picture, sums


def compose(
    picture: Floats, exposure: float, behind: NDArray[np.uint8], linear: Floats
) -> tuple[Floats, NDArray[np.uint8]]:
    """Put a picture before something.

    Args:
        picture: [H, W, 4] linear, premultiplied.
        exposure: factor of the picture's light.
        behind: uint8 [H, W, 3].
        linear: [256] light of the values of ``behind``.

    Returns:
        Linear light [H, W, 3], and the picture's opacity [H, W] with 255 for 1.
    """
    _check(np.float32, picture, linear)
    _check(np.uint8, behind)
    size = picture.shape[:2]
    light, coverage = np.empty((*size, 3), np.float32), np.empty(size, np.uint8)
    kernels().synth_compose(  # type: ignore[attr-defined]
        _at(picture), _at(behind), _at(linear), exposure, _at(light), _at(coverage), size[0] * size[1]
    )
    return light, coverage


def apply_curve(image: Floats, gain: Floats, curve: Floats, reach: float) -> Floats:
    """The values of a curve [L] over 0..reach at an image's values [H, W, 3] times a factor [3] per channel."""
    _check(np.float32, image, gain, curve)
    out = np.empty_like(image)
    pixels = image.shape[0] * image.shape[1]
    kernels().synth_tone(  # type: ignore[attr-defined]
        *map(_at, (image, gain, curve, out)), reach, pixels, len(curve)
    )
    return out


def _at(array: np.ndarray | None) -> int:
    """Address of an array's first element, 0 for None."""
    return 0 if array is None else array.__array_interface__["data"][0]


def _check(dtype: type, *arrays: np.ndarray) -> None:
    for array in arrays:
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise TypeError(f"a contiguous array of {np.dtype(dtype)} is needed, got {array.dtype} {array.strides}")
