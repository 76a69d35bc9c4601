from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from garfast.cli import main
from garfast.networks.weights import load_weights
from tests.train.fake_portraits import FakePortraits
from tests.train.fake_renders import write_fake_renders


def _run(*arguments: object):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_help_names_every_training():
    result = _run("--help")
    assert result.exit_code == 0
    for name in ("renders", "landmarks", "faces", "portraits", "normals", "identity", "inverter"):
        assert name in result.output


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["landmarks", "faces"])
def test_a_short_run_writes_weights_logs_and_settings(kind, tmp_path, monkeypatch):
    from garfast.train import faces, landmarks

    def pool(seed, count, size, **_):
        return torch.zeros(4, 3, size, size, dtype=torch.uint8)

    for module in (faces, landmarks):
        monkeypatch.setattr(module, "HELD_OUT", 16)
        monkeypatch.setattr(module, "scenes", pool)
    renders, out = write_fake_renders(tmp_path / "renders", 40), tmp_path / "run"
    result = _run(kind, "--renders", renders, "-o", out, "--steps", 1, "--batch", 6, "--float32")
    assert result.exit_code == 0, result.output
    assert "finished; weights in" in result.output
    names = {path.name for path in out.iterdir()}
    assert {"checkpoint.pt", "settings.json", "evaluation.csv", "curves.png", f"{kind}.safetensors"} <= names
    load_weights(out / f"{kind}.safetensors", kind=kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more", "files", "column"),
    [
        ("normals", [], ["normals"], "degrees"),
        ("identity", ["--size", 32, "--embedding", 8], ["identity", "perceptual"], "auc"),
    ],
)
def test_trainings_on_portraits(kind, more, files, column, tmp_path, monkeypatch):
    from garfast.train import identity, normals, portraits

    for module in (identity, normals):
        monkeypatch.setattr(module, "HELD_OUT", 4)
    monkeypatch.setattr(portraits, "Portraits", lambda folder, models: FakePortraits(16, 32))
    out = tmp_path / "run"
    result = _run(kind, "--portraits", tmp_path, "-o", out, "--steps", 1, "--batch", 4, *more)
    assert result.exit_code == 0, result.output
    for name in files:
        load_weights(out / f"{name}.safetensors", kind=name)
    assert column in (out / "evaluation.csv").read_text()


@pytest.mark.slow
def test_the_inverter_trains_on_a_finished_renderer(tmp_path, tiny_model, monkeypatch):
    from garfast.cli.train import options
    from garfast.networks.generator import Generator, GeneratorConfig
    from garfast.networks.renderer import Renderer, save_renderer
    from garfast.train import inverter

    config = GeneratorConfig(
        size=16, z_dim=8, style_dim=8, mapping_layers=2, channel_base=128, channel_max=8, nim_channels=4
    )
    save_renderer(tmp_path / "renderer", Renderer(Generator(config)))
    monkeypatch.setattr(options, "model_shares", lambda models: [(tiny_model, 1.0)])
    monkeypatch.setattr(inverter, "MEASURED", 2)
    out = tmp_path / "run"
    arguments = ["--steps", 1, "--batch", 2, "--noise-weight", 0, "--float32"]
    result = _run("inverter", "--renderer", tmp_path / "renderer", "-o", out, *arguments)
    assert result.exit_code == 0, result.output
    load_weights(out / "inverter.safetensors", kind="inverter")
    assert "mean_image" in (out / "evaluation.csv").read_text()


def test_renders_that_are_missing_are_said_to_be(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    result = _run("faces", "--renders", empty, "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert "holds no rendered faces: make some with `garfast train renders`" in result.output
    assert not (tmp_path / "run").exists()
