"""Soft masks of the ICT face's parts, from the kit's region table and the neutral face's geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from garfast.morphable.importers.ict_kit import IctArrays
from garfast.morphable.surface import (
    fit_sphere,
    line_distance,
    polygon_mask,
    smooth_curve,
    smooth_mask,
    unique_edges,
)

# Millimetres. The iris gets its usual size (horizontal visible iris diameter 11.7 mm) although the kit's eyeballs are
# large (30 mm): that keeps the usual ratio of iris to lid opening.
IRIS_RADIUS = 5.9
PUPIL_RADIUS = 1.9
LID_WIDTH = 6.0
BROW_HALF_HEIGHT = 3.5


def region_masks(
    raw: IctArrays, vertices: NDArray[np.float64], brows: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """The masks, by name, of the parts that the mesh has.

    Args:
        raw: the kit's arrays, for topology, regions and landmarks.
        vertices: [V, 3] the neutral face, mm.
        brows: [10, 3] the lowered brow landmarks 17..26, mm.

    Returns:
        [V] masks in 0..1. 'skin' is all outer skin, with lips, lids and brows; they lie on it as masks of their own.
    """
    edges = unique_edges(raw.triangles)
    skin = np.isin(raw.region, ("face", "head_neck"))
    flat = vertices[:, :2]
    marks = vertices[raw.landmarks]
    masks: dict[str, NDArray[np.float64]] = {"skin": skin.astype(np.float64)}
    front = skin & raw.narrow
    masks["lips"] = np.where(front, polygon_mask(flat, smooth_curve(marks[48:60, :2]), soft=2.0), 0)
    lids, balls = np.zeros(len(vertices)), np.zeros(len(vertices))
    for corners in (marks[36:42], marks[42:48]):
        outline = smooth_curve(corners[:, :2])
        lids = np.maximum(lids, polygon_mask(flat, outline, soft=0.6 * LID_WIDTH, grow=LID_WIDTH))
    masks["lids"] = np.where(front, lids, 0)
    height = np.minimum(line_distance(vertices, brows[:5]), line_distance(vertices, brows[5:]))
    masks["brows"] = np.where(front, np.clip((BROW_HALF_HEIGHT + 1.0 - height) / 2.0, 0, 1), 0)
    masks["eyeballs"], masks["iris"], masks["pupil"] = balls, balls.copy(), balls.copy()
    for side in ("eyeball_left", "eyeball_right"):
        shell = np.flatnonzero(raw.region == side)
        if len(shell):
            distance = _from_gaze_axis(vertices[shell])
            masks["eyeballs"][shell] = 1
            masks["iris"][shell] = np.clip((IRIS_RADIUS - distance) / 1.0 + 0.5, 0, 1)
            masks["pupil"][shell] = np.clip((PUPIL_RADIUS - distance) / 0.6 + 0.5, 0, 1)
    masks["teeth"] = (raw.region == "teeth").astype(np.float64)
    masks["tongue"] = (raw.region == "gums_tongue").astype(np.float64)
    masks["mouth_socket"] = (raw.region == "mouth_socket").astype(np.float64)
    masks.update(_outer_head(raw, vertices, skin, edges))
    return {name: mask for name, mask in masks.items() if mask.any()}


def _from_gaze_axis(shell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance [N] of an eyeball's vertices from the line through its centre and the middle of its cornea."""
    centre, _ = fit_sphere(shell)
    for _ in range(3):  # the cornea bulges out of the sphere: fit again without it
        axis = _front_axis(shell, centre)
        away = np.linalg.norm(np.cross(shell - centre, axis), axis=1)
        white = (away > 8.5) | ((shell - centre) @ axis < 0)
        if white.sum() < 16:  # the narrow face keeps the front of the eyeball only: the first fit must do
            break
        centre, _ = fit_sphere(shell[white])
    offset = shell - centre
    axis = _front_axis(shell, centre)
    return np.where(offset @ axis > 0, np.linalg.norm(np.cross(offset, axis), axis=1), np.inf)


def _front_axis(shell: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    offset = shell - centre
    reach = np.linalg.norm(offset, axis=1)
    bulge = (reach > np.quantile(reach, 0.85)) & (offset[:, 2] > 0)
    direction = (offset[bulge] / reach[bulge, None]).mean(0)
    return direction / np.linalg.norm(direction)


def _outer_head(
    raw: IctArrays, vertices: NDArray[np.float64], skin: NDArray[np.bool_], edges: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Ears, scalp and neck, which the kit's table does not name: bounds in mm on its neutral head, then softened."""
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    outer = skin & ~raw.narrow
    ears = outer & (raw.region == "face") & (x > 66) & (y > -26) & (y < 46) & (z > -25) & (z < 18)
    hairline = np.where(z > 0, 30.0, -15.0 + 0.3 * z)
    scalp = outer & ~ears & (y > hairline)
    neck = outer & ~ears & ~scalp & ((y < -30) | (z < -5))
    return {
        name: np.where(skin, smooth_mask(mask.astype(np.float64), edges, rounds), 0)
        for name, mask, rounds in (("ears", ears, 1), ("scalp", scalp, 6), ("neck", neck, 4))
        if mask.any()
    }
