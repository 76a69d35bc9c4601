"""Synthetic faces of the ICT model where it is there, else of the built-in face."""

from __future__ import annotations

import pytest

from garfast.morphable import MorphableModel
from garfast.morphable.importers.ict import import_ict
from garfast.synth import SynthConfig, SyntheticFaces


@pytest.fixture(scope="session")
def ict_head(ict_path) -> MorphableModel:
    whole = ict_path.with_name("ict_facekit.npz")
    return import_ict(whole if whole.is_file() else ict_path)


@pytest.fixture(scope="session")
def ict_faces(ict_head) -> SyntheticFaces:
    return SyntheticFaces(ict_head, size=96, seed=3, config=SynthConfig(vertices=True))
