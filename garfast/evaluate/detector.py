"""How good the embedded detector is, from photograph to landmarks: what `garfast eval detector` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError, EvaluationError
from garfast.evaluate.nme import BINS
from garfast.evaluate.statistics import markdown_table, write_csv, write_json, write_text
from garfast.landmarks.boxes import bounding_box, face_size, intersection_over_union
from garfast.landmarks.embedded import detect_both_jaws, detect_embedded
from garfast.landmarks.files import read_landmarks
from garfast.morphable import MorphableModel

SAME = 0.3
"""Intersection over union with the true box from which on a detection is of that face."""

SMALL = 64.0
"""Pixels; faces whose longer side is below it are summarised on their own."""

_PARTS = (("jaw", 0, 17), ("brows", 17, 27), ("nose", 27, 36), ("eyes", 36, 48), ("mouth", 48, 68))
_SIZES = (512, 400, 300, 200, 150, 100, 80, 70, 60, 50)
_ANGLES = (-60, -45, -30, -15, 15, 30, 45, 60, 90, 180, 270)


@dataclass(frozen=True)
class Found:
    """One photograph with one face.

    Attributes:
        yaw: degrees, with its sign.
        side: longer side of the box of the true landmarks, pixels.
        nme: mean distance of the 68 landmarks (the jaw 3D-consistent) over sqrt(width * height) of that box; None
            where the face was not found.
        contour: the same mean over the 17 points of the jaw's visible outline.
        others: detections elsewhere.
    """

    yaw: float
    side: float
    nme: float | None
    contour: float | None
    others: int


def measure_photograph(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    contour: NDArray[np.floating],
    yaw: float = 0.0,
    *,
    threshold: float = 0.5,
) -> Found:
    """Detect the face of a photograph and measure its landmarks.

    Args:
        image: uint8 [H, W, 3].
        landmarks: [68, 2] true landmarks with a 3D-consistent jaw, photo pixels.
        contour: [17, 2] true jaw on the visible outline.
        yaw: degrees, kept for the summary.
        threshold: see `detect_embedded`.
    """
    box, size = bounding_box(landmarks), face_size(landmarks)
    width, height = (box[2:] - box[:2]).tolist()
    faces = detect_both_jaws(image, threshold=threshold)
    overlaps = [intersection_over_union(fixed.box, box) for _, fixed in faces]
    best = int(np.argmax(overlaps)) if overlaps else -1
    if best < 0 or overlaps[best] < SAME:
        return Found(yaw, max(width, height), None, None, len(faces))
    outline, fixed = faces[best]
    error = np.linalg.norm(fixed.landmarks - landmarks, axis=1).mean() / size
    jaw = np.linalg.norm(outline.landmarks[:17] - contour, axis=1).mean() / size
    return Found(yaw, max(width, height), float(error), float(jaw), len(faces) - 1)


def synthetic_photographs(
    model: MorphableModel, count: int, *, seed: int, size: int = 320, face_scale: tuple[float, float] = (0.12, 0.6)
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], float]]:
    """Photographs of one face each, anywhere in the picture.

    Yields:
        Image uint8 [size, size, 3], landmarks [68, 2], jaw on the outline [17, 2], yaw in degrees.
    """
    from garfast.synth import SynthConfig, SyntheticFaces

    faces = SyntheticFaces(
        model, size, seed=seed, config=SynthConfig(face_scale=face_scale, anywhere=True, normals=False)
    )
    for made in faces.samples(range(count)):
        yield made["image"], made["landmarks68"], made["landmarks68_contour"][:17], float(np.degrees(made["angles"][0]))


def false_faces(threshold: float = 0.5) -> dict[str, int]:
    """Faces found in each of the installed pictures of scikit-image that show nobody."""
    from garfast.train.scenery import named_pictures

    return {name: len(detect_embedded(image, threshold=threshold)) for name, image in named_pictures().items()}


@dataclass(frozen=True)
class RealFace:
    """The astronaut of scikit-image, resized or turned.

    Attributes:
        change: what was done to the photograph.
        score: of the face where it is; None where it was not found.
        nme: with the jaw on the outline, as a share of the face's size.
        parts: the same of the jaw, brows, nose, eyes and mouth.
        others: detections elsewhere.
    """

    change: str
    score: float | None
    nme: float | None
    parts: dict[str, float]
    others: int


def real_face(threshold: float = 0.5) -> list[RealFace]:
    """The one real photograph with landmarks that is always there, as it is, smaller, turned and on a large canvas.

    Raises:
        EvaluationError: this installation of scikit-image does not have it.
    """
    from PIL import Image
    from skimage import data

    from garfast.landmarks import example_landmarks

    path = Path(data.__file__).parent / "astronaut.png"
    if not path.is_file():
        raise EvaluationError(f"this scikit-image has no photograph of the astronaut at {path}")
    photo: Image.Image = Image.open(path).convert("RGB")
    truth = read_landmarks(example_landmarks())[0].landmarks
    side = photo.width
    cases = []
    for size in _SIZES:
        small = photo if size == side else photo.resize((size, size), Image.Resampling.BOX)
        cases.append((f"{size} pixels", np.asarray(small), truth * (size / side)))
    for angle in _ANGLES:
        # PIL turns counterclockwise as one sees it.
        turned = photo.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
        cos, sin, offset = np.cos(np.radians(angle)), np.sin(np.radians(angle)), truth - side / 2
        x, y = cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]
        cases.append((f"turned by {angle} degrees", np.asarray(turned), np.stack([x, y], 1) + side / 2))
    canvas = np.full((1500, 3000, 3), 110, np.uint8)
    canvas[800:1200, 2100:2500] = np.asarray(photo.resize((400, 400), Image.Resampling.BOX))
    cases.append(("400 pixels on 3000 x 1500", canvas, truth * (400 / side) + [2100, 800]))
    large = photo.resize((3000, 3000), Image.Resampling.BICUBIC)
    cases.append(("enlarged to 3000 pixels", np.asarray(large), truth * (3000 / side)))
    return [_real(*case, threshold) for case in cases]


def _real(change: str, image: NDArray[np.uint8], truth: NDArray[np.floating], threshold: float) -> RealFace:
    found = detect_embedded(image, threshold=threshold)
    box = bounding_box(truth)
    overlaps = [intersection_over_union(face.box, box) for face in found]
    best = int(np.argmax(overlaps)) if overlaps else -1
    if best < 0 or overlaps[best] < SAME:
        return RealFace(change, None, None, {}, len(found))
    errors = np.linalg.norm(found[best].landmarks - truth, axis=1) / face_size(truth)
    parts = {name: float(errors[first:last].mean()) for name, first, last in _PARTS}
    return RealFace(change, found[best].score, float(errors.mean()), parts, len(found) - 1)


def write_detector_report(
    faces: Sequence[Found], nobody: dict[str, int], real: Sequence[RealFace], folder: Path, settings: dict[str, Any]
) -> str:
    """Write ``detector.md``, ``detector.csv`` (a line for each synthetic photograph) and ``detector.json``.

    Returns:
        The Markdown text.

    Raises:
        ArgumentError: there are no synthetic photographs.
        OutputError: a file cannot be written.
    """
    if not faces:
        raise ArgumentError("there is no photograph to report on")
    groups = [("all", list(faces))]
    for k, (low, high) in enumerate(BINS):
        last = k == len(BINS) - 1
        inside = [face for face in faces if low <= abs(face.yaw) and (last or abs(face.yaw) < high)]
        groups.append((f"yaw {low:.0f}-{high:.0f}°", inside))
    groups.append((f"longer side below {SMALL:.0f} pixels", [face for face in faces if face.side < SMALL]))
    table = []
    for name, group in groups:
        found = [face for face in group if face.nme is not None]
        nme = _percent([face.nme for face in found])
        contour = _percent([face.contour for face in found])
        share = f"{100 * len(found) / len(group):.1f} %" if group else "–"
        table.append([name, str(len(group)), share, nme, contour, str(sum(face.others for face in group))])
    text = markdown_table(["synthetic", "photographs", "found", "NME, %", "outline, %", "false faces"], table)
    alarms = {name: count for name, count in nobody.items() if count}
    says = ", ".join(f"{count} in {name}" for name, count in alarms.items()) or "none"
    text += f"\nFalse faces in {len(nobody)} pictures of nobody: {says}.\n\n"
    names = [name for name, _, _ in _PARTS]
    rows = [
        [face.change, "not found" if face.score is None else f"{face.score:.3f}", _percent([face.nme])]
        + [_percent([face.parts.get(name)]) for name in names]
        + [str(face.others)]
        for face in real
    ]
    text += markdown_table(["astronaut", "score", "NME, %", *names, "false faces"], rows)
    write_csv(folder / "detector.csv", list(asdict(faces[0])), [list(asdict(face).values()) for face in faces])
    data = {"settings": settings, "nobody": nobody, "real": [asdict(face) for face in real]}
    write_json(folder / "detector.json", data | {"faces": [asdict(face) for face in faces]})
    write_text(folder / "detector.md", text)
    return text


def _percent(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * np.mean(known):.2f}" if known else "–"
