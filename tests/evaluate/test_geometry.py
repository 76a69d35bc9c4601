from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError, EvaluationError, NoFaceError, WeightsFileError
from garfast.evaluate.fitting import RandomCodes
from garfast.evaluate.geometry import GeometryEvaluator, GeometryPlan, TrueSample, evaluate_geometry, row_errors
from garfast.evaluate.geometry_report import write_geometry_report
from garfast.evaluate.rows import make_rows
from garfast.fit.refine_config import preset
from garfast.morphable import OrthographicCamera, Pose
from garfast.networks.renderer import save_renderer
from tests.evaluate.renderers import random_renderer

PLAN = GeometryPlan(model="tiny", count=3, landmarks="truth", radius=70)


def tiny_samples(model):
    """Tiny faces seen from the front with exact landmarks."""

    def sample(index: int) -> TrueSample:
        generator = torch.Generator().manual_seed(index)
        shape = torch.randn(1, model.num_shape, generator=generator)
        exp = torch.zeros(1, model.num_exp)
        yaw = torch.tensor([0.3 * index])
        pose = Pose.from_euler(yaw, torch.zeros(1), torch.zeros(1))
        camera = OrthographicCamera(torch.tensor([1.0]), torch.tensor([[128.0, 128.0]]), (256, 256))
        landmarks = camera.project(pose.apply(model.landmarks(model.evaluate(shape, exp))))[0].numpy()
        image = np.zeros((256, 256, 3), np.uint8)
        return TrueSample(
            image, landmarks, shape[0].numpy(), exp[0].numpy(), (float(np.degrees(0.3 * index)), 0.0, 0.0)
        )

    return sample


@pytest.fixture
def evaluator(tiny_model):
    rows = make_rows(("mean", "landmarks"))
    return GeometryEvaluator(PLAN, rows, model=tiny_model, samples=tiny_samples(tiny_model))


def test_a_landmark_fit_to_the_truth_beats_the_mean_face(evaluator, tmp_path):
    reports = evaluate_geometry(PLAN, evaluator.rows, tmp_path, evaluator=evaluator)
    faces, errors = row_errors(reports, evaluator.rows)
    assert faces == [0, 1, 2]
    for mean, fitted in zip(errors["mean"], errors["landmarks"], strict=True):
        assert fitted.vertex < mean.vertex
    text = write_geometry_report(PLAN, evaluator.rows, reports, tmp_path)
    assert "3 synthetic faces" in text
    assert "landmarks − mean" in text
    summary = json.loads((tmp_path / "geometry.json").read_text())
    plane = np.mean([error.plane for error in errors["mean"]])
    assert summary["rows"]["mean"]["face"]["plane"]["mean"] == pytest.approx(plane)
    assert summary["landmark_nme"]["mean"] == 0
    assert summary["differences"]["landmarks - mean"]["difference"]["count"] == 3
    lines = (tmp_path / "geometry.csv").read_text().splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("face,row,yaw")
    assert (tmp_path / "geometry.md").read_text() == text


def test_the_mean_face_has_the_error_that_a_direct_comparison_gives(evaluator, tiny_model):
    from garfast.evaluate.face_error import FaceRegion, TrueFace

    sample = evaluator.samples(1)
    shape = torch.from_numpy(sample.shape)
    truth = TrueFace(tiny_model.evaluate(shape)[0].numpy(), FaceRegion.of(tiny_model, 70))
    expected = truth.error(tiny_model.mean.numpy())
    assert evaluator.face(1)["rows"]["mean"]["face"] == pytest.approx(expected.to_dict(), abs=1e-5)


def test_what_is_done_is_not_done_again(evaluator, tmp_path, monkeypatch):
    first = evaluate_geometry(PLAN, evaluator.rows[:1], tmp_path, evaluator=evaluator)
    (tmp_path / "faces" / "000001.json").write_text("{ torn")
    asked: list[tuple[int, list[str]]] = []
    face = evaluator.face

    def counted(index, rows=None):
        asked.append((index, [row.name for row in rows]))
        return face(index, rows)

    monkeypatch.setattr(evaluator, "face", counted)
    again = evaluate_geometry(PLAN, evaluator.rows[:1], tmp_path, evaluator=evaluator)
    assert asked == [(1, ["mean"])]
    assert again == first
    asked.clear()
    more = evaluate_geometry(replace(PLAN, count=4), evaluator.rows, tmp_path, evaluator=evaluator)
    assert asked == [(0, ["landmarks"]), (1, ["landmarks"]), (2, ["landmarks"]), (3, ["mean", "landmarks"])]
    assert set(more[0]["rows"]) == {"mean", "landmarks"}


def test_a_folder_of_another_plan_is_refused(evaluator, tmp_path):
    evaluate_geometry(PLAN, evaluator.rows[:1], tmp_path, evaluator=evaluator)
    with pytest.raises(EvaluationError, match=r"other settings \(seed, radius\): choose another folder"):
        evaluate_geometry(replace(PLAN, seed=1, radius=50), evaluator.rows, tmp_path, evaluator=evaluator)


