"""What a face model needs before its pictures can be drawn: everything that does not change from face to face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.morphable import MorphableModel
from garfast.morphable.surface import fit_sphere, outline_distance, smooth_curve
from garfast.synth.native import depth_map, num_attributes, simplify_mesh
from garfast.synth.noise import smooth_fields
from garfast.synth.quick import unit

Floats = NDArray[np.float32]

SKIN, EYE, TEETH, MOUTH, HAIR, SOLID = range(6)  # csrc/include/garfast/synth.h, SynthMaterial
_HEAD_RADIUS = 95.0  # mm; turns angles around the head's axis into lengths
_IRIS_RADIUS = 5.9  # mm
_AXIS_Y = -55.0  # mm below the eyes; lower jaw landmarks look outward from here
_DIRECTIONS = 96  # of the openness bake
_BAKE_SIZE = 160
_LONGEST_EDGE = 8.0  # mm, of simplified meshes
_SHADOW_TOLERANCE, _SHADOW_EDGE = 3.0, 16.0  # mm, as of simplified meshes
_INSIDE = 3.0  # how much coarser what is in the mouth may be than the face
_PAINTED = 9.0  # mm from lips, lids and brows to which their distance matters
_PAINT_COUNTS = 0.3  # how much an error of such a distance counts beside one of a place
FIELD_SIZES = (60.0, 22.0, 9.0)  # mm
FIELDS = 12  # smooth fields of each size


@dataclass(frozen=True)
class HeadTemplate:
    """A face model prepared for drawing. V counts the vertices that are drawn, outside first, inside of mouth last.

    Attributes:
        model: the model itself.
        num_outer: vertices [0, num_outer) are all outer skin and eyes, the rest is inside the mouth.
        mean: [V, 3] mm, model space.
        basis, step: quantised bases [S + E, V, 3] int16 and the size of one quantum [S + E], mm.
        triangles, materials: all triangles [F, 3] and their materials [F].
        outer_triangles, outer_materials: those without the inside of the mouth.
        shadow_triangles: fewer of those, over the same vertices, for shadow maps.
        attributes: [V, A] the constant part of the vertex attributes.
        openness_closed, openness_open: [2, 9, V] light arriving at each vertex of the mean face with and without
            occlusion, per coefficient of the light's spherical harmonics; mouth closed and open.
        eyes_centre: [3] middle between the eyes; canonical coordinates have their origin there.
        azimuth: [V] angle around the head's vertical axis, radians, 0 in front, positive to the subject's left.
        height: [V] mm above the eyes.
        ears: [V] 0..1.
        beard_room: [V] where a beard may grow: signed mm inside its largest outline.
        moustache: [V] 0..1.
        fields: [len(FIELD_SIZES), FIELDS, V] smooth random fields.
        landmark_rows, landmark_weights: [68, 3] corners (drawn vertices) and weights of the landmarks.
        contour_rows: [17, K] drawn vertices over which the jaw's outline may slide, -1 where there are no more.
        contour_directions: [17, 2] unit, outward from the mean face at the jaw's landmarks, seen from the front.
        head_axis: [3] a point on the head's vertical axis at eye height.
        proportions: [4, S] unit directions of the shape coefficients that change most the height of the chin, how far
            it stands out, the width of the jaw and the height of the upper lip.
        iris_sine: sine of the angle between gaze and iris border, seen from the eye's centre.
    """

    model: MorphableModel
    num_outer: int
    mean: Floats
    basis: NDArray[np.int16]
    step: Floats
    triangles: NDArray[np.int32]
    materials: NDArray[np.uint8]
    outer_triangles: NDArray[np.int32]
    outer_materials: NDArray[np.uint8]
    shadow_triangles: NDArray[np.int32]
    attributes: Floats
    openness_closed: Floats
    openness_open: Floats
    eyes_centre: Floats
    azimuth: Floats
    height: Floats
    ears: Floats
    beard_room: Floats
    moustache: Floats
    fields: Floats
    landmark_rows: NDArray[np.int64]
    landmark_weights: Floats
    contour_rows: NDArray[np.int32]
    contour_directions: Floats
    head_axis: Floats
    proportions: Floats
    iris_sine: float


def build_template(model: MorphableModel, tolerance: float = 0.0) -> HeadTemplate:
    """Prepare a face model. Regions that the model lacks are guessed from its landmarks or left out.

    Args:
        tolerance: mm by which the drawn surface may leave the model's, for fewer triangles; 0 draws all of them.
    """
    mean_all = model.mean.float().numpy()
    count = model.num_vertices
    region = {name: mask.float().numpy() for name, mask in model.regions.items()}
    nothing = np.zeros(count, np.float32)
    material_all = np.full(count, SKIN, np.uint8)
    for name, material in (("eyeballs", EYE), ("teeth", TEETH), ("tongue", MOUTH), ("mouth_socket", MOUTH)):
        material_all[region.get(name, nothing) > 0.5] = material
    landmarks_all = model.landmarks(model.mean[None])[0].numpy()
    triangles_all = model.triangles.numpy().astype(np.int64)

    eye_frames = _eye_frames(mean_all, region, material_all == EYE)
    keep = np.ones(count, bool)
    for rows, centre, axis, radius in eye_frames:
        keep[rows] = (mean_all[rows] - centre) @ axis > -0.35 * radius
    triangles_all = triangles_all[keep[triangles_all].all(1)]
    corner_materials = material_all[triangles_all]
    # A triangle between two materials belongs to the outer one.
    triangle_material = corner_materials.min(1)
    inner_triangle = triangle_material >= TEETH
    used = np.zeros(count, bool)
    used[triangles_all.reshape(-1)] = True
    used[model.landmark_triangles.numpy().reshape(-1)] = True
    outer_used = np.zeros(count, bool)
    outer_used[triangles_all[~inner_triangle].reshape(-1)] = True
    outer_used[model.landmark_triangles.numpy().reshape(-1)] = True
    contour_all = model.contour.numpy()
    outer_used[contour_all[contour_all >= 0]] = True
    order = np.concatenate([np.flatnonzero(outer_used), np.flatnonzero(used & ~outer_used)])
    renumber = np.full(count, -1, np.int64)
    renumber[order] = np.arange(len(order))
    # Outer triangles first, so that both lists are one array.
    by_side = np.argsort(inner_triangle, kind="stable")
    triangles = np.ascontiguousarray(renumber[triangles_all[by_side]], np.int32)
    materials = np.ascontiguousarray(triangle_material[by_side])

    mean = mean_all[order]
    eyes_centre = landmarks_all[36:48].mean(0)
    canonical = mean - eyes_centre
    axis_z = float(np.quantile(mean[:, 2][material_all[order] == SKIN], 0.1) * 0.55 + landmarks_all[27, 2] * 0.45)
    head_axis = np.array([0.0, eyes_centre[1], min(axis_z, landmarks_all[27, 2] - 85.0)], np.float32)
    azimuth = np.arctan2(mean[:, 0] - head_axis[0], mean[:, 2] - head_axis[2])
    material = material_all[order]
    vertex_region = {name: mask[order] for name, mask in region.items()}
    attributes = _attributes(
        canonical, material, landmarks_all - eyes_centre, azimuth, vertex_region, head_axis - eyes_centre
    )
    for rows, centre, axis, radius in eye_frames:
        inside = renumber[rows[keep[rows]]]
        attributes[inside, :3] = _turned((mean[inside] - centre) / radius, axis)
    opened = _opened(model)[order]
    if tolerance > 0:
        fixed = _borders(triangles, materials, len(order))
        fixed[renumber[model.landmark_triangles.numpy()]] = True
        fixed[renumber[contour_all[contour_all >= 0]]] = True
        poses, paint = [mean, opened], _edges_of_paint(attributes)
        parts = []
        for inner, allowed in ((False, tolerance), (True, _INSIDE * tolerance)):
            rows = np.flatnonzero((materials >= TEETH) == inner)
            part, left = simplify_mesh(poses, paint, triangles[rows], fixed, allowed, _LONGEST_EDGE)
            parts.append((part, materials[rows[left]]))
        triangles, materials = (np.concatenate(both) for both in zip(*parts, strict=True))
        used = fixed
        used[triangles] = True
        kept = np.flatnonzero(used)
        triangles = np.cumsum(used, dtype=np.int32)[triangles] - 1
        order, renumber[:] = order[kept], -1
        renumber[order] = np.arange(len(order))
        mean, opened, attributes, canonical, azimuth = (x[kept] for x in (mean, opened, attributes, canonical, azimuth))
        vertex_region = {name: mask[kept] for name, mask in vertex_region.items()}
    num_outer = int(outer_used[order].sum())
    outer_count = int((materials < TEETH).sum())
    basis = torch.cat([model.shape_basis, model.exp_basis]).float().numpy().take(order, axis=1)
    step = np.maximum(np.abs(basis).reshape(len(basis), -1).max(1), 1e-6).astype(np.float32) / 32767
    return HeadTemplate(
        model=model,
        num_outer=num_outer,
        mean=np.ascontiguousarray(mean),
        basis=np.ascontiguousarray(np.round(basis / step[:, None, None]), np.int16),
        step=step,
        triangles=triangles,
        materials=materials,
        outer_triangles=triangles[:outer_count],
        outer_materials=materials[:outer_count],
        shadow_triangles=_coarse([mean, opened], triangles[:outer_count]),
        attributes=attributes,
        openness_closed=_bake_openness(mean, triangles),
        openness_open=_bake_openness(opened, triangles),
        eyes_centre=eyes_centre,
        azimuth=azimuth.astype(np.float32),
        height=np.ascontiguousarray(canonical[:, 1]),
        ears=vertex_region.get("ears", np.zeros(len(mean), np.float32)),
        beard_room=_beard_room(canonical, azimuth, landmarks_all - eyes_centre),
        moustache=_moustache(canonical, landmarks_all - eyes_centre),
        fields=np.stack([smooth_fields(canonical, size, FIELDS, 7 + k) for k, size in enumerate(FIELD_SIZES)]),
        landmark_rows=renumber[model.landmark_triangles.numpy()],
        landmark_weights=model.landmark_weights.float().numpy(),
        contour_rows=np.where(contour_all >= 0, renumber[contour_all], -1).astype(np.int32),
        contour_directions=_outward(landmarks_all[:17] - eyes_centre),
        head_axis=head_axis,
        proportions=_proportions(model),
        iris_sine=_IRIS_RADIUS / eye_frames[0][3] if eye_frames else 0.45,
    )


def _outward(jaw: Floats) -> Floats:
    """Unit directions [17, 2] away from the face's middle at the jaw's landmarks [17, 3]."""
    middle = np.stack([np.zeros(len(jaw)), np.maximum(jaw[:, 1], _AXIS_Y)], 1)
    direction = jaw[:, :2] - middle
    return np.float32(direction / np.linalg.norm(direction, axis=1, keepdims=True))


def _proportions(model: MorphableModel) -> Floats:
    """[4, S] the gradients of the lower face's proportions with respect to the shape coefficients, unit length."""
    corners = model.shape_basis[:, model.landmark_triangles.long()].float()
    moves = (corners * model.landmark_weights[..., None]).sum(2).numpy()  # [S, 68, 3]
    changes = np.stack(
        [
            moves[:, 57, 1] - moves[:, 8, 1],
            moves[:, 8, 2] - moves[:, 57, 2],
            moves[:, 11, 0] - moves[:, 5, 0],
            moves[:, 33, 1] - moves[:, 51, 1],
        ]
    )
    return np.float32(changes / np.maximum(np.linalg.norm(changes, axis=1, keepdims=True), 1e-9))


