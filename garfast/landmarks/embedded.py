"""The detector that comes with garfast: finds faces and marks their 68 landmarks, with nothing to fetch.

A small network looks for faces in a pyramid of copies of the photo; a second one marks the landmarks of each face it
proposes and says whether it is one. Both were trained on synthetic photographs only (see docs/landmark-detector.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.landmarks.boxes import bounding_box, intersection_over_union, shared_parts
from garfast.landmarks.detection import IBUG_FLIP, Detection, by_size
from garfast.networks.face_finder import STRIDE, FaceFinder, FaceFinderConfig
from garfast.networks.landmark_net import CROP, LandmarkNet, LandmarkNetConfig
from garfast.networks.weights import fill_network, load_weights

WEIGHTS = Path(__file__).parent / "weights"
JAWS = ("contour", "3d")

_LARGEST = 1280  # longer side of the largest copy that is searched, pixels
_PROPOSE = 0.1  # the finder's score that makes a place worth a look of the landmark network
_MOST = 96  # places that get one
_SECOND_LOOK = 0.02  # the landmark network's face probability that makes a place worth a second
_SURE = 0.02  # expected error of a landmark, as a share of the box's side, that halves its score
# How much the witnesses of _judge count, and a constant: between what 660 places in 123 pictures of nobody score (at
# most 0.34) and what 101 real faces do (one, looking down, 0.37; the others at least 0.66).
_WITNESSES = (1.0, 0.25, 2.5, -0.5)
_WITNESS_CONSTANT = 1.55
# A photo may be the crop of a face: these shares of its shorter side are tried as faces too, with this score.
_CROPS = (0.75, 0.95)
_CROP_SCORE = 0.15
_TURNED = 0.9  # the score that a face must reach in a photo that was turned by a quarter or a half
_TINY = 12  # pixels; no face is looked for in smaller photos


class View(NamedTuple):
    """How a crop differs from the place of a face: its side by a factor, its angle by radians, and left and right."""

    scale: float = 1.0
    turn: float = 0.0
    mirrored: bool = False


_SECOND_VIEWS = (View(), View(mirrored=True))
# Averaging with two crops that err otherwise makes 1.1% less error on synthetic photographs and 1.3% less on real ones;
# eight more crops would make 2.3% less. Only accepted faces are worth the time.
_LAST_VIEWS = (View(0.93, math.radians(6)), View(0.93, -math.radians(6), mirrored=True))
VIEWS = _SECOND_VIEWS + _LAST_VIEWS
"""The crops from which the final landmarks of a face are averaged."""


class Networks(NamedTuple):
    """The two networks of the detector, ready to use."""

    finder: FaceFinder
    marker: LandmarkNet


@lru_cache(maxsize=4)
def load_networks(folder: Path = WEIGHTS, device: str = "cpu") -> Networks:
    """Load both networks; kept for the next call.

    Args:
        folder: holds faces.safetensors and landmarks.safetensors.
        device: where they run.

    Raises:
        WeightsFileError: a file is missing or damaged.
    """
    config, state = load_weights(folder / "faces.safetensors", kind="faces")
    finder = FaceFinder(FaceFinderConfig.from_dict(config))
    fill_network(finder, state, folder / "faces.safetensors")
    config, state = load_weights(folder / "landmarks.safetensors", kind="landmarks")
    marker = LandmarkNet(LandmarkNetConfig.from_dict(config))
    fill_network(marker, state, folder / "landmarks.safetensors")
    for network in (finder, marker):
        network.requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Networks(finder, marker)


def detect_embedded(
    image: np.ndarray, *, jaw: str = "contour", threshold: float = 0.5, device: str = "cpu"
) -> list[Detection]:
    """Find all faces of a photo and their 68 landmarks.

    Args:
        image: uint8 [H, W, 3] RGB, any size.
        jaw: what landmarks 0-16 are: 'contour' for the visible outline of the face, '3d' for points that stay on the
            same places of the jaw as the head turns.
        threshold: the score that a face must reach, 0..1.
        device: where the networks run.

    Returns:
        The faces, the largest first; empty if there are none. ``landmarks_score`` is 0.5 where the network expects an
        error of 2% of the face's size.

    Raises:
        ArgumentError: the image is not uint8 [H, W, 3], or the jaw is unknown.
        WeightsFileError: the weights of this installation are missing or damaged.
    """
    if jaw not in JAWS:
        raise ArgumentError(f"the jaw must be one of {', '.join(JAWS)}, got {jaw!r}")
    return by_size([face[JAWS.index(jaw)] for face in detect_both_jaws(image, threshold=threshold, device=device)])


def detect_both_jaws(
    image: np.ndarray, *, threshold: float = 0.5, device: str = "cpu"
) -> list[tuple[Detection, Detection]]:
    """As :func:`detect_embedded`: every face with the jaw on the outline and, second, with the 3D-consistent one.

    Returns:
        The faces in no particular order.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ArgumentError("the image must be a uint8 array of shape [H, W, 3], RGB")
    if min(image.shape[:2]) < _TINY:
        return []
    networks = load_networks(device=str(device))
    with torch.no_grad():
        photo = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)
        found = _search(networks, photo, threshold)
        # Lying or upside-down heads: only where no other is for sure, since each turn is another chance to be wrong.
        sure = any(face.score >= _TURNED for face, _ in found)
        for quarter in (1, 3, 2) if not sure else ():
            turned = _search(networks, torch.rot90(photo, quarter, (1, 2)), max(threshold, _TURNED))
            if turned:
                size = image.shape[:2]
                return [(_turn_back(one, quarter, size), _turn_back(two, quarter, size)) for one, two in turned]
    return found


