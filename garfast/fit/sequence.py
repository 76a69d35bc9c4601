"""The face of a film: one shape for all frames, smooth pose and expression, lost frames bridged.

Landmarks are found in each frame and followed from the frame before. The shape comes from a choice of frames together
(`garfast.fit.shared_shape`); with it, each frame gets pose, camera and expression, which are then smoothed in time
(`garfast.fit.smoothing`). `garfast.fit.sequence_refine` goes on from there with a renderer.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError, LandmarkError, NoFaceError
from garfast.fit.landmarks_fit import LandmarkFit, check_face
from garfast.fit.latent import Latent
from garfast.fit.refine_state import camera_rows
from garfast.fit.result import StageRecord
from garfast.fit.saved_face import Face
from garfast.fit.shared_shape import fit_landmarks_shared
from garfast.fit.smoothing import penalty, smoothed, smoothed_rotations
from garfast.fit.stages import landmark_config, landmark_losses
from garfast.landmarks import Detection
from garfast.morphable import Camera, MorphableModel, OrthographicCamera, PinholeCamera, Pose
from garfast.morphable.rotation import matrix_to_axis_angle

# Frames that the shape is estimated from: more say hardly more, and take longer.
SHAPE_FRAMES = 16
# A face is the one of the frame before if its centre moved by less than this, in sizes of the face.
_REACH = 0.6
# After this many lost frames the face may come back anywhere.
_FORGET = 10
# A user is told of so many frames why they are lost; the output has all.
_REASONS = 3


class Motion(NamedTuple):
    """What changes from frame to frame; arrays over T frames as in `FittedSequence`."""

    exp: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    camera: Camera


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the landmark fit says of a film's frames, for what comes after it; T frames, anything where lost.

    Attributes:
        trust: [T] weight of each frame in the smoothing; 0 where lost.
        weights: [T,68] of the landmarks; noise: [T] error expected of a coordinate, photo pixels.
        contour_vertices: [T,17] int64, the vertices that the jaw's landmarks mean; -1: their own points.
        shape_frames: the frames that the shape comes from, from 0; none where it was known.
    """

    trust: np.ndarray
    weights: np.ndarray
    noise: np.ndarray
    contour_vertices: np.ndarray
    shape_frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FittedSequence:
    """A film's face in every frame; numpy arrays over T frames.

    Attributes:
        model: the face model.
        fps: frames a second.
        shape: [S] standard deviations.
        exp: [T,E] standard deviations.
        rotation: [T,3] axis-angle, radians; translation: [T,3] mm.
        camera: of a frame, batch of T: orthographic or pinhole.
        landmarks: [T,68,2] as detected, photo pixels; NaN where lost.
        lost: [T] bool: no face was found there, or none that can be fitted; its values bridge the gap.
        nme: [T] mean landmark residual over the face's size before smoothing; NaN where lost.
        detector: where the landmarks come from.
        smoothing: seconds.
        evidence: what the landmark fit says of each frame.
        records: for each frame, the stages that ran; none where lost.
        latents: for each frame, style and noise (the noise as float16); None where lost. Empty without a renderer.
        renderer: its fingerprint; None without one.
        refinement: 'kept', 'reason', 'before' and 'after' (means over the frames), 'nearer' (part of the frames that
            gained by themselves) and, where something went wrong, 'warning'; None where there was no refinement.
        reasons: of lost frames whose landmarks cannot be used: why.
    """

    model: MorphableModel
    fps: float
    shape: np.ndarray
    exp: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    camera: Camera
    landmarks: np.ndarray
    lost: np.ndarray
    nme: np.ndarray
    detector: str
    smoothing: float
    evidence: Evidence
    records: tuple[tuple[StageRecord, ...], ...]
    latents: tuple[Latent | None, ...] = ()
    renderer: str | None = None
    refinement: dict[str, Any] | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.exp)

    def face(self, frame: int) -> Face:
        """The geometry of one frame."""
        row = slice(frame, frame + 1)
        pose = Pose(torch.from_numpy(self.rotation[row]), torch.from_numpy(self.translation[row]))
        shape, exp = torch.from_numpy(self.shape)[None], torch.from_numpy(self.exp[row])
        return Face(self.model, shape, exp, pose, camera_rows(self.camera, row))

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """First and last frame, from 0, of each run of lost frames."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.lost, [False]]).astype(int)))
        return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


def track(
    frames: Iterable[np.ndarray],
    detect: Callable[[np.ndarray, int], list[Detection]],
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Detection | None], tuple[int, int], dict[int, str]]:
    """Follow one face, the largest of the first frame that shows any.

    Args:
        frames: uint8 [H,W,3] of one size.
        detect: the faces of a frame, largest first; told the frame and its number.
        progress: called with 1 after each frame.

    Returns:
        The face in each frame, None where it is lost; the (height, width) of the frames; and of those whose landmarks
        cannot be used, why.

    Raises:
        ArgumentError: there are no frames, or they differ in size.
        NoFaceError: no frame shows a face, or none that can be fitted.
    """
    reasons: dict[int, str] = {}
    found: list[Detection | None] = []
    size: tuple[int, int] | None = None
    last: Detection | None = None
    missed = 0
    for number, frame in enumerate(frames):
        shape = (int(frame.shape[0]), int(frame.shape[1]))
        if size not in (None, shape):
            raise ArgumentError(f"frame {number + 1} has another size than the first: a film's frames have one")
        size = shape
        face = None
        try:
            face = _follow(detect(frame, number), last if missed < _FORGET else None)
            if face is not None:
                check_face(face.landmarks, face.landmarks_score)
        except NoFaceError:
            pass
        except LandmarkError as error:
            face, reasons[number] = None, str(error)
        missed = 0 if face is not None else missed + 1
        last = face or last
        found.append(face)
        if progress is not None:
            progress(1)
    if size is None:
        raise ArgumentError("the film has no frames")
    if last is None:
        why = "".join(f" ({reason})" for reason in itertools.islice(reasons.values(), 1))
        raise NoFaceError(f"none of the {len(found)} frames shows a face{why}")
    return found, size, reasons


def fit_sequence(
    model: MorphableModel,
    detections: list[Detection | None],
    size: tuple[int, int],
    *,
    fps: float,
    smoothing: float = 0.04,
    projection: str = "orthographic",
    shape: Tensor | None = None,
) -> FittedSequence:
    """Fit a film.

    Args:
        model: on the device to compute on.
        detections: of each frame, None where the face is lost.
        size: (height, width) of the frames.
        fps: frames a second.
        smoothing: seconds, the time constant below which motions are taken for noise; 0 only bridges gaps.
        projection: 'orthographic' or 'pinhole'.
        shape: [1,S] the person's shape where it is known.

    Raises:
        NoFaceError: there is no face in any frame.
        ArgumentError: a value is out of its range.
    """
    strength = penalty(smoothing, fps)
    seen = [number for number, detection in enumerate(detections) if detection is not None]
    if not seen:
        raise NoFaceError(f"none of the {len(detections)} frames shows a face")
    faces = [detection for detection in detections if detection is not None]
    landmarks = torch.from_numpy(np.stack([np.asarray(face.landmarks, np.float32) for face in faces]))
    scores = torch.from_numpy(np.stack([np.asarray(face.landmarks_score, np.float32) for face in faces]))
    config = landmark_config(faces[0])
    if projection == "pinhole":
        # One lens for all frames: what a single frame says about its focal length would make the face breathe.
        config = replace(config, focal_spread=0.0)

    def fit(rows: list[int], shape: Tensor | None) -> list[LandmarkFit]:
        return fit_landmarks_shared(
            model,
            landmarks[rows],
            [size] * len(rows),
            weights=scores[rows],
            projection=projection,
            config=config,
            shape=shape,
        )

    began = time.perf_counter()
    representative = _representative(faces) if shape is None else []
    if shape is None:
        shape = fit(representative, None)[0].shape
    fits = fit(list(range(len(faces))), shape)
    seconds = round((time.perf_counter() - began) / len(faces), 4)
    total = len(detections)

    def series(rows: Sequence[Tensor]) -> np.ndarray:
        return over_frames(rows, seen, total)

    nme = series([fit.nme[0] for fit in fits])
    # A frame whose landmarks hardly fit a face says less.
    trust = np.zeros(total)
    trust[seen] = 1 / (1 + (nme[seen] / (2 * np.nanmedian(nme) + 1e-9)) ** 4)
    trust[series([fit.converged[0].float() for fit in fits]) == 0] *= 0.05
    motion = smoothed_motion(model, [(fit.exp, fit.pose, fit.camera) for fit in fits], seen, trust, strength)
    records: list[tuple[StageRecord, ...]] = [()] * total
    contours = np.full((total, fits[0].contour_vertices.shape[1]), -1, np.int64)
    for number, one in zip(seen, fits, strict=True):
        records[number] = (StageRecord("landmarks", seconds, landmark_losses(one)),)
        contours[number] = one.contour_vertices[0].cpu().numpy()
    return FittedSequence(
        model=model.to("cpu"),
        fps=fps,
        shape=_array(shape[0]),
        **motion._asdict(),
        landmarks=series([torch.from_numpy(np.asarray(face.landmarks, np.float32)) for face in faces]).astype(
            np.float32
        ),
        lost=np.array([detection is None for detection in detections]),
        nme=nme.astype(np.float32),
        detector=faces[0].source,
        smoothing=smoothing,
        evidence=Evidence(
            trust,
            series([fit.weights[0] for fit in fits]).astype(np.float32),
            series([fit.noise[0] for fit in fits]).astype(np.float32),
            contours,
            tuple(seen[row] for row in representative),
        ),
        records=tuple(records),
    )


def over_frames(values: Sequence[Tensor], frames: Sequence[int], total: int) -> np.ndarray:
    """Values of some frames as an array [total, ...] float64, NaN elsewhere."""
    series = np.full((total, *values[0].shape), np.nan)
    series[list(frames)] = np.stack([_array(value) for value in values])
    return series


def smoothed_motion(
    model: MorphableModel,
    faces: Sequence[tuple[Tensor, Pose, Camera]],
    frames: Sequence[int],
    trust: np.ndarray,
    strength: float,
) -> Motion:
    """Expression, pose and camera of some frames, smoothed in time and bridged.

    Args:
        model: whose expressions have bounds.
        faces: expression [1,E], pose and camera in the photograph, batches of 1.
        frames: their numbers.
        trust: [T] weights of all frames, 0 where there is no face.
        strength: of the smoothing (`garfast.fit.smoothing.penalty`).
    """
    total = len(trust)

    def series(rows: Sequence[Tensor]) -> np.ndarray:
        return over_frames(rows, frames, total)

    rotation = smoothed_rotations(series([pose.matrix()[0] for _, pose, _ in faces]), trust, strength)
    exp = smoothed(series([exp[0] for exp, _, _ in faces]), trust, strength)
    lower, upper = (bound.numpy() for bound in model.exp_bounds.cpu().unbind(1))
    place = smoothed(series([_place(pose, camera) for _, pose, camera in faces]), trust, strength)
    camera, translation = _cameras(faces[0][2], place)
    return Motion(
        np.clip(exp, lower, upper).astype(np.float32),
        matrix_to_axis_angle(torch.from_numpy(rotation)).float().numpy(),
        translation,
        camera,
    )


def _follow(faces: list[Detection], last: Detection | None) -> Detection | None:
    if not faces or last is None:
        return faces[0] if faces else None
    centre = (last.box[:2] + last.box[2:]) / 2
    side = max(float(np.sqrt(last.size)), 1.0)
    distances = [float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)) / side for face in faces]
    nearest = int(np.argmin(distances))
    return faces[nearest] if distances[nearest] < _REACH else None


def _representative(faces: list[Detection]) -> list[int]:
    """Frames for the shape: evenly through the film, and of each stretch the surest."""
    count = min(SHAPE_FRAMES, len(faces))
    edges = np.linspace(0, len(faces), count + 1).round().astype(int)
    sure = np.array([float(np.mean(face.landmarks_score)) for face in faces])
    return [int(a + sure[a:b].argmax()) for a, b in itertools.pairwise(edges)]


def _place(pose: Pose, camera: Camera) -> Tensor:
    """What says where the face is: logarithm of the scale and offset, or translation."""
    if isinstance(camera, OrthographicCamera):
        return torch.cat([camera.scale.log(), camera.offset[0]])
    return pose.translation[0]


def _cameras(like: Camera, place: np.ndarray) -> tuple[Camera, np.ndarray]:
    """Cameras of all frames and translations [T,3] from what `_place` gives."""
    values = torch.from_numpy(place).float()
    if isinstance(like, OrthographicCamera):
        camera = OrthographicCamera(values[:, 0].exp(), values[:, 1:].contiguous(), like.image_size)
        return camera, np.zeros((len(place), 3), np.float32)
    focal, centre = like.focal.cpu().expand(len(place), -1), like.centre.cpu().expand(len(place), -1)
    return PinholeCamera(focal, centre, like.image_size), values.numpy()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def described(sequence: FittedSequence) -> str:
    """What was lost, a sentence; empty where nothing was."""
    if not sequence.lost.any():
        return ""
    runs = ", ".join(str(a + 1) if a == b else f"{a + 1}-{b + 1}" for a, b in sequence.gaps)
    lost = f"{int(sequence.lost.sum())} of {len(sequence)} frames ({runs})"
    why = "".join(f"; frame {n + 1}: {reason}" for n, reason in itertools.islice(sequence.reasons.items(), _REASONS))
    more = "; and so on" if len(sequence.reasons) > _REASONS else ""
    return f"the face was lost in {lost}; they are bridged{why}{more}"
