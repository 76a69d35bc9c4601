"""The face of a film."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from garfast.cli import main
from garfast.errors import ArgumentError, NoFaceError, OutputError
from garfast.fit.saved_face import load_face
from garfast.fit.sequence import FittedSequence, described, fit_sequence, track
from garfast.fit.sequence_output import best_frame, frame_parameters, overlay, save_sequence
from garfast.io.digest import file_digest
from garfast.io.images import read_image, write_image
from garfast.io.video import open_video, write_animation
from garfast.landmarks import Detection
from garfast.landmarks.boxes import bounding_box
from garfast.morphable import MorphableModel, Pose, load_model
from tests.fit.landmark_faces import random_faces
from tests.tiny_face import make_scene, write_pts

SIZE = (512, 512)


def detection(landmarks: np.ndarray, score: float = 1.0) -> Detection:
    points = np.asarray(landmarks, np.float32)
    return Detection(points, np.full(68, score, np.float32), 1.0, bounding_box(points), "made", "fixed")


@pytest.fixture(scope="module")
def film() -> tuple[MorphableModel, list[Detection | None], np.ndarray, np.ndarray]:
    """A nodding built-in face in 24 frames, three of them lost: model, detections, true shape and yaws."""
    model = load_model("builtin")
    shape = random_faces(model, 1, seed=3).shape
    yaws = np.deg2rad(25 * np.sin(np.arange(24) / 6))
    random = np.random.default_rng(0)
    detections: list[Detection | None] = []
    for frame, yaw in enumerate(yaws):
        angles = [torch.tensor([value], dtype=torch.float32) for value in (yaw, 0.1, 0.05)]
        exp = torch.zeros(1, model.num_exp)
        exp[0, 0] = 0.4 + 0.4 * np.sin(frame / 4)
        points = Pose.from_euler(*angles).apply(model.landmarks(model.evaluate(shape, exp)))[0].numpy()
        pixels = np.stack([256 + 2.0 * points[:, 0] + frame, 256 - 2.0 * points[:, 1]], 1)
        detections.append(detection(pixels + random.normal(scale=1.0, size=pixels.shape)))
    for frame in (7, 8, 23):
        detections[frame] = None
    return model, detections, shape[0].numpy(), np.rad2deg(yaws)


@pytest.fixture(scope="module")
def fitted(film: tuple[MorphableModel, list[Detection | None], np.ndarray, np.ndarray]) -> FittedSequence:
    return fit_sequence(film[0], film[1], SIZE, fps=25.0)


def test_one_shape_smooth_motion_and_bridged_gaps(
    film: tuple[MorphableModel, list[Detection | None], np.ndarray, np.ndarray], fitted: FittedSequence
) -> None:
    model, detections, _, yaws = film
    assert len(fitted) == 24
    assert fitted.gaps == [(7, 8), (23, 23)]
    assert described(fitted) == "the face was lost in 3 of 24 frames (8-9, 24); they are bridged"
    found = np.array([fitted.face(frame).angles[0] for frame in range(24)])
    assert np.abs(found - yaws)[:23].mean() < 2.0
    rough = fit_sequence(model, detections, SIZE, fps=25.0, smoothing=0.0, shape=torch.from_numpy(fitted.shape)[None])
    np.testing.assert_array_equal(rough.shape, fitted.shape)
    assert np.isfinite(rough.exp).all()

    def jitter(sequence: FittedSequence) -> float:
        return float(np.abs(np.diff(sequence.exp[9:23], 3, axis=0)).mean())

    assert jitter(fitted) < 0.4 * jitter(rough)
    lower, upper = model.exp_bounds.numpy().T
    assert (fitted.exp >= lower - 1e-6).all()
    assert (fitted.exp <= upper + 1e-6).all()
    projected = fitted.face(12).landmarks[0].numpy()
    assert detections[12] is not None
    assert np.linalg.norm(projected - detections[12].landmarks, axis=1).mean() < 4


def test_perspective_keeps_one_lens(
    film: tuple[MorphableModel, list[Detection | None], np.ndarray, np.ndarray],
) -> None:
    model, detections, shape, _ = film
    few = fit_sequence(model, detections[:4], SIZE, fps=25.0, projection="pinhole", shape=torch.from_numpy(shape)[None])
    focal = few.camera.intrinsics()[:, 0, 0]
    assert (focal - focal[0]).abs().max() < 1e-3
    assert few.translation[:, 2].max() < -100


def test_follows_the_face_of_the_frame_before() -> None:
    base = np.stack(np.meshgrid(np.linspace(0, 80, 17), np.linspace(0, 80, 4)), -1).reshape(68, 2)
    left, right = detection(base + 20), detection(base * 1.2 + [300, 20])
    frames = [np.zeros((200, 500, 3), np.uint8)] * 5
    answers = [[right, left], [left, right], [], [left], [right]]
    found, size, reasons = track(frames, lambda frame, number: answers[number])
    assert reasons == {}
    assert size == (200, 500)
    assert [None if face is None else float(face.box[0]) for face in found] == [300, 300, None, None, 300]
    with pytest.raises(NoFaceError, match="none of the 5 frames"):
        track(frames, lambda frame, number: [])
    with pytest.raises(ArgumentError, match="no frames"):
        track([], lambda frame, number: [])
    with pytest.raises(ArgumentError, match="frame 2 has another size"):
        track([frames[0], frames[0][:9]], lambda frame, number: [left])


def test_writes_a_folder(
    film: tuple[MorphableModel, list[Detection | None], np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("garfast.fit.sequence_output._TEXTURE", 32)
    monkeypatch.setattr("garfast.fit.sequence_output._SIDE", 48)
    model, detections, shape, _ = film
    fitted = fit_sequence(model, detections[5:11], SIZE, fps=25.0, shape=torch.from_numpy(shape)[None])
    grey = np.full((*SIZE, 3), 120, np.uint8)
    save_sequence(fitted, tmp_path / "clip", lambda: [grey] * 6, source=tmp_path / "clip.mp4")
    facts = json.loads((tmp_path / "clip" / "sequence.json").read_text())
    assert facts["lost_frames"] == [3, 4]
    assert facts["film"]["frames"] == 6
    with np.load(tmp_path / "clip" / "sequence.npz") as arrays:
        np.testing.assert_array_equal(arrays["exp"], fitted.exp)
        assert arrays["camera_scale"].shape == (6,)
    face = load_face(tmp_path / "clip" / "params" / "000003.json").face
    torch.testing.assert_close(face.vertices, fitted.face(2).vertices)
    films = [path for path in (tmp_path / "clip").iterdir() if path.stem == "overlay"]
    assert len(list(open_video(films[0]).frames)) in range(4, 7)  # equal frames of a GIF become one
    assert (tmp_path / "clip" / "mesh.glb").stat().st_size > 100_000
    with pytest.raises(OutputError, match="exists already"):
        save_sequence(fitted, tmp_path / "clip", lambda: [grey] * 6, source=tmp_path / "clip.mp4")
    assert not fitted.lost[best_frame(fitted)]
    lost, shown = overlay(fitted, 2, grey), overlay(fitted, 1, grey)
    assert tuple(lost[0, 0]) != tuple(shown[0, 0]) == (120, 120, 120)


def test_residuals_of_a_frame_are_of_the_jaw_on_the_outline(fitted: FittedSequence) -> None:
    contours = fitted.evidence.contour_vertices.copy()
    contours[0, 3] = 5
    sequence = replace(fitted, evidence=replace(fitted.evidence, contour_vertices=contours))
    face = sequence.face(0)
    vertex = face.camera.project(face.vertices[:, 5:6])[0, 0].numpy()
    written = frame_parameters(sequence, 0, Path("film.mp4"))
    np.testing.assert_allclose(written.landmarks_fitted[3], vertex, rtol=1e-5)


@pytest.fixture
def home(tmp_path: Path, tiny_model: MorphableModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Frames of the tiny face with landmarks beside them, and its model as a file."""
    for number, yaw in enumerate((0.0, 0.1, 0.2)):
        scene = make_scene(tiny_model, yaw=yaw)
        write_image(tmp_path / "frames" / f"f{number + 9}.png", scene.photo)
        write_pts(tmp_path / "frames" / f"f{number + 9}.pts", scene.landmarks)
    tiny_model.save(tmp_path / "tiny.npz")
    monkeypatch.setattr("garfast.fit.sequence_output._TEXTURE", 32)
    monkeypatch.setattr("garfast.fit.texture._SIZES", (32,))
    for picture in ("sheet_picture", "overlay_picture"):
        monkeypatch.setattr(f"garfast.fit.output.{picture}", lambda result: np.zeros((4, 4, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    fixed = ("--model", "tiny.npz", "--device", "cpu", "-o", "out", "--landmarks", "file")
    result = CliRunner().invoke(main, ["fit", *arguments, *fixed])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_frames_in_a_folder(home: Path) -> None:
    code, output = run("frames", "--sequence", "--fps", "10", "--stages", "landmarks")
    assert code == 0, output
    assert "3 frames, 10 a second" in output
    yaws = []
    for number in (1, 2, 3):
        values = json.loads((home / "out" / "frames" / "params" / f"{number:06d}.json").read_text())
        assert values["image"]["file"].endswith(f"f{number + 8}.png")
        yaws.append(values["pose"]["yaw"])
    assert yaws[0] < yaws[1] < yaws[2]
    assert "done already" in run("frames", "--sequence")[1]
    code, output = run("frames/f9.png", "frames/f10.png", "--sequence")  # others of the same folder
    assert code == 1
    assert "the fit of another film" in output
    (home / "frames" / "f11.pts").unlink()
    points = [line.split() for line in (home / "frames" / "f10.pts").read_text().splitlines()]
    few = [["nan", "nan"] if len(point) == 2 and 10 <= row < 75 else point for row, point in enumerate(points)]
    (home / "frames" / "f10.pts").write_text("\n".join(map(" ".join, few)))
    code, output = run("frames", "--sequence", "--stages", "landmarks", "--overwrite")
    assert code == 0, output
    assert "lost in 2 of 3 frames (2-3); they are bridged; frame 2: the face has fewer than 8 landmarks" in output
    reasons = json.loads((home / "out" / "frames" / "sequence.json").read_text())["lost_reasons"]
    assert "no landmark file for f11.png" in reasons["3"]
    shutil.copytree(home / "frames", home / "other" / "frames")
    code, output = run("other/frames", "--sequence")
    assert code == 1
    assert "the fit of another film" in output
    (home / "out" / "frames" / "notes.txt").write_text("mine")
    code, output = run("frames", "--sequence", "--overwrite")
    assert code == 1
    assert "is not empty" in output
    assert (home / "out" / "frames" / "notes.txt").read_text() == "mine"


def test_photographs_of_one_person(home: Path) -> None:
    code, output = run("frames", "--same-person", "--stages", "landmarks")
    assert code == 0, output
    shapes = [json.loads((home / "out" / f"f{k}" / "params.json").read_text())["shape"] for k in (9, 10, 11)]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_fitted_film_is_known_by_its_content(home: Path) -> None:
    write_animation(home / "film.gif", [read_image(home / "frames" / f"f{k}.png") for k in (9, 10)])
    facts = home / "out" / "film" / "sequence.json"
    facts.parent.mkdir(parents=True)
    facts.write_text(json.dumps({"film": {"sha256": file_digest(home / "film.gif")}}))
    for name in ("film.gif", "*.gif"):
        code, output = run(name)
        assert code == 0, output
        assert "done already" in output
    whole = (home / "film.gif").read_bytes()
    (home / "bad.gif").write_bytes(whole[: 2 * len(whole) // 3])
    code, output = run("bad.gif", "film.gif")  # one that fails does not keep the others from their turn
    assert code == 1
    assert "done already" in output
    assert "1 of 2 films failed" in output
    facts.write_text(json.dumps({"film": {"sha256": "0" * 64}}))
    code, output = run("film.gif")
    assert code == 1
    assert "the fit of another film" in output


def test_a_fault_of_ours_does_not_stop_the_other_films(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_film(film: Path, *_: object, **__: object) -> str:
        if film.stem == "a":
            raise MemoryError("out of memory")
        return "well done"

    monkeypatch.setattr("garfast.cli.fit_together.fit_film", fit_film)
    code, output = run("a.mp4", "b.mp4")
    assert code == 1
    assert "MemoryError (out of memory)" in output
    assert "well done" in output


def test_a_film_is_fitted_by_one_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for arguments in (["a.mp4"], ["frames", "--sequence"], ["frames", "--same-person"]):
        code, output = run(*arguments)
        assert code == 2
        assert "start it without torchrun" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.mp4"], "there is no film nothing.mp4"),
        (["film.gif", "frames/f9.png"], "cannot be fitted in one go"),
        (["frames", "--sequence", "--same-person"], "exclude each other"),
        (["frames", "more", "--sequence"], "frames lie in one folder"),
        (["film.gif", "--sequence"], "film.gif is a film, whose frames need no --sequence"),
        (["film.gif", "--face", "2"], "leave out --face 2"),
        (["frames/f9.png", "--same-person"], "at least two photographs"),
        (["frames", "--sequence", "--smooth", "-1", "--stages", "landmarks"], "0<=x<=10"),
    ],
)
def test_says_what_is_wrong(home: Path, arguments: list[str], words: str) -> None:
    pictures = [read_image(home / "frames" / f"f{k}.png") for k in (9, 10)]
    write_animation(home / "film.gif", pictures)
    write_image(home / "more" / "f10.png", pictures[1])
    code, output = run(*arguments)
    assert code != 0
    assert words in output