def _search(networks: Networks, photo: Tensor, threshold: float) -> list[tuple[Detection, Detection]]:
    places, scores = propose(networks.finder, photo)
    places = torch.cat([places, _whole(photo).to(places)])
    scores = torch.cat([scores, scores.new_full((len(_CROPS),), _CROP_SCORE)])
    marks, _, face = mark(networks.marker, photo, places)
    # A place that the network is sure is none is not worth a second look.
    keep = face > _SECOND_LOOK
    if not keep.any():
        return []
    first, scores = marks[keep], scores[keep]
    again = frames(first)
    marks, certainty, face = mark(networks.marker, photo, again, _SECOND_VIEWS)
    moved = (marks - first)[:, :68].norm(dim=-1).mean(1) / again[:, 2]
    total = _judge(scores, face, certainty[:, :68].mean(1), moved)
    kept = _distinct(marks[:, :68].cpu().numpy(), total.cpu().numpy(), threshold)
    if not kept:
        return []
    marks, certainty, total = marks[kept], certainty[kept], total[kept]
    last, last_certainty, _ = mark(networks.marker, photo, again[kept], _LAST_VIEWS)
    points, sure = (0.5 * (marks + last)).cpu().numpy(), (0.5 * (certainty + last_certainty)).cpu().numpy()
    return [both_jaws(*face) for face in zip(points, sure, total.tolist(), strict=True)]


