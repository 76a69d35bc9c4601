"""Many photographs: which files, which folders, what is skipped, what fails alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from garfast.errors import ArgumentError, ImageFileError, NoFaceError, OutputError
from garfast.fit import batch
from garfast.fit.batch import BatchReport, find_images, fit_images, output_names
from garfast.fit.pipeline import Fitter, Job, default_stages
from garfast.fit.result import FitResult
from garfast.io.images import write_image
from garfast.io.parameters import load_parameters
from garfast.landmarks import Detection
from garfast.morphable import MorphableModel
from tests.tiny_face import TinyScene, make_scene


@pytest.fixture(scope="module")
def scene(tiny_model: MorphableModel) -> TinyScene:
    return make_scene(tiny_model)


@pytest.fixture
def photos(tmp_path: Path, scene: TinyScene, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a.png (one face), b.png (two faces) and c.png (none); the first pixel tells the detector."""
    folder = tmp_path / "photos"
    for name, faces in (("a", 1), ("b", 2), ("c", 0)):
        photo = scene.photo.copy()
        photo[0, 0] = faces
        write_image(folder / f"{name}.png", photo)

    def detect(
        image: np.ndarray, method: str = "auto", path: Path | None = None, device: str = "cpu"
    ) -> list[Detection]:
        if image[0, 0, 0] == 0:
            raise NoFaceError("no face was found: use another photograph")
        ones = np.ones(68, np.float32)
        return [Detection(scene.landmarks, ones, 1.0, np.zeros(4), "fake")] * int(image[0, 0, 0])

    monkeypatch.setattr("garfast.landmarks.detect", detect)
    for picture in ("sheet_picture", "overlay_picture"):
        monkeypatch.setattr(f"garfast.fit.output.{picture}", lambda result: np.zeros((4, 4, 3), np.uint8))
    return folder


@pytest.fixture
def run(photos: Path, tmp_path: Path, tiny_model: MorphableModel) -> Callable[..., BatchReport]:
    def run(*names: str, **options: object) -> BatchReport:
        images = [photos / name for name in names] if names else find_images([photos])
        fitter = Fitter(model=tiny_model, device="cpu", stages=default_stages(texture_size=32))
        return fit_images(images, tmp_path / "out", lambda: fitter, tell=lambda line: None, **options)

    return run


def written(report: BatchReport) -> list[str]:
    return [folder.name for _, folder in report.written]


def test_one_failure_does_not_stop_the_others(run: Callable[..., BatchReport], photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_text("no image")
    report = run()
    assert written(report) == ["a", "b", "b-face2"]
    assert [(image.name, sentence) for image, sentence in report.failed] == [
        ("bad.jpg", report.failed[0][1]),
        ("c.png", "no face was found: use another photograph"),
    ]
    assert "not an image" in report.failed[0][1]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "b", "b-face2"]
    second = load_parameters(tmp_path / "out" / "b-face2").info
    assert second["face"] == {"index": 2, "count": 2}
    assert second["image"]["file"].endswith("b.png")


def test_what_is_done_is_skipped(run: Callable[..., BatchReport], tmp_path: Path) -> None:
    run("a.png", "b.png")
    before = (tmp_path / "out" / "a" / "params.json").stat().st_mtime_ns
    again = run("a.png", "b.png")
    assert written(again) == []
    assert [image.name for image in again.skipped] == ["a.png", "b.png"]
    shutil.rmtree(tmp_path / "out" / "b-face2")  # interrupted between two faces
    assert written(run("a.png", "b.png")) == ["b-face2"]
    assert (tmp_path / "out" / "a" / "params.json").stat().st_mtime_ns == before
    assert written(run("a.png", overwrite=True)) == ["a"]
    assert (tmp_path / "out" / "a" / "params.json").stat().st_mtime_ns > before


def test_nothing_is_loaded_where_all_is_done(run: Callable[..., BatchReport], photos: Path, tmp_path: Path) -> None:
    run("a.png")

    def refuse() -> Fitter:
        raise AssertionError("the model was loaded for nothing")

    report = fit_images([photos / "a.png"], tmp_path / "out", refuse, tell=lambda line: None)
    assert len(report.skipped) == 1


def test_choice_of_faces(run: Callable[..., BatchReport]) -> None:
    assert written(run("b.png", face="largest")) == ["b"]
    assert written(run("b.png", face=2)) == ["b-face2"]
    assert [image.name for image in run("b.png", face="all").skipped] == ["b.png"]
    assert "face 3 was asked for" in run("b.png", face=3).failed[0][1]
    with pytest.raises(ArgumentError, match="face to use must be"):
        run("b.png", face="some")


def test_another_photograph_is_not_taken_for_done(
    run: Callable[..., BatchReport], photos: Path, scene: TinyScene
) -> None:
    run("a.png")
    photo = scene.photo.copy()
    photo[0, 0], photo[5, 5] = 1, 77
    write_image(photos / "a.png", photo)
    assert "another photograph" in run("a.png").failed[0][1]
    assert written(run("a.png", overwrite=True)) == ["a"]


