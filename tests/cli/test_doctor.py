"""`garfast doctor`, `--version`, `--help` and `completion`."""

from __future__ import annotations

import importlib.metadata
import os

import pytest
from click.testing import CliRunner

from garfast import __version__
from garfast.cli import COMMANDS, main
from garfast.cli.doctor import PACKAGES
from garfast.ops import _native


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path))
    monkeypatch.delenv("GARFAST_MODEL", raising=False)


def test_doctor_reports_every_part():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    for word in (*PACKAGES, "reference", "cpu", "cuda", "triton", "builtin", "face-alignment", "embedded"):
        assert word in result.output
    assert __version__ in result.output
    assert "BROKEN" not in result.output


def test_doctor_names_a_broken_model_and_fails(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.npz").write_bytes(b"not a model")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "BROKEN mine" in result.output
    assert "delete" in result.output


def test_doctor_says_how_to_get_a_default_model_that_works(tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text("{")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert f"-> delete {tmp_path / 'settings.json'}" in result.output
    monkeypatch.setenv("GARFAST_MODEL", "nope")
    (tmp_path / "settings.json").unlink()
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "-> unset GARFAST_MODEL" in result.output
    assert "GARFAST_MODEL=nope overrides" in result.output
    result = CliRunner().invoke(main, ["model", "default", "builtin"])
    assert "unset it" in result.output


def test_doctor_suggests_what_to_do_about_a_missing_package_and_module(monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "trimesh":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(_native, "_CPU", None)
    monkeypatch.setattr(_native, "_CPU_MISSING", "the native CPU module is missing")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "pip install trimesh" in result.output
    assert "needs a C++ compiler" in result.output


def test_doctor_says_that_the_cuda_kernels_failed_to_compile(monkeypatch):
    monkeypatch.setattr(_native, "_CUDA", None)
    monkeypatch.setattr(_native, "_CUDA_MISSING", "it failed: reinstall it")
    result = CliRunner().invoke(main, ["doctor"])
    assert "it failed\n" in result.output


def test_version_and_help_list_every_command():
    assert __version__ in CliRunner().invoke(main, ["--version"]).output
    output = CliRunner().invoke(main, ["--help"]).output
    assert all(name in output for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_GARFAST_COMPLETE" in result.output


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"THP_MEM_ALLOC_ENABLE": "1", "GOMP_SPINCOUNT": "5000"}),
        ({"THP_MEM_ALLOC_ENABLE": "0"}, {"THP_MEM_ALLOC_ENABLE": "0", "GOMP_SPINCOUNT": "5000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"THP_MEM_ALLOC_ENABLE": "1", "GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"THP_MEM_ALLOC_ENABLE": "1", "OMP_WAIT_POLICY": "active"}),
    ],
)
def test_commands_set_pytorch_up_unless_told_otherwise(monkeypatch, before, after):
    names = ("THP_MEM_ALLOC_ENABLE", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    CliRunner().invoke(main, ["completion", "bash"])
    assert {name: os.environ[name] for name in names if name in os.environ} == after


def test_commands_have_no_more_threads_than_a_container_has_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("garfast.cli.scheduled_cores", lambda: 8)
    monkeypatch.setattr("garfast.cli.usable_cores", lambda: 8)
    CliRunner().invoke(main, ["completion", "bash"])
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setattr("garfast.cli.usable_cores", lambda: 1)
    CliRunner().invoke(main, ["completion", "bash"])
    assert os.environ["OMP_NUM_THREADS"] == "1"
