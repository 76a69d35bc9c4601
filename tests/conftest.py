"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from garfast.morphable import MorphableModel
from tests.tiny_face import make_tiny_model

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def ict_path() -> Path:
    """The ICT-FaceKit model as one .npz; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("GARFAST_ICT", ROOT.parent / "shared" / "data" / "ict_face.npz"))
    if not path.is_file():
        pytest.skip(f"no ICT-FaceKit model at {path} (set GARFAST_ICT to its .npz)")
    return path


@pytest.fixture(scope="session")
def tiny_model() -> MorphableModel:
    """A face-shaped model of 525 vertices; see `tests.tiny_face`."""
    return make_tiny_model()
