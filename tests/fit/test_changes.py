"""What an edit says, and what it changes."""

from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError, GarfastWarning
from garfast.fit.changes import Setting, changed_coefficients, coefficient_rows, parse_setting
from garfast.morphable import MorphableModel, load_model


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("exp", "smile=1.5", Setting("exp", "smile", 1.5)),
        ("exp", "smile+=0.5", Setting("exp", "smile", 0.5, True)),
        ("exp", "smile-=0.5", Setting("exp", "smile", -0.5, True)),
        ("shape", "3=-1", Setting("shape", "3", -1.0)),
        ("yaw", "20", Setting("yaw", "", 20.0)),
        ("yaw", "-20", Setting("yaw", "", -20.0)),
        ("roll", "+=5", Setting("roll", "", 5.0, True)),
        ("pitch", "-=5", Setting("pitch", "", -5.0, True)),
    ],
)
def test_reads_settings(kind: str, text: str, expected: Setting) -> None:
    assert parse_setting(kind, text) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [("exp", "smile"), ("exp", "=2"), ("exp", "smile=much"), ("shape", "3=nan"), ("yaw", "smile=2"), ("yaw", "left")],
)
def test_says_what_a_setting_looks_like(kind: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=f"--{kind} takes"):
        parse_setting(kind, text)


def test_names_of_the_built_in_face() -> None:
    model = load_model("builtin")

    def names(name: str) -> list[str]:
        return [model.exp_names[row] for row in coefficient_rows(model, "exp", name)]

    assert names("smile") == ["smile_left", "smile_right"]
    assert names("Smile_Left") == ["smile_left"]
    assert names("open") == names("jawOpen") == ["jaw_open"]
    assert names("browraise") == ["brow_raise_inner", "brow_raise_outer_left", "brow_raise_outer_right"]
    assert names("2") == [model.exp_names[2]]
    assert coefficient_rows(model, "shape", "nose_length") == [model.shape_names.index("nose_length")]
    for wrong in ("smlie", "xyz", "99"):
        with pytest.raises(ArgumentError, match="builtin"):
            coefficient_rows(model, "exp", wrong)
    with pytest.raises(ArgumentError, match="did you mean smile"):
        coefficient_rows(model, "exp", "smlie")


def test_names_of_one_sided_models(tiny_model: MorphableModel) -> None:
    from dataclasses import replace

    names = ("mouthSmile_L", "mouthSmile_R", "eyeBlink_L", "jawOpen")
    model = replace(tiny_model, exp_names=names)
    assert coefficient_rows(model, "exp", "smile") == [0, 1]
    assert coefficient_rows(model, "exp", "mouthSmile") == [0, 1]
    assert coefficient_rows(model, "exp", "mouthSmile_R") == [1]
    assert coefficient_rows(model, "exp", "blink") == [2]
    assert coefficient_rows(model, "exp", "open") == [3]


def test_sets_and_adds_within_the_bounds(tiny_model: MorphableModel) -> None:
    shape, exp = torch.zeros(1, 6), torch.full((1, 4), 0.25)
    settings = [parse_setting("shape", "1=2"), parse_setting("exp", "smile+=0.5"), parse_setting("exp", "0=-1")]
    new_shape, new_exp = changed_coefficients(tiny_model, shape, exp, settings)
    assert new_shape[0].tolist() == [0, 2, 0, 0, 0, 0]
    assert new_exp[0].tolist() == [-1, 0.75, 0.25, 0.25]
    assert shape.abs().sum() == 0
    with pytest.warns(GarfastWarning, match="smile goes from -3 to 3: 3 stands for 9"):
        _, new_exp = changed_coefficients(tiny_model, shape, exp, [parse_setting("exp", "smile=9")])
    assert float(new_exp[0, 1]) == 3
