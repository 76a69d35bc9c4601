"""Sweeps of one value and transitions between two faces, as lists of faces; sheets of their pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from garfast.errors import ArgumentError
from garfast.fit.changes import ANGLES, Setting, coefficient_rows
from garfast.fit.saved_face import Face

MOST_FRAMES = 10_000
_SWEEP = re.compile(r"^(?:(exp|shape)\.([\w.]+)|(yaw|pitch|roll))=([^:]+):([^:]+):([^:]+)$")

_TILE, _GAP, _MARGIN, _LABEL = 224, 8, 24, 26
_PAPER, _INK = (250, 250, 248), (70, 72, 76)


@dataclass(frozen=True)
class Sweep:
    """One value that runs from ``start`` to ``stop`` in ``count`` frames.

    Attributes:
        kind, name: as in `garfast.fit.changes.Setting`.
    """

    kind: str
    name: str
    start: float
    stop: float
    count: int

    def settings(self) -> list[Setting]:
        """One for each frame."""
        return [Setting(self.kind, self.name, float(v)) for v in np.linspace(self.start, self.stop, self.count)]

    def faces(self, face: Face) -> list[Face]:
        """The face in each frame.

        Raises:
            ArgumentError: there is no coefficient of that name.
        """
        if self.kind not in ANGLES:
            coefficient_rows(face.model, self.kind, self.name)
        return [face.changed([setting]) for setting in self.settings()]


def parse_sweep(text: str) -> Sweep:
    """``exp.smile=0:2:12``, ``shape.3=-2:2:9`` or ``yaw=-40:40:25``: from, to, number of frames.

    Raises:
        ArgumentError: the text is none of these.
    """
    expected = "--sweep takes WHAT=FROM:TO:FRAMES, such as exp.smile=0:2:12, shape.3=-2:2:9 or yaw=-40:40:25"
    match = _SWEEP.match(text.strip())
    if match is None:
        raise ArgumentError(f"{expected}; not {text!r}")
    kind, name, angle, start, stop, count = match.groups()
    try:
        values = float(start), float(stop), int(count)
    except ValueError as error:
        raise ArgumentError(f"{expected}; not {text!r}") from error
    if not np.isfinite(values).all() or not 2 <= values[2] <= MOST_FRAMES:
        raise ArgumentError(f"{expected}, with 2 to {MOST_FRAMES} frames; not {text!r}")
    return Sweep(angle or kind, name or "", *values)


def transition(first: Face, last: Face, count: int) -> list[tuple[float, Face]]:
    """Faces between two, and how far along each is: eased at both ends.

    Raises:
        ArgumentError: there are fewer than 2 frames, or the faces are of different models.
    """
    if not 2 <= count <= MOST_FRAMES:
        raise ArgumentError(f"a transition has 2 to {MOST_FRAMES} frames, not {count}")
    shares = [0.5 - 0.5 * float(np.cos(np.pi * k / (count - 1))) for k in range(count)]
    return [(share, first.toward(last, share)) for share in shares]


def there_and_back(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames that loop without a jump."""
    return [*frames, *frames[-2:0:-1]]


def sheet(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> np.ndarray:
    """Rows of labelled pictures (uint8, square or not) as one picture, uint8 [h,w,3]."""
    from PIL import Image, ImageDraw, ImageFont

    columns = max(len(row) for row in rows)
    width = 2 * _MARGIN + columns * (_TILE + _GAP) - _GAP
    height = 2 * _MARGIN + len(rows) * (_TILE + _LABEL + _GAP) - _GAP
    picture = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(15)
    for y, row in enumerate(rows):
        for x, (label, tile) in enumerate(row):
            left, top = _MARGIN + x * (_TILE + _GAP), _MARGIN + y * (_TILE + _LABEL + _GAP)
            small = Image.fromarray(np.ascontiguousarray(tile))
            small.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS) if max(small.size) > _TILE else None
            if max(small.size) < _TILE:
                factor = _TILE / max(small.size)
                size = round(small.width * factor), round(small.height * factor)
                small = small.resize(size, Image.Resampling.BICUBIC)
            picture.paste(small, (left + (_TILE - small.width) // 2, top + (_TILE - small.height) // 2))
            draw.text((left + _TILE / 2, top + _TILE + 5), label, font=font, fill=_INK, anchor="ma")
    return np.array(picture)


def chosen(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` frames, evenly, the first and the last among them."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, most))})
