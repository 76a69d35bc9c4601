"""params.json: exact round trips, and a sentence for whatever is no such file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError, OutputError, ParametersFileError
from garfast.io.parameters import FitParameters, load_parameters, save_parameters


@pytest.fixture
def parameters() -> FitParameters:
    random = np.random.default_rng(0)
    return FitParameters(
        model={"name": "tiny", "num_shape": 3},
        shape=random.normal(size=3).astype(np.float32),
        exp=random.normal(size=2).astype(np.float32),
        pose={"rotation": torch.tensor([0.1, 0.2, 0.3]), "yaw": np.float32(12.5)},
        camera={"projection": "orthographic", "scale": 2.5},
        landmarks=random.normal(size=(68, 2)).astype(np.float32),
        landmarks_fitted=random.normal(size=(68, 2)).astype(np.float32),
        residuals=random.random(68).astype(np.float32),
        info={"image": {"file": Path("größe.png"), "width": 64}, "stages": [{"name": "landmarks", "seconds": 0.5}]},
    )


def test_round_trip(tmp_path: Path, parameters: FitParameters) -> None:
    save_parameters(tmp_path / "params.json", parameters)
    for loaded in (load_parameters(tmp_path / "params.json"), load_parameters(tmp_path)):
        for name in ("shape", "exp", "landmarks", "landmarks_fitted", "residuals"):
            array = getattr(loaded, name)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, getattr(parameters, name))
        assert loaded.pose["rotation"] == [0.1, 0.2, 0.3]  # the shortest decimals that are these float32
        assert loaded.info["image"] == {"file": "größe.png", "width": 64}
        assert loaded.info["stages"] == [{"name": "landmarks", "seconds": 0.5}]
        save_parameters(tmp_path / "again.json", loaded)
        assert (tmp_path / "again.json").read_bytes() == (tmp_path / "params.json").read_bytes()


def test_the_file_says_what_its_numbers_mean(tmp_path: Path, parameters: FitParameters) -> None:
    save_parameters(tmp_path / "params.json", parameters)
    text = (tmp_path / "params.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["format"] == "garfast-fit"
    assert content["schema"] == 1
    assert "millimetres" in content["conventions"]["units"]
    assert len(text.splitlines()) < 200


def test_nan_is_not_written(tmp_path: Path, parameters: FitParameters) -> None:
    for wrong in (np.nan, np.inf):
        bad = replace(parameters, exp=np.array([0, wrong], np.float32))
        with pytest.raises(ArgumentError, match=r"exp\[1\]"):
            save_parameters(tmp_path / "params.json", bad)
    with pytest.raises(ArgumentError, match=r"camera\.scale"):
        save_parameters(tmp_path / "params.json", replace(parameters, camera={"scale": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_a_missing_landmark_is_null(tmp_path: Path, parameters: FitParameters) -> None:
    landmarks, residuals = parameters.landmarks.copy(), parameters.residuals.copy()
    landmarks[4] = residuals[4] = np.nan
    save_parameters(tmp_path / "params.json", replace(parameters, landmarks=landmarks, residuals=residuals))
    assert json.loads((tmp_path / "params.json").read_text(encoding="utf-8"))["landmarks"][4] == [None, None]
    loaded = load_parameters(tmp_path)
    np.testing.assert_array_equal(loaded.landmarks, landmarks)
    np.testing.assert_array_equal(loaded.residuals, residuals)


def test_wrong_files_get_a_sentence(tmp_path: Path, parameters: FitParameters) -> None:
    path = tmp_path / "params.json"
    with pytest.raises(ParametersFileError, match="there is no"):
        load_parameters(path)
    (tmp_path / "params").mkdir()
    with pytest.raises(ParametersFileError, match="holds a film: give one of its frames"):
        load_parameters(tmp_path)
    save_parameters(path, parameters)
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    for wrong, words in (
        (text[: len(text) // 2], "truncated"),
        ("[1, 2]", "not written by"),
        (json.dumps(content | {"format": "other"}), "not written by"),
        (json.dumps(content | {"schema": 99}), "schema version 99"),
        (json.dumps({k: v for k, v in content.items() if k != "shape"}), "lacks shape"),
        (json.dumps(content | {"landmarks": content["landmarks"][:5]}), "68x2"),
        (json.dumps(content | {"exp": ["a"]}), "numbers only"),
        (json.dumps(content | {"exp": [1e60]}), "finite"),
        (json.dumps(content | {"camera": 3}), "table"),
        (json.dumps(content | {"exp": [float("nan")]}), "NaN"),
    ):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ParametersFileError, match=words) as caught:
            load_parameters(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ParametersFileError, match="truncated or no JSON"):
        load_parameters(path)


def test_full_disk(tmp_path: Path, parameters: FitParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        save_parameters(tmp_path / "params.json", parameters)
    assert not list(tmp_path.iterdir())
