from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from garfast.errors import ArgumentError, LandmarkError, NoFaceError
from garfast.landmarks import Detection, detect, example_landmarks, sources

PHOTO = np.zeros((300, 400, 3), np.uint8)


def _faces(source: str, *sizes: float) -> list[Detection]:
    return [
        Detection(
            np.full((68, 2), size, np.float32),
            np.ones(68, np.float32),
            1.0,
            np.array([0, 0, size, size], np.float32),
            source,
        )
        for size in sizes
    ]


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Say which detectors there are and what they find; returns the list of those that were called."""

    def setup(face_alignment: list[Detection] | None, embedded: list[Detection] | None) -> list[str]:
        called: list[str] = []

        def run_alignment(image: np.ndarray, device: str = "cpu") -> list[Detection]:
            called.append(f"face-alignment on {device}")
            return face_alignment or []

        def run_embedded(image: np.ndarray, *, device: str) -> list[Detection]:
            called.append(f"embedded on {device}")
            return embedded or []

        module = types.ModuleType("garfast.landmarks.embedded")
        module.detect_embedded = run_embedded  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(sources, "weights_present", lambda: face_alignment is not None)
        monkeypatch.setattr(sources, "detect_face_alignment", run_alignment)
        monkeypatch.setattr(sources, "embedded_present", lambda: embedded is not None)
        return called

    return setup


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "a.pts").write_bytes(example_landmarks().read_bytes())
    return tmp_path / "a.jpg"


def test_auto_takes_a_file_next_to_the_photo_first(available: Callable[..., list[str]], photo: Path) -> None:
    called = available(_faces("face-alignment", 9), _faces("embedded", 9))
    (face,) = detect(PHOTO, path=photo)
    assert face.source == f"file {photo.with_suffix('.pts')}"
    assert not called


def test_auto_prefers_face_alignment(available: Callable[..., list[str]], tmp_path: Path) -> None:
    called = available(_faces("face-alignment", 9), _faces("embedded", 9))
    assert detect(PHOTO, path=tmp_path / "b.jpg", device="cuda")[0].source == "face-alignment"
    assert called == ["face-alignment on cuda"]


def test_auto_gives_a_photo_without_faces_to_the_next(available: Callable[..., list[str]]) -> None:
    called = available([], _faces("embedded", 5, 9))
    faces = detect(PHOTO)
    assert [face.source for face in faces] == ["embedded", "embedded"]
    assert faces[0].size > faces[1].size
    assert called == ["face-alignment on cpu", "embedded on cpu"]


def test_auto_finds_no_face(available: Callable[..., list[str]]) -> None:
    available([], [])
    with pytest.raises(NoFaceError, match="face-alignment or the embedded detector"):
        detect(PHOTO)


def test_auto_has_nothing_to_use(available: Callable[..., list[str]], tmp_path: Path) -> None:
    available(None, None)
    with pytest.raises(LandmarkError, match="nothing here to find landmarks with") as caught:
        detect(PHOTO, path=tmp_path / "b.jpg")
    assert not isinstance(caught.value, NoFaceError)


def test_named_detectors(available: Callable[..., list[str]], photo: Path) -> None:
    called = available(_faces("face-alignment", 3), _faces("embedded", 9))
    assert detect(PHOTO, "embedded", photo)[0].source == "embedded"
    assert detect(PHOTO, "face-alignment", photo)[0].source == "face-alignment"
    assert called == ["embedded on cpu", "face-alignment on cpu"]
    available([], None)
    with pytest.raises(NoFaceError, match="by face-alignment"):
        detect(PHOTO, "face-alignment")
    with pytest.raises(LandmarkError, match="no embedded landmark detector"):
        detect(PHOTO, "embedded")


def test_ways_to_name_a_file(available: Callable[..., list[str]], photo: Path, tmp_path: Path) -> None:
    called = available(_faces("face-alignment", 9), None)
    file = tmp_path / "a.pts"
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    moved = folder / "b.pts"
    moved.write_bytes(file.read_bytes())
    for method, path, expected in (
        ("file", photo, file),
        ("file", file, file),
        ("auto", file, file),
        (file, tmp_path / "b.jpg", file),
        (str(file), None, file),
        (folder, tmp_path / "b.jpg", moved),
    ):
        (face,) = detect(PHOTO, method, path)
        assert face.source == f"file {expected}"
    assert not called


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("file", None, "name the file"),
        ("file", "b.jpg", "no landmark file for b.jpg"),
        ("file", ".", "is a folder"),
        (".", None, "name the file"),
        (".", "b.jpg", "no landmark file for b.jpg"),
        ("none.pts", "b.jpg", "cannot read"),
    ],
)
def test_files_that_are_not_there(
    method: str, path: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LandmarkError, match=message):
        detect(PHOTO, method, path)


def test_landmarks_of_another_photo(photo: Path) -> None:
    with pytest.raises(LandmarkError, match="outside the photo of 100x80 pixels"):
        detect(np.zeros((80, 100, 3), np.uint8), path=photo)


def test_wrong_arguments() -> None:
    for image in (PHOTO[..., 0], PHOTO.astype(np.float32), PHOTO[..., :2], [[1]]):
        with pytest.raises(ArgumentError, match="uint8"):
            detect(image)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="face-alignment, embedded, a file or a folder"):
        detect(PHOTO, "dlib")
