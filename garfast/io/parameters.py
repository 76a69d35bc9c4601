"""``params.json``: everything that a fit found out about a face, readable by people and by later commands."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from garfast.errors import ArgumentError, ParametersFileError
from garfast.io.atomic import atomic_path

FILE_NAME = "params.json"
FORMAT = "garfast-fit"
SCHEMA = 1

CONVENTIONS = {
    "units": "millimetres, photo pixels, degrees for yaw, pitch and roll, radians in pose.rotation, seconds",
    "photo_pixels": "of the photograph upright (EXIF orientation applied), x right, y down, "
    "the centre of the top left pixel is (0.5, 0.5)",
    "camera_space": "right-handed, x right, y up, the camera looks along -z; vertices_camera = R vertices_model + t",
    "pose": "rotation is an axis-angle vector (angle = its length), translation is in millimetres; "
    "R = Rz(roll) Rx(pitch) Ry(yaw)",
    "intrinsics": "K [3][3], row by row, maps camera coordinates with y down and z forward to photo pixels; for an "
    "orthographic camera (u, v, 1) = K (x, -y, 1)",
    "opencv": "[4][4], row by row: model space to camera space with x right, y down, z forward",
    "opengl": "[4][4], row by row: model space to camera space with x right, y up, the camera looking along -z",
    "landmarks": "iBUG-68, counted from 0; 0-16 is the jaw from the subject's right ear (image left); "
    "landmarks are those detected (null: missing), landmarks_fitted those of the fitted mesh, residuals the distances "
    "between them",
    "coefficients": "shape and exp are in standard deviations of the model named in model.name",
}


@dataclass(frozen=True)
class FitParameters:
    """One fitted face as numbers; what `save_parameters` writes and `load_parameters` reads.

    Attributes:
        model: ``name`` of the morphable model, its ``num_vertices``, ``num_shape``, ``num_exp`` and ``exp_names``.
        shape: float32 [S], identity coefficients in standard deviations.
        exp: float32 [E], expression coefficients in the model's units, as in ``MorphableModel.evaluate``.
        pose: ``rotation`` [3] (axis-angle, radians), ``translation`` [3] (mm), ``yaw``, ``pitch``, ``roll`` (degrees).
        camera: what the camera's ``to_dict`` gives; its pixels are those of the original photograph.
        landmarks: float32 [68,2], detected, photo pixels; NaN (null in the file) where one is missing.
        landmarks_fitted: float32 [68,2], of the fitted mesh, photo pixels.
        residuals: float32 [68], distances between the two, pixels; NaN (null in the file) where one is missing.
        info: everything else, under the keys of the file: ``image``, ``face``, ``detector``, ``intrinsics``,
            ``opencv``, ``opengl``, ``fit``, ``stages``, ``versions``, ``backends`` ...
    """

    model: dict[str, Any]
    shape: np.ndarray
    exp: np.ndarray
    pose: dict[str, Any]
    camera: dict[str, Any]
    landmarks: np.ndarray
    landmarks_fitted: np.ndarray
    residuals: np.ndarray
    info: dict[str, Any] = field(default_factory=dict)


_ARRAYS: dict[str, tuple[int | None, ...]] = {
    "shape": (None,),
    "exp": (None,),
    "landmarks": (68, 2),
    "landmarks_fitted": (68, 2),
    "residuals": (68,),
}
_MAY_LACK = ("landmarks", "residuals")
_REQUIRED = tuple(f.name for f in fields(FitParameters) if f.name != "info")


def save_parameters(path: str | os.PathLike[str], parameters: FitParameters) -> None:
    """Write ``params.json`` atomically.

    Raises:
        ArgumentError: a value is NaN or infinite (named in the message); nothing is written.
        OutputError: the file cannot be written.
    """
    content: dict[str, Any] = {"format": FORMAT, "schema": SCHEMA}
    content |= {name: getattr(parameters, name) for name in _REQUIRED}
    content |= parameters.info
    content["conventions"] = CONVENTIONS
    for name in _MAY_LACK:
        content[name] = _nan_to_null(_plain(content[name]))
    save_json(path, content)


def save_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a table of values, arrays and tensors as JSON, atomically, one line a key.

    Raises:
        ArgumentError: a value is NaN or infinite (named in the message); nothing is written.
        OutputError: the file cannot be written.
    """
    content = _plain(content)
    for name, value in _numbers(content):
        if not math.isfinite(value):
            raise ArgumentError(f"the fit's {name} is {value}: a fit with NaN or infinite values is not written")
    with atomic_path(path) as temporary:
        # What in a file's name is no text is escaped as JSON does it, and read back as it was.
        temporary.write_text(_format(content) + "\n", encoding="utf-8", errors="backslashreplace")


