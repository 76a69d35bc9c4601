"""The landmark fit: one photograph and a batch, with the built-in face. Goal: at most 1 s a photograph on two cores."""

from __future__ import annotations

from typing import Any

import pytest

from garfast.fit import LandmarkFitConfig, fit_landmarks
from garfast.morphable import MorphableModel, load_model
from tests.fit.landmark_faces import IMAGE_SIZE, random_faces


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load_model("builtin")


@pytest.mark.parametrize("projection", ["orthographic", "pinhole"])
@pytest.mark.parametrize("contour", ["sliding", "fixed"])
@pytest.mark.parametrize("faces", [1, 32])
def test_landmark_fit(benchmark: Any, model: MorphableModel, faces: int, contour: str, projection: str) -> None:
    landmarks = random_faces(model, faces, contour=contour).landmarks
    config = LandmarkFitConfig(contour=contour)
    fit = benchmark.pedantic(
        lambda: fit_landmarks(model, landmarks, IMAGE_SIZE, projection=projection, config=config),
        rounds=10 if faces == 1 else 3,
        warmup_rounds=1,
    )
    benchmark.extra_info["iterations"] = float(fit.iterations.double().mean())
    benchmark.extra_info["nme_percent"] = float(100 * fit.nme.mean())
