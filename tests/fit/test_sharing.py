"""Several processes share photographs and merge their reports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from garfast.errors import ArgumentError
from garfast.fit.batch import BatchReport
from garfast.fit.sharing import sharing
from garfast.io.images import write_image
from garfast.morphable import MorphableModel
from tests.tiny_face import make_scene, write_pts


def test_alone() -> None:
    for environment in ({}, {"WORLD_SIZE": "1", "RANK": "0"}):
        with sharing(environment) as share:
            assert share is None


def test_half_of_the_variables() -> None:
    with (
        pytest.raises(ArgumentError, match="RANK, MASTER_PORT is not: start the processes with torchrun"),
        sharing({"WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}),
    ):
        pass


def test_a_rank_that_is_no_number() -> None:
    with (
        pytest.raises(ArgumentError, match="RANK is 'x'"),
        sharing({"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}),
    ):
        pass


def test_reports_become_one() -> None:
    one = BatchReport([(Path("a"), Path("out/a"))], [Path("b")], [])
    two = BatchReport([], [Path("c")], [(Path("d"), "no face")])
    merged = one.merged([two])
    assert merged.written == [(Path("a"), Path("out/a"))]
    assert merged.skipped == [Path("b"), Path("c")]
    assert merged.failed == [(Path("d"), "no face")]


def test_two_processes_share_a_folder(tiny_model: MorphableModel, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "tiny.npz")
    photos = tmp_path / "photos"
    for index in range(2):
        scene = make_scene(tiny_model, yaw=0.1 * index)
        write_image(photos / f"{index}.png", scene.photo)
        write_pts(photos / f"{index}.pts", scene.landmarks)
    (photos / "2.png").write_text("no image")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["fit", str(photos), "-o", str(tmp_path / "out"), "--landmarks", "file", "--stages", "landmarks"]
    command = [sys.executable, "-m", "garfast", *arguments, "--model", str(tmp_path / "tiny.npz"), "--device", "cpu"]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [1, 0], said
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["0", "1"]
    assert "0.png: residual" in said[0][0]
    assert "1.png: residual" in said[1][0]
    assert "2 faces fitted, 0 photographs skipped as done." in said[0][0]
    assert "1 of 3 photographs failed" in said[0][1]
    assert "failed:" not in said[1][1]