def _distinct(points: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Which of the faces [N, 68, 2] reach the threshold and are no other's double, the surest first."""
    boxes = [bounding_box(face) for face in points]
    kept: list[int] = []
    for k in np.argsort(-scores).tolist():
        if scores[k] >= threshold and not any(_same(boxes[k], boxes[j]) for j in kept):
            kept.append(k)
    return kept


def both_jaws(points: np.ndarray, sure: np.ndarray, score: float) -> tuple[Detection, Detection]:
    """One face with the jaw on the outline and with the fixed one.

    Args:
        points: [85, 2] landmarks as :func:`mark` gives them.
        sure: [85] their scores.
        score: the face's.
    """
    outline, outline_sure = points[:68].copy(), sure[:68].copy()
    outline[:17], outline_sure[:17] = points[68:], sure[68:]
    return (
        Detection(outline, outline_sure, score, bounding_box(outline), "embedded", "sliding"),
        Detection(points[:68], sure[:68], score, bounding_box(points[:68]), "embedded", "fixed"),
    )


def _whole(photo: Tensor) -> Tensor:
    """The places [N, 4] of a face that fills a photo [3, H, W]: the finder wants to see what is around a face."""
    height, width = photo.shape[1:]
    return torch.tensor([[width / 2, height / 2, share * min(height, width), 0.0] for share in _CROPS])


def _judge(found: Tensor, face: Tensor, certainty: Tensor, moved: Tensor) -> Tensor:
    """How likely places are faces, [N] in 0..1.

    Args:
        found: [N] the finder's scores.
        face: [N] the landmark network's face probabilities.
        certainty: [N] mean scores of the landmarks.
        moved: [N] how far the landmarks moved from the first look to the second, as a share of the face's size.
    """
    witnesses = (
        found.clamp(1e-4, 1 - 1e-4).logit(),
        face.clamp(1e-4, 1 - 1e-4).logit().clamp(-6, 6),
        (certainty + 0.005).log(),
        (moved + 0.01).log(),
    )
    evidence = torch.stack(witnesses, 1) @ found.new_tensor(_WITNESSES)
    return torch.sigmoid(evidence + _WITNESS_CONSTANT)


def propose(finder: FaceFinder, photo: Tensor, threshold: float = _PROPOSE) -> tuple[Tensor, Tensor]:
    """Where faces may be.

    Args:
        finder: the network.
        photo: uint8 [3, H, W].
        threshold: least score.

    Returns:
        [N, 4] middle x, y, side of the landmarks' box (photo pixels) and angle 0, and [N] scores, best first.
    """
    height, width = photo.shape[1:]
    longest = max(height, width)
    scale = min(1.0, _LARGEST / longest)
    if longest < 3 * finder.config.largest:
        scale = 2.0  # small photos of small faces
    places, scores = [], []
    image = photo[None].float() / 127.5 - 1
    levels: list[Tensor] = []
    while True:
        size = (max(8, round(height * scale)), max(8, round(width * scale)))
        # From the level an octave above, so that no picture is resampled at every half octave.
        source = levels[max(len(levels) - 2, 0)] if levels else image
        level = functional.interpolate(source, size=size, mode="bilinear", align_corners=False, antialias=True)
        levels.append(level)
        # Room around the picture, for faces that it cuts; as large as whole cells.
        margin = 2 * STRIDE
        right, below = margin + -size[1] % STRIDE, margin + -size[0] % STRIDE
        padded = functional.pad(level, (margin, right, margin, below), mode="replicate")
        out = finder(padded.contiguous(memory_format=torch.channels_last))
        score = out.score.sigmoid()
        peaks = (score == functional.max_pool2d(score[None], 3, 1, 1)[0]) & (score > threshold)
        _, row, column = peaks.nonzero(as_tuple=True)
        offset = out.offset[0, :, row, column]
        x = ((column + 0.5) * STRIDE + offset[0] - margin) * (width / size[1])
        y = ((row + 0.5) * STRIDE + offset[1] - margin) * (height / size[0])
        side = out.side[0, row, column] * (width / size[1])
        places.append(torch.stack([x, y, side, torch.zeros_like(x)], 1))
        scores.append(score[0, row, column])
        if max(size) <= 1.3 * finder.config.largest:
            break
        scale /= math.sqrt(2)
    every, certainty = torch.cat(places), torch.cat(scores)
    order = certainty.argsort(descending=True, stable=True)
    kept: list[int] = []
    boxes = every.cpu().numpy()
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:3] / 2, boxes[:, :2] + boxes[:, 2:3] / 2], 1)
    for k in order.tolist():
        if len(kept) < _MOST and not any(intersection_over_union(corners[k], corners[j]) > 0.35 for j in kept):
            kept.append(k)
    return every[kept], certainty[kept]


def mark(
    marker: LandmarkNet, photo: Tensor, places: Tensor, views: Sequence[View] = (View(),)
) -> tuple[Tensor, Tensor, Tensor]:
    """Mark the landmarks of faces at given places.

    Args:
        marker: the network.
        photo: uint8 [3, H, W].
        places: [N, 4] middle x, y, side of the landmarks' box, photo pixels, and the angle by which the head leans to
            the image's right, radians.
        views: the crops of each place that are looked at and averaged.

    Returns:
        [N, 85, 2] photo pixels, [N, 85] scores 0..1, and [N] how likely each is a face.
    """
    size, count = marker.config.size, len(places)
    seen = torch.cat([places * places.new_tensor([1, 1, view.scale, 1]) for view in views])
    seen[:, 3] += torch.tensor([view.turn for view in views]).to(seen).repeat_interleave(count)
    crops = torch.stack([_cut(photo, place, size) for place in seen.tolist()]).split(count)
    batch = torch.cat([crop.flip(3) if view.mirrored else crop for crop, view in zip(crops, views, strict=True)])
    outs = [marker(part.contiguous(memory_format=torch.channels_last)) for part in batch.split(16)]
    points = torch.cat([out.points for out in outs])
    window = seen[:, 2:3] * CROP
    spread = torch.cat([out.spread for out in outs]) * window  # photo pixels
    face = torch.cat([out.face for out in outs]).sigmoid()
    table = torch.from_numpy(np.concatenate([IBUG_FLIP, 68 + IBUG_FLIP[:17]])).to(points.device)
    for k, view in enumerate(views):
        if view.mirrored:
            rows = slice(k * count, (k + 1) * count)
            points[rows] = points[rows, table] * points.new_tensor([-1, 1]) + points.new_tensor([1, 0])
            spread[rows] = spread[rows, table]
    offset = (points - 0.5) * window[:, None]
    cos, sin = seen[:, 3:].cos(), seen[:, 3:].sin()
    x = seen[:, :1] + cos * offset[..., 0] - sin * offset[..., 1]
    y = seen[:, 1:2] + sin * offset[..., 0] + cos * offset[..., 1]
    marks = torch.stack([x, y], -1).unflatten(0, (len(views), count)).mean(0)
    spread = spread.unflatten(0, (len(views), count)).mean(0) / places[:, 2:3]
    return marks, 0.5 ** (spread / _SURE), face.unflatten(0, (len(views), count)).mean(0)


