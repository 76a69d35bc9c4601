from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from garfast.cli import main


def _run(*arguments: object):
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def test_help_names_every_evaluation():
    result = _run("--help")
    assert result.exit_code == 0
    for name in ("geometry", "nme", "florence", "fid", "renderer"):
        assert name in result.output


def test_geometry_of_two_faces(tiny_model, tmp_path, monkeypatch):
    from garfast.evaluate import geometry
    from tests.evaluate.test_geometry import tiny_samples

    monkeypatch.setattr(geometry, "synthetic_samples", lambda plan, model: tiny_samples(model))
    tiny_model.save(tmp_path / "tiny.npz")
    arguments = ("geometry", "-o", tmp_path / "out", "-n", 2, "--model", tmp_path / "tiny.npz", "--landmarks", "truth")
    arguments += ("--stages", "mean", "--stages", "landmarks")
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    assert "2 synthetic faces" in result.output
    summary = json.loads((tmp_path / "out" / "geometry.json").read_text())
    assert summary["rows"]["landmarks"]["face"]["vertex"]["mean"] < summary["rows"]["mean"]["face"]["vertex"]["mean"]
    result = _run(*arguments, "--seed", 5)
    assert result.exit_code == 1
    assert "other settings (seed)" in result.output


def test_geometry_says_what_is_wrong(tmp_path):
    result = _run("geometry", "-o", tmp_path, "--variant", "x=/nowhere")
    assert result.exit_code == 1
    assert "Error: /nowhere holds no renderer" in result.output
    result = _run("geometry", "-o", tmp_path, "--model", "no-such-model", "--stages", "mean")
    assert result.exit_code == 1
    assert "no-such-model" in result.output


@pytest.fixture
def weights(tmp_path):
    from garfast.networks.renderer import save_renderer
    from tests.evaluate.renderers import random_renderer

    save_renderer(tmp_path / "weights", random_renderer())
    return tmp_path / "weights"


def _write_pictures(folder, count: int, brightness: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(brightness)
    for k in range(count):
        picture = np.clip(rng.normal(brightness, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(picture).resize((32, 32)).save(folder / f"{k}.png")


@pytest.mark.filterwarnings("ignore::garfast.errors.GarfastWarning")
def test_fid_of_folders_statistics_and_drawn_pictures(tmp_path, weights):
    for name, brightness in (("dark", 60), ("bright", 190)):
        _write_pictures(tmp_path / name, 20, brightness)
    features = ("--features", weights)
    statistics, out = tmp_path / "dark.npz", tmp_path / "out.json"
    result = _run("fid", tmp_path / "dark", tmp_path / "bright", *features, "--save", statistics, "-o", out)
    assert result.exit_code == 0, result.output
    assert "not comparable with InceptionV3 FID" in result.output
    value = json.loads(out.read_text())
    assert value["first"] == value["second"] == 20
    result = _run("fid", statistics, tmp_path / "bright", *features, "-o", out)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["distance"] == pytest.approx(value["distance"])
    result = _run("fid", statistics, tmp_path / "dark", *features, "-o", out)
    assert json.loads(out.read_text())["distance"] == pytest.approx(0, abs=1e-6)
    result = _run("fid", statistics, "--weights", weights, "--count", 3, "--model", "builtin", "-o", out)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["second"] == 3


def test_fid_says_what_is_wrong(tmp_path, weights):
    assert _run("fid", tmp_path).exit_code == 2
    result = _run("fid", tmp_path, tmp_path / "nowhere", "--features", weights)
    assert result.exit_code == 1
    assert "no readable picture" in result.output
    result = _run("fid", tmp_path, tmp_path, "--features", tmp_path)
    assert "no renderer weights" in result.output
    result = _run("fid", tmp_path, tmp_path, "--inception", tmp_path / "no.pt")
    assert "there is no InceptionV3 file" in result.output


def test_renderer_measures_what_is_asked(tmp_path, weights, monkeypatch):
    from garfast.evaluate import renderer_quality
    from garfast.train import portraits
    from tests.train.fake_portraits import FakePortraits

    monkeypatch.setattr(portraits, "Portraits", lambda folder: FakePortraits(count=12, size=32))
    monkeypatch.setattr(renderer_quality, "warn_of_changed_models", lambda held_out: None)
    arguments = ("renderer", weights, "--portraits", tmp_path, "-o", tmp_path / "out", "--count", 8)
    result = _run(*arguments, "--measure", "normals", "--measure", "identity")
    assert result.exit_code == 0, result.output
    assert "N(G(n, z)) to n" in result.output
    assert "Frechet" not in result.output
    assert set(json.loads((tmp_path / "out" / "renderer.json").read_text())["measures"]) == {"normals", "identity"}
    monkeypatch.undo()
    result = _run(*arguments)
    assert result.exit_code == 1
    assert "holds no portraits" in result.output


def test_nme_of_a_folder(tmp_path, monkeypatch):
    from garfast.landmarks import embedded
    from tests.tiny_face import landmark_places

    points = (landmark_places() * [1, -1] + [90, 110]).astype(np.float32)
    Image.fromarray(np.zeros((220, 200, 3), np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", points)
    monkeypatch.setattr(embedded, "detect_embedded", lambda image, jaw: [])
    result = _run("nme", tmp_path, "-o", tmp_path / "out", "--predict", "detector")
    assert result.exit_code == 0, result.output
    assert "1 of 1 photographs gave no landmarks" in result.output
    result = _run("nme", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "is not a folder" in result.output


def test_florence_says_what_is_wrong(tmp_path):
    result = _run("florence", tmp_path, "--scans", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "no CONDITION/SUBJECT/ folders" in result.output
