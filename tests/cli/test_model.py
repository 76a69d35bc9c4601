"""`garfast model` from the outside."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from garfast.cli import main
from garfast.cli.options import device_option, impl_option, model_option
from garfast.morphable import MorphableModel, default_model_name, load_model
from garfast.morphable.importers import ict_download
from tests.morphable.conftest import make_model
from tests.morphable.importers.kit import few_modes, write_kit
from tests.serving import Server, serve


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GARFAST_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GARFAST_MODEL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def sheet_path(tmp_path: Path) -> Path:
    make_model().save(tmp_path / "sheet.npz")
    return tmp_path / "sheet.npz"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["model", *map(str, arguments)])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: object) -> str:
    """The one sentence of a failing call."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    sentence = result.stderr
    assert sentence.startswith("Error: ")
    assert sentence.count("\n") == 1
    return sentence


def test_list_info_import_and_default(sheet_path: Path) -> None:
    output = succeed("list")
    assert "* builtin" in output
    assert "sheet" not in output
    output = succeed("import", "npz", sheet_path, "--name", "mine")
    assert "mine: 90 vertices, 5 shape and 3 expression modes" in output
    assert "  mine" in succeed("list")
    assert load_model("mine").name == "mine"
    assert succeed("default").strip() == "builtin"
    assert succeed("default", "mine").strip() == "mine"
    assert "* mine" in succeed("list")
    assert succeed("default", "builtin").strip() == "builtin"
    succeed("import", "npz", sheet_path, "--default")
    assert default_model_name() == "sheet"


def test_a_default_that_is_a_path_is_listed(sheet_path: Path) -> None:
    succeed("default", sheet_path)
    assert f"* {sheet_path}" in succeed("list")


def test_a_default_that_is_gone_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GARFAST_MODEL", "gone")
    assert "* gone  (missing)" in succeed("list")
    assert "no model named 'gone'" in fail("info")


def test_info_as_text(sheet_path: Path) -> None:
    output = succeed("info", sheet_path)
    for text in (
        "made for the tests",
        "MIT",
        "mm",
        "vertices",
        "90",
        "x -50.0 to 50.0, y -60.0 to 60.0",
        "jaw_open, smile, brow_raise",
        "0 to 4 (1 modes), -inf to inf (1 modes), -3 to 3 (1 modes)",
        "skin 90",
    ):
        assert text in output, text


def test_info_as_json(sheet_path: Path) -> None:
    facts = json.loads(succeed("info", sheet_path, "--json"))
    assert facts["triangles"] == 144
    assert facts["bounding_box"]["y"] == [-60.0, 60.0]
    assert facts["exp_names"] == ["jaw_open", "smile", "brow_raise"]
    assert facts["jaw_candidates"] == [2] * 17


def test_bad_files_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.npz").touch()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([1]))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    assert "is empty" in fail("info", tmp_path / "empty.npz")
    assert "never loaded" in fail("info", tmp_path / "model.pkl")
    assert "has no array 'mean'" in fail("import", "npz", tmp_path / "other.npz")
    assert "has no array 'vertices'" in fail("import", "ict", tmp_path / "other.npz")
    assert "no model named 'bfm'" in fail("info", "bfm")
    assert "is a folder" in fail("import", "npz", tmp_path)
    assert "has no generic_neutral_mesh.obj" in fail("import", "ict", tmp_path)
    assert "no file or folder" in fail("import", "ict", tmp_path / "nothing")


def test_bad_names(sheet_path: Path, home: Path) -> None:
    assert "cannot name a model file" in fail("import", "npz", sheet_path, "--name", "../mine")
    assert "cannot name a model file" in fail("import", "npz", sheet_path, "--name", "builtin")
    assert not home.exists()


def test_import_ict(ict_path: Path) -> None:
    assert "ict: 7638 vertices" in succeed("import", "ict", ict_path)
    facts = json.loads(succeed("info", "ict", "--json"))
    assert facts["shape_modes"] == 100
    assert "ICT Face Model Light" in facts["source"]


@pytest.fixture
def kit_server(ict_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    whole = ict_path.with_name("ict_facekit.npz")
    if not whole.is_file():
        pytest.skip(f"no whole ICT-FaceKit model at {whole}")
    monkeypatch.setattr(ict_download, "NUM_IDENTITIES", 2)
    monkeypatch.setattr(ict_download, "EXTRA_EXPRESSIONS", ())
    write_kit(tmp_path / "www", few_modes(whole))
    with serve(tmp_path / "www") as running:
        yield running


def test_download_ict_imports_and_cleans_up(kit_server: Server, home: Path) -> None:
    output = succeed("download", "ict", "--base-url", kit_server.url, "--part", "face", "--default")
    assert "only the files' lengths were checked" in output
    assert load_model().name == "ict"
    assert load_model().exp_names == ("jawOpen", "jawOpenMouthClose", "eyeBlink_L")
    assert not list((home / "downloads").iterdir())


def test_download_without_a_network(home: Path) -> None:
    sentence = fail("download", "ict", "--base-url", "http://127.0.0.1:9", "--timeout", "2").lower()
    assert "check the network" in sentence


def test_shared_options() -> None:
    @click.command()
    @model_option
    @device_option
    @impl_option
    def show(model: str | None, device: str, impl: str) -> None:
        click.echo(f"{model} {device} {impl}")

    runner = CliRunner()
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert runner.invoke(show, []).output == f"None {expected} auto\n"
    assert runner.invoke(show, ["--model", "ict", "--device", "cpu", "--impl", "cpu"]).output == "ict cpu cpu\n"
    assert "not a device" in str(runner.invoke(show, ["--device", "gpu"]).exception)
    assert "not a device" in str(runner.invoke(show, ["--device", "mps"]).exception)
    assert "no device 'cuda:99'" in str(runner.invoke(show, ["--device", "cuda:99"]).exception)
    assert runner.invoke(show, ["--impl", "magic"]).exit_code == 2


def test_model_names_complete(sheet_path: Path) -> None:
    succeed("import", "npz", sheet_path)
    option = next(p for p in click.command()(model_option(lambda model: None)).params if p.name == "model")
    names = [item.value for item in option.shell_complete(click.Context(click.Command("x")), "s")]
    assert names == ["sheet"]
    assert isinstance(load_model("sheet"), MorphableModel)
