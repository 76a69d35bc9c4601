"""Morphable face models, cameras and rotations."""

from garfast.morphable.camera import Camera, OrthographicCamera, PinholeCamera, Pose, camera_from_dict
from garfast.morphable.model import MorphableModel
from garfast.morphable.registry import (
    data_directory,
    default_model_name,
    list_models,
    load_model,
    model_directory,
    set_default_model,
)
from garfast.morphable.rotation import (
    axis_angle_to_matrix,
    euler_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler,
)

__all__ = [
    "Camera",
    "MorphableModel",
    "OrthographicCamera",
    "PinholeCamera",
    "Pose",
    "axis_angle_to_matrix",
    "camera_from_dict",
    "data_directory",
    "default_model_name",
    "euler_to_matrix",
    "list_models",
    "load_model",
    "matrix_to_axis_angle",
    "matrix_to_euler",
    "model_directory",
    "set_default_model",
]
