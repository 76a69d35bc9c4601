"""Runs tests/ops/triton in the interpreter: Triton reads its environment once, so that takes a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import garfast
from garfast.ops import _native
from tests.conftest import ROOT


@pytest.mark.skipif(bool(_native.TRITON_INTERPRETED), reason="already in the interpreter")
@pytest.mark.skipif(bool(_native._TRITON_MISSING), reason=_native._TRITON_MISSING)
@pytest.mark.parametrize("operator", ["modulated_conv2d", "noise_bias_act", "convolution", "demodulation"])
def test_in_the_interpreter(operator, tmp_path):
    # The same garfast as here, installed or not: run elsewhere, so that the source tree does not come first.
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(garfast.__file__).parent.parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command += [str(ROOT / f"tests/ops/triton/test_{operator}.py")]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
