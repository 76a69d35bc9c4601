from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from garfast.cli import main
from garfast.errors import ArgumentError, ImageFileError, OutputError
from garfast.fit.align import AlignPlan, align_photographs, find_photographs
from garfast.io.images import read_image, write_image
from garfast.landmarks import detect
from garfast.landmarks.alignment import TEMPLATE
from garfast.train.photos import open_photos

FILES = AlignPlan(size=32, landmarks="file")


def _face(path: Path, *faces: tuple[float, float, float, float]) -> None:
    """A photograph 120 x 100 with faces (x, y, side, turn): the template's points in it, and a dot on each nose tip."""
    photo = np.full((100, 120, 3), 60, np.uint8)
    points = []
    for x, y, side, turn in faces:
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        face = (np.array(TEMPLATE) - 0.5) * side @ rotation.T + (x, y)
        points.append(face.tolist())
        column, row = face[30].astype(int)
        photo[row - 1 : row + 2, column - 1 : column + 2] = (250, 30, 30)
    write_image(path, photo)
    path.with_suffix(".json").write_text(json.dumps(points))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    _face(place / "a.png", (60, 50, 64, 0.4))
    _face(place / "deep" / "b.png", (30, 40, 40, -0.3), (90, 60, 24, 0.0))
    (place / "deep" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    write_image(place / "lonely.png", np.zeros((40, 40, 3), np.uint8))
    return place


def test_faces_lie_on_the_template_and_failures_are_listed(folder, tmp_path):
    out = tmp_path / "out"
    report = align_photographs(find_photographs([folder]), out, FILES, progress=False)
    assert (report.photographs, report.faces, report.skipped) == (4, 2, 0)
    for name in ("a", "deep/b"):
        picture = read_image(out / f"{name}.png")
        assert picture.shape == (32, 32, 3)
        column, row = (np.array(TEMPLATE[30]) * 32).astype(int)
        assert picture[row, column, 0] > 120
        assert np.allclose(
            detect(picture, "file", out / f"{name}.png")[0].landmarks, np.array(TEMPLATE) * 32, atol=0.01
        )
    facts = json.loads((out / "a.json").read_text())
    matrix = np.array(facts["matrix"])
    assert np.allclose(
        np.array(facts["photo_landmarks"]) @ matrix[:, :2].T + matrix[:, 2], facts["landmarks"], atol=0.01
    )
    assert facts["side"] == pytest.approx(64, abs=0.01)
    with open(out / "failures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == ["bad.jpg", "lonely.png"]
    assert "truncated or damaged" in rows[0]["reason"] or "not an image" in rows[0]["reason"]
    assert "there is no landmark file for lonely.png" in rows[1]["reason"]
    assert open_photos(out, 32).count == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are text")
def test_a_failure_whose_name_is_no_text_is_listed(folder, tmp_path):
    (folder / "lonely.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    align_photographs(find_photographs([folder]), tmp_path / "out", FILES, progress=False)
    assert "caf\\udce9.png" in (tmp_path / "out" / "failures.csv").read_text()


def test_a_run_goes_on_and_notices_what_changed(folder, tmp_path):
    out = tmp_path / "out"
    align_photographs(find_photographs([folder]), out, FILES, progress=False)
    before = (out / "a.png").stat().st_mtime_ns
    (folder / "deep" / "bad.jpg").unlink()
    (folder / "lonely.png").unlink()
    _face(folder / "deep" / "b.png", (60, 40, 50, 0.0))
    _face(folder / "new.png", (60, 50, 50, 0.1))
    report = align_photographs(find_photographs([folder]), out, FILES, progress=False)
    assert (report.skipped, report.faces, report.failed) == (1, 2, [])
    assert (out / "a.png").stat().st_mtime_ns == before
    assert not (out / "failures.csv").exists()
    with pytest.raises(OutputError, match="aligned with other settings"):
        align_photographs(find_photographs([folder]), out, AlignPlan(size=64, landmarks="file"), progress=False)


def test_a_photograph_of_the_same_name_is_refused(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    _face(tmp_path / "other" / "a.png", (40, 40, 50, 0.0))
    align_photographs(find_photographs([folder / "a.png"]), out, FILES, progress=False)
    before = (out / "a.png").read_bytes()
    report = align_photographs(find_photographs([tmp_path / "other"]), out, FILES, progress=False)
    assert report.faces == 0
    ((_, reason),) = report.failed
    assert f"holds the face of {folder / 'a.png'}, not of {tmp_path / 'other' / 'a.png'}" in reason
    assert (out / "a.png").read_bytes() == before
    monkeypatch.chdir(folder)
    assert align_photographs(find_photographs(["a.png"]), out, FILES, progress=False).skipped == 1


def test_several_faces_and_the_smallest(folder, tmp_path):
    plan = AlignPlan(size=16, landmarks="file", face="all", smallest=30, suffix=".jpg")
    report = align_photographs(find_photographs([folder / "deep" / "b.png"]), tmp_path / "one", plan, progress=False)
    assert report.faces == 1
    assert [reason for _, reason in report.failed] == [
        "face 2: the face is too small: 24 pixels a side, 30 are asked for"
    ]
    every = AlignPlan(size=16, landmarks="file", face="all")
    align_photographs(find_photographs([folder / "deep" / "b.png"]), tmp_path / "all", every, progress=False)
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert names == {"align.json", "b.json", "b.png", "b-face2.json", "b-face2.png"}
    assert json.loads((tmp_path / "all" / "b-face2.json").read_text())["face"] == 2


def test_two_workers_write_the_same(folder, tmp_path):
    """The one test with worker processes, which take seconds to start."""
    photographs = find_photographs([folder])
    one = align_photographs(photographs, tmp_path / "one", FILES, progress=False)
    two = align_photographs(photographs, tmp_path / "two", FILES, workers=2, progress=False)
    assert (one.faces, sorted(one.failed)) == (two.faces, sorted(two.failed))
    for name in ("a.png", "a.json", "deep/b.png", "failures.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_names_are_unique(folder, tmp_path):
    shutil.copy(folder / "a.png", folder / "a.bmp")
    shutil.copytree(folder, tmp_path / "other")
    names = find_photographs([folder, tmp_path / "other", folder / "a.png"])
    assert len(set(names.values())) == len(names) == 10
    assert names[folder / "a.png"] == "a-png"
    assert names[folder / "deep" / "b.png"] == "deep/b-png"
    assert list(find_photographs([str(folder / "deep" / "*.png")]).values()) == ["b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageFileError, match="no photograph in"):
        find_photographs([tmp_path / "empty"])
    with pytest.raises(ArgumentError, match="size of aligned pictures"):
        AlignPlan(size=4)


def test_a_full_disk_stops_the_run(folder, tmp_path, monkeypatch):
    def full(path, array, quality):
        raise OutputError(f"no space left on the disk while writing {path}: free some space")

    monkeypatch.setattr("garfast.fit.align.write_image", full)
    with pytest.raises(OutputError, match="no space left"):
        align_photographs(find_photographs([folder]), tmp_path / "out", FILES, progress=False)


def test_the_command(folder, tmp_path):
    out = tmp_path / "out"
    arguments = ["align", str(folder), "-o", str(out), "--size", "32", "--landmarks", "file"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert f"aligned 2 faces of 4 photographs to {out}" in result.output
    assert "2 photographs had a failure" in result.stderr
    (folder / "deep" / "bad.jpg").unlink()
    (folder / "lonely.png").unlink()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "2 photographs were done already" in result.output
