from __future__ import annotations

import json

import numpy as np
import pytest
from skimage import data

from garfast.errors import ArgumentError
from garfast.evaluate.detector import Found, RealFace, measure_photograph, synthetic_photographs, write_detector_report
from garfast.landmarks import example_landmarks, read_landmarks
from garfast.morphable import load_model


def test_a_found_face_is_measured():
    truth = read_landmarks(example_landmarks())[0].landmarks
    found = measure_photograph(data.astronaut(), truth, truth[:17], 3.0)
    assert found.nme is not None
    assert 0.01 < found.nme < 0.045
    assert found.contour is not None
    assert 0.01 < found.contour < 0.08
    assert (found.yaw, found.others) == (3.0, 0)
    assert found.side == pytest.approx(np.ptp(truth, 0).max())


def test_a_face_elsewhere_is_a_false_one():
    truth = read_landmarks(example_landmarks())[0].landmarks + np.array([0.0, 250.0])
    found = measure_photograph(data.astronaut(), truth, truth[:17])
    assert (found.nme, found.contour, found.others) == (None, None, 1)


def test_the_photographs_depend_on_the_seed_alone():
    one, two = (list(synthetic_photographs(load_model("builtin"), 2, seed=5, size=64)) for _ in range(2))
    for (image, landmarks, contour, yaw), (again, *_) in zip(one, two, strict=True):
        assert np.array_equal(image, again)
        assert image.shape == (64, 64, 3)
        assert (landmarks.shape, contour.shape) == ((68, 2), (17, 2))
        assert abs(yaw) <= 90


def test_the_report_says_what_was_found(tmp_path):
    faces = [Found(10, 100, 0.02, 0.03, 0), Found(-40, 50, 0.04, 0.05, 1), Found(89, 100, None, None, 0)]
    real = [RealFace("512 pixels", 0.99, 0.031, {"jaw": 0.05}, 0), RealFace("50 pixels", None, None, {}, 0)]
    text = write_detector_report(faces, {"coffee.png": 0, "moon.png": 2}, real, tmp_path, {"seed": 1})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["all"] == ["3", "66.7 %", "3.00", "4.00", "1"]
    assert rows["yaw 30-60°"] == ["1", "100.0 %", "4.00", "5.00", "1"]
    assert rows["yaw 60-90°"] == ["1", "0.0 %", "–", "–", "0"]
    assert rows["longer side below 64 pixels"][:3] == ["1", "100.0 %", "4.00"]
    assert rows["50 pixels"][0] == "not found"
    assert "in 2 pictures of nobody: 2 in moon.png" in text
    assert len(json.loads((tmp_path / "detector.json").read_text())["faces"]) == 3
    assert len((tmp_path / "detector.csv").read_text().splitlines()) == 4
    with pytest.raises(ArgumentError, match="no photograph"):
        write_detector_report([], {}, real, tmp_path, {})
