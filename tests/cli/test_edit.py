"""`garfast edit` and `garfast render` as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from garfast.cli import main
from garfast.io.digest import file_digest
from garfast.io.images import read_image, write_image
from garfast.morphable import MorphableModel
from tests.fit.saved_faces import save_fit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: MorphableModel) -> Path:
    folder = tmp_path_factory.mktemp("fits")
    save_fit(folder / "anna", tiny_model)
    tiny_model.save(folder / "home" / "models" / "tiny.npz")
    return folder


@pytest.fixture
def fits(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a fit called anna and an installed model; no weights of a renderer."""
    monkeypatch.setenv("GARFAST_HOME", str(made / "home"))
    monkeypatch.setattr("garfast.networks.renderer.SHIPPED", tmp_path / "nothing")
    monkeypatch.chdir(tmp_path)
    return made


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["smile.png", "smile.jfif"])
def test_edits_a_photograph(fits: Path, tmp_path: Path, name: str) -> None:
    result = run("edit", fits / "anna", "--exp", "smile=1.5", "--yaw", "+=10", "--no-renderer", "-o", name)
    assert result.exit_code == 0, result.output
    assert f"photograph and texture -> {name}" in result.output
    assert read_image(tmp_path / name).shape == (240, 200, 3)


def test_sweeps_to_a_gif(fits: Path, tmp_path: Path) -> None:
    result = run("edit", fits / "anna", "--sweep", "yaw=-5:5:3", "--no-renderer", "--size", "64", "-o", "turn.gif")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "turn.gif").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--exp", "grin=1", "--no-renderer"], "no expression 'grin'"),
        (["--exp", "smile", "--no-renderer"], "--exp takes NAME=VALUE"),
        (["--no-renderer"], "say what to change"),
        (["--yaw", "170", "--no-renderer"], "90 are the most"),
        (["--exp", "smile=1"], "--no-renderer"),
        (["--exp", "smile=1", "--weights", "none"], "no renderer weights in none"),
        (["--exp", "smile=1", "--no-renderer", "--photo", "none.png"], "no longer there"),
        (["--transfer-exp", "none", "--no-renderer"], "give a folder that `garfast fit` wrote"),
    ],
)
def test_says_what_is_wrong(fits: Path, arguments: list[str], words: str) -> None:
    result = run("edit", fits / "anna", *arguments, "-o", "x.png")
    assert result.exit_code != 0
    assert words in result.output
    assert "Traceback" not in result.output
    assert not Path("x.png").exists()


def test_a_folder_is_replaced_only_when_told(fits: Path, tmp_path: Path) -> None:
    arguments = ["edit", fits / "anna", "--exp", "smile=1", "--no-renderer", "--size", "48", "-o", "mine.v1"]
    assert run(*arguments).exit_code == 0
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "exists already" in refused.output
    (tmp_path / "mine.v1" / "edited.png").unlink()
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "mine.v1" / "edited.png").is_file()


def test_files_of_others_in_an_edits_folder_are_spared(fits: Path, tmp_path: Path) -> None:
    arguments = ["edit", fits / "anna", "--exp", "smile=1", "--no-renderer", "--size", "48", "-o", "mine"]
    assert run(*arguments).exit_code == 0
    (tmp_path / "mine" / "notes.txt").write_text("dear diary")
    refused = run(*arguments, "--overwrite")
    assert refused.exit_code == 1
    assert "exists already" in refused.output
    assert (tmp_path / "mine" / "notes.txt").read_text() == "dear diary"


def test_an_edit_does_not_overwrite_its_photograph(fits: Path) -> None:
    photo = Path(json.loads((fits / "anna" / "params.json").read_text())["image"]["file"])
    before = photo.read_bytes()
    refused = run("edit", fits / "anna", "--exp", "smile=1", "--no-renderer", "--size", "48", "-o", photo)
    assert refused.exit_code == 1
    assert "is the photograph that was fitted" in refused.output
    assert photo.read_bytes() == before