def _eye_frames(
    mean: Floats, region: dict[str, Floats], eyes: NDArray[np.bool_]
) -> list[tuple[NDArray[np.int64], Floats, Floats, float]]:
    """Vertices, centre, gaze axis and radius of each eyeball."""
    frames = []
    iris = region.get("iris")
    for side in (-1, 1):
        rows = np.flatnonzero(eyes & (np.sign(mean[:, 0]) == side))
        if not len(rows):
            continue
        points = mean[rows].astype(np.float64)
        centre, radius = fit_sphere(points)
        axis = np.array([0.0, 0.0, 1.0])
        if iris is not None and (iris[rows] > 0.5).any():
            axis = points[iris[rows] > 0.5].mean(0) - centre
            axis /= np.linalg.norm(axis)
        frames.append((rows, centre.astype(np.float32), axis.astype(np.float32), radius))
    return frames


def _turned(directions: Floats, axis: Floats) -> Floats:
    """Directions in a frame whose third axis is ``axis`` and whose first is as horizontal as can be."""
    first = np.cross([0.0, 1.0, 0.0], axis)
    first /= np.linalg.norm(first)
    return (directions @ np.stack([first, np.cross(axis, first), axis], 1)).astype(np.float32)


def _attributes(
    p: Floats, material: NDArray[np.uint8], marks: Floats, azimuth: Floats, region: dict[str, Floats], axis: Floats
) -> Floats:
    """The constant attributes of each vertex, in canonical coordinates (mm from the middle between the eyes)."""
    out = np.zeros((len(p), num_attributes()), np.float32)
    skin = (material == SKIN) & (region.get("skin", np.ones(len(p))) > 0.01)
    out[:, :3] = p
    front = skin & (p[:, 2] > marks[48, 2] - 25)
    out[:, 3] = np.where(front, outline_distance(p[:, :2], smooth_curve(marks[48:60, :2].astype(np.float64))), 50)
    lids, height = np.full(len(p), 60.0), np.zeros(len(p))
    for first in (36, 42):
        corners = marks[first : first + 6]
        near = skin & (np.abs(p[:, 0] - corners[:, 0].mean()) < 45) & (p[:, 2] > corners[:, 2].min() - 25)
        distance = np.maximum(outline_distance(p[near, :2], smooth_curve(corners[:, :2].astype(np.float64))), 0)
        lids[near] = np.minimum(lids[near], distance)
        side = np.sign(p[:, 0]) == np.sign(corners[0, 0])
        slope = (corners[3, 1] - corners[0, 1]) / (corners[3, 0] - corners[0, 0])
        height[side] = p[side, 1] - corners[0, 1] - slope * (p[side, 0] - corners[0, 0])
    # What lies behind the lids (the sockets) is neither painted as lid edge nor left pale.
    out[:, 4] = np.where(skin, lids, 3.0)
    out[:, 5] = height
    out[:, 6], out[:, 7] = _brow_frame(p, marks, azimuth, axis)
    cheek = 0.55 * marks[36] + 0.45 * marks[48] + np.array([-9.0, 2.0, 0.0])
    points = ((cheek, 20.0, 1.0), (cheek * [-1, 1, 1], 20.0, 1.0), (marks[30], 13.0, 0.9), (marks[8], 15.0, 0.35))
    blush = sum(
        weight * np.exp(-((np.abs(p - centre) ** 2)[:, [0, 1, 2]] @ [1, 1.3, 0.4]) / size**2)
        for centre, size, weight in points
    )
    out[:, 8] = np.where(skin, np.maximum(blush, 0.7 * region.get("ears", 0.0)), 0)
    forehead = np.exp(-((p[:, 0] / 38) ** 2) - ((p[:, 1] - 42) / 26) ** 2)
    nose = np.exp(-((p[:, 0] / 11) ** 2) - ((p[:, 1] - 0.5 * marks[30, 1]) / 24) ** 2)
    out[:, 9] = np.where(skin, np.clip(0.8 * forehead + nose + 0.4 * blush, 0, 1.3), 0)
    out[:, 10] = 1
    return out


