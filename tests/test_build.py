"""The choices that setup.py makes: whether to build CUDA, for which architectures, and what if that fails."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
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


@pytest.fixture
def builder(build: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """The build's command, for which all of CMake fails that has to do with CUDA; and where it writes."""
    pytest.importorskip("pybind11")
    from setuptools import Distribution, Extension

    def run(command: list[str], check: bool) -> None:
        if "-DGARFAST_CUDA=ON" in command:
            raise subprocess.CalledProcessError(1, command[:2])

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("CUDACXX", "/bin/sh")
    monkeypatch.setenv("CUDAARCHS", "90")
    modules = [Extension("garfast._cpu", []), Extension("garfast._cuda", [], optional=True)]
    command = build.CMakeBuild(Distribution({"ext_modules": modules}))
    command.build_lib, command.build_temp = str(tmp_path / "lib"), str(tmp_path / "temp")
    command.ensure_finalized()
    package = tmp_path / "lib" / "garfast"
    package.mkdir(parents=True)
    return SimpleNamespace(command=command, failure=package / "_cuda_failure.txt")


def test_without_cuda_where_it_fails_to_compile(builder, capsys):
    builder.command.run()
    assert [extension.name for extension in builder.command.extensions] == ["garfast._cpu"]
    assert "warning: garfast is built without CUDA kernels, which failed: Command" in capsys.readouterr().err
    assert "non-zero exit status" in builder.failure.read_text()


def test_insisting_on_cuda_that_fails_to_compile_is_one_sentence(builder, monkeypatch):
    monkeypatch.setenv("GARFAST_CUDA", "1")
    with pytest.raises(SystemExit, match=r"the native build failed: Command .*\(GARFAST_CUDA=0 builds without CUDA\)"):
        builder.command.run()


def test_a_failure_is_forgotten_by_the_next_build(builder, monkeypatch):
    builder.failure.write_text("earlier")
    monkeypatch.setenv("GARFAST_CUDA", "0")
    builder.command.run()
    assert not builder.failure.exists()


def test_pybind11_stays_where_it_is_from_one_build_to_the_next(build, tmp_path):
    pybind11 = pytest.importorskip("pybind11")
    from setuptools import Distribution

    command = build.CMakeBuild(Distribution())
    command.build_temp = str(tmp_path)
    first = command._pybind11()
    assert first.is_relative_to(tmp_path / f"pybind11-{pybind11.__version__}")
    assert (first / "pybind11Config.cmake").is_file()
    before = first.stat()
    assert command._pybind11() == first
    assert (first.stat().st_ino, first.stat().st_mtime) == (before.st_ino, before.st_mtime)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"pybind11-{pybind11.__version__}"]  # nothing half-made
