"""The suite for a GPU machine: how it shares out its time, and what it keeps of steps that fail."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import garfast
from benchmarks.gpu_suite import Suite, _by_file, _measure

_PROGRAM = """
import json, os, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
(out / "measured.json").write_text(json.dumps({"machine": os.environ.get("GARFAST_CONV", "auto")}))
sys.exit("GARFAST_CONV" not in os.environ)
"""


def test_benchmarks_that_fail_keep_what_they_measured_and_run_again_with_the_library(tmp_path):
    suite = Suite(tmp_path, budget=60)
    _measure(suite, [sys.executable, "-c", _PROGRAM])
    suite.save()
    steps = json.loads((tmp_path / "suite.json").read_text())["steps"]
    assert [(step["state"], step["machine"]) for step in steps.values()] == [("failed", "auto"), ("passed", "library")]


def test_benchmarks_that_take_too_long_are_not_run_again(tmp_path):
    suite = Suite(tmp_path, budget=6)
    _measure(suite, [sys.executable, "-c", "import time; time.sleep(60)"])
    assert list(suite.report["steps"]) == ["benchmarks"]
    assert suite.report["steps"]["benchmarks"]["late"]


def test_commands_of_one_step_have_their_own_logs_and_tell_which_failed(tmp_path):
    suite = Suite(tmp_path, budget=60)
    programs = {"good": "print('fine')", "bad": "raise SystemExit('broken')"}
    result = suite.commands("tests", {k: [sys.executable, "-c", v] for k, v in programs.items()}, 30)
    assert (result["state"], result["why"]) == ("failed", "bad")
    assert result["parts"]["good"] == {"state": "passed", "why": "fine"}
    assert "broken" in (tmp_path / "tests-bad.log").read_text()


def test_a_command_that_is_late_may_say_what_it_found(tmp_path):
    said = "\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('two of three failed', flush=True)"
    suite = Suite(tmp_path, budget=60)
    result = suite.command("tests", [sys.executable, "-c", "import time" + said], 8)
    assert result["state"] == "failed"
    assert "two of three failed" in (tmp_path / "suite.log").read_text()


def test_the_operators_tests_run_file_by_file():
    commands = _by_file(["pytest"])
    assert {"test_conv_mma", "test_rasterize_normals", "rest"} <= set(commands)
    assert "--ignore" in commands["rest"]


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
