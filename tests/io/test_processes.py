from __future__ import annotations

import os
import signal

import pytest
import torch

from garfast.errors import GarfastError
from garfast.io.processes import one_thread_each, worker_pool


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


def test_a_killed_worker_is_one_sentence():
    with pytest.raises(GarfastError, match="fewer --workers"), worker_pool(1) as pool:
        pool.submit(_die).result()
