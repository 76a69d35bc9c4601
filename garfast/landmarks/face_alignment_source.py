"""The ``face-alignment`` package (Bulat and Tzimiropoulos, ICCV 2017) as a source of landmarks.

Its weights are not part of the package: two files in PyTorch's hub folder, a face detector and a landmark network.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pickle
import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from garfast.errors import DownloadError, LandmarkError, WeightsFileError
from garfast.io.digest import file_digest
from garfast.io.download import fetch
from garfast.landmarks.detection import NUM_LANDMARKS, Detection, by_size

SOURCE = "face-alignment"

# Faces are looked for in a copy of at most this many pixels a side (a face of a fortieth of it is still found); the
# landmarks are then placed in the photo itself.
SEARCH_SIDE = 800

# Seconds without an answer after which fetching the weights is given up.
TIMEOUT = 6.0

_NETWORK = "2DFAN-4"
_DETECTOR = "s3fd"


def installed() -> bool:
    """Whether the package can be imported; it is not imported by asking."""
    return importlib.util.find_spec("face_alignment") is not None


def weights_present() -> bool:
    """Whether the package is installed and all weights it would load are in PyTorch's hub folder."""
    folder = _hub_folder()
    # Importing the package takes seconds: first see whether there is anything like its files.
    if not installed() or not any(folder.glob("s3fd-*")) or not any(folder.glob("2DFAN4-*")):
        return False
    try:
        return not missing_weights()
    except LandmarkError:
        return False


def missing_weights() -> dict[str, Path]:
    """Addresses of the weights that are not there yet, and where each belongs.

    Raises:
        LandmarkError: the package is missing, or does not name its weights in a way that is known.
    """
    api = _import("face_alignment.api")
    detector = _import("face_alignment.detection.sfd.sfd_detector")
    files = {
        url: _hub_folder() / url.rsplit("/", 1)[-1] for url in (_network_url(api), detector.models_urls[_DETECTOR])
    }
    return {url: path for url, path in files.items() if not path.is_file()}


def fetch_weights() -> None:
    """Fetch what is missing (about 180 MB in all) into PyTorch's hub folder, with checksums.

    Raises:
        DownloadError: no answer within seconds, or contents that do not match.
        LandmarkError: the package is missing.
    """
    for url, path in missing_weights().items():
        try:
            fetch(url, path, timeout=TIMEOUT)
        except DownloadError as error:
            raise DownloadError(
                f"the weights of face-alignment cannot be fetched ({error}); "
                f"put {path.name} into {path.parent} by hand, or use another source of landmarks"
            ) from error
        # PyTorch's hub puts the first digits of the SHA-256 into the name.
        stated = re.search(r"-([0-9a-f]{8,})\.", path.name)
        if stated and not file_digest(path).startswith(stated.group(1)):
            path.unlink()
            raise DownloadError(f"{url} does not match the checksum in its name: nothing was kept, try again later")


def detect_face_alignment(image: np.ndarray, device: str = "cpu") -> list[Detection]:
    """All faces of a photo, largest first; an empty list where there is none.

    Args:
        image: uint8 [H, W, 3] RGB.
        device: of the networks.

    Raises:
        DownloadError: weights are missing and cannot be fetched.
        LandmarkError: the package is missing or of an unknown kind.
        WeightsFileError: a weight file is damaged.
    """
    fetch_weights()
    networks = _load(device)
    step = max(1.0, max(image.shape[:2]) / SEARCH_SIDE)
    boxes = [np.asarray(box, np.float64) for box in networks.face_detector.detect_from_image(_shrunk(image, step))]
    if not boxes:
        return []
    boxes = [np.concatenate([box[:4] * step, box[4:]]) for box in boxes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        landmarks, scores, _ = networks.get_landmarks_from_image(
            image, detected_faces=boxes, return_bboxes=True, return_landmark_score=True
        )
    found = []
    for points, certainty, box in zip(landmarks, scores, boxes, strict=True):
        found.append(
            Detection(
                # The network's answers are cut to whole pixels, so on average half a pixel is missing.
                landmarks=np.asarray(points, np.float32)[:NUM_LANDMARKS, :2] + 0.5,
                landmarks_score=np.clip(np.asarray(certainty, np.float32).reshape(-1) / _PASSES, 0, 1),
                score=float(np.clip(box[4], 0, 1)) if len(box) > 4 else 1.0,
                box=box[:4].astype(np.float32),
                source=SOURCE,
            )
        )
    return by_size(found)


# The photo and its mirror image; the network's heat maps are added.
_PASSES = 2


@lru_cache(maxsize=2)
def _load(device: str) -> Any:
    package = _import("face_alignment")
    options: dict[str, Any] = {"device": device, "flip_input": True, "face_detector": "sfd"}
    # Compiling costs minutes and pays only over thousands of faces. Older releases do not have the option.
    if "compile" in inspect.signature(package.FaceAlignment.__init__).parameters:
        options["compile"] = False
    try:
        return package.FaceAlignment(package.LandmarksType.TWO_D, **options)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsFileError(
            f"face-alignment cannot load its weights in {_hub_folder()} ({reason}): "
            "delete its files there (s3fd-*, 2DFAN4-*) and fetch them again, or use another source of landmarks"
        ) from error


def _import(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise LandmarkError(
            f"the package face-alignment cannot be imported ({error}): install it with `pip install face-alignment`"
        ) from error


def _network_url(api: Any) -> str:
    """The landmark network's address; releases before 1.5 keep those for today's PyTorch in a second table."""
    table = api.models_urls
    if _NETWORK not in table:
        table = getattr(api, "default_model_urls", {})
    if _NETWORK not in table:
        raise LandmarkError("this release of face-alignment is not known to garfast: install version 1.4 or 1.5")
    return str(table[_NETWORK])


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _shrunk(image: np.ndarray, step: float) -> np.ndarray:
    if step == 1.0:
        return image
    from PIL import Image

    size = (max(1, round(image.shape[1] / step)), max(1, round(image.shape[0] / step)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
