from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import get_all_start_methods
from pathlib import Path

import pytest
import torch

import garfast
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


def test_workers_import_what_this_process_does(tmp_path):
    """Not what lies in the working directory, such as a clone whose kernels are not built."""
    other = tmp_path / "here" / "garfast"
    (other / "synth").mkdir(parents=True)
    for name in ("__init__.py", "synth/__init__.py", "synth/faces.py"):
        (other / name).touch()
    script = tmp_path / "script.py"
    script.write_text(
        "from garfast.io.processes import worker_pool\n"
        "def where():\n"
        "    import garfast\n"
        "    return garfast.__file__\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(1) as pool:\n"
        "        print(pool.submit(where).result())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(garfast.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path / "here", env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == garfast.__file__, done.stderr


@pytest.mark.skipif(
    "forkserver" not in get_all_start_methods() or sys.version_info < (3, 11), reason="workers are spawned here"
)
def test_expected_workers_begin_with_what_takes_long_to_import():
    expect_workers()
    with worker_pool(1) as pool:
        assert pool.submit(_loaded).result()


def test_a_killed_worker_is_one_sentence():
    with pytest.raises(GarfastError, match="fewer --workers"), worker_pool(1) as pool:
        pool.submit(_die).result()
