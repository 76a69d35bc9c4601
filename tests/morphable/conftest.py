"""A small made-up model, enough to exercise every field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from garfast.morphable import MorphableModel


def make_model(**changes: Any) -> MorphableModel:
    """A 90-vertex sheet with 5 shape and 3 expression modes; ``changes`` replace fields."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = 9, 10
    y, x = torch.meshgrid(torch.linspace(60, -60, rows), torch.linspace(-50, 50, columns), indexing="ij")
    mean = torch.stack([x, y, 80 - 0.01 * (x**2 + y**2)], -1).reshape(-1, 3)
    corner = (torch.arange(rows - 1)[:, None] * columns + torch.arange(columns - 1)).reshape(-1, 1)
    lower = torch.tensor([0, columns, columns + 1])
    upper = torch.tensor([0, columns + 1, 1])
    triangles = torch.cat([corner + lower, corner + upper]).to(torch.int32)
    vertices = mean.shape[0]
    plain = torch.arange(68)
    index = torch.arange(vertices).view(rows, columns)
    values: dict[str, Any] = {
        "name": "sheet",
        "mean": mean,
        "triangles": triangles,
        "shape_basis": torch.randn(5, vertices, 3, generator=generator),
        "exp_basis": torch.randn(3, vertices, 3, generator=generator),
        "exp_bounds": torch.tensor([[0.0, 4.0], [-torch.inf, torch.inf], [-3.0, 3.0]]),
        "landmark_triangles": plain[:, None].repeat(1, 3),
        "landmark_weights": torch.tensor([[1.0, 0.0, 0.0]]).repeat(68, 1),
        "contour": torch.stack([torch.arange(17), torch.arange(1, 18), torch.full((17,), -1)], 1),
        "uv": torch.stack([x.reshape(-1) / 100 + 0.5, y.reshape(-1) / 120 + 0.5], 1),
        "uv_triangles": triangles.clone(),
        "shape_names": tuple(f"shape_{i}" for i in range(5)),
        "exp_names": ("jaw_open", "smile", "brow_raise"),
        "mirror": index.flip(1).reshape(-1).clone(),
        "regions": {"skin": torch.ones(vertices), "lips": torch.linspace(0, 1, vertices)},
        "source": "made for the tests",
        "licence": "MIT",
    }
    return MorphableModel(**(values | changes))


@pytest.fixture(scope="session")
def sheet() -> MorphableModel:
    return make_model()


@pytest.fixture(scope="session")
def make_sheet() -> Callable[..., MorphableModel]:
    return make_model


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests away from the user's models and settings."""
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("GARFAST_MODEL", raising=False)