def test_faces_that_are_not_found_are_counted(evaluator, tmp_path, monkeypatch):
    detection = evaluator._detection

    def sometimes(sample):
        if sample.angles[0] > 30:
            raise NoFaceError("no face was found in the photo")
        return detection(sample)

    monkeypatch.setattr(evaluator, "_detection", sometimes)
    reports = evaluate_geometry(PLAN, evaluator.rows, tmp_path, evaluator=evaluator)
    assert reports[2]["failure"] == "no face was found in the photo"
    text = write_geometry_report(PLAN, evaluator.rows, reports, tmp_path)
    assert "2 synthetic faces" in text
    assert "No face was found in 1 of 3 photographs" in text


def test_rows_are_named_by_stage_and_variant(tmp_path):
    (tmp_path / "generator.safetensors").write_bytes(b"weights")
    fast = preset("fast")
    rows = make_rows(("mean", "full"), (f"other={tmp_path}:no-inverter", "plain=:random", f"c={tmp_path}"), fast)
    assert [(row.name, row.kind, row.start, row.refinement) for row in rows] == [
        ("mean", "mean", "inverter", None),
        ("full", "full", "inverter", fast),
        ("other", "full", "mean", fast),
        ("plain", "full", "random", fast),
        ("c", "full", "inverter", fast),
    ]
    assert make_rows(("full",))[0].to_dict() != rows[1].to_dict()
    assert rows[2].weights == str(tmp_path)
    assert rows[2].digest == rows[4].digest != rows[3].digest
    with pytest.raises(ArgumentError, match="use :random"):
        make_rows((), ("x=:no-inverter",), preset("paper"))


@pytest.mark.parametrize(
    ("stages", "variants", "error", "sentence"),
    [
        (("mean", "mean"), (), ArgumentError, "two rows are named 'mean'"),
        ((), (), ArgumentError, "nothing to evaluate"),
        ((), ("x",), ArgumentError, "NAME=FOLDER"),
        ((), ("x=:fast",), ArgumentError, "unknown option 'fast'"),
        ((), ("x=/nowhere",), WeightsFileError, "/nowhere holds no renderer"),
        ((), ("a|b=",), ArgumentError, "name of a row"),
        (("best",), (), ArgumentError, "must be one of"),
    ],
)
def test_rows_that_make_no_sense_are_refused(stages, variants, error, sentence):
    with pytest.raises(error, match=sentence):
        make_rows(stages, variants)


def test_plans_that_make_no_sense_are_refused():
    for name, value in (("count", 0), ("landmarks", "guess"), ("pictures", "all"), ("projection", "fisheye")):
        with pytest.raises(ArgumentError):
            GeometryPlan(model="tiny", **{name: value})


@pytest.mark.slow
def test_what_is_said_to_be_true_of_a_synthetic_photograph_is():
    """The detector's landmarks lie near the true ones, so picture and truth belong together."""
    plan = GeometryPlan(model="builtin", size=128)
    evaluator = GeometryEvaluator(plan, make_rows(("mean",)))
    report = evaluator.face(0)
    assert report["failure"] is None
    assert report["landmark_nme"] < 0.06
    assert 0.1 < report["rows"]["mean"]["face"]["plane"] < 6
    first, again = evaluator.samples(1), evaluator.samples(1)
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.shape, evaluator.samples(0).shape)


def test_a_full_fit_with_a_renderer_of_ones_own(tiny_model, tmp_path):
    """Untrained networks: what is tested is that every stage runs, from the inverter's code and from others."""
    folder = tmp_path / "weights"
    save_renderer(folder, random_renderer())
    rows = make_rows((), (f"own={folder}", f"mean={folder}:no-inverter", f"random={folder}:random"), preset("fast"))
    evaluator = GeometryEvaluator(PLAN, rows, model=tiny_model, samples=tiny_samples(tiny_model))
    report = evaluator.face(0)
    for name in ("own", "mean", "random"):
        entry = report["rows"][name]
        assert "failure" not in entry, entry
        assert 0 < entry["face"]["plane"] < 10
        assert list(entry["notes"]) == ["landmarks", "inversion", "refinement"]


def test_random_codes_belong_to_the_picture():
    codes = RandomCodes(random_renderer().generator)
    pictures = torch.rand(2, 3, 32, 32)
    both, first = codes(pictures), codes(pictures[:1])
    assert torch.equal(both.z[:1], first.z)
    assert not torch.equal(both.z[0], both.z[1])
    assert [tuple(level.shape) for level in both.noise] == [
        (2, *shape[1:]) for shape in random_renderer().generator.noise_shapes()
    ]
    assert abs(float(both.noise[-1].std()) - 1) < 0.1


def test_a_fit_that_failed_is_tried_again(evaluator, tmp_path, monkeypatch):
    coefficients = evaluator.fits.coefficients

    def fail(row, *arguments):
        if row.kind == "landmarks":
            raise ArgumentError("out of luck")
        return coefficients(row, *arguments)

    plan = replace(PLAN, count=1)
    monkeypatch.setattr(evaluator.fits, "coefficients", fail)
    reports = evaluate_geometry(plan, evaluator.rows, tmp_path, evaluator=evaluator)
    text = write_geometry_report(plan, evaluator.rows, reports, tmp_path)
    assert "1 fits failed; their faces are left out. The first: landmarks: out of luck" in text
    assert "nothing to compare" in text
    monkeypatch.undo()
    (report,) = evaluate_geometry(plan, evaluator.rows, tmp_path, evaluator=evaluator)
    assert "face" in report["rows"]["landmarks"]
