"""Edits that a renderer draws: G keeps style and noise, and its picture goes back into the photograph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from garfast.cli import main
from garfast.errors import ParametersFileError, WeightsFileError
from garfast.fit.changes import parse_setting
from garfast.fit.edit import Editor, look_of
from garfast.fit.latent import load_latent
from garfast.fit.render import neutral_face, random_look, render_with, template_alignment
from garfast.fit.rendering import box_of_points
from garfast.fit.saved_face import SavedFace, load_face
from garfast.io.images import read_image
from garfast.morphable import MorphableModel
from garfast.networks.renderer import Renderer, load_renderer, save_renderer
from tests.fit.saved_faces import save_fit
from tests.fit.tiny_renderer import make_renderer


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory, tiny_model: MorphableModel) -> Path:
    """A folder with weights, the tiny model installed in home, and two fits with style and noise: anna and bert."""
    folder = tmp_path_factory.mktemp("renderer")
    save_renderer(folder / "weights", make_renderer())
    tiny_model.save(folder / "home" / "models" / "tiny.npz")
    for name, yaw in (("anna", 0.1), ("bert", -0.1)):
        save_fit(folder / name, tiny_model, yaw=yaw, renderer=load_renderer(folder / "weights"))
    return folder


@pytest.fixture(scope="module")
def renderer(fits: Path) -> Renderer:
    return load_renderer(fits / "weights")


@pytest.fixture
def saved(fits: Path, tiny_model: MorphableModel) -> SavedFace:
    return load_face(fits / "anna", model=tiny_model)


@pytest.fixture
def editor(fits: Path, saved: SavedFace, renderer: Renderer) -> Editor:
    return Editor(saved, renderer, load_latent(fits / "anna"))


def test_nothing_changes_without_an_edit(editor: Editor, saved: SavedFace) -> None:
    assert np.abs(editor.picture(editor.face).astype(int) - saved.photo).max() <= 1


def test_what_the_renderer_says_of_an_edit_is_added(
    editor: Editor, saved: SavedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same picture, darker where the expression is another: so must the photograph become, and keep its detail.
    own = editor.aligned(editor.face)
    monkeypatch.setattr(
        editor, "aligned", lambda face, look=None: own - 0.1 * float((face.exp - editor.face.exp).abs().max() > 0)
    )
    smile = editor.face.changed([parse_setting("exp", "smile=0.001")])
    change = editor.picture(smile).astype(float) - saved.photo
    assert np.quantile(change, 0.02) == pytest.approx(-25.5, abs=1.5)
    assert (change < -20).any(-1).mean() > 0.05
    assert change.max() <= 2


def test_only_the_face_changes(editor: Editor, saved: SavedFace) -> None:
    picture = editor.picture(editor.face.changed([parse_setting("exp", "smile=2")]))
    far = np.ones(picture.shape[:2], bool)
    box = box_of_points(editor.face.camera.project(editor.face.vertices)[0])
    far[max(int(box.y0) - 12, 0) : int(box.y1) + 12, max(int(box.x0) - 12, 0) : int(box.x1) + 12] = False
    assert far.any()
    np.testing.assert_array_equal(picture[far], saved.photo[far])


def test_roll_turns_the_renderers_picture_as_it_is(editor: Editor) -> None:
    rolled = editor.face.changed([parse_setting("roll", "+=25")])
    torch.testing.assert_close(editor.aligned(rolled), editor.aligned(editor.face), rtol=0, atol=0.05)
    yawed = editor.face.changed([parse_setting("yaw", "+=25")])
    assert (editor.aligned(yawed) - editor.aligned(editor.face)).abs().max() > 0.1


def test_looks_go_over_into_each_other(fits: Path, editor: Editor, renderer: Renderer) -> None:
    other = look_of(renderer, load_latent(fits / "bert"))
    assert editor.look is not None
    torch.testing.assert_close(editor.look.toward(other, 1.0).w, other.w)
    halfway = editor.look.toward(other, 0.5)
    assert halfway.noise[-1].std() == pytest.approx(1.0, abs=0.45)
    assert (editor.picture(editor.face, halfway) != editor.picture(editor.face)).any()


def test_says_what_does_not_go_together(fits: Path, saved: SavedFace, renderer: Renderer) -> None:
    latent = load_latent(fits / "anna")
    with pytest.raises(ParametersFileError, match="another renderer"):
        Editor(saved, renderer, replace(latent, renderer="0" * 16))
    with pytest.raises(ParametersFileError, match="no style and noise"):
        Editor(saved, renderer)
    generator = make_renderer().generator
    generator.config = replace(generator.config, condition="depth")
    with pytest.raises(WeightsFileError, match="normal maps"):
        look_of(Renderer(generator), latent)


def test_renders_random_faces(renderer: Renderer, tiny_model: MorphableModel) -> None:
    face = neutral_face(tiny_model, 100)
    alignment = template_alignment(renderer, face)
    pictures = [render_with(renderer, face, alignment, random_look(renderer, seed)) for seed in (0, 0, 1)]
    assert pictures[0].shape == (32, 32, 3)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_commands(fits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GARFAST_HOME", str(fits / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    weights = ("--weights", fits / "weights")
    out = run("edit", fits / "anna", "--exp", "smile=1", "--size", "64", *weights, "-o", "edited")
    assert "by the renderer" in out
    assert (tmp_path / "edited" / "sheet.png").is_file()
    run("edit", fits / "anna", "--to", fits / "bert", "--frames", "3", "--size", "48", *weights, "-o", "to.gif")
    run("render", fits / "anna", "--mode", "renderer", "--yaw", "10", *weights, "-o", "g.png")
    assert read_image(tmp_path / "g.png").shape == (32, 32, 3)
    run("render", "--model", "tiny", "--mode", "renderer", *weights, "--seed", "3", "-o", "random.png")
    (fits / "anna" / "latent.safetensors").rename(fits / "latent.away")
    lacks = CliRunner().invoke(main, [str(a) for a in ("edit", fits / "anna", "--yaw", "9", *weights, "-o", "x.png")])
    (fits / "latent.away").rename(fits / "anna" / "latent.safetensors")
    assert lacks.exit_code == 1
    assert "--no-renderer" in lacks.output
