"""What people wear and hold: glasses, hats, hands, cups, telephones, microphones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from garfast.synth.colour import cloth_colour, to_linear
from garfast.synth.dice import Dice
from garfast.synth.hair import HairTemplate
from garfast.synth.quick import unit
from garfast.synth.shot import rotation_matrix
from garfast.synth.solids import Solid, ball, box, disc, grid_triangles, tube, turned

Floats = NDArray[np.float32]

_RIM_POINTS = 36


def glasses(rng: Dice, landmarks: Floats) -> tuple[list[Solid], list[Solid]]:
    """Frames and lenses for a face.

    Args:
        landmarks: [68, 3] model space, mm.

    Returns:
        The frame's solids, and the lenses', which are drawn after it because light passes through them.
    """
    dark = rng.random() < 0.65
    colour = to_linear(rng.uniform(8, 60) * np.ones(3)) if dark else cloth_colour(rng)
    wire = rng.uniform(0.5, 0.9) if rng.random() < 0.4 else rng.uniform(1.0, 2.6)
    metal: dict[str, Any] = {"specular": 0.3, "gloss": 60.0} if wire < 1 else {"specular": 0.06, "gloss": 50.0}
    half_width, half_height = rng.uniform(21, 29), rng.uniform(13, 24)
    squareness = rng.uniform(2, 5)
    tilt, drop = rng.uniform(0.02, 0.2), rng.uniform(-5, 2)
    sun = rng.random() < 0.25
    tint = to_linear(rng.uniform(5, 70, 3)) if sun else to_linear(np.array([210, 215, 225.0]))
    opacity = rng.uniform(0.6, 0.98) if sun else rng.uniform(0.02, 0.09)
    angle = np.arange(_RIM_POINTS) / _RIM_POINTS * 2 * np.pi
    power = 2 / squareness
    wide = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    high = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    frames, lenses, inner_ends = [], [], []
    front = landmarks[27, 2] + rng.uniform(0, 5)
    for rows, ear in ((slice(36, 42), landmarks[0]), (slice(42, 48), landmarks[16])):
        eye = landmarks[rows].mean(0)
        side = np.sign(eye[0]) or 1.0
        across = np.maximum(np.abs(eye[0]), half_width + 8) + wide * half_width * np.where(wide > 0, 1.05, 0.95)
        rim = np.stack([side * across, eye[1] + drop + high * half_height, np.full(_RIM_POINTS, front)], 1)
        # Frames bow backward at the sides and lean forward at the top.
        rim[:, 2] -= 0.0035 * np.maximum(across - 12, 0) ** 2 - tilt * high * half_height
        if side < 0:
            rim = rim[::-1]
        frames.append(tube(rim, wire, colour, closed=True, **metal))
        lenses.append(disc(rim, tint, bulge=1.5, specular=0.06, gloss=180.0, opacity=opacity))
        outer = rim[np.abs(rim[:, 0]).argmax()] + np.array([0, 0.5 * half_height, 0])
        inner_ends.append(rim[np.abs(rim[:, 0]).argmin()] + np.array([0, 0.35 * half_height, 0]))
        hook = ear + np.array([side * 2.0, 12.0, -12.0])
        hook[0] = side * max(abs(hook[0]), abs(outer[0]) - 4)
        arm = np.stack([outer, 0.5 * (outer + hook) + np.array([side * 2.0, 1.0, 0]), hook, hook - [0, 12.0, 10.0]])
        frames.append(tube(arm, max(wire, 0.9), colour, sides=4, **metal))
    arch = 0.5 * (inner_ends[0] + inner_ends[1]) + np.array([0, 2.0, 1.5])
    frames.append(tube(np.stack([inner_ends[0], arch, inner_ends[1]]), wire, colour, **metal))
    return frames, lenses


def hat(rng: Dice, hair: HairTemplate, vertices: Floats, eyes_centre: Floats) -> list[Solid]:
    """A cap, a beanie, a brimmed hat or a head scarf on the skull of a face [V, 3] in model space."""
    kind = rng.pick([0.35, 0.35, 0.15, 0.15])
    skull = hair.skull_of(vertices)
    azimuth = np.radians(hair.azimuth)
    toward_back = 0.5 - 0.5 * np.cos(azimuth)
    front, back = rng.uniform(26, 62), rng.uniform(-25, 25)
    if kind == 1:
        back = front - rng.uniform(10, 60)
    edge = front + (back - front) * toward_back
    if kind == 3:  # scarf: down to the neck beside the face
        degrees = np.abs(hair.azimuth)
        opening = rng.uniform(55, 80)
        edge = np.where(degrees < opening, front * np.cos(np.radians(degrees) * 0.7), -95.0)
    thick = rng.uniform(7, 13) if kind != 3 else rng.uniform(9, 15)
    height = skull[..., 1] - eyes_centre[1]
    # Each column runs from the crown down to where the skull crosses the edge.
    rows = 14
    below = np.clip((height > edge).sum(0), 1, len(height) - 1)[None]
    upper, lower = (np.take_along_axis(height, below - k, 0)[0] for k in (1, 0))
    last = below[0] - 1 + np.clip((upper - edge) / np.maximum(upper - lower, 1e-3), 0, 1)
    place = np.linspace(0, 1, rows)[:, None] * last
    low = np.clip(np.floor(place).astype(int), 0, len(skull) - 2)
    share = (place - low)[..., None]
    columns = np.arange(len(azimuth))
    dome = skull[low, columns] * (1 - share) + skull[low + 1, columns] * share
    outward = unit(dome - hair.centre)
    crown = rng.uniform(0, 30) if kind == 1 else rng.uniform(0, 8)
    lift = thick + crown * np.clip(1 - place / max(float(last.mean()), 1.0), 0, 1)
    shell = dome + outward * lift[..., None]
    colour = cloth_colour(rng)
    cloth: dict[str, Any] = {"specular": 0.01, "gloss": 8.0}
    mesh = grid_triangles(rows, len(azimuth), True)
    solids = [Solid(shell.reshape(-1, 3), outward.reshape(-1, 3), mesh, colour, pattern=1.0, **cloth)]
    rim = shell[-1]
    if kind in (0, 2):
        reach = np.clip(np.cos(azimuth) * 1.6 - 0.35, 0, 1) if kind == 0 else np.ones(len(azimuth))
        away = rim - np.array([hair.centre[0], 0, hair.centre[2]])
        away[:, 1] = 0
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        length, sink = rng.uniform(45, 75), rng.uniform(0.0, 0.35)
        steps = np.linspace(0, 1, 4)[:, None, None]
        brim = rim[None] + steps * (reach * length)[None, :, None] * (away - np.array([0, sink, 0]))[None]
        up = np.broadcast_to(np.array([0, 1.0, 0]) + 0.2 * away, brim.shape)
        other = colour if rng.random() < 0.6 else cloth_colour(rng)
        mesh = grid_triangles(4, len(azimuth), True)
        solids.append(Solid(brim.reshape(-1, 3), up.reshape(-1, 3), mesh, other, pattern=0.3, **cloth))
    return solids


def held(rng: Dice, landmarks: Floats, skin: Floats) -> list[Solid]:
    """Something in front of the face: a hand, a cup, a telephone, a microphone or a board, in model space."""
    kind = rng.pick([0.5, 0.12, 0.14, 0.12, 0.12])
    anchor = landmarks[rng.choice((2, 4, 6, 8, 10, 12, 14, 30, 36, 45, 48, 54, 57))].astype(np.float64)
    anchor = anchor + np.array([rng.normal(0, 18), rng.normal(-8, 18), 0.0])
    anchor[2] = max(anchor[2], 60.0) + rng.uniform(18, 60)
    turn = rotation_matrix(rng.normal(0, 0.5), rng.normal(0, 0.4), rng.normal(0, 0.9)).astype(np.float64)
    if kind == 0:
        solids = _hand(rng, skin)
    elif kind == 1:
        path = np.stack([np.zeros(6), np.linspace(-45, 45, 6), np.zeros(6)], 1)
        solids = [tube(path, rng.uniform(30, 42), cloth_colour(rng), sides=20, specular=0.05, gloss=40.0)]
        turn = rotation_matrix(0, rng.normal(0, 0.4), rng.normal(0, 0.3)).astype(np.float64)
    elif kind == 2:
        colour = to_linear(rng.uniform(5, 60) * np.ones(3)) if rng.random() < 0.6 else cloth_colour(rng)
        solids = [box(np.zeros(3), np.array([72.0, 148.0, 9.0]), colour, specular=0.08, gloss=80.0)]
    elif kind == 3:
        dark = to_linear(rng.uniform(10, 90) * np.ones(3))
        stick = np.stack([np.zeros(5), np.linspace(-20, -220, 5), np.linspace(0, 60, 5)], 1)
        solids = [ball(np.zeros(3), 25.0, dark, specular=0.1, gloss=20.0), tube(stick, 13.0, dark, sides=10)]
        turn = rotation_matrix(rng.normal(0, 0.4), rng.normal(0.2, 0.3), rng.normal(0, 0.3)).astype(np.float64)
    else:
        size = np.array([rng.uniform(30, 150), rng.uniform(30, 150), 6.0])
        solids = [box(np.zeros(3), size, cloth_colour(rng), pattern=1.0)]
    return [turned(solid, turn, anchor) for solid in solids]


def _hand(rng: Dice, skin: Floats) -> list[Solid]:
    """A hand around the origin, fingers up, palm toward -z."""
    colour = skin * rng.uniform(0.85, 1.1)
    look: dict[str, Any] = {"specular": 0.03, "gloss": 14.0}
    spread, curl = rng.uniform(0.02, 0.22), rng.uniform(0.0, 1.1)
    side = rng.choice((-1.0, 1.0))
    solids = [ball(np.array([0.0, -10.0, 0.0]), np.array([40.0, 48.0, 14.0]), colour, **look)]
    for k, length in enumerate((66.0, 76.0, 71.0, 56.0)):
        lean = (k - 1.5) * spread
        bend = np.cumsum(np.full(5, curl / 4))
        step = length / 5
        path = np.zeros((6, 3))
        path[0] = [(k - 1.5) * 19.5, 28.0, 0.0]
        for j in range(5):
            along = np.array([np.sin(lean), np.cos(lean) * np.cos(bend[j]), -np.sin(bend[j])])
            path[j + 1] = path[j] + step * along
        solids.append(tube(path * [side, 1, 1], np.array([10, 9.6, 9.2, 8.6, 7.8, 4.5]), colour, sides=8, **look))
    thumb = np.array([[30.0, -28, 0], [46, -8, -4], [56, 10, -8], [60, 26, -10], [61, 34, -10]]) * [side, 1, 1]
    solids.append(tube(thumb, np.array([14, 13, 11.5, 10, 5.0]), colour, sides=8, **look))
    arm = np.stack([np.zeros(4), np.linspace(-45, -260, 4), np.linspace(0, 25, 4)], 1)
    solids.append(tube(arm, np.array([26.0, 27, 33, 40]), colour, sides=12, flat=0.75, **look))
    return solids
