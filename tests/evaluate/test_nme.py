from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from garfast.errors import ArgumentError, EvaluationError, NoFaceError
from garfast.evaluate.fitting import Fits
from garfast.evaluate.landmark_truth import LandmarkTruth, find_truth, read_mat
from garfast.evaluate.nme import (
    DetectorPredictor,
    FitPredictor,
    LandmarkResult,
    evaluate_landmarks,
    landmark_error,
    summarise_landmarks,
    write_landmark_report,
)
from garfast.evaluate.rows import make_row
from garfast.landmarks import Detection
from tests.tiny_face import landmark_places, make_scene, write_pts

POINTS = (landmark_places() * [1, -1] + [90, 110]).astype(np.float32)


def _write_mat(path: Path, points: np.ndarray, yaw: float) -> None:
    """As AFLW2000-3D has them: pixels counted from 1, a third coordinate, angles in radians."""
    depth = np.zeros((1, len(points)))
    pose = np.array([[0.1, np.radians(yaw), 0.0, 100.0, 120.0, 0.0, 1e-3]])
    savemat(path, {"pt3d_68": np.concatenate([points.T + 0.5, depth]), "Pose_Para": pose})


def _write_folder(folder: Path, yaws: list[float]) -> None:
    for k, yaw in enumerate(yaws):
        Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(folder / f"image{k:05d}.jpg")
        _write_mat(folder / f"image{k:05d}.mat", POINTS, yaw)


def test_a_mat_file_of_aflw2000_3d(tmp_path):
    _write_mat(tmp_path / "a.mat", POINTS, -42)
    landmarks, yaw = read_mat(tmp_path / "a.mat")
    np.testing.assert_allclose(landmarks, POINTS, atol=1e-4)
    assert yaw == pytest.approx(-42)
    np.testing.assert_allclose(read_mat(tmp_path / "a.mat", origin=0)[0], POINTS + 1, atol=1e-4)


def test_the_error_is_the_mean_distance_over_the_size_of_the_box():
    truth = LandmarkTruth(Path("x"), POINTS, 0)
    width, height = np.ptp(POINTS, axis=0)
    assert landmark_error(POINTS + np.array([3, 4]), truth) == pytest.approx(5 / np.sqrt(width * height))
    missing = POINTS.copy()
    missing[:10] = np.nan
    assert np.isfinite(landmark_error(POINTS, LandmarkTruth(Path("x"), missing, 0)))
    with pytest.raises(ArgumentError, match="68 finite landmarks"):
        landmark_error(POINTS[:5], truth)


def test_a_folder_by_yaw(tmp_path):
    """Errors of 1, 2 and 3 pixels in the three bins, four photographs in the first: known means."""
    _write_folder(tmp_path, [0, 10, -20, 30, 45, -85])
    truths = find_truth(tmp_path)
    assert [round(t.yaw or 0) for t in truths] == [0, 10, -20, 30, 45, -85]
    size = truths[0].size

    def predictor(image, truth):
        assert image.shape == (200, 200, 3)
        return truth.landmarks + np.array([1 + (abs(truth.yaw) > 30.5) + (abs(truth.yaw) > 60), 0])

    results = evaluate_landmarks(truths, predictor)
    summary = summarise_landmarks(results)
    percent = 100 / size
    assert {name: s.mean for name, s in summary.bins.items()} == pytest.approx(
        {"0-30": percent, "30-60": 2 * percent, "60-90": 3 * percent}
    )
    assert summary.balanced == pytest.approx(2 * percent)
    assert summary.balanced_std == pytest.approx(np.std([1, 2, 3]) * percent)
    assert summary.all is not None
    assert summary.all.mean == pytest.approx(1.5 * percent)
    assert summary.photographs == {"0-30": 4, "30-60": 1, "60-90": 1, "all": 6}


def test_failures_are_counted_and_left_out(tmp_path):
    _write_folder(tmp_path, [0, 0, 70])
    (tmp_path / "image00001.jpg").write_bytes(b"torn")

    def predictor(image, truth):
        if truth.yaw > 60:
            raise NoFaceError("no face was found in the photo")
        return truth.landmarks

    results = evaluate_landmarks(find_truth(tmp_path), predictor)
    assert [r.failure is None for r in results] == [True, False, False]
    text = write_landmark_report(results, tmp_path / "out", {"detector": "x"})
    assert "2 of 3 photographs gave no landmarks" in text
    assert "Balanced" not in text
    data = json.loads((tmp_path / "out" / "nme.json").read_text())
    assert data["summary"]["failures"] == {"0-30": 1, "30-60": 0, "60-90": 1, "all": 2}
    assert data["summary"]["balanced"] is None
    assert (tmp_path / "out" / "nme.csv").read_text().count("\n") == 4


