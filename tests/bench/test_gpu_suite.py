"""The suite for a GPU machine: how it shares out its time, and what it keeps of steps that fail."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import garfast
from benchmarks.gpu_suite import Suite, _measure

_PROGRAM = """
import json, os, pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "measured.json").write_text(json.dumps({"machine": os.environ.get("GARFAST_CONV", "auto")}))
sys.exit("GARFAST_CONV" not in os.environ)
"""


def test_benchmarks_that_fail_keep_what_they_measured_and_run_again_with_the_library(tmp_path):
    suite = Suite(tmp_path, budget=60)
    _measure(suite, [sys.executable, "-c", _PROGRAM, str(tmp_path)])
    suite.save()
    steps = json.loads((tmp_path / "suite.json").read_text())["steps"]
    assert [(step["state"], step["machine"]) for step in steps.values()] == [("failed", "auto"), ("passed", "library")]


def test_steps_leave_the_time_that_is_kept_for_later_ones(tmp_path):
    suite = Suite(tmp_path, budget=100)
    given = []

    def work(seconds: float) -> dict:
        given.append(seconds)
        return {"state": "passed"}

    suite.reserve = 60
    suite.step("early", work, 90)
    suite.reserve = 0
    suite.step("late", work, 90)
    assert 30 < given[0] <= 40
    assert given[1] == 90


def test_the_sanitizer_finds_triton_kernels_by_their_names():
    sources = (Path(garfast.__file__).parent / "ops" / "triton").glob("*.py")
    kernels = [name for source in sources for name in re.findall(r"def (\w+_kernel)\(", source.read_text())]
    assert kernels
    assert all("garfast" in name for name in kernels)
