"""One shape for several photographs, through the refinement."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError, LandmarkError, OutputError
from garfast.fit import refine_judge
from garfast.fit.output import save_result
from garfast.fit.pipeline import Fitter, Job, default_stages
from garfast.fit.refine_config import GEOMETRY, LossWeights, RefineConfig, RefineStage
from garfast.fit.refine_judge import Judgement
from garfast.fit.result import FitResult
from garfast.fit.same_person import fit_same_person
from garfast.io.images import write_image
from garfast.landmarks import Detection
from garfast.morphable import MorphableModel
from tests.fit.tiny_renderer import make_renderer
from tests.tiny_face import make_scene, write_pts

STAGES = (RefineStage("geometry", 4, GEOMETRY, LossWeights(normals=1)),)


@pytest.mark.parametrize("kept", [True, False])
def test_the_refinement_keeps_one_shape(
    tiny_model: MorphableModel, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*arguments: Any, **options: Any) -> Judgement:
        """The first photograph gains; the second does where all are to be kept."""
        return replace(refine_judge.judge(*arguments, **options), kept=torch.tensor([True, kept]))

    monkeypatch.setattr("garfast.fit.refinement_stages.judge", judge)
    config = RefineConfig(STAGES)
    stages = default_stages(texture_size=16, renderer=make_renderer(), refinement=config, shared_shape=True, at_once=1)
    fitter = Fitter(model=tiny_model, device="cpu", stages=stages)
    jobs = []
    for yaw in (0.15, -0.15):
        scene = make_scene(tiny_model, yaw=yaw)
        ones = np.ones(68, np.float32)
        jobs.append(Job(scene.photo, Detection(scene.landmarks, ones, 1.0, np.zeros(4), "given", "fixed")))
    first, second = fitter.fit_many(jobs)
    assert isinstance(first, FitResult)
    assert isinstance(second, FitResult)
    np.testing.assert_allclose(first.shape, second.shape, atol=1e-5)
    assert np.abs((first.pose.rotation - second.pose.rotation).numpy()).max() > 0.1
    assert first.appearance is not None
    assert first.appearance.refinement is not None
    assert first.appearance.refinement["kept"] is kept


def test_all_or_none() -> None:
    mixed = Judgement(torch.tensor([True, False]), reasons=("nearer", "farther"))
    none = mixed.all_or_none()
    assert none.kept.tolist() == [False, False]
    assert none.reasons == ("another picture of the same person did not gain", "farther")
    whole = Judgement(torch.tensor([True, True]), reasons=("a", "b"))
    assert whole.all_or_none() is whole


def test_photographs_without_a_face_are_left_out(tmp_path: Path, tiny_model: MorphableModel) -> None:
    images = []
    for number in range(3):
        scene = make_scene(tiny_model, yaw=0.1 * number)
        images.append(tmp_path / f"{number}.png")
        write_image(images[-1], scene.photo)
        if number:
            write_pts(images[-1].with_suffix(".pts"), scene.landmarks)

    def make_fitter() -> Fitter:
        stages = default_stages(texture_size=16, shared_shape=True)
        return Fitter(landmarks="file", model=tiny_model, device="cpu", stages=stages)

    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for picture in ("sheet_picture", "overlay_picture"):
            patch.setattr(f"garfast.fit.output.{picture}", lambda result: np.zeros((4, 4, 3), np.uint8))
        report = fit_same_person(images, tmp_path / "out", make_fitter, tell=told.append)
        shutil.copytree(tmp_path / "out", tmp_path / "kept")

        def fail_on_1(result: FitResult, folder: Path, **options: Any) -> None:
            if folder.name == "1":
                raise MemoryError("out of memory")
            save_result(result, folder, **options)

        patch.setattr("garfast.fit.same_person.save_result", fail_on_1)
        partly = fit_same_person(images[1:], tmp_path / "partly", make_fitter, tell=told.append)
    assert [image.name for image, _ in partly.written] == ["2.png"]
    assert "MemoryError (out of memory)" in partly.failed[0][1]
    assert [image.name for image, _ in report.written] == ["1.png", "2.png"]
    assert [image.name for image, _ in report.failed] == ["0.png"]
    assert len(told) == 1
    with pytest.raises(LandmarkError, match="only 1 of 2"):
        fit_same_person(images[:2], tmp_path / "two", make_fitter, tell=told.append)
    with pytest.raises(LandmarkError, match="at least two"):
        fit_same_person(images[:1], tmp_path / "out", make_fitter)
    # Before any work.
    with pytest.raises(OutputError, match="exists already"):
        fit_same_person(images, tmp_path / "out", lambda: pytest.fail("fits"), tell=told.append)
    (tmp_path / "kept" / "2" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        fit_same_person(images, tmp_path / "kept", lambda: pytest.fail("fits"), overwrite=True, tell=told.append)
    with pytest.raises(ArgumentError, match="the face to use"):
        fit_same_person(images, tmp_path / "new", lambda: pytest.fail("fits"), face="left", tell=told.append)
