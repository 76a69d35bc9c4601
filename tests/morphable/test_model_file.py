"""Model files: nothing is lost in a round trip, and each kind of bad file gets one sentence."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from garfast.errors import ModelFileError
from garfast.morphable import MorphableModel


def _arrays(model: MorphableModel, folder: Path) -> dict[str, np.ndarray]:
    model.save(folder / "base.npz")
    with np.load(folder / "base.npz") as archive:
        return dict(archive)


def test_round_trip(sheet: MorphableModel, tmp_path: Path) -> None:
    sheet.save(tmp_path / "deep" / "sheet.npz")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["sheet.npz"]
    back = MorphableModel.load(tmp_path / "deep" / "sheet.npz")
    for item in fields(sheet):
        before, after = getattr(sheet, item.name), getattr(back, item.name)
        if isinstance(before, torch.Tensor):
            assert before.dtype == after.dtype
            assert before.equal(after), item.name
        elif item.name == "regions":
            assert list(before) == list(after)
            assert all(before[key].equal(after[key]) for key in before)
        else:
            assert before == after


def test_optional_arrays_get_defaults(sheet: MorphableModel, tmp_path: Path) -> None:
    required = ("mean", "triangles", "shape_basis", "exp_basis", "landmark_triangles", "landmark_weights")
    arrays = {key: value for key, value in _arrays(sheet, tmp_path).items() if key in required}
    np.savez(tmp_path / "bare.npz", **arrays)
    model = MorphableModel.load(tmp_path / "bare.npz")
    assert model.name == "bare"
    assert model.contour[:, 0].equal(torch.arange(17))
    assert model.uv.shape == (0, 2)
    assert model.mirror is None
    assert not model.regions
    assert model.exp_bounds.isinf().all()
    assert model.exp_names == ("exp_000", "exp_001", "exp_002")
    model.save(tmp_path / "again.npz")
    assert MorphableModel.load(tmp_path / "again.npz").regions == {}


def _missing(folder: Path, model: MorphableModel) -> None:
    pass


def _folder(folder: Path, model: MorphableModel) -> None:
    (folder / "bad.npz").mkdir()


def _empty(folder: Path, model: MorphableModel) -> None:
    (folder / "bad.npz").touch()


def _text(folder: Path, model: MorphableModel) -> None:
    (folder / "bad.npz").write_text("hello")


def _pickle(folder: Path, model: MorphableModel) -> None:
    (folder / "bad.npz").write_bytes(pickle.dumps({"v_template": [1, 2]}))


def _single_array(folder: Path, model: MorphableModel) -> None:
    with (folder / "bad.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))


def _truncated(folder: Path, model: MorphableModel) -> None:
    model.save(folder / "bad.npz")
    data = (folder / "bad.npz").read_bytes()
    (folder / "bad.npz").write_bytes(data[: len(data) // 2])


def _damaged(folder: Path, model: MorphableModel) -> None:
    model.save(folder / "bad.npz")
    data = bytearray((folder / "bad.npz").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    (folder / "bad.npz").write_bytes(bytes(data))


def _pickled_entry(folder: Path, model: MorphableModel) -> None:
    arrays = _arrays(model, folder)
    arrays["mean"] = np.array([{"run": "me"}], dtype=object)
    np.savez(folder / "bad.npz", **arrays)


def _other_arrays(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", weights=np.zeros(3))


def _raw_ict(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", vertices=np.zeros((4, 3)), identity=np.zeros((1, 4, 3)))


def _nan(folder: Path, model: MorphableModel) -> None:
    arrays = _arrays(model, folder)
    arrays["shape_basis"][0, 0, 0] = np.nan
    np.savez(folder / "bad.npz", **arrays)


def _text_array(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", **(_arrays(model, folder) | {"mean": np.array(["a", "b"])}))


def _float_triangles(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", **(_arrays(model, folder) | {"triangles": np.zeros((3, 3))}))


def _wrong_landmarks(folder: Path, model: MorphableModel) -> None:
    arrays = _arrays(model, folder)
    del arrays["contour"]
    np.savez(folder / "bad.npz", **(arrays | {"landmark_triangles": np.zeros((5, 3), np.int64)}))


def _from_the_future(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", **(_arrays(model, folder) | {"format_version": np.array(99)}))


def _version_text(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", **(_arrays(model, folder) | {"format_version": np.array("new")}))


def _large_indices(folder: Path, model: MorphableModel) -> None:
    arrays = _arrays(model, folder)
    np.savez(folder / "bad.npz", **(arrays | {"triangles": arrays["triangles"].astype(np.int64) + 2**32}))


def _centimetres(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", **(_arrays(model, folder) | {"units": np.array("cm")}))


def _regions_without_names(folder: Path, model: MorphableModel) -> None:
    np.savez(folder / "bad.npz", **(_arrays(model, folder) | {"region_names": np.array([], dtype=np.str_)}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_missing, "there is no file"),
        (_folder, "is a folder"),
        (_empty, "is empty"),
        (_text, "is not an .npz file"),
        (_pickle, "a Python pickle, which is never loaded"),
        (_single_array, "a single .npy array"),
        (_truncated, "truncated or damaged"),
        (_damaged, "truncated or damaged"),
        (_pickled_entry, "pickled Python objects, which are never loaded"),
        (_other_arrays, "has no array 'mean'"),
        (_raw_ict, "garfast model import ict"),
        (_nan, "'shape_basis' contains NaN"),
        (_text_array, "'mean' must hold numbers"),
        (_float_triangles, "'triangles' must hold numbers of kind int32"),
        (_wrong_landmarks, r"must have shape \[68, 3\]"),
        (_from_the_future, "format version 99"),
        (_version_text, "'format_version' of .* is not one whole number"),
        (_large_indices, "'triangles' has numbers that do not fit int32"),
        (_centimetres, "units must be 'mm'"),
        (_regions_without_names, "one row for each of the 0 region_names"),
    ],
)
def test_bad_files_get_one_sentence(
    make: Callable[[Path, MorphableModel], None], message: str, sheet: MorphableModel, tmp_path: Path
) -> None:
    make(tmp_path, sheet)
    with pytest.raises(ModelFileError, match=message) as caught:
        MorphableModel.load(tmp_path / "bad.npz")
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_anywhere_is_a_model_file_error(sheet: MorphableModel, tmp_path: Path) -> None:
    """Random bytes changed or cut off: the file loads or is refused in one sentence, and nothing else happens."""
    path = tmp_path / "bad.npz"
    sheet.save(path)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    sentences: list[str] = []
    for _ in range(120):
        damaged = bytearray(data)
        for position in random.integers(len(data), size=random.integers(1, 10)):
            damaged[position] = random.integers(256)
        path.write_bytes(bytes(damaged[: random.integers(len(data) // 2, 2 * len(data))]))
        try:
            MorphableModel.load(path)
        except ModelFileError as error:
            sentences.append(str(error))
    assert len(sentences) > 60
    assert not any("\n" in sentence for sentence in sentences)