def test_foreign_folders_are_left_alone(run: Callable[..., BatchReport], tmp_path: Path) -> None:
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "mine.txt").write_text("x")
    for overwrite in (False, True):
        assert "not empty" in run("a.png", overwrite=overwrite).failed[0][1]
    assert [p.name for p in (tmp_path / "out" / "a").iterdir()] == ["mine.txt"]


def test_faces_that_are_no_longer_found_are_removed(
    run: Callable[..., BatchReport], photos: Path, scene: TinyScene, tmp_path: Path
) -> None:
    run("b.png")
    out = tmp_path / "out"
    shutil.copytree(out / "b", out / "b-face3")  # not the third face's
    shutil.copytree(out / "b-face2", tmp_path / "noted")
    photo = scene.photo.copy()
    photo[0, 0] = 1  # one face is found now
    write_image(photos / "b.png", photo)
    run("b.png", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["b", "b-face3"]
    shutil.copytree(tmp_path / "noted", out / "b-face2")
    (out / "b-face2" / "notes.txt").write_text("mine")
    run("b.png", overwrite=True)
    assert (out / "b-face2" / "notes.txt").is_file()


def test_damaged_parameters_are_said_not_replaced(run: Callable[..., BatchReport], tmp_path: Path) -> None:
    run("a.png")
    (tmp_path / "out" / "a" / "params.json").write_text("{")
    assert "holds a fit already" in run("a.png").failed[0][1]
    assert written(run("a.png", overwrite=True)) == ["a"]


def test_a_fault_of_ours_does_not_stop_the_others(
    run: Callable[..., BatchReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_many = Fitter.fit_many

    def fail_on_a(self: Fitter, jobs: Sequence[Job]) -> object:
        if jobs[0].photo[0, 0, 0] == 1:
            raise MemoryError("out of memory")
        return fit_many(self, jobs)

    monkeypatch.setattr(Fitter, "fit_many", fail_on_a)
    report = run("a.png", "b.png")
    assert written(report) == ["b", "b-face2"]
    assert "MemoryError (out of memory)" in report.failed[0][1]


def test_a_fault_in_writing_costs_one_face(run: Callable[..., BatchReport], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    fit_many, save = Fitter.fit_many, batch.save_result

    def counted(self: Fitter, jobs: Sequence[Job]) -> object:
        sizes.append(len(jobs))
        return fit_many(self, jobs)

    def fail_on_a(result: FitResult, target: Path, **options: object) -> None:
        if target.name == "a":
            raise MemoryError("out of memory")
        save(result, target, **options)

    monkeypatch.setattr(Fitter, "fit_many", counted)
    monkeypatch.setattr(batch, "save_result", fail_on_a)
    report = run("a.png", "b.png", batch=1)
    assert sizes == [1, 1, 1]
    assert written(report) == ["b", "b-face2"]
    assert "MemoryError (out of memory)" in report.failed[0][1]


def test_output_is_a_file(run: Callable[..., BatchReport], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        run("a.png")


def test_find_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "sub/c.webp", "empty/readme.md", "odd[1].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)

    def names(*inputs: str) -> list[str]:
        return [p.as_posix() for p in find_images(inputs)]

    assert names(".") == ["a.png", "b.JPG", "odd[1].png"]
    assert names("a.png", ".", "./a.png") == ["a.png", "b.JPG", "odd[1].png"]
    assert names("*.png") == ["a.png", "odd[1].png"]
    assert names("**/*.webp") == ["sub/c.webp"]
    assert names("odd[1].png") == ["odd[1].png"]
    assert names("missing.png", "notes.txt") == ["missing.png", "notes.txt"]  # named files fail on reading
    with pytest.raises(ImageFileError, match="no image in the folder"):
        find_images(["empty"])
    with pytest.raises(ImageFileError, match="no image matches"):
        find_images(["*.tif"])


def test_output_names_are_unique() -> None:
    def names(*images: str) -> list[str]:
        return output_names([Path("/p") / image for image in images])

    assert names("x/a.jpg", "x/b.jpg") == ["a", "b"]
    assert names("x/...png", "x/a..b.png") == ["photo", "a..b"]  # none leads out of the folder
    assert names("x/a.jpg", "x/a.png", "x/b.jpg") == ["a-jpg", "a-png", "b"]
    assert names("x/a.jpg", "y/a.jpg") == ["x-a", "y-a"]
    assert names("x/a.jpg", "y/a.jpg", "y/a.png") == ["x-a", "y-a", "a-png"]
    many = ["1/x/a.jpg", "2/x/a.jpg", "3/x/a.png", "x/a.jpg"]
    assert len(set(names(*many))) == 4
    assert names("x/a.jpg", "x/a-face2.jpg", "x/b-face2.jpg") == ["a", "a-face2-jpg", "b-face2"]
