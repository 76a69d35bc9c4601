"""Facial landmarks: detectors and files behind one interface."""

from garfast.landmarks.detection import IBUG_FLIP, Detection, select_faces
from garfast.landmarks.files import find_landmark_file, read_landmarks
from garfast.landmarks.sources import METHODS, detect, example_landmarks

__all__ = [
    "IBUG_FLIP",
    "METHODS",
    "Detection",
    "detect",
    "example_landmarks",
    "find_landmark_file",
    "read_landmarks",
    "select_faces",
]
