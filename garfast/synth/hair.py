"""Hair: a painted scalp and a shell of strands around the head, cut by an outline.

The shell is a grid of columns that run from the crown downward: first along the skull, raised above it, then hanging.
What shows is decided per sample: each vertex carries a signed distance inside the hair's outline, and strand noise
frays it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from garfast.synth.dice import Dice
from garfast.synth.native import Layer, kernels, vertex_room
from garfast.synth.noise import smooth_fields
from garfast.synth.person import Person
from garfast.synth.quick import limited
from garfast.synth.template import FIELDS, HAIR, SKIN, HeadTemplate

Floats = NDArray[np.float32]

_COLUMNS = 80
_SKULL_ROWS = 22
_HANG_ROWS = 12
_ROWS = _SKULL_ROWS + _HANG_ROWS
_SKULL_END = 150.0  # degrees from the crown down to which columns may follow the skull
_NEIGHBOURS = 5
_STRAND_RADIUS = 90.0  # mm; turns azimuth into width of hair
_FIELD_COUNT = 10
_FRAYED = 9.0  # mm outside the outline where the last strand ends
_EAR_AT = 95.0  # degrees; where the back half of a shell begins
_HAIR = np.full(2 * (_ROWS - 1) * _COLUMNS, HAIR, np.uint8)


@dataclass(frozen=True)
class HairTemplate:
    """A head's skull as seen from inside, on the shell's grid of directions.

    Attributes:
        centre: [3] model space.
        eye_height: model space.
        around, shares: [S * C, N] the vertices around each direction over the skull, and their weights; they sum to 1.
        azimuth: [C] degrees, 0 in front, rising to the subject's left.
        polar: [S] radians from the crown.
        beside: [S, C] 0 on top .. 1 beside the head.
        fields: [3, N, R * C] smooth random fields of rising frequency.
        line_weights: [O, len(_LINE_AT)] share of each height of a hairline at the head's outer vertices.
        grows: [O] 1 where hair can grow, 0 on the ears.
    """

    centre: Floats
    eye_height: float
    around: NDArray[np.int32]
    shares: Floats
    azimuth: Floats
    polar: Floats
    beside: Floats
    fields: Floats
    line_weights: Floats
    grows: Floats

    def skull_of(self, vertices: Floats) -> Floats:
        """[S, C, 3] the skull's skin under the grid, of a face's vertices [V, 3]."""
        return np.einsum("gnk,gn->gk", vertices[self.around], self.shares).reshape(_SKULL_ROWS, _COLUMNS, 3)


def build_hair_template(template: HeadTemplate) -> HairTemplate:
    """Look at the head from inside: which skin lies in each direction of the grid."""
    from scipy.spatial import cKDTree

    centre = np.array([0.0, template.eyes_centre[1] + 22.0, template.head_axis[2]], np.float32)
    azimuth = (np.arange(_COLUMNS) / _COLUMNS * 2 * np.pi - np.pi).astype(np.float32)
    polar = np.radians(np.linspace(2.0, _SKULL_END, _SKULL_ROWS)).astype(np.float32)
    sine, cosine = np.sin(polar)[:, None], np.cos(polar)[:, None]
    directions = np.stack(
        [sine * np.sin(azimuth), np.broadcast_to(cosine, (_SKULL_ROWS, _COLUMNS)), sine * np.cos(azimuth)], -1
    ).astype(np.float32)
    skin = np.zeros(len(template.mean), bool)
    skin[template.triangles[template.materials == SKIN].reshape(-1)] = True
    rows = np.flatnonzero(skin & (template.ears < 0.4))
    offset = template.mean[rows] - centre
    reach = np.linalg.norm(offset, axis=1)
    # Nostrils, sockets and the inside of the lips lie far inside the outermost skin of their direction.
    tree = cKDTree(offset / reach[:, None])
    _, around = tree.query(offset / reach[:, None], k=9)
    outermost = reach >= reach[around].max(1) - 12.0
    rows, offset, reach = rows[outermost], offset[outermost], reach[outermost]
    distance, nearest = cKDTree(offset / reach[:, None]).query(directions.reshape(-1, 3), k=_NEIGHBOURS)
    shares = 1 / (distance + 0.02)
    shares /= shares.sum(1, keepdims=True)
    places = np.concatenate(
        [directions * 95.0, np.broadcast_to(directions[-1:] * 95.0, (_HANG_ROWS, _COLUMNS, 3)).copy()]
    )
    places[_SKULL_ROWS:, :, 1] -= np.linspace(10, 300, _HANG_ROWS)[:, None]
    around_head = np.degrees(np.abs(template.azimuth[: template.num_outer]))
    degrees = np.degrees(azimuth)
    return HairTemplate(
        centre=centre,
        eye_height=float(template.eyes_centre[1]),
        around=np.ascontiguousarray(rows[nearest], np.int32),
        shares=np.ascontiguousarray(shares, np.float32),
        azimuth=degrees,
        polar=polar,
        beside=limited((np.abs(degrees) - 35) / 45, 0, 1) * limited((polar[:, None] - 0.5) / 0.7, 0, 1),
        fields=np.stack(
            [smooth_fields(places.reshape(-1, 3), s, _FIELD_COUNT, 40 + k) for k, s in enumerate((90.0, 38.0, 17.0))]
        ),
        # Interpolation is linear in the heights.
        line_weights=np.stack([np.interp(around_head, _LINE_AT, row) for row in np.eye(len(_LINE_AT))], 1).astype(
            np.float32
        ),
        grows=np.float32(template.ears[: template.num_outer] < 0.3),
    )


@dataclass
class HairStyle:
    """One cut, in mm and degrees; heights are above the eyes.

    Attributes:
        line: heights of the hairline at azimuths ``_LINE_AT`` (front to back).
        fringe: how far hair covers the forehead below the hairline, at the part.
        fringe_slope: how that changes across the forehead, mm per degree.
        opening: azimuth from which long hair falls past the ears and cheeks; 180 for short hair.
        ends: height at which long hair ends.
        thickness: of the shell on top; ``side_thickness`` beside the head.
        swell: how far waves and curls move the shell.
        scalp: how much of the scalp is painted in the hair's colour.
    """

    line: Floats
    fringe: float
    fringe_slope: float
    opening: float
    ends: float
    thickness: float
    side_thickness: float
    swell: Floats
    scalp: float
    shell: bool

    def flatten(self) -> None:
        """Press the hair down, as a hat does."""
        self.thickness, self.side_thickness = min(self.thickness, 3.0), min(self.side_thickness, 6.0)
        self.swell = self.swell * np.float32(0.2)


_LINE_AT = np.array([0.0, 25.0, 48.0, 66.0, 80.0, 98.0, 125.0, 180.0], np.float32)


def sample_style(rng: Dice) -> HairStyle:
    """Draw a cut: cropped, short, bowl, swept, afro, bob, long; receding hairlines among them."""
    up = rng.normal(0, 5)
    line = np.array(
        [
            66 + up,
            64 + up + rng.normal(0, 4),
            48 + up + rng.normal(0, 7),
            30 + rng.normal(0, 6),
            rng.uniform(-32, 12),
            36 + rng.normal(0, 4),
            -18 + rng.normal(0, 9),
            -62 + rng.normal(0, 14),
        ],
        np.float32,
    )
    if rng.random() < 0.15:  # receding
        line[:3] += np.array([rng.uniform(5, 45), rng.uniform(10, 50), rng.uniform(5, 35)], np.float32)
    kind = rng.pick([0.14, 0.3, 0.14, 0.1, 0.12, 0.2])
    style = HairStyle(line, 0.0, 0.0, 180.0, -200.0, 0.0, 0.0, np.zeros(3, np.float32), rng.uniform(0.75, 1.0), True)
    if kind == 0:  # cropped: paint, perhaps a thin shell
        style.shell = rng.random() < 0.5
        style.thickness, style.side_thickness = rng.uniform(1, 5), rng.uniform(0.5, 2)
        style.scalp = rng.uniform(0.35, 0.95)
    elif kind == 1:  # short
        style.thickness, style.side_thickness = rng.uniform(6, 26), rng.uniform(2, 9)
        style.swell = np.array([rng.uniform(0, 5), rng.uniform(0, 5), rng.uniform(0, 3)], np.float32)
    elif kind == 2:  # short or medium with a fringe
        style.thickness, style.side_thickness = rng.uniform(8, 22), rng.uniform(4, 14)
        style.fringe = rng.uniform(18, 62)
        style.fringe_slope = rng.normal(0, 0.35)
        style.line[3:6] -= rng.uniform(0, 40)
        style.swell = np.array([rng.uniform(0, 4), rng.uniform(0, 3), rng.uniform(0, 2)], np.float32)
    elif kind == 3:  # afro and curls
        style.thickness = rng.uniform(18, 75)
        style.side_thickness = style.thickness * rng.uniform(0.5, 1.0)
        style.swell = np.array([rng.uniform(1, 6), rng.uniform(2, 8), rng.uniform(2, 7)], np.float32)
    else:  # bob and long
        style.thickness, style.side_thickness = rng.uniform(7, 24), rng.uniform(6, 26)
        style.opening = rng.uniform(48, 92)
        style.ends = rng.uniform(-140, -55) if kind == 4 else rng.uniform(-330, -140)
        if rng.random() < 0.45:
            style.fringe = rng.uniform(15, 64)
            style.fringe_slope = rng.normal(0, 0.4)
        style.swell = np.array([rng.uniform(0, 8), rng.uniform(0, 7), rng.uniform(0, 4)], np.float32)
    return style


def hair_parameters(rng: Dice, person: Person, style: HairStyle) -> dict[str, float]:
    """Material parameters of the strands; sets the hair's colours on ``person``."""
    person.set_colour("hair", person.hair, 0.004, 0.8)
    tip = person.hair * rng.uniform(0.9, 1.5)
    person.set_colour("hair_tip", tip, 0.004, 0.85)
    curly = float(style.swell[2]) > 2.5
    return {
        "hair_gloss": rng.uniform(0.05, 0.6),
        "hair_grain": rng.uniform(0.5, 1.4),
        "hair_clump": rng.uniform(4.0, 8.0) if curly else rng.uniform(5.0, 14.0),
        "hair_ragged": rng.uniform(2.5, 9.0),
        "hair_wave": rng.uniform(4, 11) if curly else rng.uniform(0, 1) ** 2 * 5,
        "scalp_strength": style.scalp,
    }


