"""The native kernels of ``garfast.synth``: numpy arrays contiguous, of exactly the types given here, or TypeError."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import BackendUnavailableError
from garfast.ops import _native
from garfast.synth.noise import noise_bank, noise_corners

Floats = NDArray[np.float32]

_GAUSSIAN_ENDS = 3.0  # standard deviations; 0.3 % of the weight lies beyond


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


def vertex_attributes(count: int) -> Floats:
    """Room for the attributes [count, A] of vertices, each on one line of the cache."""
    size = num_attributes()
    room = np.empty((count + 1) * size, np.float32)
    start = -(room.__array_interface__["data"][0] // room.itemsize) % size
    return room[start : start + count * size].reshape(count, size)


def vertex_room(count: int) -> tuple[Floats, Floats, Floats]:
    """Room for the positions [count, 3], normals [count, 3] and attributes [count, A] of a layer's vertices."""
    return np.empty((count, 3), np.float32), np.empty((count, 3), np.float32), vertex_attributes(count)


def blend(mean: Floats, basis: NDArray[np.int16], step: Floats, weights: Floats, rows: slice, into: Floats) -> None:
    """Vertices ``rows`` of ``mean + sum_k weights_k step_k basis_k`` for several faces.

    Most of the time goes into reading the basis, which happens once for all of them. The bits of a face do not depend
    on the others.

    Args:
        mean: [V, 3].
        basis: [K, V, 3].
        step: [K].
        weights: [F, K].
        into: [F, V, 3] takes the vertices.
    """
    start, stop, _ = rows.indices(len(mean))
    kernels().synth_blend(  # type: ignore[attr-defined]
        mean, basis, step, weights, into, 3 * start, 3 * (stop - start), *weights.shape, mean.size
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
    """The front of a mesh seen along -z without perspective: the largest z [size, size], -inf where there is nothing.

    Args:
        positions: [V, 3].
        triangles: [F, 3], counter-clockwise from outside.
        camera: [4] NDC coefficients, as for ``garfast.ops.rasterize_normals``.
        into: an earlier map, to which the mesh is added.
        frame: [3, 4] turns and moves the positions first.
        cull: leave out triangles seen from inside.
    """
    front = np.empty((size, size), np.float32) if into is None else into
    kernels().synth_depth(  # type: ignore[attr-defined]
        positions, triangles, camera, frame, front, len(positions), len(triangles), size, cull, into is None
    )
    return front


def simplify_mesh(
    poses: Sequence[Floats],
    paint: Floats,
    triangles: NDArray[np.int32],
    fixed: NDArray[np.bool_],
    tolerance: float,
    longest: float,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """A mesh with fewer triangles over some of its vertices.

    Vertices move onto neighbours as long as no triangle's plane, in the dimensions of all poses and the paint together,
    comes to lie farther from what replaces it than ``tolerance`` (Garland and Heckbert, "Simplifying surfaces with
    color and texture using quadric error metrics", 1998), no triangle turns by more than 60 degrees in any pose, and
    the surface stays whole.

    Args:
        poses: the vertices [V, 3], mm, in one pose or several.
        paint: [V, N] other numbers that a replaced vertex must have in common with the surface, scaled to mm.
        triangles: [F, 3].
        fixed: [V] which vertices must stay.
        tolerance: mm.
        longest: mm, of new edges in the first pose.

    Returns:
        The triangles [G, 3] that are left, and which they were [G].
    """
    points = np.concatenate([*poses, paint], 1).astype(np.float64)
    left = triangles.copy()
    kernels().simplify_mesh(  # type: ignore[attr-defined]
        points, fixed.view(np.uint8), left, tolerance, longest, len(points), len(left), points.shape[1], len(poses)
    )
    rows = np.flatnonzero(left[:, 0] >= 0)
    return np.ascontiguousarray(left[rows]), rows


class Layer(NamedTuple):
    """One mesh of a scene, ready to be drawn."""

    positions: Floats  # [V, 3] camera space, mm
    normals: Floats  # [V, 3]
    attributes: Floats  # [V, A]
    triangles: NDArray[np.int32]  # [F, 3], counter-clockwise from outside
    materials: NDArray[np.uint8]  # [F]
    cull: bool  # leave out triangles seen from inside


class Frame(NamedTuple):
    """A picture in the making, at two samples a side, and room to draw a layer."""

    colour: Floats  # [2H, 2W, 4] linear, premultiplied
    near: Floats  # [2H, 2W] z without perspective, 1 / depth with it, -inf where there is nothing
    layer_near: Floats  # [2H, 2W]
    layer_ids: NDArray[np.int32]  # [2H, 2W]

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Frame:
        """An empty frame for a picture of (H, W) pixels. It is this thread's only one: the next takes its memory, which
        would cost more to fetch and to clear each time than some layers to draw."""
        fine = (2 * size[0], 2 * size[1])
        frame: Frame | None = getattr(_mine, "frame", None)
        if frame is None or frame.near.shape != fine:
            colour, near, layer_near = (np.empty((*fine, *rest), np.float32) for rest in ((4,), (), ()))
            frame = _mine.frame = cls(colour, near, layer_near, np.empty(fine, np.int32))
        frame.colour.fill(0)
        frame.near.fill(-np.inf)
        return frame


_mine = threading.local()


def draw(
    layer: Layer,
    camera: Floats,
    parameters: Floats,
    ambient: Floats,
    shadow: Floats | None,
    frame: Frame,
    *,
    normals: bool = False,
) -> tuple[Floats, NDArray[np.uint8]] | None:
    """Draw a layer into the frame wherever it is nearer than what is there.

    Args:
        camera: [4] NDC coefficients, as for ``garfast.ops.rasterize_normals``.
        parameters: [P], in the order of :func:`parameter_names`.
        ambient: [9, 3] irradiance coefficients.
        shadow: [M, M] depth map from the key light, or None.
        normals: see also what the pixels' middles see of this layer alone, for a fraction of a pass of its own.

    Returns:
        The layer's unit normals [3, H, W], 0 where it is not seen, and where it is [H, W]; None without ``normals``.
    """
    height, width = frame.near.shape[0] // 2, frame.near.shape[1] // 2
    seen = (np.empty((3, height, width), np.float32), np.empty((height, width), np.uint8)) if normals else None
    kernels().synth_draw(  # type: ignore[attr-defined]
        *layer[:-1],
        camera,
        parameters,
        ambient,
        shadow,
        noise_bank(),
        noise_corners(),
        *frame,
        *(seen or (None, None)),
        len(layer.positions),
        len(layer.triangles),
        height,
        width,
        0 if shadow is None else len(shadow),
        layer.cull,
    )
    return seen


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
    count = len(vertices)
    positions, normals, attributes = vertex_room(count)
    kernels().synth_head(  # type: ignore[attr-defined]
        vertices,
        rotation,
        translation,
        triangles,
        constants,
        closed,
        opened,
        light,
        mouth,
        scalp,
        beard,
        broad,
        fine,
        positions,
        normals,
        attributes,
        count,
        len(triangles),
        closed.shape[2],
    )
    return positions, normals, attributes


def resolve(frame: Frame) -> tuple[Floats, NDArray[np.float64]]:
    """The picture [H, W, 4] of a frame, linear and premultiplied, and the sums [4] of its channels."""
    height, width = frame.near.shape[0] // 2, frame.near.shape[1] // 2
    picture, sums = np.empty((height, width, 4), np.float32), np.empty(4, np.float64)
    kernels().synth_resolve(frame.colour, picture, sums, height, width)  # type: ignore[attr-defined]
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
    size = picture.shape[:2]
    light, coverage = np.empty((*size, 3), np.float32), np.empty(size, np.uint8)
    kernels().synth_compose(  # type: ignore[attr-defined]
        picture, behind, linear, exposure, light, coverage, size[0] * size[1]
    )
    return light, coverage


class Development(NamedTuple):
    """How light becomes a picture's values."""

    gain: Floats  # [3] factor of each channel
    curve: Floats  # [L] values 0..255 at light ``reach * (k / (L - 1)) ** 2``, straight lines between
    reach: float  # more light counts as this much
    noise: Floats | None = None  # [H, W, 3]
    own_noise: float = 0.0  # how much a channel's own noise counts ...
    shared_noise: float = 0.0  # ... and the first channel's, in all of them
    falloff: float = 0.0  # light lost per squared distance from the centre, in coordinates -1..1
    centre: tuple[float, float] = (0.0, 0.0)  # x and y
    stray: float = 0.0  # light added everywhere
    gray: float = 0.0  # 0 colours as they are .. 1 none


def develop(light: Floats, how: Development) -> NDArray[np.uint8]:
    """A picture, uint8 [H, W, 3], of linear light [H, W, 3]."""
    out = np.empty(light.shape, np.uint8)
    kernels().synth_develop(  # type: ignore[attr-defined]
        light,
        how.gain,
        how.curve,
        how.noise,
        out,
        how.reach,
        how.falloff,
        *how.centre,
        how.stray,
        how.gray,
        how.own_noise,
        how.shared_noise,
        *light.shape[:2],
        len(how.curve),
    )
    return out


def blur(picture: NDArray[np.uint8], sigma: float, sharpen: float = 0.0) -> NDArray[np.uint8]:
    """A picture, uint8 [H, W, 3], blurred by a Gaussian of ``sigma`` pixels.

    Args:
        sharpen: where positive, the picture itself with so many times its difference to the blurred one added.
    """
    radius = math.ceil(_GAUSSIAN_ENDS * sigma)
    kernel = np.exp(-0.5 * (np.arange(radius + 1, dtype=np.float32) / np.float32(sigma)) ** 2)
    kernel /= 2 * kernel.sum() - kernel[0]
    out = np.empty_like(picture)
    kernels().synth_blur(picture, kernel, out, sharpen, *picture.shape[:2], radius)  # type: ignore[attr-defined]
    return out
