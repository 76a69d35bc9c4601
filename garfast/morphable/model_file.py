"""Model files: one ``.npz`` of plain arrays. docs/models.md describes every entry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from garfast.errors import ArgumentError, ModelFileError
from garfast.io.atomic import atomic_path

if TYPE_CHECKING:
    from garfast.morphable.model import MorphableModel

FORMAT_VERSION = 1
_EXPECTED = "a garfast face model (.npz) was expected"
_REQUIRED = (
    "mean",
    "triangles",
    "shape_basis",
    "exp_basis",
    "landmark_triangles",
    "landmark_weights",
)


def read_arrays(path: str | os.PathLike[str], expected: str = _EXPECTED) -> dict[str, np.ndarray]:
    """Every array of an ``.npz``, without unpickling anything.

    Args:
        path: the file.
        expected: the end of each error's sentence, what the caller hoped to find.

    Raises:
        ModelFileError: the file is missing, a folder, empty, no ``.npz``, truncated, or holds Python objects.
    """
    file = Path(path)
    if not file.exists():
        raise ModelFileError(f"there is no file {file}: {expected}")
    if file.is_dir():
        raise ModelFileError(f"{file} is a folder: {expected}")
    try:
        if file.stat().st_size == 0:
            raise ModelFileError(f"{file} is empty: {expected}")
        with file.open("rb") as stream:
            head = stream.read(4)
        if head[:2] != b"PK":
            raise ModelFileError(f"{file} is not an .npz file{_guess(head)}: {expected}")
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read ({error.strerror or error}): {expected}") from error
    except ModelFileError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for damaged bytes
        if isinstance(error, ValueError) and "pickle" in str(error).lower():
            raise ModelFileError(f"{file} holds pickled Python objects, which are never loaded: {expected}") from error
        raise ModelFileError(f"{file} is truncated or damaged: {expected}; fetch or make it again") from error


def read_model(path: str | os.PathLike[str]) -> MorphableModel:
    """Read and validate a model; see ``MorphableModel.load``."""
    arrays = read_arrays(path)
    if "identity" in arrays and "mean" not in arrays:
        raise ModelFileError(
            f"{path} looks like the ICT face as plain arrays, not a garfast model: "
            f"convert it first with `garfast model import ict {path}`"
        )
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise ModelFileError(f"{path} has no array '{missing[0]}': {_EXPECTED}, see docs/models.md for the format")
    version = arrays.get("format_version", np.array(FORMAT_VERSION))
    if version.shape != () or version.dtype.kind not in "iu":
        raise ModelFileError(f"the 'format_version' of {path} is not one whole number: {_EXPECTED}")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version} and this garfast reads up to {FORMAT_VERSION}: update garfast"
        )
    try:
        model = model_from_arrays(arrays, default_name=Path(path).stem)
        model.validate()
    except ArgumentError as error:
        raise ModelFileError(f"{path} is not a usable face model: {error}") from error
    return model


def model_from_arrays(arrays: Mapping[str, np.ndarray], default_name: str = "model") -> MorphableModel:
    """Build a model from the arrays of a file, filling in the optional ones.

    Raises:
        ArgumentError: an array has the wrong shape or kind.
    """
    from garfast.morphable.model import MorphableModel

    shape_basis = _array(arrays, "shape_basis", np.float32)
    exp_basis = _array(arrays, "exp_basis", np.float32)
    landmark_triangles = _array(arrays, "landmark_triangles", np.int64)
    landmark_weights = _array(arrays, "landmark_weights", np.float32)
    num_vertices = np.shape(arrays["mean"])[0] if np.ndim(arrays["mean"]) else 0
    if "contour" in arrays:
        contour = _array(arrays, "contour", np.int64)
    else:  # a jaw that does not slide: each landmark's nearest vertex
        if landmark_triangles.ndim != 2 or landmark_triangles.shape != landmark_weights.shape:
            raise ArgumentError("'landmark_triangles' and 'landmark_weights' must have shape [68, 3]")
        contour = landmark_triangles.gather(1, landmark_weights.argmax(1, keepdim=True))[:17]
    if "exp_bounds" in arrays:
        exp_bounds = _array(arrays, "exp_bounds", np.float32)
    else:
        exp_bounds = torch.tensor([[-torch.inf, torch.inf]]).repeat(exp_basis.shape[0], 1)
    region_names = _strings(arrays, "region_names", 0)
    masks = _array(arrays, "regions", np.float32) if "regions" in arrays else torch.zeros(0, num_vertices)
    if masks.shape[:1] != (len(region_names),):
        raise ArgumentError(f"'regions' must have one row for each of the {len(region_names)} region_names")
    has_uv = "uv" in arrays
    return MorphableModel(
        name=_text(arrays, "name", default_name),
        mean=_array(arrays, "mean", np.float32),
        triangles=_array(arrays, "triangles", np.int32),
        shape_basis=shape_basis,
        exp_basis=exp_basis,
        exp_bounds=exp_bounds,
        landmark_triangles=landmark_triangles,
        landmark_weights=landmark_weights,
        contour=contour,
        uv=_array(arrays, "uv", np.float32) if has_uv else torch.zeros(0, 2),
        uv_triangles=_array(arrays, "uv_triangles" if "uv_triangles" in arrays else "triangles", np.int32)
        if has_uv
        else torch.zeros(0, 3, dtype=torch.int32),
        shape_names=_strings(arrays, "shape_names", shape_basis.shape[0], "shape"),
        exp_names=_strings(arrays, "exp_names", exp_basis.shape[0], "exp"),
        mirror=_array(arrays, "mirror", np.int64) if "mirror" in arrays else None,
        regions=dict(zip(region_names, masks, strict=True)),
        source=_text(arrays, "source", ""),
        licence=_text(arrays, "licence", ""),
        units=_text(arrays, "units", "mm"),
    )


def write_model(model: MorphableModel, path: str | os.PathLike[str]) -> None:
    """Write a model; see ``MorphableModel.save``."""
    target = Path(path)
    arrays: dict[str, Any] = {"format_version": np.array(FORMAT_VERSION, np.int32)}
    for key in ("name", "source", "licence", "units"):
        arrays[key] = np.array(getattr(model, key))
    for key in ("mean", "shape_basis", "exp_basis", "exp_bounds", "landmark_weights", "uv"):
        arrays[key] = getattr(model, key).detach().cpu().float().numpy()
    for key in ("triangles", "uv_triangles", "landmark_triangles", "contour"):
        arrays[key] = getattr(model, key).cpu().numpy()
    if model.mirror is not None:
        arrays["mirror"] = model.mirror.cpu().numpy()
    for key in ("shape_names", "exp_names"):
        arrays[key] = np.array(getattr(model, key), dtype=np.str_)
    arrays["region_names"] = np.array(tuple(model.regions), dtype=np.str_)
    if model.regions:
        arrays["regions"] = torch.stack(list(model.regions.values())).cpu().float().numpy()
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _array(arrays: Mapping[str, np.ndarray], key: str, dtype: type[np.generic]) -> torch.Tensor:
    value = arrays[key]
    if value.dtype.kind not in ("iu" if np.issubdtype(dtype, np.integer) else "fiu"):
        raise ArgumentError(f"'{key}' must hold numbers of kind {dtype.__name__}, got {value.dtype}")
    converted = np.ascontiguousarray(value, dtype)
    if np.issubdtype(dtype, np.integer) and not np.array_equal(converted, value):
        raise ArgumentError(f"'{key}' has numbers that do not fit {dtype.__name__}")
    return torch.from_numpy(converted)


def _text(arrays: Mapping[str, np.ndarray], key: str, default: str) -> str:
    return str(arrays[key].reshape(-1)[0]) if key in arrays and arrays[key].size else default


def _strings(arrays: Mapping[str, np.ndarray], key: str, count: int, prefix: str = "") -> tuple[str, ...]:
    if key in arrays:
        return tuple(str(item) for item in arrays[key].reshape(-1))
    return tuple(f"{prefix}_{i:03d}" for i in range(count))


def _guess(head: bytes) -> str:
    if head[:1] == b"\x80":
        return " but a Python pickle, which is never loaded"
    return " but a single .npy array" if head == b"\x93NUM" else ""
