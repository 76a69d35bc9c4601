"""The face of a film: one shape for all frames, smooth pose and expression, lost frames bridged.

Landmarks are found in each frame and followed from the frame before. The shape comes from a choice of frames together
(`garfast.fit.shared_shape`); with it, each frame gets pose, camera and expression, which are then smoothed in time
(`garfast.fit.smoothing`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from garfast.errors import ArgumentError, NoFaceError
from garfast.fit.landmark_config import LandmarkFitConfig
from garfast.fit.landmarks_fit import LandmarkFit
from garfast.fit.saved_face import Face
from garfast.fit.shared_shape import fit_landmarks_shared
from garfast.fit.smoothing import penalty, smoothed, smoothed_rotations
from garfast.landmarks import Detection
from garfast.morphable import Camera, MorphableModel, OrthographicCamera, PinholeCamera, Pose
from garfast.morphable.rotation import matrix_to_axis_angle

# Frames that the shape is estimated from: more say hardly more, and take longer.
SHAPE_FRAMES = 16
# A face is the one of the frame before if its centre moved by less than this, in sizes of the face.
_REACH = 0.6
# After this many lost frames the face may come back anywhere.
_FORGET = 10


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
        lost: [T] bool: no face was found there; its values bridge the gap.
        nme: [T] mean landmark residual over the face's size before smoothing; NaN where lost.
        detector: where the landmarks come from.
        smoothing: seconds.
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

    def __len__(self) -> int:
        return len(self.exp)

    def face(self, frame: int) -> Face:
        """The geometry of one frame."""
        row = slice(frame, frame + 1)
        pose = Pose(torch.from_numpy(self.rotation[row]), torch.from_numpy(self.translation[row]))
        shape, exp = torch.from_numpy(self.shape)[None], torch.from_numpy(self.exp[row])
        return Face(self.model, shape, exp, pose, _camera_row(self.camera, row))

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
) -> tuple[list[Detection | None], tuple[int, int]]:
    """Follow one face, the largest of the first frame that shows any.

    Args:
        frames: uint8 [H,W,3] of one size.
        detect: the faces of a frame, largest first; told the frame and its number.
        progress: called with 1 after each frame.

    Returns:
        The face in each frame, None where it is lost, and the (height, width) of the frames.

    Raises:
        ArgumentError: there are no frames, or they differ in size.
        NoFaceError: no frame shows a face.
    """
    found: list[Detection | None] = []
    size: tuple[int, int] | None = None
    last: Detection | None = None
    missed = 0
    for number, frame in enumerate(frames):
        shape = (int(frame.shape[0]), int(frame.shape[1]))
        if size not in (None, shape):
            raise ArgumentError(f"frame {number + 1} has another size than the first: a film's frames have one")
        size = shape
        try:
            faces = detect(frame, number)
        except NoFaceError:
            faces = []
        face = _follow(faces, last if missed < _FORGET else None)
        missed = 0 if face is not None else missed + 1
        last = face or last
        found.append(face)
        if progress is not None:
            progress(1)
    if size is None:
        raise ArgumentError("the film has no frames")
    if last is None:
        raise NoFaceError(f"none of the {len(found)} frames shows a face")
    return found, size


def fit_sequence(
    model: MorphableModel,
    detections: list[Detection | None],
    size: tuple[int, int],
    *,
    fps: float,
    smoothing: float = 0.04,
    projection: str = "orthographic",
    shape: torch.Tensor | None = None,
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
    config = LandmarkFitConfig(contour=faces[0].contour)
    if projection == "pinhole":
        # One lens for all frames: what a single frame says about its focal length would make the face breathe.
        config = replace(config, focal_spread=0.0)

    def fit(rows: list[int], shape: torch.Tensor | None) -> list[LandmarkFit]:
        return fit_landmarks_shared(
            model,
            landmarks[rows],
            [size] * len(rows),
            weights=scores[rows],
            projection=projection,
            config=config,
            shape=shape,
        )

    if shape is None:
        shape = fit(_representative(faces), None)[0].shape
    fits = fit(list(range(len(faces))), shape)
    total = len(detections)

    def series(rows: list[np.ndarray]) -> np.ndarray:
        values = np.full((total, *rows[0].shape), np.nan)
        values[seen] = np.stack(rows)
        return values

    nme = series([_array(fit.nme[0]) for fit in fits])
    # A frame whose landmarks hardly fit a face says less.
    weights = np.zeros(total)
    weights[seen] = 1 / (1 + (nme[seen] / (2 * np.nanmedian(nme) + 1e-9)) ** 4)
    converged = series([_array(fit.converged[0].float()) for fit in fits])
    weights[converged == 0] *= 0.05
    rotation = smoothed_rotations(series([_array(fit.pose.matrix()[0]) for fit in fits]), weights, strength)
    exp = smoothed(series([_array(fit.exp[0]) for fit in fits]), weights, strength)
    lower, upper = (bound.numpy() for bound in model.exp_bounds.cpu().unbind(1))
    place = smoothed(series([_place(fit) for fit in fits]), weights, strength)
    camera, translation = _cameras(fits[0].camera, place)
    return FittedSequence(
        model=model.to("cpu"),
        fps=fps,
        shape=_array(shape[0]),
        exp=np.clip(exp, lower, upper).astype(np.float32),
        rotation=matrix_to_axis_angle(torch.from_numpy(rotation)).float().numpy(),
        translation=translation,
        camera=camera,
        landmarks=series([np.asarray(face.landmarks, np.float32) for face in faces]).astype(np.float32),
        lost=np.array([detection is None for detection in detections]),
        nme=nme.astype(np.float32),
        detector=faces[0].source,
        smoothing=smoothing,
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


def _place(fit: LandmarkFit) -> np.ndarray:
    """What says where the face is: logarithm of the scale and offset, or translation."""
    camera = fit.camera
    if isinstance(camera, OrthographicCamera):
        return np.concatenate([[float(camera.scale[0].log())], _array(camera.offset[0])])
    return _array(fit.pose.translation[0])


def _cameras(like: Camera, place: np.ndarray) -> tuple[Camera, np.ndarray]:
    """Cameras of all frames and translations [T,3] from what `_place` gives."""
    values = torch.from_numpy(place).float()
    if isinstance(like, OrthographicCamera):
        camera = OrthographicCamera(values[:, 0].exp(), values[:, 1:].contiguous(), like.image_size)
        return camera, np.zeros((len(place), 3), np.float32)
    focal, centre = like.focal.cpu().expand(len(place), -1), like.centre.cpu().expand(len(place), -1)
    return PinholeCamera(focal, centre, like.image_size), values.numpy()


def _camera_row(camera: Camera, row: slice) -> Camera:
    if isinstance(camera, OrthographicCamera):
        return replace(camera, scale=camera.scale[row], offset=camera.offset[row])
    return replace(camera, focal=camera.focal[row], centre=camera.centre[row])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def described(sequence: FittedSequence) -> str:
    """What was lost, a sentence; empty where nothing was."""
    if not sequence.lost.any():
        return ""
    runs = ", ".join(str(a + 1) if a == b else f"{a + 1}-{b + 1}" for a, b in sequence.gaps)
    return f"the face was lost in {int(sequence.lost.sum())} of {len(sequence)} frames ({runs}); they are bridged"
