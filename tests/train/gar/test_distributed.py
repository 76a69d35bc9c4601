from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from garfast.errors import ArgumentError, TrainingError
from garfast.train.gar import distributed
from garfast.train.gar.augment import AdaController
from garfast.train.loop import read_log, train
from tests.train.gar.test_task import same

from . import two_processes


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The folder that two gloo processes left; they start once for all tests, which takes a few seconds."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    root = Path(__file__).resolve().parents[3]
    paths = os.pathsep.join([*(path for path in sys.path if path), str(root)])
    command = [sys.executable, "-m", "tests.train.gar.two_processes", str(folder)]
    running = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return folder


def _facts(folder: Path) -> list[dict]:
    return [json.loads((folder / f"facts{rank}.json").read_text()) for rank in range(2)]


def test_gradients_of_the_renderers_training_are_those_of_one_process(together):
    """Two processes with one part of the batch each, against one process with both."""
    task = two_processes.renderer_task(2)
    scalars = task.step(0)
    one = two_processes.gradients(task)
    first, second = (torch.load(together / f"gradients{rank}.pt", weights_only=True) for rank in range(2))
    for name, wanted in one.items():
        size = torch.cat([g.flatten() for g in wanted if g is not None]).norm()
        for a, b, c in zip(wanted, first[name], second[name], strict=True):
            assert (a is None) == (b is None) == (c is None)
            if a is not None:
                assert torch.equal(b, c)
                assert (a - b).norm() < 1e-4 * size, name
    assert {"d_r1", "g_adversarial", "g_normal", "g_reconstruction"} <= scalars.keys()
    for facts in _facts(together):
        assert facts["scalars"] == pytest.approx(scalars, rel=1e-3, abs=1e-5)


def test_all_processes_hold_the_same_state(together):
    first, second = (torch.load(together / f"state{rank}.pt", weights_only=True) for rank in range(2))
    assert same(first, second)
    assert first["path_length"]["mean_w"] > 0
    a, b = _facts(together)
    assert a["start"] == b["start"]


def test_the_augmentation_is_controlled_alike(together):
    controller = AdaController(interval=3, kimg=0.1)
    for row in torch.randn(5, 8, generator=torch.Generator().manual_seed(3)) + 1:
        controller.observe(row)
        controller.update()
    assert [facts["ada"] for facts in _facts(together)] == [controller.state_dict()] * 2
    assert controller.state_dict()["seen"] == 16


def test_a_signal_to_one_stops_all_after_the_same_step_and_they_go_on(together, tmp_path):
    first, second = _facts(together)
    assert first["world"] == second["world"] == 2
    assert first["stopped"] == second["stopped"] == 6
    assert first["finished"] == second["finished"] == 12
    alone = two_processes.Line({})
    train(alone, two_processes._config(tmp_path), progress=False)
    assert first["weight"] == second["weight"] == pytest.approx(alone.weight.tolist(), abs=1e-6)
    assert first["heard"] == [2, 4, 4, 6]
    assert second["heard"] == []
    assert [row["step"] for row in read_log(together / "line" / "log.csv")] == ["2", "4", "6", "8", "10", "12"]
    assert first["mean"] == second["mean"] == {"a": 0.5, "b": 2.0}


def test_a_bad_number_in_one_stops_all(together):
    first, second = _facts(together)
    assert "at step 6: loss is nan; the checkpoint of step 4" in first["error"]
    assert "at step 6: a loss is not finite in another process" in second["error"]
    assert torch.load(together / "bad" / "checkpoint.pt", weights_only=True)["step"] == 4


def test_a_single_process_needs_nothing():
    with distributed.processes("cpu") as device:
        assert device == torch.device("cpu")
    assert (distributed.rank(), distributed.world(), distributed.is_first()) == (0, 1, True)
    assert distributed.joint_size(5) == 5
    assert distributed.average_scalars({"a": 1.0}) == {"a": 1.0}
    assert distributed.any_of(True)
    assert not distributed.any_of(False)
    distributed.barrier()


def test_what_cannot_start_says_why(monkeypatch):
    with pytest.raises(ArgumentError, match="'tpu' is not a device"), distributed.processes("tpu"):
        pass
    with pytest.raises(ArgumentError, match="no device 'cuda:99'"), distributed.processes("cuda:99"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(TrainingError, match="RANK is not set: start the processes with torchrun"),
        distributed.processes("cpu"),
    ):
        pass
