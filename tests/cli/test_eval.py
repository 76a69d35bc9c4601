from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from garfast.cli import main


def _run(*arguments: object):
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def test_help_names_every_evaluation():
    result = _run("--help")
    assert result.exit_code == 0
    assert "geometry" in result.output


@pytest.mark.slow
def test_geometry_of_one_face_from_end_to_end(tmp_path):
    """Draws, detects, fits and measures a face of the built-in model: a few seconds, most of them for the drawing."""
    arguments = ("geometry", "-o", tmp_path, "-n", 1, "--model", "builtin", "--size", 128)
    arguments += ("--stages", "mean", "--stages", "landmarks")
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 synthetic face (model" in result.output
    summary = json.loads((tmp_path / "geometry.json").read_text())
    assert 0 < summary["rows"]["landmarks"]["face"]["plane"]["mean"] < 10
    result = _run(*arguments, "--seed", 5)
    assert result.exit_code == 1
    assert "other settings (seed)" in result.output


def test_geometry_says_what_is_wrong(tmp_path):
    result = _run("geometry", "-o", tmp_path, "--variant", "x=/nowhere")
    assert result.exit_code == 1
    assert "Error: /nowhere holds no renderer" in result.output
    result = _run("geometry", "-o", tmp_path, "--model", "no-such-model", "--stages", "mean")
    assert result.exit_code == 1
    assert "no-such-model" in result.output
