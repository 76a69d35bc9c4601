"""Named points of the mean face and the distances between them that `facts.py` lists."""

from __future__ import annotations

import os

import numpy as np

from garfast.morphable.model_file import read_arrays

from . import eyes, mouth
from .assembly import Assembly


def _nearest(a: Assembly, point: tuple[float, float, float], weight: tuple[float, float, float] = (1, 1, 1)) -> int:
    skin = a.is_piece("skin")
    d = np.where(skin, np.linalg.norm((a.vertices - np.asarray(point)) * weight, axis=1), np.inf)
    return int(np.argmin(d))


def _widest(a: Assembly, y: tuple[float, float], z: tuple[float, float]) -> int:
    v = a.vertices
    box = a.is_piece("skin") & (v[:, 1] > y[0]) & (v[:, 1] < y[1]) & (v[:, 2] > z[0]) & (v[:, 2] < z[1])
    return int(np.argmax(np.where(box, v[:, 0], -np.inf)))


def _middle(a: Assembly, y: tuple[float, float], score: str) -> int:
    v = a.vertices
    box = a.is_piece("skin") & (v[:, 0] == 0) & (v[:, 2] > 20) & (v[:, 1] > y[0]) & (v[:, 1] < y[1])
    value = {"front": v[:, 2], "back": -v[:, 2], "low": -v[:, 1]}[score]
    return int(np.argmax(np.where(box, value, -np.inf)))


def points(a: Assembly) -> dict[str, int]:
    """Vertices of the anatomical points, the paired ones on the subject's left."""
    v = a.vertices
    middle = np.flatnonzero(a.is_piece("skin") & (v[:, 0] == 0) & (v[:, 2] > 60))
    below_nose = middle[(v[middle, 1] < -26.0) & (v[middle, 1] > -36.0)]
    # Subnasale: the deepest bend between the column of the nose and the upper lip.
    bend = v[below_nose, 2] - 0.6 * v[below_nose, 1]
    pupil = np.where(
        a.is_piece("eyeball") & (v[:, 0] > 0), np.hypot(v[:, 0] - eyes.CENTRE[0], v[:, 1] - eyes.CENTRE[1]), np.inf
    )
    return {
        "zygion": _widest(a, (-8.0, 12.0), (30.0, 60.0)),
        "gonion": _widest(a, (-67.0, -58.0), (4.0, 18.0)),
        "frontotemporale": _nearest(a, (52.1, 44.0, 70.0), (1.0, 0.4, 1.0)),
        "euryon": _widest(a, (10.0, 80.0), (-60.0, 20.0)),
        "sellion": _middle(a, (10.0, 28.0), "back"),
        "pronasale": _middle(a, (-30.0, -10.0), "front"),
        "subnasale": int(below_nose[np.argmin(bend)]),
        "menton": _menton(a),
        "alare": _alare(a),
        "nasal_root": _nearest(a, (8.25, 17.0, 85.0), (1.0, 0.4, 1.0)),
        "cheilion": int(a.upper_lip_rim[-1]),
        "pupil": int(np.argmin(pupil)),
        "labiale_superius": _nearest(a, (0.0, float(mouth.upper_border(np.zeros(1))[0]), 106.0)),
        "labiale_inferius": _nearest(a, (0.0, float(mouth.lower_border(np.zeros(1))[0]), 103.0)),
    }


def points_of_file(path: str | os.PathLike[str]) -> dict[str, int]:
    """The anatomical points stored in the built-in model's file.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    arrays = read_arrays(path)
    return {str(n): int(v) for n, v in zip(arrays["anatomy_names"], arrays["anatomy_vertices"], strict=True)}


def _menton(a: Assembly) -> int:
    v = a.vertices
    box = a.is_piece("skin") & (v[:, 0] == 0) & (v[:, 2] > 60) & (v[:, 1] < -80)
    return int(np.argmin(np.where(box, v[:, 1] - 0.12 * v[:, 2], np.inf)))


def _alare(a: Assembly) -> int:
    v = a.vertices
    wing = a.is_piece("skin") & (v[:, 1] > -31) & (v[:, 1] < -16) & (np.abs(v[:, 0] - 16.0) < 4.5)
    # On the wing the surface is well in front of the cheek beside it.
    wing &= v[:, 2] > a.base[:, 2] + 4.0
    return int(np.argmax(np.where(wing, v[:, 0], -np.inf)))


def measure(vertices: np.ndarray, mirror: np.ndarray, named: dict[str, int]) -> dict[str, float]:
    """The distances of `facts.FACTS` in mm on vertices [V, 3] of the built-in face."""

    def between(a: int, b: int) -> float:
        return float(np.linalg.norm(vertices[a] - vertices[b]))

    def across(name: str) -> float:
        return between(named[name], int(mirror[named[name]]))

    return {
        "face_width": across("zygion"),
        "jaw_width": across("gonion"),
        "forehead_width": across("frontotemporale"),
        "face_height": between(named["sellion"], named["menton"]),
        "nose_length": between(named["sellion"], named["subnasale"]),
        "nose_breadth": across("alare"),
        "nose_protrusion": between(named["pronasale"], named["subnasale"]),
        "nose_root_breadth": across("nasal_root"),
        "lip_width": across("cheilion"),
        "interpupillary": across("pupil"),
        "head_breadth": across("euryon"),
    }
