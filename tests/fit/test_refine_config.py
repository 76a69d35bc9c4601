"""Settings of the refinement: presets, files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from garfast.errors import ArgumentError
from garfast.fit.refine_config import PRESETS, LossWeights, RefineConfig, RefineStage, preset, scaled
from garfast.fit.refine_file import config_text, load_config


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_shown_can_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(config_text(preset(name)))
    assert load_config(path) == preset(name)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        'preset = "fast"\nlatent = "z"\nocclusion = 2\n'
        '[[stage]]\nname = "geometry"\nsteps = 7\n[stage.weights]\nnormals = 2\n'
        '[[stage]]\nname = "mine"\nsteps = 3\noptimise = ["pose"]\n[stage.weights]\nlandmark = 1.0\n'
    )
    config = load_config(path)
    before = PRESETS["fast"].stages[0]
    assert config.latent == "z"
    assert config.occlusion == 2.0
    assert config.holdout == PRESETS["fast"].holdout
    assert [stage.name for stage in config.stages] == ["geometry", "mine"]
    assert config.stages[0].steps == 7
    assert config.stages[0].weights.normals == 2.0
    assert config.stages[0].weights.landmark == before.weights.landmark
    assert config.stages[0].rates == before.rates
    assert config.stages[1].optimise == ("pose",)
    assert config.stages[1].weights == LossWeights(landmark=1.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[", "are no TOML"),
        ("steps = 3", r"settings have no 'steps': known are (?!.*\bstages\b)"),
        ('latent = "v"', "latent must be one of w, w\\+, z"),
        ('colour_order = "two"', "must be of type int"),
        ("holdout = true", "must be of type float"),
        ("judged = 1", "must be of type bool"),
        ('preset = "slow"', "there is no preset 'slow': choose one of fast"),
        ('[[stage]]\nname = "new"', "'new' needs a number of steps"),
        ('[[stage]]\nname = "geometry"\noptimise = ["nose"]', "optimise must name some of shape"),
        ('[[stage]]\nname = "geometry"\n[stage.weights]\nlandmarks = 1', "weights of stage 'geometry' have no"),
        ('[[stage]]\nname = "geometry"\n[stage.rates]\nshape = -1.0', "shape must be a finite number"),
        ('[[stage]]\nname = "geometry"\n[[stage]]\nname = "geometry"', "needs its own name"),
        ("stages = 3", "stages are tables"),
        ("stage = 3", "stages are tables"),
    ],
)
def test_mistakes_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=says) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cannot read the settings"):
        load_config(tmp_path / "none.toml")


def test_values_are_checked() -> None:
    for make in (
        lambda: RefineStage("", 1),
        lambda: RefineStage("a", -1),
        lambda: RefineStage("a", 1, optimise=()),
        lambda: RefineStage("a", 1, patience=0),
        lambda: RefineStage("a", 1, decay=2.0),
        lambda: RefineConfig(colour_order=3),
        lambda: RefineConfig(holdout=0.9),
        lambda: RefineConfig(colour_strength=1.1),
        lambda: RefineConfig(normal_tilt=-0.1),
        lambda: RefineConfig(landmark_noise=0.0),
        lambda: LossWeights(normals=float("nan")),
    ):
        with pytest.raises(ArgumentError):
            make()


def test_scaled() -> None:
    assert [stage.steps for stage in scaled(preset("fast"), 0.1).stages] == [5, 1, 2]
    assert LossWeights(perceptual=1).renders
    assert not LossWeights(normals=1, noise=1).renders
