"""The harness itself: it runs barriers, shuffles and shared memory right, and notices what it is there to notice."""

from __future__ import annotations

import subprocess

import pytest

from tests import cuda_host


def test_runs_blocks_and_notices_missing_and_divergent_barriers(tmp_path):
    if reason := cuda_host.why_not():
        pytest.skip(reason)
    program = tmp_path / "self_test"
    includes = [f"-I{cuda_host.HERE / 'include'}", f"-I{cuda_host.CSRC / 'include'}"]
    sources = [str(cuda_host.HERE / "self_test.cpp"), str(cuda_host.HERE / "fibers.cpp")]
    subprocess.run(["g++", "-std=c++17", "-O1", *includes, *sources, "-o", str(program)], check=True)
    lines = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == ["sums right", "with barrier right", "without barrier wrong", "divergent barrier refused"]
