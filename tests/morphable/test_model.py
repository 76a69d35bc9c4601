"""Evaluation, landmarks and the checks of a model's fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.morphable import MorphableModel


def _coefficients(batch: int, count: int, seed: int) -> torch.Tensor:
    return torch.randn(batch, count, generator=torch.Generator().manual_seed(seed))


def test_evaluate_is_equation_12(sheet: MorphableModel) -> None:
    shape, exp = _coefficients(4, 5, 1), _coefficients(4, 3, 2)
    expected = (
        sheet.mean
        + torch.einsum("bs,svc->bvc", shape, sheet.shape_basis)
        + torch.einsum("be,evc->bvc", exp, sheet.exp_basis)
    )
    torch.testing.assert_close(sheet.evaluate(shape, exp), expected, atol=1e-4, rtol=1e-5)


def test_samples_are_faces_of_the_prior(sheet: MorphableModel) -> None:
    model = replace(sheet, exp_bounds=torch.tensor([[0.0, 2.0], [-1.0, 2.0], [-torch.inf, torch.inf]]))
    shape, exp = model.sample(4000, torch.Generator().manual_seed(0))
    assert shape.shape == (4000, 5)
    assert exp.shape == (4000, 3)
    assert shape.abs().max() == 3.0
    assert abs(float(shape.std()) - 1) < 0.02
    assert (exp >= model.exp_bounds[:, 0]).all()
    assert (exp <= model.exp_bounds[:, 1]).all()
    assert ((exp != 0).float().mean(0) - 0.3).abs().max() < 0.03
    again = model.sample(4000, torch.Generator().manual_seed(0))
    assert shape.equal(again[0])
    assert exp.equal(again[1])


def test_evaluate_defaults_leading_coefficients_and_broadcasting(sheet: MorphableModel) -> None:
    assert sheet.evaluate().equal(sheet.mean[None])
    shape, exp = _coefficients(4, 5, 1), _coefficients(1, 3, 2)
    full = sheet.evaluate(shape, exp)
    torch.testing.assert_close(full, sheet.evaluate(shape, exp.expand(4, -1)))
    torch.testing.assert_close(full, sheet.evaluate(shape, exp[0]))
    torch.testing.assert_close(
        sheet.evaluate(shape[:, :2], exp), sheet.evaluate(torch.nn.functional.pad(shape[:, :2], (0, 3)), exp)
    )
    torch.testing.assert_close(
        sheet.evaluate(exp=exp[:, :1]), sheet.evaluate(torch.zeros(1, 5), torch.nn.functional.pad(exp[:, :1], (0, 2)))
    )
    assert sheet.evaluate(shape[:0], exp).shape == (0, 90, 3)


def test_evaluate_gradients(sheet: MorphableModel) -> None:
    model = sheet.to(dtype=torch.float64)
    shape = _coefficients(2, 5, 1).double().requires_grad_()
    exp = _coefficients(2, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s, e: model.landmarks(model.evaluate(s, e)), (shape, exp))


def test_bases_share_one_block_and_survive_moves(sheet: MorphableModel) -> None:
    for model in (sheet, sheet.to(dtype=torch.float64), replace(sheet, name="copy"), sheet.to("cpu")):
        start = model.shape_basis.data_ptr()
        assert model.exp_basis.data_ptr() == start + model.shape_basis.numel() * model.shape_basis.element_size()
    assert replace(sheet, name="copy").shape_basis.data_ptr() == sheet.shape_basis.data_ptr()


def test_models_without_one_of_the_bases(make_sheet: Callable[..., MorphableModel]) -> None:
    model = make_sheet(exp_basis=torch.zeros(0, 90, 3), exp_bounds=torch.zeros(0, 2), exp_names=())
    assert model.num_exp == 0
    assert model.evaluate(torch.ones(2, 5), torch.zeros(2, 0)).shape == (2, 90, 3)


def test_landmarks_are_barycentric(make_sheet: Callable[..., MorphableModel]) -> None:
    weights = torch.tensor([[0.2, 0.3, 0.5]]).repeat(68, 1)
    corners = torch.stack([torch.arange(68), torch.arange(1, 69), torch.arange(2, 70)], 1)
    model = make_sheet(landmark_triangles=corners, landmark_weights=weights)
    vertices = model.evaluate(_coefficients(2, 5, 3))
    expected = 0.2 * vertices[:, :68] + 0.3 * vertices[:, 1:69] + 0.5 * vertices[:, 2:70]
    torch.testing.assert_close(model.landmarks(vertices), expected)
    torch.testing.assert_close(model.landmarks(vertices[0]), expected[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(1, 6), None), "shape must have shape .* at most 5"),
        ((None, torch.zeros(1, 4)), "exp must have shape .* at most 3"),
        ((torch.zeros(2, 5), torch.zeros(3, 3)), "same batch size, got 2 and 3"),
        ((torch.zeros(1, 5, dtype=torch.float64), None), "must be torch.float32 on cpu"),
        ((torch.zeros(1, 1, 5), None), "shape must have shape"),
    ],
)
def test_evaluate_names_mistakes(sheet: MorphableModel, arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        sheet.evaluate(*arguments)


def test_landmarks_need_this_models_vertices(sheet: MorphableModel) -> None:
    with pytest.raises(ArgumentError, match=r"\[\.\.\., 90, 3\]"):
        sheet.landmarks(torch.zeros(1, 89, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape_basis": torch.zeros(5, 89, 3)}, r"'shape_basis' must have shape \[S, 90, 3\]"),
        ({"exp_bounds": torch.zeros(2, 2)}, "'exp_bounds' must have shape"),
        ({"triangles": torch.zeros(144, 3, dtype=torch.int64)}, "'triangles' must be torch.int32"),
        ({"triangles": torch.zeros(0, 3, dtype=torch.int32)}, "at least one vertex and one triangle"),
        ({"shape_names": ("a",)}, "shape_names must have 5 names, got 1"),
        ({"landmark_triangles": torch.zeros(67, 3, dtype=torch.int64)}, r"\[68, 3\]"),
        ({"uv": torch.zeros(0, 2)}, "must be empty"),
        ({"uv_triangles": torch.zeros(3, 3, dtype=torch.int32)}, "one row for each"),
        ({"regions": {"skin": torch.zeros(4)}}, "region 'skin'"),
        ({"regions": {"skin": torch.zeros(90, dtype=torch.float64)}}, "region 'skin'"),
        ({"mirror": torch.zeros(4, dtype=torch.int64)}, "'mirror'"),
        ({"units": "cm"}, "units must be 'mm'"),
        ({"mean": [1, 2, 3]}, "'mean' must be a tensor"),
    ],
)
def test_layout_mistakes(make_sheet: Callable[..., MorphableModel], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_sheet(**changes)


def _with(value: torch.Tensor, index: Any, number: float) -> torch.Tensor:
    value = value.clone()
    value[index] = number
    return value


@pytest.mark.parametrize(
    ("field", "index", "number", "message"),
    [
        ("mean", (0, 0), float("nan"), "'mean' contains NaN"),
        ("exp_basis", (0, 0, 0), float("inf"), "'exp_basis' contains NaN or infinite"),
        ("triangles", (0, 0), 90, "'triangles' must hold indices"),
        ("triangles", (0, 0), -1, "'triangles' must hold indices"),
        ("landmark_triangles", (3, 0), 90, "'landmark_triangles' must hold"),
        ("contour", (0, 0), -2, "'contour' must hold"),
        ("contour", (0, slice(None)), -1, "at least one vertex"),
        ("uv_triangles", (0, 0), 90, "'uv_triangles' must hold"),
        ("mirror", 0, 99, "'mirror' must hold"),
        ("landmark_weights", (0, 0), 2.0, "must sum to 1"),
        ("exp_bounds", (0, 1), -1.0, "lower bound below"),
        ("exp_bounds", (0, 1), float("nan"), "lower bound below"),
    ],
)
def test_validate_names_bad_values(sheet: MorphableModel, field: str, index: Any, number: float, message: str) -> None:
    sheet.validate()
    broken = replace(sheet, **{field: _with(getattr(sheet, field), index, number)})
    with pytest.raises(ArgumentError, match=message):
        broken.validate()


def test_validate_checks_masks(sheet: MorphableModel) -> None:
    with pytest.raises(ArgumentError, match="region 'skin' must have values between 0 and 1"):
        replace(sheet, regions={"skin": torch.full((90,), 2.0)}).validate()


def test_adjacency_is_built_once(sheet: MorphableModel) -> None:
    assert sheet.adjacency is sheet.adjacency
    assert sheet.adjacency.offsets.shape == (91,)
    assert sheet.adjacency.corners.shape == (3 * sheet.triangles.shape[0],)
