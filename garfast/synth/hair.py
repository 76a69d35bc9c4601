"""Hair: a painted scalp and a shell of strands around the head, cut by an outline.

The shell is a grid of columns that run from the crown downward: first along the skull, raised above it, then hanging.
What shows is decided per sample: each vertex carries a signed distance inside the hair's outline, and strand noise
frays it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from garfast.synth.dice import Dice
from garfast.synth.native import Layer, num_attributes
from garfast.synth.noise import smooth_fields
from garfast.synth.person import Person
from garfast.synth.quick import column_direction, grid_normals, limited, unit
from garfast.synth.template import FIELDS, HAIR, SKIN, HeadTemplate

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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


@dataclass(frozen=True)
class HairTemplate:
    """A head's skull as seen from inside, on the shell's grid of directions.

    Attributes:
        centre: [3] model space.
        skull: sparse [R * C, O] weights of the head's outer vertices around each direction, rows sum to 1.
        azimuth: [C] radians, 0 in front, rising to the subject's left.
        degrees, signed_degrees: [C] the size of the azimuth, and the azimuth itself.
        polar: [R] radians from the crown.
        beside: [R, C] 0 on top .. 1 beside the head.
        triangles: [F, 3].
        behind: [F] which of them lie behind the ears.
        fields: [3, N, R * C] smooth random fields of rising frequency.
        line_weights: [O, len(_LINE_AT)] share of each height of a hairline at the head's outer vertices.
        grows: [O] 1 where hair can grow, 0 on the ears.
    """

    centre: Floats
    skull: csr_array
    azimuth: Floats
    degrees: Floats
    signed_degrees: Floats
    polar: Floats
    beside: Floats
    triangles: NDArray[np.int32]
    behind: NDArray[np.bool_]
    fields: Floats
    line_weights: Floats
    grows: Floats

    def skull_of(self, vertices: Floats) -> Floats:
        """[R, C, 3] the skull's skin under the grid, of a face's vertices [V, 3]."""
        return (self.skull @ vertices[: self.skull.shape[1]]).reshape(_SKULL_ROWS, _COLUMNS, 3)


def build_hair_template(template: HeadTemplate) -> HairTemplate:
    """Look at the head from inside: which skin lies in each direction of the grid."""
    from scipy.sparse import csr_array
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
    index = np.arange(_ROWS * _COLUMNS).reshape(_ROWS, _COLUMNS)
    a, b = index[:-1], index[1:]
    a2, b2 = np.roll(a, -1, 1), np.roll(b, -1, 1)
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, b2), (a, b2, a2))])
    places = np.concatenate(
        [directions * 95.0, np.broadcast_to(directions[-1:] * 95.0, (_HANG_ROWS, _COLUMNS, 3)).copy()]
    )
    places[_SKULL_ROWS:, :, 1] -= np.linspace(10, 300, _HANG_ROWS)[:, None]
    around_head = np.degrees(np.abs(template.azimuth[: template.num_outer]))
    degrees = np.degrees(np.abs(azimuth))
    return HairTemplate(
        centre=centre,
        skull=csr_array(
            (np.float32(shares).reshape(-1), rows[nearest].reshape(-1), np.arange(0, nearest.size + 1, _NEIGHBOURS)),
            shape=(len(nearest), template.num_outer),
        ),
        azimuth=azimuth,
        degrees=degrees,
        signed_degrees=np.degrees(azimuth),
        polar=polar,
        beside=limited((degrees - 35) / 45, 0, 1) * limited((polar[:, None] - 0.5) / 0.7, 0, 1),
        triangles=np.ascontiguousarray(triangles, np.int32),
        behind=degrees[triangles[:, 0] % _COLUMNS] > _EAR_AT,
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


_LINE_AT = np.array([0.0, 25.0, 48.0, 66.0, 80.0, 98.0, 125.0, 180.0])


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
        ]
    )
    if rng.random() < 0.15:  # receding
        line[:3] += np.array([rng.uniform(5, 45), rng.uniform(10, 50), rng.uniform(5, 35)])
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
    person.set_colour("hair", np.clip(person.hair, 0.004, 0.8))
    tip = person.hair * rng.uniform(0.9, 1.5)
    person.set_colour("hair_tip", np.clip(tip, 0.004, 0.85))
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
    inside = template.height[outer] - hair.line_weights @ style.line.astype(np.float32)
    inside += template.fields[2, rng.below(FIELDS), outer] * np.float32(2.5)
    cover = np.zeros(len(template.height), np.float32)
    np.multiply(limited(inside * np.float32(1 / 9) + np.float32(0.5), 0, 1), hair.grows, out=cover[outer])
    return cover


def hair_shell(
    rng: Dice, template: HeadTemplate, hair: HairTemplate, style: HairStyle, vertices: Floats
) -> tuple[Floats, Floats]:
    """The shell for one face.

    Args:
        vertices: [V, 3] the face in model space.

    Returns:
        Positions [R * C, 3] in model space, and attributes [R * C, A] without the strands' directions.
    """
    skull = hair.skull_of(vertices)
    degrees, signed = hair.degrees, hair.signed_degrees
    line = _hairline(style, degrees)
    height = skull[..., 1] - template.eyes_centre[1]
    fringe_end = line - (style.fringe + style.fringe_slope * signed) * limited(1.25 - degrees / 60, 0, 1)
    # Above the hairline the shell rises from the skin; below it (fringe, falling hair) it floats a little above.
    above = height - line
    root = limited(above / 30 + (0.35 if style.fringe > 0 else 0.12), 0.06, 1)
    thickness = style.thickness + (style.side_thickness - style.thickness) * hair.beside
    falling = degrees >= style.opening - 25
    fall_share = limited((degrees - style.opening + 25) / 30, 0, 1)
    root = np.maximum(root, 0.75 * fall_share * (above < 10))
    pick = [rng.below(_FIELD_COUNT) for _ in range(3)]
    waves = sum(style.swell[k] * hair.fields[k, pick[k]] for k in range(3)).reshape(_ROWS, _COLUMNS)
    raised = np.maximum(thickness * root + waves[:_SKULL_ROWS] * limited(root * 1.5, 0, 1), 0.8) + 0.8
    # Hair passes outside the ears.
    near_ear = np.exp(-(((degrees - 92) / 22) ** 2)) * np.exp(-(((height - 5) / 38) ** 2))
    raised = raised + 14 * near_ear * (fall_share > 0.3)
    outward = unit(skull - hair.centre)
    shell = skull + outward * raised[..., None]
    shell, rows = _hang(shell, hair, style, waves, falling, template)
    flat_height = shell[..., 1] - template.eyes_centre[1]
    over = flat_height - fringe_end
    if style.opening < 180:
        panel = np.minimum(flat_height - style.ends, (degrees - style.opening) * 1.5 + 0.5 * waves)
        over = np.maximum(over, panel)
    attributes = np.zeros((_ROWS * _COLUMNS, num_attributes()), np.float32)
    along = np.concatenate([np.zeros((1, _COLUMNS)), np.linalg.norm(np.diff(shell, axis=0), axis=-1).cumsum(0)])
    lean = rng.normal(0, 0.25)
    spread = 0.35 + 0.65 * np.sin(limited(rows, 0, np.pi / 2))
    across = signed[None] / 180 * np.pi * _STRAND_RADIUS * spread + lean * along
    attributes[:, 0] = across.reshape(-1)
    attributes[:, 1] = along.reshape(-1)
    attributes[:, 5] = limited(over, -60, 60).reshape(-1)
    attributes[:, 6] = limited((along - 120) / 220, 0, 1).reshape(-1)
    depth = limited(0.55 + 0.45 * raised / max(style.thickness, 3), 0.35, 1)
    open_share = np.concatenate([depth, np.repeat(limited(depth[-1:], 0.4, 0.8), _HANG_ROWS, 0)])
    attributes[:, 10] = open_share.reshape(-1)
    return np.ascontiguousarray(shell.reshape(-1, 3), np.float32), attributes


def _hang(
    shell: Floats,
    hair: HairTemplate,
    style: HairStyle,
    waves: Floats,
    falling: NDArray[np.bool_],
    template: HeadTemplate,
) -> tuple[Floats, Floats]:
    """Add the hanging rows, and let falling columns leave the skull where it turns inward."""
    rows = np.repeat(hair.polar[:, None], _COLUMNS, 1)
    out = np.empty((_ROWS, _COLUMNS, 3), np.float32)
    out[:_SKULL_ROWS] = shell
    if not falling.any() or style.opening >= 180:
        out[_SKULL_ROWS:] = shell[-1:]
    else:
        centre = hair.centre[[0, 2]]
        flat = shell[..., [0, 2]] - centre
        radius = np.linalg.norm(flat, axis=-1)
        # Gravity: below its widest place a falling column keeps its distance from the head's axis.
        widest = np.maximum.accumulate(radius, 0) * np.where(rows > np.pi / 2, 0.99, 1.0)
        kept = np.where(falling & (rows > 1.2), np.maximum(radius, 0.97 * widest), radius)
        out[:_SKULL_ROWS][..., [0, 2]] = centre + flat * (kept / np.maximum(radius, 1e-3))[..., None]
        last = out[_SKULL_ROWS - 1]
        bottom = template.eyes_centre[1] + style.ends - 12
        share = np.linspace(0, 1, _HANG_ROWS + 1)[1:, None]
        out[_SKULL_ROWS:, :, 1] = last[:, 1] + share * np.minimum(bottom - last[:, 1], 0)
        drift = 1 + 0.012 * waves[_SKULL_ROWS:] + 0.12 * share * min(max((-style.ends - 120) / 200, 0), 1)
        out[_SKULL_ROWS:, :, [0, 2]] = centre + (last[:, [0, 2]] - centre)[None] * drift[..., None]
    hang = np.repeat(rows[-1:], _HANG_ROWS, 0)
    return out, np.concatenate([rows, hang])


def shell_layers(hair: HairTemplate, positions: Floats, attributes: Floats) -> list[Layer]:
    """A shell placed in camera space, the back of the head before the front: where strands thin out in front, those
    behind show. Strand directions and normals follow from the grid."""
    grid = positions.reshape(_ROWS, _COLUMNS, 3)
    along = column_direction(grid)
    normals = grid_normals(grid, along)
    attributes[:, 2:5] = unit(along).reshape(-1, 3)
    inside = (attributes[:, 5] > -_FRAYED).reshape(_ROWS, _COLUMNS)
    beside = np.roll(inside, -1, 1)
    across = inside[:-1] | beside[1:]  # the diagonal that a cell's two triangles share
    shown = np.concatenate([(across | inside[1:]).reshape(-1), (across | beside[:-1]).reshape(-1)])
    layers = []
    for part in (hair.behind, ~hair.behind):
        triangles = np.ascontiguousarray(hair.triangles[shown & part])
        if len(triangles):
            materials = np.full(len(triangles), HAIR, np.uint8)
            layers.append(Layer(positions, normals, attributes, triangles, materials, False))
    return layers


def _hairline(style: HairStyle, degrees: NDArray[np.floating]) -> Floats:
    return np.interp(degrees, _LINE_AT, style.line).astype(np.float32)