def _brow_frame(p: Floats, marks: Floats, azimuth: Floats, axis: Floats) -> tuple[Floats, Floats]:
    """Place along the nearer brow (0 inner end, 1 outer end) and height above its middle line, mm."""
    along, above = np.full(len(p), -9.0), np.full(len(p), 60.0)
    flat = np.stack([azimuth * _HEAD_RADIUS, p[:, 1]], 1)
    for rows in (range(21, 16, -1), range(22, 27)):
        mark = marks[list(rows)]
        line = np.stack([np.arctan2(mark[:, 0] - axis[0], mark[:, 2] - axis[2]) * _HEAD_RADIUS, mark[:, 1]], 1)
        line = np.concatenate(
            [line[:1] - 0.6 * (line[1:2] - line[:1]), line, line[-1:] + 0.6 * (line[-1:] - line[-2:-1])]
        )
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        length -= length[1]
        side = np.sign(p[:, 0]) == np.sign(mark[2, 0])
        near = side & (np.abs(p[:, 1] - mark[:, 1].mean()) < 40) & (p[:, 2] > mark[:, 2].min() - 30)
        best = np.full(int(near.sum()), np.inf)
        u, v = np.zeros_like(best), np.zeros_like(best)
        for k in range(len(line) - 1):
            step = line[k + 1] - line[k]
            size = float(np.hypot(*step))
            relative = flat[near] - line[k]
            t = np.clip(relative @ step / size**2, 0, 1)
            offset = relative - t[:, None] * step
            distance = np.hypot(offset[:, 0], offset[:, 1])
            closer = distance < best
            best = np.where(closer, distance, best)
            u = np.where(closer, length[k] + t * (length[k + 1] - length[k]), u)
            v = np.where(closer, distance * np.sign(offset[:, 1]), v)
        along[near], above[near] = u / length[-2], v
    return along.astype(np.float32), above.astype(np.float32)


