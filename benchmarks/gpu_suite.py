"""Everything a GPU machine is for, in one command of at most ten minutes.

    python -m benchmarks.gpu_suite --out DIR

Builds the kernels for this GPU, runs the tests marked `gpu`, compute-sanitizer on small cases, all the kernel
benchmarks with a roofline, and writes suite.json with what passed, what was measured and what was skipped, the
benchmark results and their plots, and suite.log. Works on any CUDA GPU of compute capability 8.0 or newer.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LEAST_MEASURING = 200.0  # seconds that are kept for the benchmarks
_MEASURED = "measured.json"  # what the benchmarks' process found, until it is in suite.json
_TOGETHER = 4  # test processes that share the GPU


class Suite:
    """Runs steps within a time budget and keeps suite.json up to date after each."""

    def __init__(self, out: Path, budget: float) -> None:
        self.out = out
        self.deadline = time.monotonic() + budget
        self.reserve = 0.0  # seconds at the end that steps must leave to what comes after them
        self.report: dict[str, Any] = {"steps": {}}
        out.mkdir(parents=True, exist_ok=True)

    def step(
        self, name: str, work: Callable[[float], dict[str, Any]], limit: float, least: float = 5
    ) -> dict[str, Any]:
        """Run ``work(seconds it may take)``, unless fewer than ``least`` are left; a failure is recorded and the suite
        goes on."""
        seconds = min(limit, self.deadline - time.monotonic() - self.reserve)
        started = time.monotonic()
        if seconds < least:
            result: dict[str, Any] = {"state": "skipped", "why": "no time left"}
        else:
            try:
                result = work(seconds)
            except Exception as error:  # whatever breaks in one step, the others' results are wanted
                result = {"state": "failed", "why": f"{type(error).__name__}: {error}"}
        result["seconds"] = round(time.monotonic() - started, 1)
        self.report["steps"][name] = result
        self.save()
        print(f"[{result['seconds']:6.1f} s] {name}: {result['state']} {result.get('why', '')}", flush=True)
        return result

    def save(self) -> None:
        (self.out / "suite.json").write_text(json.dumps(self.report, indent=1) + "\n")

    def command(
        self, name: str, command: list[str], limit: float, env: dict[str, str] | None = None, least: float = 5
    ) -> dict[str, Any]:
        """A step that is a command; what it says goes to suite.log."""
        return self.step(name, lambda seconds: _run(command, self.out / "suite.log", seconds, env), limit, least)

    def commands(
        self, name: str, commands: dict[str, list[str]], limit: float, env: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """A step of several commands, some at a time, each with a log of its own; passed if all of them did."""

        def work(seconds: float) -> dict[str, Any]:
            end = time.monotonic() + seconds

            def one(label: str) -> dict[str, Any]:
                log = self.out / f"{name}-{label}.log"
                return _run(commands[label], log, max(end - time.monotonic(), 0.1), env)

            with ThreadPoolExecutor(_TOGETHER) as pool:
                parts = dict(zip(commands, pool.map(one, commands), strict=True))
            failed = [label for label, part in parts.items() if part["state"] == "failed"]
            return {"state": "failed" if failed else "passed", "why": " ".join(failed), "parts": parts}

        return self.step(name, work, limit)


def _run(command: list[str], log: Path, seconds: float, env: dict[str, str] | None) -> dict[str, Any]:
    """Run a command, appending what it says to ``log``."""
    with log.open("a") as file:
        print(f"\n==== {' '.join(command)}", file=file, flush=True)
        # A session of its own, so that compilers or a sanitized program do not outlive it.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
            start_new_session=True,
        )
        grace = min(10.0, 0.2 * seconds)
        try:
            code = process.wait(seconds - grace)
        except subprocess.TimeoutExpired:
            # As Ctrl-C: pytest says what failed so far before it ends, unless a kernel hangs.
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return {"state": "failed", "why": f"took longer than {seconds - grace:.0f} s", "late": True}
    last = next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "")
    return {"state": "passed" if code == 0 else "failed", "why": last[-200:]}


def main() -> int:
    """Run the suite; returns 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for suite.json, logs, results and plots")
    parser.add_argument("--budget", type=float, default=570, help="seconds in all")
    parser.add_argument("--skip", nargs="*", default=[], choices=["build", "tests", "sanitizer", "benchmarks"])
    parser.add_argument("--measure", action="store_true", help="only the benchmarks, in this process")
    arguments = parser.parse_args()
    if arguments.measure:
        _benchmarks(arguments.out, arguments.budget)
        return 0
    suite = Suite(arguments.out, arguments.budget)

    import torch

    if not torch.cuda.is_available():
        print("no CUDA device that PyTorch sees: nothing to do", file=sys.stderr)
        return 1
    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        print(f"compute capability {capability[0]}.{capability[1]}: the suite needs 8.0 or newer", file=sys.stderr)
        return 1

    def skipped(step: str, why: str) -> None:
        suite.report["steps"][step] = {"state": "skipped", "why": why}

    python = [sys.executable]
    if "benchmarks" not in arguments.skip:
        suite.reserve = _LEAST_MEASURING
    if "build" in arguments.skip:
        skipped("build", "asked for")
    else:
        arch = {"TORCH_CUDA_ARCH_LIST": f"{capability[0]}.{capability[1]}", "GARFAST_CUDA": "1"}
        suite.command("build", [*python, "setup.py", "build_ext", "--inplace"], 240, arch)

    if "tests" in arguments.skip:
        skipped("tests", "asked for")
    elif importlib.util.find_spec("pytest") is None:
        skipped("tests", "pytest is not installed")
    else:
        # cuBLAS is deterministic, as these tests ask PyTorch to be, only with this workspace.
        env = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        pytest = [*python, "-m", "pytest", "-v", "--maxfail=50"]
        suite.commands("tests", _by_file([*pytest, "-m", "gpu"]), 180, env)
        suite.commands("triton", {file.stem: [*pytest, str(file)] for file in _tests("ops/triton")}, 90, env)

    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    for tool in ("memcheck", "racecheck"):
        if "sanitizer" in arguments.skip or sanitizer is None:
            skipped(tool, "asked for" if sanitizer else "compute-sanitizer is not installed")
            continue
        check = [sanitizer, "--tool", tool, "--error-exitcode", "1", *_own_kernels(sanitizer)]
        if tool == "memcheck":  # libraries that ask what the driver can do are no errors of ours
            check += ["--report-api-errors", "no"]
        # PyTorch hands out pieces of large blocks, past whose ends there is valid memory.
        env = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        # PyTorch alone takes half a minute to start under it.
        suite.command(tool, [*check, *python, "-m", "benchmarks.sanitized_cases"], 75, env, least=40)

    if "benchmarks" in arguments.skip:
        skipped("benchmarks", "asked for")
    else:
        suite.reserve = 0.0
        _measure(suite, [*python, "-m", "benchmarks.gpu_suite", "--measure"])

    suite.save()
    return int(any(step["state"] == "failed" for step in suite.report["steps"].values()))


