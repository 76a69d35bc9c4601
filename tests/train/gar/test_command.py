"""``garfast train gar`` as a person types it: photographs of which one is broken, stopped by SIGTERM, and resumed."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from garfast.cli import main
from garfast.io.images import write_image
from garfast.train.gar import presets
from garfast.train.gar.task import GarTask, Teachers
from garfast.train.loop import read_log
from tests.tiny_face import make_tiny_model
from tests.train.gar.conftest import tiny_settings


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> list[str]:
    """A renderer of 16 pixels without frozen networks, four photographs, the second one broken."""
    weights = presets.LossWeights(normal=0, landmark=0, identity=0)
    monkeypatch.setitem(presets.PRESETS, "tiny-16", tiny_settings(paired=0, weights=weights, batch=4))
    monkeypatch.setattr("garfast.train.gar.setup.load_teachers", lambda settings, folder: Teachers())
    for k in range(4):
        write_image(tmp_path / "photos" / f"{k}.png", np.full((20, 24, 3), 60 * k, np.uint8))
    (tmp_path / "photos" / "1.png").write_bytes(b"\x89PNG broken")
    make_tiny_model().save(tmp_path / "tiny.npz")
    shared = ["train", "gar", "--preset", "tiny-16", "--device", "cpu", "--no-tensorboard", "--evaluate-every", "2"]
    return [*shared, "--data", str(tmp_path / "photos"), "--model", str(tmp_path / "tiny.npz"), "--steps", "4"]


def test_a_stopped_training_goes_on_bit_by_bit_and_counts_broken_photographs(arguments, tmp_path, monkeypatch):
    whole = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "whole")])
    assert whole.exit_code == 0, whole.output
    assert "finished; weights in" in whole.output
    assert "photographs that could not be read and were skipped: 1" in whole.output
    step = GarTask.step

    def stopped(self, number: int):
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    monkeypatch.setattr(GarTask, "step", stopped)
    part = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "part")])
    assert part.exit_code == 0, part.output
    assert "stopped at step 2 of 4: the same command goes on" in part.output
    monkeypatch.setattr(GarTask, "step", step)
    again = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "part")])
    assert again.exit_code == 0, again.output
    one, two = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "part"))
    assert one["step"] == two["step"] == 4
    for name, value in one["task"]["average"].items():
        assert torch.equal(value, two["task"]["average"][name]), name
    figures = read_log(tmp_path / "part" / "evaluation.csv")
    assert [row["step"] for row in figures] == ["2", "4"]
    assert figures[-1]["skipped_photos"] == "1"
    assert float(figures[-1]["images_per_second"]) > 0
    assert (tmp_path / "part" / "samples" / "sheet-0000004.png").is_file()
    assert (tmp_path / "part" / "renderer" / "generator.safetensors").is_file()


def test_a_bad_number_keeps_the_last_checkpoint(arguments, tmp_path, monkeypatch):
    done = CliRunner().invoke(main, [*arguments[:-1], "2", "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(GarTask, "step", lambda self, number: {"loss": float("nan")})
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "training stopped at step 2: loss is nan; the checkpoint of step 2" in result.output
    assert "Traceback" not in result.output
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