def test_pictures_do_not_overwrite_what_they_come_from(fits: Path, tmp_path: Path) -> None:
    photo = Path(json.loads((fits / "anna" / "params.json").read_text())["image"]["file"])
    texture = fits / "anna" / "mesh.png"
    before = photo.read_bytes(), texture.read_bytes()
    shutil.copy(photo, tmp_path / "copy.png")
    edit = ("edit", fits / "anna", "--exp", "smile=1", "--no-renderer", "--size", "48", "--photo", "copy.png")
    for command in (("render", fits / "anna"), edit):
        for output, words in ((photo, "is the photograph that was fitted"), (texture, "is a file of the fit itself")):
            refused = run(*command, "-o", output)
            assert refused.exit_code == 1
            assert words in refused.output
    assert run(*edit, "-o", "copy.png").exit_code == 1
    assert before == (photo.read_bytes(), texture.read_bytes())


def test_an_edit_does_not_replace_a_fit(fits: Path, tmp_path: Path) -> None:
    shutil.copytree(fits / "anna", tmp_path / "mine")
    before = sorted(path.name for path in (tmp_path / "mine").iterdir())
    refused = run("edit", "mine", "--exp", "smile=1", "--no-renderer", "--size", "48", "-o", "mine", "--overwrite")
    assert refused.exit_code == 1
    assert "exists already" in refused.output
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == before


def test_two_sweeps_of_one_thing_keep_their_frames(fits: Path, tmp_path: Path) -> None:
    sweeps = ["--sweep", "yaw=-10:10:3", "--sweep", "yaw=0:5:2"]
    result = run("edit", fits / "anna", *sweeps, "--no-renderer", "--size", "48", "-o", "turns")
    assert result.exit_code == 0, result.output
    frames = tmp_path / "turns" / "frames"
    assert [len(list((frames / name).iterdir())) for name in ("yaw", "yaw-2")] == [3, 2]


def test_another_picture_in_the_photographs_place_is_refused(fits: Path, tmp_path: Path) -> None:
    shutil.copytree(fits / "anna", tmp_path / "mine")
    path = tmp_path / "mine" / "params.json"
    parameters = json.loads(path.read_text())
    photo = Path(parameters["image"]["file"])
    parameters["image"]["sha256"] = file_digest(photo)
    path.write_text(json.dumps(parameters))
    arguments = ["edit", "mine", "--exp", "smile=1", "--no-renderer", "--size", "48"]
    assert run(*arguments, "-o", "a.png").exit_code == 0
    write_image(tmp_path / "other.png", read_image(photo)[::-1])
    parameters["image"]["file"] = str(tmp_path / "other.png")
    path.write_text(json.dumps(parameters))
    refused = run(*arguments, "-o", "b.png")
    assert refused.exit_code == 1
    assert "not the photograph that was fitted" in refused.output
    assert run(*arguments, "--photo", "other.png", "-o", "c.png").exit_code == 0


def test_renders(fits: Path, tmp_path: Path) -> None:
    result = run("render", fits / "anna", "--mode", "normals", "--view", "photo", "-o", "n.png")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "n.png").shape == (240, 200, 3)
    result = run("render", fits / "anna", "--mode", "normals", "--view", "photo", "--size", "120", "-o", "h.png")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "h.png").shape == (120, 100, 3)
    result = run("render", fits / "anna", "--mode", "normals", "--view", "photo", "--size", "120x120", "-o", "q.png")
    assert result.exit_code == 1
    assert "give one number as --size, its longest side" in result.output
    result = run("render", "--model", "tiny", "--exp", "smile=1", "--yaw", "20", "--size", "40", "-o", "s.png")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "s.png").shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode", "textured"], "there is no texture"),
        (["--size", "big"], "--size takes pixels"),
        (["--size", "30x40"], "square"),
        (["--mode", "renderer"], "no renderer weights"),
        (["--mode", "renderer", "--view", "photo"], "leave out --view"),
    ],
)
def test_render_says_what_is_wrong(fits: Path, arguments: list[str], words: str) -> None:
    result = run("render", "--model", "tiny", *arguments, "-o", "x.png")
    assert result.exit_code != 0
    assert words in result.output
    assert "Traceback" not in result.output


def test_no_permission_is_one_sentence(fits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    result = run("fit", fits, "-o", "out")
    assert result.exit_code == 1
    assert f"no permission to use {fits}" in result.output
