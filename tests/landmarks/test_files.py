from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from garfast.errors import GarfastWarning, LandmarkError
from garfast.landmarks import example_landmarks, find_landmark_file, read_landmarks
from garfast.landmarks.files import read_companion

FACE = (np.arange(136, dtype=np.float64).reshape(68, 2) + 0.25).round(2)
TWO = np.stack([FACE, 3 * FACE])


def _lines(points: np.ndarray, separator: str = " ") -> str:
    return "\n".join(separator.join(map(str, row)) for row in points.reshape(-1, points.shape[-1]).tolist())


def _pts(points: np.ndarray) -> str:
    return f"version: 1\nn_points:  {len(points)}\n{{\n{_lines(points)}\n}}\n"


def test_pts_counts_from_one(tmp_path: Path) -> None:
    path = tmp_path / "face.pts"
    path.write_text(_pts(FACE))
    (face,) = read_landmarks(path)
    # The centre of the first pixel is (1, 1) there and (0.5, 0.5) here.
    np.testing.assert_allclose(face.landmarks, FACE - 0.5)
    assert face.landmarks.dtype == np.float32
    assert face.source == f"file {path}"
    assert face.contour == "sliding"
    np.testing.assert_allclose(face.box, [-0.25, 0.75, 133.75, 134.75])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", _lines(FACE)),
        ("b.txt", "# x, y\n" + _lines(FACE, ", ")),
        ("c.txt", " ".join(map(str, FACE.reshape(-1).tolist()))),
        ("d.txt", _lines(np.concatenate([FACE, FACE[:, :1]], 1), ";")),
        ("e.txt", _lines(np.concatenate([np.arange(68)[:, None], FACE], 1))),  # numbered
        ("f.txt", "\ufeff" + _lines(FACE)),
        ("a.json", json.dumps(FACE.tolist())),
        ("b.json", json.dumps({"landmarks": FACE.tolist(), "shape": [1, 2]})),
        ("c.json", json.dumps([{"landmarks": FACE.tolist()}])),
        ("d.json", json.dumps({"faces": [{"landmarks": FACE.tolist()}]})),
        ("E.JSON", json.dumps({"landmarks": [FACE.tolist()]})),
    ],
)
def test_one_face_in_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (face,) = read_landmarks(tmp_path / name)
    np.testing.assert_allclose(face.landmarks, FACE)
    np.testing.assert_array_equal(face.landmarks_score, np.ones(68))


def test_several_faces_largest_first(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TWO)
    np.save(tmp_path / "b.npy", np.concatenate([TWO, TWO[..., :1]], 2).astype(np.float32))
    (tmp_path / "c.txt").write_text(_lines(TWO))
    (tmp_path / "d.json").write_text(json.dumps(TWO.tolist()))
    for path in sorted(tmp_path.iterdir()):
        large, small = read_landmarks(path)
        np.testing.assert_allclose(large.landmarks, TWO[1])
        np.testing.assert_allclose(small.landmarks, TWO[0])


def test_missing_landmarks_are_nan(tmp_path: Path) -> None:
    points: list[list[float | None]] = [[float(x), float(y)] for x, y in FACE]
    points[3] = [None, None]
    (tmp_path / "a.json").write_text(json.dumps(points))
    (tmp_path / "b.txt").write_text(_lines(FACE).replace("6.25 7.25", "nan nan"))
    for name in ("a.json", "b.txt"):
        (face,) = read_landmarks(tmp_path / name)
        assert np.isnan(face.landmarks[3]).all()
        assert face.landmarks_score[3] == 0
        assert face.landmarks_score.sum() == 67
        assert np.isfinite(face.box).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pts", _pts(FACE[:5]), "5 landmarks, but 68"),
        ("a.pts", _pts(FACE[:51]), "51 landmarks, but 68"),
        ("a.pts", "hello", "braces"),
        ("a.pts", "}{", "braces"),
        ("a.txt", _lines(FACE[:67]), "67 landmarks, but 68"),
        ("a.txt", _lines(FACE) + "\n1 2 3", r"\[2, 3\] numbers"),
        ("a.txt", "a photo of a face", "two numbers on each line"),
        ("a.txt", "", "only 0 landmarks"),
        ("a.txt", _lines(FACE).replace("0.25 1.25", "inf 1"), "infinite"),
        ("a.txt", "nan nan\n" * 68, "single known"),
        ("a.json", "{", "not readable JSON"),
        ("a.json", '{"landmarks": "none"}', "does not hold landmarks"),
        ("a.json", '{"caption": "a face"}', "pairs"),
        ("a.json", "[]", "shape"),
        ("a.json", "[[[[1]]]]", "shape"),
        ("a.json", json.dumps(FACE[:5].tolist()), "5 landmarks, but 68"),
        ("a.json", json.dumps(TWO[:, :66].tolist()), "66 landmarks, but 68"),
        ("a.json", "[[1, 2], [3]]", "does not hold landmarks"),
        ("a.npy", "no numbers", "not a readable .npy"),
        ("a.npy", "", "not a readable .npy"),
        ("a.csv", _lines(FACE), "one of .pts"),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(LandmarkError, match=message) as caught:
        read_landmarks(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objects_in_npy_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LandmarkError, match="not a readable"):
        read_landmarks(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array(["x"] * 68))
    with pytest.raises(LandmarkError, match="does not hold numbers"):
        read_landmarks(tmp_path / "b.npy")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LandmarkError, match="cannot read"):
        read_landmarks(tmp_path / "none.pts")


def test_companions(tmp_path: Path) -> None:
    photo = tmp_path / "holiday.old.png"
    assert find_landmark_file(photo) is None
    assert read_companion(photo) is None
    (tmp_path / "holiday.old.txt").write_text("two faces at the sea")
    with pytest.warns(GarfastWarning, match="passed over"):
        assert read_companion(photo) is None
    (tmp_path / "holiday.old.txt").write_text(_lines(FACE[:60]))
    with pytest.raises(LandmarkError, match="60 landmarks"):
        read_companion(photo)
    (tmp_path / "holiday.old.pts").write_text(_pts(FACE))
    assert find_landmark_file(photo) == tmp_path / "holiday.old.pts"
    (face,) = read_companion(photo) or []
    np.testing.assert_allclose(face.landmarks, FACE - 0.5)
    assert find_landmark_file(photo, tmp_path / "elsewhere") is None


def test_example_fits_the_photo() -> None:
    (face,) = read_landmarks(example_landmarks())
    # The eyes of the astronaut, by sight.
    np.testing.assert_allclose(face.landmarks[36:42].mean(0), [203.5, 101.0], atol=2)
    np.testing.assert_allclose(face.landmarks[42:48].mean(0), [247.0, 103.5], atol=2)
