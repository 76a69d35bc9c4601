"""Faces read back, changed, and laid into their photograph."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError, ImageFileError, ModelFileError, ParametersFileError
from garfast.fit.animate import Sweep, chosen, parse_sweep, sheet, there_and_back, transition
from garfast.fit.changes import Setting, parse_setting
from garfast.fit.edit import Editor, low_frequencies, moved_camera, posed_alignment, soft_mask, with_expression
from garfast.fit.edit_output import crop, sweep_clip, transition_clip, write_edit
from garfast.fit.rendering import Box
from garfast.fit.result import FitResult
from garfast.fit.saved_face import SavedFace, load_face
from garfast.fit.warp import warp_photo
from garfast.io.images import read_image
from garfast.io.video import write_animation
from garfast.landmarks.alignment import align_landmarks
from garfast.morphable import MorphableModel, PinholeCamera, load_model
from tests.fit.saved_faces import save_fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, tiny_model: MorphableModel) -> tuple[Path, FitResult]:
    folder = tmp_path_factory.mktemp("edit") / "anna"
    return folder, save_fit(folder, tiny_model)


@pytest.fixture
def saved(fitted: tuple[Path, FitResult], tiny_model: MorphableModel) -> SavedFace:
    return load_face(fitted[0], model=tiny_model)


def test_reads_a_fit_back(fitted: tuple[Path, FitResult], saved: SavedFace) -> None:
    folder, result = fitted
    np.testing.assert_allclose(saved.face.vertices[0].numpy(), result.vertices_camera, atol=1e-3)
    np.testing.assert_array_equal(saved.photo, result.image)
    assert saved.texture.shape == (3, 32, 32)
    assert saved.face.angles == pytest.approx(result.angles, abs=1e-3)
    assert load_face(folder / "params.json", model=saved.face.model).folder == folder


def test_says_what_is_missing(
    fitted: tuple[Path, FitResult], saved: SavedFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = fitted
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path))
    with pytest.raises(ModelFileError, match="fitted with the model 'tiny', which is not installed here"):
        load_face(folder)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ModelFileError, match=r"tiny\.npz .*a garfast face model"):
        load_face(folder)
    with pytest.raises(ParametersFileError, match="6 shape and 4 expression coefficients"):
        load_face(folder, model=load_model("builtin"))
    values = json.loads((folder / "params.json").read_text())
    values["model"]["num_vertices"] = 7
    (tmp_path / "params.json").write_text(json.dumps(values))
    with pytest.raises(ParametersFileError, match="model 'tiny' of 7 vertices, but the model 'tiny' has 525"):
        load_face(tmp_path / "params.json", model=saved.face.model)
    with pytest.raises(ImageFileError, match="--photo"):
        _ = replace(saved, photo_path=tmp_path / "gone.png").photo
    with pytest.raises(ImageFileError, match="200 x"):
        _ = replace(saved, photo_path=folder / "mesh.png").photo


def test_the_photograph_of_a_films_frame_is_that_frame(saved: SavedFace, tmp_path: Path) -> None:
    height, width = saved.face.camera.image_size
    film = tmp_path / "film.gif"
    write_animation(film, [np.full((height, width, 3), value, np.uint8) for value in (40, 200)])
    image = {"file": str(film), "sha256": None, "width": width, "height": height}

    def frame(number: int) -> SavedFace:
        info = saved.parameters.info | {"image": image, "frame": {"number": number}}
        return SavedFace(saved.folder, replace(saved.parameters, info=info), saved.face, None, saved.latent)

    assert abs(int(frame(2).photo.mean()) - 200) < 5
    assert abs(int(frame(1).photo.mean()) - 40) < 5
    with pytest.raises(ImageFileError, match="has no frame 3 any more: give it with --photo"):
        _ = frame(3).photo


def test_the_head_turns_between_its_ears(saved: SavedFace) -> None:
    face = saved.face
    turned = face.changed([parse_setting("yaw", "30"), parse_setting("roll", "+=10")])
    yaw, pitch, roll = turned.angles
    assert (yaw, pitch, roll) == pytest.approx((30, face.angles[1], face.angles[2] + 10), abs=1e-3)
    ears = [f.model.landmarks(f.vertices)[:, [0, 16]].mean(1) for f in (face, turned)]
    np.testing.assert_allclose(ears[0].numpy(), ears[1].numpy(), atol=0.6)
    assert face.changed([]).pose is face.pose


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_moved_camera_sees_the_moved_picture(saved: SavedFace, factor: float) -> None:
    points = saved.face.vertices
    pinhole = PinholeCamera(torch.tensor([[300.0, 300.0]]), torch.tensor([[100.0, 120.0]]), (240, 200))
    for camera in (saved.face.camera, pinhole):
        moved = moved_camera(camera, (3.0, -2.0), factor, (100, 100)).project(points - 500)
        expected = (camera.project(points - 500) + torch.tensor([3.0, -2.0])) * factor
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-2)


def test_an_unchanged_face_leaves_the_photograph(saved: SavedFace) -> None:
    editor = Editor(saved)
    np.testing.assert_array_equal(editor.picture(editor.face), saved.photo)


def test_the_photograph_follows_the_mesh(saved: SavedFace, tiny_model: MorphableModel) -> None:
    editor = Editor(saved)
    turned = editor.face.changed([parse_setting("yaw", "+=12")])
    warp = warp_photo(editor.photo, editor.face, turned, editor.texture)
    # Points of the surface that both views show have the same colour in both.
    picture = torch.from_numpy(editor.picture(turned)).permute(2, 0, 1)[None].float()
    photo = editor.photo[None] * 255
    inner = slice(27, 36)  # the nose
    places = [f.landmarks[:, inner] for f in (editor.face, turned)]
    assert (places[0] - places[1]).norm(dim=-1).mean() > 5
    extent = torch.tensor([200.0, 240.0])
    colours = [
        torch.nn.functional.grid_sample(image, (at / extent * 2 - 1)[None], align_corners=False)[0, :, 0]
        for image, at in zip((photo, picture), places, strict=True)
    ]
    assert (colours[0] - colours[1]).abs().mean() < 4
    # The border of the picture stays as it was.
    edge = np.r_[0:3]
    np.testing.assert_array_equal(editor.picture(turned)[edge], saved.photo[edge])
    assert warp.face.min() >= 0
    assert warp.face.max() <= 1


def test_smaller_pictures(saved: SavedFace) -> None:
    editor = Editor(saved, longest=120)
    assert editor.picture(editor.face.changed([parse_setting("exp", "smile=1")])).shape == (120, 100, 3)
    torch.testing.assert_close(editor.face.landmarks * 2, saved.face.landmarks, atol=1e-2, rtol=1e-3)
    with pytest.raises(ArgumentError, match="at least 16"):
        Editor(saved, longest=4)


def test_pose_moves_the_alignment_and_roll_is_all_in_it(saved: SavedFace) -> None:
    face = saved.face
    alignment = align_landmarks(face.landmarks + 1.5, 64)
    same = posed_alignment(alignment, face, face.changed([parse_setting("exp", "smile=2")]))
    torch.testing.assert_close(same.matrix, alignment.matrix, rtol=1e-3, atol=1e-3)
    rolled = face.changed([parse_setting("roll", "+=30")])
    posed = posed_alignment(alignment, face, rolled)
    torch.testing.assert_close(posed.apply(rolled.landmarks), alignment.apply(face.landmarks), rtol=1e-3, atol=0.05)


def test_low_frequencies_and_soft_masks() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 90), torch.linspace(0, 1, 80), indexing="ij")
    smooth = torch.stack([x * 0.2, y * 0.1, 0.3 - 0.1 * x])[None]
    noisy = smooth + 0.1 * torch.randn(1, 3, 90, 80, generator=torch.Generator().manual_seed(0))
    cover = torch.zeros(1, 1, 90, 80)
    cover[..., 20:70, 15:65] = 1
    found = low_frequencies(torch.where(cover > 0, noisy, 9.0), cover)
    assert (found - smooth)[..., 25:65, 20:60].abs().max() < 0.06
    mask = soft_mask(cover, 8.0)
    assert mask[..., 40:50, 35:45].min() > 0.99
    assert (mask <= cover).all()
    steps = mask[0, 0, 45].diff().abs()
    assert steps.max() < 0.5


def test_reads_sweeps() -> None:
    assert parse_sweep("exp.smile=0:2:12") == Sweep("exp", "smile", 0, 2, 12)
    assert parse_sweep("yaw=-40:40:25") == Sweep("yaw", "", -40, 40, 25)
    assert parse_sweep("shape.3=-2:2:9").settings()[4] == Setting("shape", "3", 0.0)
    for wrong in ("smile=0:2:12", "yaw=0:1", "yaw=0:1:1", "yaw=a:b:3", "exp=0:1:3", "yaw=0:inf:5"):
        with pytest.raises(ArgumentError, match="--sweep takes"):
            parse_sweep(wrong)


def test_sweeps_and_transitions(saved: SavedFace, tiny_model: MorphableModel) -> None:
    faces = parse_sweep("yaw=-10:10:3").faces(saved.face)
    assert [face.angles[0] for face in faces] == pytest.approx([-10, 0, 10], abs=1e-3)
    with pytest.raises(ArgumentError, match="no expression"):
        parse_sweep("exp.grin=0:1:3").faces(saved.face)
    other = faces[2].changed([parse_setting("exp", "smile=2"), parse_setting("shape", "0=1")])
    steps = transition(saved.face, other, 5)
    assert [round(share, 3) for share, _ in steps] == [0, 0.146, 0.5, 0.854, 1]
    assert steps[0][1].angles == pytest.approx(saved.face.angles, abs=1e-3)
    assert steps[-1][1].angles == pytest.approx(other.angles, abs=1e-2)
    torch.testing.assert_close(steps[-1][1].exp, other.exp)
    assert with_expression(saved.face, other).exp.tolist() == other.exp.tolist()
    stranger = replace(other, model=replace(tiny_model, name="x", exp_names=("a", "b", "c", "d")))
    with pytest.raises(ArgumentError, match="different models"):
        transition(saved.face, stranger, 5)
    with pytest.raises(ArgumentError, match="2 to"):
        transition(saved.face, other, 1)


def test_frames_there_and_back_and_sheets() -> None:
    frames = [np.full((4, 4, 3), k, np.uint8) for k in range(4)]
    assert [int(f[0, 0, 0]) for f in there_and_back(frames)] == [0, 1, 2, 3, 2, 1]
    assert chosen(3, 7) == [0, 1, 2]
    assert chosen(25, 5) == [0, 6, 12, 18, 24]
    picture = sheet([[("a", frames[0]), ("b", frames[1])], [("c", np.zeros((300, 200, 3), np.uint8))]])
    assert picture.ndim == 3
    assert crop(np.arange(75, dtype=np.uint8).reshape(5, 5, 3), Box(-2, -2, 4, 4)).shape == (6, 6, 3)


def test_writes_a_folder_that_can_be_read_again(saved: SavedFace, tmp_path: Path) -> None:
    editor = Editor(saved, longest=80)
    edited = editor.face.changed([parse_setting("exp", "smile=1.5"), parse_setting("yaw", "20")])
    clips = [sweep_clip(parse_sweep("roll=0:20:3"), edited), transition_clip(editor.face, edited, None, 2)]
    write_edit(tmp_path / "out", saved, editor, edited, clips)
    names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert names >= {
        "edited.png",
        "sheet.png",
        "mesh.glb",
        "mesh.png",
        "params.json",
        "edited.gif",
        "frames/to/0001.png",
    }
    again = load_face(tmp_path / "out", model=saved.face.model)
    torch.testing.assert_close(again.face.exp, edited.exp)
    assert again.face.angles[0] == pytest.approx(20, abs=1e-3)
    second = Editor(again)  # what the edited picture shows is the edited face
    np.testing.assert_array_equal(second.picture(second.face), read_image(tmp_path / "out" / "edited.png"))
    write_edit(tmp_path / "one.png", saved, editor, edited, [])
    assert read_image(tmp_path / "one.png").shape == (80, 67, 3)
    with pytest.raises(ArgumentError, match="--sweep or --to"):
        write_edit(tmp_path / "x.gif", saved, editor, edited, [])
    with pytest.raises(ArgumentError, match="is one picture"):
        write_edit(tmp_path / "x.png", saved, editor, edited, clips)