def _beard_room(p: Floats, azimuth: Floats, marks: Floats) -> Floats:
    """Signed mm inside the widest beard: below a line from the sideburns past the corners of the mouth to the nose."""
    degrees = np.degrees(np.abs(azimuth))
    mouth, nose, ear = marks[48, 1], marks[33, 1], marks[0, 1]
    top = np.interp(degrees, [0, 14, 26, 45, 66, 84, 92], [nose, nose, mouth + 4, mouth - 2, ear - 25, ear + 5, -200])
    bottom = np.interp(degrees, [0, 50, 95], [marks[8, 1] - 34, marks[8, 1] - 22, marks[8, 1] + 10])
    return np.minimum(top - p[:, 1], p[:, 1] - bottom).astype(np.float32)


def _moustache(p: Floats, marks: Floats) -> Floats:
    """0..1 between nose and upper lip."""
    width = abs(marks[54, 0] - marks[48, 0]) * 0.62
    low, high = marks[51, 1] - 1.0, marks[33, 1] - 1.0
    across = np.clip(1.3 - np.abs(p[:, 0]) / width, 0, 0.3) / 0.3
    droop = 7.0 * (p[:, 0] / width) ** 2
    band = np.clip((p[:, 1] - low + droop + 4) / 3, 0, 1) * np.clip((high - p[:, 1] + 2) / 3, 0, 1)
    return (across * band * (p[:, 2] > marks[48, 2] - 12)).astype(np.float32)