def _tests(folder: str) -> list[Path]:
    return sorted((ROOT / "tests" / folder).glob("test_*.py"))


def _by_file(pytest: list[str]) -> dict[str, list[str]]:
    """The operators' tests, a process for each file: a kernel that fails spoils its process's GPU context, and every
    test after it fails too. The rest of the tests come last, together."""
    files = {file.stem: [*pytest, str(file)] for file in _tests("ops")}
    return files | {"rest": [*pytest, str(ROOT / "tests"), "--ignore", str(ROOT / "tests" / "ops")]}


def _measure(suite: Suite, command: list[str]) -> None:
    """The benchmarks, in a process of their own.

    If they fail, they are run again with the library's convolutions, into a folder of their own. What they wrote before
    they ended is kept.
    """
    attempts = (
        ("benchmarks", suite.out, {}),
        ("benchmarks, library convolutions", suite.out / "library", {"GARFAST_CONV": "library"}),
    )
    for name, out, env in attempts:
        out.mkdir(exist_ok=True)
        limit = min(400.0, suite.deadline - time.monotonic())
        result = suite.command(name, [*command, "--out", str(out), "--budget", str(0.9 * limit)], limit, env)
        written = out / _MEASURED
        if written.is_file():
            result |= json.loads(written.read_text())
            written.unlink()
        if result["state"] == "passed" or result.get("late"):
            return


def _own_kernels(sanitizer: str) -> list[str]:
    """Options that leave the libraries' kernels alone: 'garfast' is the namespace of ours, and in Triton's names."""
    said = subprocess.run([sanitizer, "--help"], capture_output=True, text=True, check=False).stdout
    option = next((option for option in ("--kernel-name", "--filter") if option in said), None)
    return [] if option is None else [option, "kns=garfast"]


def _benchmarks(out: Path, seconds: float) -> None:
    """Both convolutions, to use the faster; the whole generator's layers as one CUDA graph, batch 1 and 8; then kernels
    and reference, eager, as many as there is time for. Keeps a file of the facts up to date.
    """
    started = time.monotonic()
    import torch

    from garfast.bench import report, suite
    from garfast.bench.cases import modulated_conv2d_cases
    from garfast.bench.timing import as_in_networks, graphed, measure
    from garfast.cli.bench import OPERATORS
    from garfast.io.atomic import atomic_path
    from garfast.ops import _native, convolution_times, tune_convolutions

    facts = report.machine("cuda")
    found: dict[str, Any] = {"machine": facts}

    def keep(**more: Any) -> None:
        found.update(more)
        with atomic_path(out / _MEASURED) as path:
            path.write_text(json.dumps(found))

    keep()
    without_triton = _native.why_not("triton")
    with tune_convolutions(save=False):
        for case in modulated_conv2d_cases("cuda", torch.bfloat16, (1, 8)):
            case.make("auto")()
            if not without_triton:
                try:
                    case.make("triton")()
                except Exception as error:  # the CUDA kernels' times are wanted all the same
                    without_triton = f"{case.name}: {type(error).__name__}: {error}"
    if without_triton:
        keep(without_triton=without_triton)

    # 13 layers x 2 directions x 2 batches and some small ones: about 80 cases of two candidates.
    each = min(0.4, 0.5 * seconds / 200)
    keep(convolutions_milliseconds=convolution_times())
    totals = {}
    for batch in (1, 8):
        for impl in ("auto", "reference"):
            cases = modulated_conv2d_cases("cuda", torch.bfloat16, [batch])
            layers = [case.make(impl) for case in cases if case.direction == "forward"]
            if impl == "reference":
                layers = [as_in_networks(layer) for layer in layers]
            replay = graphed(lambda layers=layers: [layer() for layer in layers])  # type: ignore[misc]
            totals[f"all layers, batch {batch}, bfloat16, CUDA graph, {impl}"] = measure(
                {"graph": replay}, "cuda", seconds=each
            )["graph"].median
            keep(generator_layers_seconds=totals)
    result = suite.run(
        "cuda",
        OPERATORS,
        (1, 8),
        seconds=each,
        limit=0.85 * seconds - (time.monotonic() - started),
        after=lambda rows, ceiling: report.save_numbers(out, rows, ceiling, facts),
    )
    print(report.table(result.rows, result.ceiling), flush=True)
    report.save(out, result.rows, result.ceiling, facts)


if __name__ == "__main__":
    sys.exit(main())
