"""Shards and plain files: the same bytes whatever the workers, readable, resumable, refused where they do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from garfast.cli import main
from garfast.errors import ArgumentError, OutputError
from garfast.synth import SynthConfig
from garfast.synth.writer import DatasetPlan, parse_models, read_shard, write_dataset

MODEL = (("builtin", 1.0),)


def plan(**changes) -> DatasetPlan:
    values = {"count": 5, "models": MODEL, "size": 64, "shard_size": 2, "seed": 11}
    return DatasetPlan(**(values | changes))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    assert write_dataset(plan(), folder, workers=1) == 5
    return folder


def test_bytes_do_not_depend_on_the_workers(written, tmp_path):
    write_dataset(plan(), tmp_path, workers=2)
    names = sorted(path.name for path in written.iterdir())
    assert names == ["faces-000000.tar", "faces-000001.tar", "faces-000002.tar", "synth.json"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_shards_can_be_read(written):
    samples = [sample for path in sorted(written.glob("*.tar")) for sample in read_shard(path)]
    assert [sample["index"] for sample in samples] == list(range(5))
    for sample in samples:
        assert sample["image"].shape == (64, 64, 3)
        assert sample["landmarks68"].shape == (68, 2)
        assert sample["camera"]["projection"] in ("pinhole", "orthographic")
        length = np.linalg.norm(sample["normal_map"].astype(np.float32), axis=0)
        np.testing.assert_allclose(length[sample["mask"] == 1], 1, atol=5e-3)


def test_an_interrupted_folder_is_continued(written, tmp_path):
    for path in written.iterdir():
        if path.name != "faces-000001.tar":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert write_dataset(plan(), tmp_path) == 2
    assert (tmp_path / "faces-000001.tar").read_bytes() == (written / "faces-000001.tar").read_bytes()
    assert write_dataset(plan(), tmp_path) == 0


def test_a_folder_of_other_settings_is_refused(written):
    with pytest.raises(OutputError, match="other settings"):
        write_dataset(plan(seed=12), written)


def test_plain_files(written, tmp_path):
    small = plan(count=2, plain=True, config=SynthConfig(normals=False))
    assert write_dataset(small, tmp_path) == 2
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"0000000{k}.{kind}" for k in range(2) for kind in ("json", "npz", "png")] + ["synth.json"]
    image = np.asarray(Image.open(tmp_path / "00000001.png"))
    first = next(sample for sample in read_shard(written / "faces-000000.tar") if sample["index"] == 1)
    np.testing.assert_array_equal(image, first["image"])
    assert "normal_map" not in np.load(tmp_path / "00000001.npz").files
    assert json.loads((tmp_path / "00000001.json").read_text())["index"] == 1


def test_models_and_weights():
    assert parse_models(("ict:0.7", "builtin")) == (("ict", 0.7), ("builtin", 1.0))
    with pytest.raises(ArgumentError, match="NAME:WEIGHT"):
        parse_models(("ict:much",))
    with pytest.raises(ArgumentError, match="positive"):
        parse_models(("ict:0",))


def test_a_file_that_is_no_shard(tmp_path):
    (tmp_path / "faces.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(OutputError, match="no readable shard"):
        list(read_shard(tmp_path / "faces.tar"))


def test_command_line(tmp_path):
    run = CliRunner().invoke(main, ["synth", "-n", "2", "-o", str(tmp_path), "--model", "builtin", "--size", "64"])
    assert run.exit_code == 0, run.output
    assert "wrote 2 photographs" in run.output
    again = CliRunner().invoke(main, ["synth", "-n", "2", "-o", str(tmp_path), "--model", "builtin", "--size", "64"])
    assert "kept 2" in again.output
    missing = CliRunner().invoke(main, ["synth", "-n", "2", "-o", str(tmp_path / "x"), "--model", "nobody"])
    assert missing.exit_code == 1
    assert "nobody" in missing.output