def _opened(model: MorphableModel) -> Floats:
    """The mean face [V, 3] of all vertices with its mouth open, where the model can open it."""
    mean = model.mean.float().numpy()
    for k, name in enumerate(model.exp_names):
        if name.lower().replace("_", "") == "jawopen":
            upper = float(model.exp_bounds[k, 1])
            weight = np.float32(0.6 * (upper if np.isfinite(upper) else 3.0))
            return mean + weight * model.exp_basis[k].float().numpy()
    return mean


def _borders(triangles: NDArray[np.int32], materials: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """[count] which vertices lie where the surface, or one of its materials, ends."""
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    _, first, uses = np.unique(edges.astype(np.int64) @ [count, 1], return_index=True, return_counts=True)
    out = np.zeros(count, bool)
    out[edges[first[uses != 2]]] = True
    several = np.zeros((count, materials.max() + 1), bool)
    several[triangles, materials[:, None]] = True
    return out | (several.sum(1) > 1)


def _coarse(poses: list[Floats], triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Triangles of a surface for shadow maps, whose texels are larger than a small picture's pixels."""
    fixed = _borders(triangles, np.zeros(len(triangles), np.uint8), len(poses[0]))
    nothing = np.empty((len(fixed), 0), np.float32)
    return simplify_mesh(poses, nothing, triangles, fixed, _SHADOW_TOLERANCE, _SHADOW_EDGE)[0]


def _edges_of_paint(attributes: Floats) -> Floats:
    """[V, 4] what shaders compute from vertices, mm, where it makes an edge: around lips, lids and brows."""
    return np.clip(attributes[:, [3, 4, 5, 7]], -_PAINTED, _PAINTED) * np.float32(_PAINT_COUNTS)


def sphere_directions(count: int) -> Floats:
    """``count`` directions spread evenly over the sphere (Fibonacci lattice), [count, 3]."""
    k = np.arange(count) + 0.5
    y, turn = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(turn), y, r * np.sin(turn)], 1).astype(np.float32)


def harmonics(d: NDArray[np.floating]) -> NDArray[np.floating]:
    """The nine polynomials of order up to 2 in which light is given, [9] or [N, 9] of directions [3] or [N, 3]."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    return np.array([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]).T


def _bake_openness(vertices: Floats, triangles: NDArray[np.int32]) -> Floats:
    """[2, 9, V]: irradiance per coefficient of the light, with the head's own occlusion and without it."""
    from garfast.ops import vertex_normals

    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(triangles)).numpy()
    centre = 0.5 * (vertices.min(0) + vertices.max(0))
    reach = float(np.linalg.norm(vertices - centre, axis=1).max())
    camera = np.array([1 / reach, 1 / reach, 0, 0], np.float32)
    directions = sphere_directions(_DIRECTIONS)
    cosines = np.maximum(directions @ normals.T, 0) * np.float32(4 / _DIRECTIONS)  # [D, V]
    free = np.empty(cosines.shape, bool)
    for row, direction in zip(free, directions, strict=True):
        helper = np.array([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0])
        x = unit(np.cross(helper, direction))
        frame = np.stack([x, np.cross(direction, x), direction]).astype(np.float32)
        seen = (vertices - centre) @ frame.T
        front = depth_map(seen, triangles, camera, _BAKE_SIZE)
        # Compare a little in front of the surface, at the nearest sample.
        probe = seen + 2.0 * normals @ frame.T
        place = ((probe[:, :2] * np.array([1, -1], np.float32) / reach + 1) * (0.5 * _BAKE_SIZE)).astype(np.int32)
        place = np.clip(place, 0, _BAKE_SIZE - 1)
        row[:] = front[place[:, 1], place[:, 0]] < probe[:, 2] + 1.5
    weights = harmonics(directions).T.astype(np.float32)  # [9, D]
    return np.stack([weights @ (cosines * free), weights @ cosines])