def frames(marks: Tensor) -> Tensor:
    """The places [N, 4] of marked faces [N, 85, 2], as :func:`mark` takes them: upright, and just as large."""
    down = marks[:, 48:68].mean(1) - marks[:, 36:48].mean(1)
    angle = torch.atan2(-down[:, 0], down[:, 1])
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x = cos * marks[..., 0] + sin * marks[..., 1]
    y = cos * marks[..., 1] - sin * marks[..., 0]
    upright = torch.stack([x, y], -1)[:, :68]
    low, high = upright.amin(1), upright.amax(1)
    middle, side = 0.5 * (low + high), (high - low).amax(1).clamp_min(2.0)
    cos, sin = cos[:, 0], sin[:, 0]
    return torch.stack(
        [cos * middle[:, 0] - sin * middle[:, 1], sin * middle[:, 0] + cos * middle[:, 1], side, angle], 1
    )


def _cut(photo: Tensor, place: list[float], size: int) -> Tensor:
    """A turned square window [3, size, size] in -1..1 of a photo uint8 [3, H, W]; the border goes on outside it."""
    x, y, side, angle = place
    window = side * CROP
    height, width = photo.shape[1:]
    reach = 0.75 * window + 2
    x0, x1 = (min(max(int(v), 0), width - 1) for v in (x - reach, x + reach))
    y0, y1 = (min(max(int(v), 0), height - 1) for v in (y - reach, y + reach))
    part = photo[None, :, y0 : y1 + 1, x0 : x1 + 1].float()
    shrink = min(int(window / size), *part.shape[2:])
    if shrink > 1:  # many pixels to one: average them, or fine texture turns into noise
        part = functional.avg_pool2d(part, shrink)
    step = max(shrink, 1)
    x, y, window = (x - x0) / step, (y - y0) / step, window / step
    cos, sin = math.cos(angle) * window, math.sin(angle) * window
    rows, columns = part.shape[2:]
    theta = torch.tensor(
        [[[cos / columns, -sin / columns, 2 * x / columns - 1], [sin / rows, cos / rows, 2 * y / rows - 1]]]
    )
    grid = functional.affine_grid(theta.to(photo.device), [1, 3, size, size], align_corners=False)
    cut = functional.grid_sample(part, grid, padding_mode="border", align_corners=False)
    return cut[0] / 127.5 - 1


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two boxes are of one face: they overlap well, or one lies inside the other."""
    union, smaller = shared_parts(a, b)
    return union > 0.35 or smaller > 0.7


def _turn_back(face: Detection, quarter: int, size: tuple[int, ...]) -> Detection:
    """A face found in a photo turned by ``torch.rot90(photo, quarter)``, in the photo of (H, W) ``size``."""
    height, width = size
    x, y = face.landmarks[:, 0], face.landmarks[:, 1]
    if quarter == 1:
        landmarks = np.stack([width - y, x], 1)
    elif quarter == 2:
        landmarks = np.stack([width - x, height - y], 1)
    else:
        landmarks = np.stack([y, height - x], 1)
    landmarks = landmarks.astype(np.float32)
    return face._replace(landmarks=landmarks, box=bounding_box(landmarks))
