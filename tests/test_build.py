"""The choices that setup.py makes: whether to build CUDA, and for which architectures."""

from __future__ import annotations

import runpy
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The functions of setup.py, which is run without building anything."""
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    for name in ("GARFAST_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDAARCHS", "CUDACXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    return SimpleNamespace(**runpy.run_path(str(ROOT / "setup.py")))


@pytest.mark.parametrize(
    ("choice", "nvcc", "wanted"),
    [(None, None, False), (None, "nvcc", True), ("0", "nvcc", False), ("1", "nvcc", True), ("auto", None, False)],
)
def test_cuda_is_built_when_nvcc_is_found_unless_told_otherwise(build, monkeypatch, choice, nvcc, wanted):
    if choice:
        monkeypatch.setenv("GARFAST_CUDA", choice)
    assert build.want_cuda(nvcc) is wanted


def test_insisting_on_cuda_without_nvcc_is_one_sentence(build, monkeypatch):
    monkeypatch.setenv("GARFAST_CUDA", "1")
    with pytest.raises(SystemExit, match="GARFAST_CUDA=1 but nvcc was not found"):
        build.want_cuda(None)


def test_nvcc_is_taken_from_the_environment_first(build, monkeypatch, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.touch(mode=0o755)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    assert build.find_nvcc() == str(nvcc)


@pytest.mark.parametrize(
    ("variable", "value", "architectures"),
    [
        ("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX", "80-real;90"),
        ("TORCH_CUDA_ARCH_LIST", "8.6 9.0a", "86-real;90a-real"),
        ("CUDAARCHS", "75;80", "75;80"),
    ],
)
def test_architectures_follow_the_environment(build, monkeypatch, variable, value, architectures):
    monkeypatch.setenv(variable, value)
    assert build.cuda_architectures() == architectures


def test_architectures_have_a_portable_default(build, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert build.cuda_architectures() == "80-real;90"
