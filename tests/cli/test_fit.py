"""`garfast fit` as a person types it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from garfast.cli import main
from garfast.fit.output import OUTPUT_FILES
from garfast.io.images import read_image, write_image
from garfast.io.parameters import load_parameters
from garfast.morphable import MorphableModel
from tests.tiny_face import make_scene, write_pts


@pytest.fixture
def photos(tmp_path: Path, tiny_model: MorphableModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two photographs, landmarks beside one of them, and the model as a file."""
    scene = make_scene(tiny_model)
    write_image(tmp_path / "photos" / "a.png", scene.photo)
    write_image(tmp_path / "photos" / "b.png", scene.photo[:, ::-1].copy())
    write_pts(tmp_path / "photos" / "a.pts", scene.landmarks)
    tiny_model.save(tmp_path / "tiny.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("garfast.fit.texture._SIZES", (32,))
    for picture in ("sheet_picture", "overlay_picture"):
        monkeypatch.setattr(f"garfast.fit.output.{picture}", lambda result: np.zeros((4, 4, 3), np.uint8))
    return tmp_path / "photos"


def fit(*arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["fit", "--model", "tiny.npz", "--device", "cpu", "--stages", "landmarks", *arguments]
    )


def test_one_photograph(photos: Path, tmp_path: Path) -> None:
    result = fit("photos/a.png", "-o", "out", "--landmarks", "file")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out" / "a").iterdir()) == sorted(OUTPUT_FILES)
    for words in ("a.png: 200 x 240 pixels", "landmarks", "tiny (525 vertices)", "residual", "report.html"):
        assert words in result.output
    again = fit("photos/a.png", "-o", "out", "--landmarks", "file")
    assert again.exit_code == 0
    assert "done already" in again.output


def test_without_a_folder_to_write_to(photos: Path, tmp_path: Path) -> None:
    result = fit("photos/a.png", "--landmarks", "file")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "fit-output" / "a" / "mesh.glb").is_file()


def test_a_texture_of_another_size(photos: Path, tmp_path: Path) -> None:
    result = fit("photos/a.png", "-o", "out", "--landmarks", "file", "--texture-size", "64")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "out" / "a" / "mesh.png").shape == (64, 64, 3)


def test_a_name_that_no_file_can_have(photos: Path) -> None:
    result = fit("photos/a.png", 300 * "x" + ".png", "-o", "out", "--landmarks", "file")
    assert result.exit_code == 1
    assert "xxx... is too long for a file" in result.output
    assert "Traceback" not in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are text")
def test_names_that_are_no_text(photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for suffix in (".png", ".pts"):
        (photos / f"a{suffix}").rename(photos / f"{name}{suffix}")
    result = fit(f"photos/{name}.png", "-o", "out", "--landmarks", "file")
    assert result.exit_code == 0, result.output
    assert "caf\\udce9.png: 200 x 240 pixels" in result.output
    assert Path(load_parameters(tmp_path / "out" / name).info["image"]["file"]).is_file()
    again = fit("photos", "-o", "out", "--landmarks", "file")
    assert "caf\\udce9.png: done already" in again.output


def test_a_folder_with_a_bad_photograph(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = fit("photos", "-o", "out", "--landmarks", "file")
    assert result.exit_code == 1
    assert (tmp_path / "out" / "a" / "params.json").is_file()
    assert "1 faces fitted" in result.output
    assert "2 of 3 photographs failed" in result.stderr
    assert "broken.jpg" in result.stderr
    assert "b.png" in result.stderr
    assert "Traceback" not in result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "give a photograph"),
        (["photos", "-o", "out", "--landmarks", "photos/a.pts"], 2, "photos/a.pts is the file of one photograph"),
        (["photos/a.png", "--example"], 2, "its own photograph"),
        (["nothing.png", "-o", "out"], 1, "there is no image file nothing.png"),
        (["empty", "-o", "out"], 1, "no image in the folder"),
        (["*.tiff", "-o", "out"], 1, "no image matches the pattern"),
        (["tiny.npz", "-o", "out"], 1, "is not an image"),
        (["photos/a.png", "-o", "tiny.npz"], 1, "is a file"),
        (["photos/a.png", "-o", "out", "--face", "many"], 1, "face to use must be"),
        (["photos/a.png", "-o", "out", "--face", "0"], 1, "face to use must be"),
        (["photos/a.png", "-o", "out", "--landmarks", "file", "--face", "4"], 1, "face 4 was asked for"),
        (["photos/b.png", "-o", "out", "--landmarks", "file"], 1, "no landmark file for b.png"),
        (["photos/a.png", "-o", "out", "--landmarks", "none.pts"], 1, "landmark file none.pts"),
        (["photos/a.png", "-o", "out", "--model", "photos/a.png"], 1, "photos/a.png"),
        (["photos/a.png", "-o", "out", "--model", "unknown"], 1, "no model named 'unknown'"),
        (["photos/a.png", "-o", "out", "--device", "abacus"], 1, "abacus"),
    ],
)
def test_mistakes_get_one_sentence(photos: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "empty").mkdir()
    result = fit(*arguments)
    assert result.exit_code == code, result.output
    assert result.output.count(words) == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_wrong_landmark_files(photos: Path, tmp_path: Path) -> None:
    lines = (photos / "a.pts").read_text().splitlines()
    for name, text, words in (
        ("short.pts", "\n".join([*lines[:20], "}"]), "68"),
        ("nan.txt", "\n".join(["nan nan"] * 68), "nan.txt"),
        ("words.txt", "no landmarks here", "words.txt"),
    ):
        (tmp_path / name).write_text(text)
        result = fit("photos/a.png", "-o", "out", "--landmarks", name)
        assert result.exit_code == 1, result.output
        assert words in result.output
        assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_full_disk(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("garfast.fit.output.write_obj", full)
    result = fit("photos/a.png", "-o", "out", "--landmarks", "file")
    assert result.exit_code == 1
    assert "no space left on the disk" in result.output
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.filterwarnings("default::garfast.errors.GarfastWarning")
def test_our_warnings_are_sentences(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "b.txt").write_text("a caption")
    result = fit("photos/b.png", "-o", "out")
    lines = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(lines) == 1
    assert "b.txt holds no landmarks" in lines[0]


def test_help() -> None:
    result = CliRunner().invoke(main, ["fit", "--help"])
    assert result.exit_code == 0
    assert "--example" in result.output
    assert "garfast fit" in CliRunner().invoke(main, ["--help"]).output or "fit " in result.output
    text = " ".join(result.output.split())
    assert "joint 45 steps at most. Moves, by rate: shape 0.015" in text
    assert "paper latent z; joint 120" in text
