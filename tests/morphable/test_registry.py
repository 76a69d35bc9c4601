"""Models by name, the user's folder and the default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from garfast.errors import ModelFileError
from garfast.morphable import (
    MorphableModel,
    data_directory,
    default_model_name,
    list_models,
    load_model,
    model_directory,
    set_default_model,
)
from garfast.morphable.registry import model_path


def test_data_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path / "a"))
    assert data_directory() == tmp_path / "a"
    monkeypatch.delenv("GARFAST_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
    assert data_directory() == tmp_path / "b" / "garfast"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert data_directory() == tmp_path / "c" / ".local" / "share" / "garfast"


def test_models_are_found_by_name_and_by_path(sheet: MorphableModel, tmp_path: Path) -> None:
    assert [entry.name for entry in list_models()] == ["builtin"]
    sheet.save(model_path("sheet"))
    sheet.save(tmp_path / "elsewhere.npz")
    assert [entry.name for entry in list_models()] == ["builtin", "sheet"]
    assert load_model("sheet").num_vertices == 90
    assert load_model(tmp_path / "elsewhere.npz").num_vertices == 90


def test_unknown_names_say_what_is_known(sheet: MorphableModel) -> None:
    sheet.save(model_path("sheet"))
    with pytest.raises(ModelFileError, match=r"no model named 'bfm' .*builtin, sheet"):
        load_model("bfm")
    with pytest.raises(ModelFileError, match="garfast model import ict"):
        load_model("ict")


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "builtin"])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(ModelFileError, match="cannot name a model file"):
        model_path(name)


def test_default_model(sheet: MorphableModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_model_name() == "builtin"
    sheet.save(model_path("sheet"))
    set_default_model("sheet")
    assert default_model_name() == "sheet"
    assert load_model().name == "sheet"
    with pytest.raises(ModelFileError, match="no model named 'nothing'"):
        set_default_model("nothing")
    assert default_model_name() == "sheet"
    sheet.save(tmp_path / "other.npz")
    monkeypatch.chdir(tmp_path)
    set_default_model("other.npz")
    assert default_model_name() == str(tmp_path / "other.npz")
    monkeypatch.setenv("GARFAST_MODEL", "builtin")
    assert default_model_name() == "builtin"


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_settings(text: str) -> None:
    data_directory().mkdir(parents=True, exist_ok=True)
    (data_directory() / "settings.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"settings\.json"):
        default_model_name()


def test_model_directory_is_not_made_by_looking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path / "new"))
    list_models()
    assert not model_directory().exists()


def test_importing_the_package_is_light() -> None:
    heavy = {"scipy", "skimage", "PIL", "trimesh", "face_alignment", "matplotlib", "click", "tqdm"}
    code = "import sys, torch; before = set(sys.modules); import garfast.morphable; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)
