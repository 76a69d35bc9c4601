from __future__ import annotations

import os
import signal
import sys
from multiprocessing import get_all_start_methods

import pytest
import torch

from garfast.errors import GarfastError
from garfast.io.processes import expect_workers, one_thread_each, worker_pool


def _threads() -> int:
    return torch.get_num_threads()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_have_one_thread_and_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with worker_pool(1) as pool:
        assert pool.submit(_threads).result() == 1
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_the_environment_comes_back_after_an_error(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    seen = {}

    def fails() -> None:
        with one_thread_each():
            seen.update(os.environ)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert seen["OMP_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"


def _loaded() -> bool:
    return "garfast.synth.faces" in sys.modules


@pytest.mark.skipif("forkserver" not in get_all_start_methods(), reason="workers are spawned on this system")
def test_expected_workers_begin_with_what_takes_long_to_import():
    expect_workers()
    with worker_pool(1) as pool:
        assert pool.submit(_loaded).result()


def test_a_killed_worker_is_one_sentence():
    with pytest.raises(GarfastError, match="fewer --workers"), worker_pool(1) as pool:
        pool.submit(_die).result()