def scalp_cover(rng: Dice, template: HeadTemplate, hair: HairTemplate, style: HairStyle) -> Floats:
    """[V] 0..1 of the head's vertices under hair."""
    outer = slice(template.num_outer)
    inside = template.height[outer] - hair.line_weights @ style.line
    inside += template.fields[2, rng.below(FIELDS), outer] * np.float32(2.5)
    cover = np.zeros(len(template.height), np.float32)
    np.multiply(limited(inside * np.float32(1 / 9) + np.float32(0.5), 0, 1), hair.grows, out=cover[outer])
    return cover


def hair_layers(
    rng: Dice, hair: HairTemplate, style: HairStyle, vertices: Floats, rotation: Floats, translation: Floats
) -> list[Layer]:
    """The shell for one face, the back of the head before the front: where strands thin out in front, others show.

    Args:
        vertices: [V, 3] the face in model space.
        rotation, translation: [3, 3] and [3] model space to camera space.
    """
    fields = [field[rng.below(_FIELD_COUNT)] for field in hair.fields]
    cut = (hair.eye_height, style.fringe, style.fringe_slope, style.opening, style.ends, style.thickness)
    shape = (*cut, style.side_thickness, rng.normal(0, 0.25), _STRAND_RADIUS, _FRAYED, _EAR_AT)
    positions, normals, attributes = vertex_room(_ROWS * _COLUMNS)
    lists = np.empty((2, 2 * (_ROWS - 1) * _COLUMNS, 3), np.int32)
    found = np.empty(2, np.int64)
    kernels().synth_hair(  # type: ignore[attr-defined]
        vertices,
        hair.around,
        hair.shares,
        hair.beside,
        *fields,
        hair.azimuth,
        hair.polar,
        _LINE_AT,
        style.line,
        hair.centre,
        style.swell,
        rotation,
        translation,
        shape,
        positions,
        normals,
        attributes,
        *lists,
        found,
        _SKULL_ROWS,
        _HANG_ROWS,
        _COLUMNS,
        _NEIGHBOURS,
        len(_LINE_AT),
    )
    chosen = [part[:count] for part, count in zip(lists, found.tolist(), strict=True) if count]
    return [Layer(positions, normals, attributes, part, _HAIR[: len(part)], False) for part in chosen]