def test_all_failed_and_none_given():
    summary = summarise_landmarks([LandmarkResult(Path("x"), 5.0, None, "no face")])
    assert summary.all is None
    assert summary.bins == {}
    with pytest.raises(EvaluationError, match="no photograph"):
        evaluate_landmarks([], lambda image, truth: POINTS)


def test_pts_and_npy_files_serve_as_well(tmp_path):
    for name in "ab":
        Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / f"{name}.png")
    write_pts(tmp_path / "a.pts", POINTS)
    np.save(tmp_path / "b.npy", POINTS)
    truths = find_truth(tmp_path)
    assert [t.yaw for t in truths] == [None, None]
    for truth in truths:
        np.testing.assert_allclose(truth.landmarks, POINTS, atol=1e-3)
    summary = summarise_landmarks(evaluate_landmarks(truths, lambda image, truth: truth.landmarks))
    assert summary.bins == {}
    assert summary.all is not None


def test_folders_and_files_that_make_no_sense(tmp_path):
    with pytest.raises(EvaluationError, match="is not a folder"):
        find_truth(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="no photograph in"):
        find_truth(tmp_path)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.mat").write_bytes(b"torn")
    with pytest.raises(EvaluationError, match=r"no readable \.mat file"):
        find_truth(tmp_path)
    savemat(tmp_path / "a.mat", {"pt3d_68": np.zeros((3, 21))})
    with pytest.raises(EvaluationError, match="no landmarks 'pt3d_68'"):
        find_truth(tmp_path)
    _write_mat(tmp_path / "a.mat", np.zeros((68, 2)), 0)
    with pytest.raises(EvaluationError, match="no size"):
        find_truth(tmp_path)


def test_of_several_faces_the_one_in_question_counts(monkeypatch):
    def face(shift: float) -> Detection:
        points = POINTS + np.float32(shift)
        return Detection(points, np.ones(68), 1.0, np.concatenate([points.min(0), points.max(0)]), "x")

    truth = LandmarkTruth(Path("x"), POINTS, 0)
    predictor = DetectorPredictor()
    image = np.zeros((9, 9, 3), np.uint8)
    monkeypatch.setattr(predictor, "_all", lambda image: [face(300), face(2), face(60)])
    assert landmark_error(predictor(image, truth), truth) == pytest.approx(2 * np.sqrt(2) / truth.size)
    monkeypatch.setattr(predictor, "_all", lambda image: [face(300)])
    with pytest.raises(NoFaceError, match="none of them where the face is"):
        predictor(image, truth)
    monkeypatch.setattr(predictor, "_all", lambda image: [])
    with pytest.raises(NoFaceError):
        predictor(image, truth)


def test_the_fitted_mesh_has_its_own_landmarks(tiny_model, monkeypatch):
    """A fit to exact landmarks puts the mesh's own points on them."""
    scene = make_scene(tiny_model)
    truth = LandmarkTruth(Path("x"), scene.landmarks, 0)
    detector = DetectorPredictor(jaw="contour")
    box = np.concatenate([scene.landmarks.min(0), scene.landmarks.max(0)])
    monkeypatch.setattr(detector, "detect", lambda *_: Detection(scene.landmarks, np.ones(68), 1.0, box, "x", "fixed"))
    predictor = FitPredictor(detector, Fits(tiny_model), make_row("landmarks"))
    assert landmark_error(predictor(scene.photo, truth), truth) < 0.01


@pytest.mark.slow
def test_the_embedded_detector_on_the_astronaut():
    """With the true box and without: both near the landmarks that a person placed."""
    skimage = pytest.importorskip("skimage")
    from garfast.io.images import read_image
    from garfast.landmarks import example_landmarks, read_landmarks

    photo = Path(skimage.__file__).parent / "data" / "astronaut.png"
    truth = LandmarkTruth(photo, read_landmarks(example_landmarks())[0].landmarks, None)
    image = read_image(photo)
    errors = [
        landmark_error(DetectorPredictor(box=box, jaw="contour")(image, truth), truth) for box in ("found", "truth")
    ]
    assert max(errors) < 0.08


def test_predictors_that_make_no_sense():
    with pytest.raises(ArgumentError, match="must be 'embedded'"):
        DetectorPredictor("guess")
    with pytest.raises(ArgumentError, match="box"):
        DetectorPredictor(box="mine")
    with pytest.raises(ArgumentError, match="only the embedded"):
        DetectorPredictor("face-alignment", box="truth", jaw="contour")
    with pytest.raises(ArgumentError, match="visible outline"):
        DetectorPredictor("face-alignment")