def load_parameters(path: str | os.PathLike[str]) -> FitParameters:
    """Read ``params.json``, or the one in a folder that ``garfast fit`` wrote.

    Raises:
        ParametersFileError: the file is missing, truncated, of another kind or a newer version, lacks a value, or
            holds a wrong number of values or NaN.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError as error:
        if (frames := path.parent / "params").is_dir():
            raise ParametersFileError(
                f"{path.parent} holds a film: give one of its frames, {frames}/000001.json"
            ) from error
        raise ParametersFileError(f"there is no {path}: give a folder that `garfast fit` wrote") from error
    except OSError as error:
        raise ParametersFileError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ParametersFileError(f"{path} is truncated or no JSON ({error}): fit the photograph again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ParametersFileError(f"{path} was not written by `garfast fit`: expected its {FILE_NAME}")
    if content.get("schema") != SCHEMA:
        raise ParametersFileError(
            f"{path} has schema version {content.get('schema')}, this garfast reads {SCHEMA}: fit the photograph again "
            "or use the garfast that wrote it"
        )
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise ParametersFileError(f"{path} lacks {', '.join(missing)}: fit the photograph again")
    if any(not isinstance(content.get(name, {}), dict) for name in ("image", "face", "frame")):
        raise ParametersFileError(f"{path} says nothing of the photograph: fit the photograph again")
    values: dict[str, Any] = {}
    for name in _REQUIRED:
        if name in _ARRAYS:
            values[name] = _array(path, name, content[name])
        elif isinstance(content[name], dict):
            values[name] = content[name]
        else:
            raise ParametersFileError(f"{name} in {path} must be a table of values: fit the photograph again")
    known = {"format", "schema", "conventions", *_REQUIRED}
    return FitParameters(**values, info={k: v for k, v in content.items() if k not in known})


def _array(path: Path, name: str, values: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused below
            array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ParametersFileError(f"{name} in {path} must hold numbers only: fit the photograph again") from error
    expected = _ARRAYS[name]
    right = array.ndim == len(expected) and all(e in (None, n) for e, n in zip(expected, array.shape, strict=True))
    if not right or (np.isinf(array) if name in _MAY_LACK else ~np.isfinite(array)).any():
        shape = "x".join("N" if n is None else str(n) for n in expected)
        raise ParametersFileError(f"{name} in {path} must be {shape} finite numbers: fit the photograph again")
    return array


def _no_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _plain(value: Any) -> Any:
    """Arrays, tensors, numpy scalars and paths as what JSON knows. float32 becomes the shortest decimal that is it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.floating) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        array = np.asarray(value)
        return [_plain(v) for v in array] if array.ndim else float(str(array[()]))
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value) if isinstance(value, os.PathLike) else value


def _nan_to_null(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{name}[{index}]")
    elif isinstance(value, float):
        yield name, value


def _format(value: Any, indent: str = "") -> str:
    """JSON with one line for each key; lists of numbers stay on one line, lists of tables have one line each."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{deeper}{json.dumps(k)}: {_format(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        lines = [deeper + json.dumps(v, ensure_ascii=False) for v in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
