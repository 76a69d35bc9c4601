from __future__ import annotations

import json

import pytest
import torch

from garfast.errors import ArgumentError, EvaluationError, GarfastWarning
from garfast.evaluate.drawing import condition_for, drawn_pictures, to_bytes
from garfast.evaluate.features import own_features
from garfast.evaluate.inversion_quality import InversionCurve, inversion_curves
from garfast.evaluate.renderer_quality import (
    HeldOut,
    identity_control,
    landmark_control,
    normal_errors,
    picture_distance,
    true_landmarks,
    warn_of_changed_models,
)
from garfast.evaluate.renderer_report import measure_renderer_quality, renderer_table, write_renderer_report
from garfast.networks.landmark_net import LandmarkNet, LandmarkNetConfig
from garfast.networks.renderer import Renderer
from tests.evaluate.renderers import CONFIG, Drawer, Turned, random_renderer
from tests.train.fake_portraits import FakePortraits


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return HeldOut(FakePortraits(count=24, size=32), 32)


@pytest.fixture(scope="module")
def marker() -> LandmarkNet:
    torch.manual_seed(0)
    return LandmarkNet(LandmarkNetConfig(size=32, widths=(4, 4, 8, 8))).eval().requires_grad_(False)


def test_an_estimator_that_is_off_by_known_degrees(held_out):
    """G draws the normals, N reads them off, turned by 20 degrees about z: the error is smaller where they face us."""
    exact = normal_errors(Renderer(Drawer(), normals=Turned()), held_out)
    assert exact["pictures"] < 0.1
    turned = normal_errors(Renderer(Drawer(), normals=Turned(20)), held_out)
    normals = condition_for(Drawer(), held_out.portraits.geometry(range(held_out.count)), held_out.count).normals
    sine = normals[:, :2].square().sum(1)[normals.square().sum(1) > 1e-3].clamp(0, 1)
    cosine = sine * torch.cos(torch.deg2rad(torch.tensor(20.0))) + 1 - sine
    assert turned["pictures"] == pytest.approx(float(torch.rad2deg(cosine.clamp(-1, 1).acos()).mean()), abs=0.05)
    with pytest.raises(EvaluationError, match="no normal estimator"):
        normal_errors(Renderer(Drawer()), held_out)


def test_true_landmarks_are_the_models_own_in_the_picture(held_out):
    (group,) = held_out.portraits.geometry([3])
    points = group.model.landmarks(group.vertices())[0]
    expected = torch.stack([0.5 + 0.005 * points[:, 0], 0.5 - 0.005 * points[:, 1]], 1)
    torch.testing.assert_close(true_landmarks([group], 1)[0], expected)


def test_looks_that_change_nothing_leave_the_landmarks_where_they_are(held_out, marker):
    still = landmark_control(Renderer(Drawer()), held_out, marker, faces=2, looks=5, batch=2)
    assert still["spread"] == pytest.approx(0, abs=1e-4)
    assert still["contrast"] == pytest.approx(0, abs=1e-4)
    moving = landmark_control(Renderer(Drawer(looks=0.9)), held_out, marker, faces=2, looks=5, batch=2)
    assert moving["contrast"] > 1
    assert moving["worst_face"] >= moving["spread"] > 0


def test_identity_follows_the_code_where_the_picture_does(held_out):
    class Brightness(torch.nn.Module):
        """Embeds how bright a picture is, on a half circle."""

        def forward(self, image):
            angle = 6 * image.abs().amax((1, 2, 3))
            return torch.stack([angle.cos(), angle.sin()], 1)

    result = identity_control(Renderer(Drawer(looks=0.9), identity=Brightness()), held_out, persons=6)
    assert result["same_z"] > 0.99
    assert result["other_z"] < 0.9
    assert set(result) == {"same_z", "other_z", "others", "photos_same", "photos_others"}
    with pytest.raises(EvaluationError, match="no identity network"):
        identity_control(Renderer(Drawer()), held_out)


def test_pictures_of_the_photographs_themselves_have_no_distance(held_out):
    renderer = random_renderer()
    extractor = own_features(renderer)
    pictures = to_bytes(held_out.photos(range(24)))
    assert extractor(pictures).shape == (24, 8)
    assert "not comparable" in extractor.note
    distance, floor = picture_distance(renderer, held_out)
    assert distance.first == distance.second == 24
    assert distance.distance > 0
    assert floor.distance > 0
    renderer.perceptual = None
    assert own_features(renderer).label.startswith("garfast identity")
    renderer.identity = None
    with pytest.raises(EvaluationError, match="no perceptual and no identity"):
        own_features(renderer)


def test_the_descent_gets_better_and_is_compared_with_the_inverter(held_out):
    curves = inversion_curves(random_renderer(), held_out, faces=2, steps=20, every=5, rates=(0.05,), code_rates=(0.1,))
    assert set(curves) == {"pictures", "photos", "codes"}
    assert curves["codes"].inverter == curves["pictures"].inverter
    for curve in curves.values():
        assert curve.steps == (0, 5, 10, 15, 20)
        for name in ("pixel", "perceptual"):
            assert curve.optimiser[name][-1] < curve.optimiser[name][0]
            saved = curve.saved[name]
            assert (saved is None) == (curve.optimiser[name][-1] > curve.inverter[name])
    with pytest.raises(EvaluationError, match="no inverter"):
        inversion_curves(Renderer(Drawer()), held_out)


def test_a_report_of_everything(held_out, tmp_path, monkeypatch):
    from garfast.landmarks import embedded

    class Networks:
        marker = LandmarkNet(LandmarkNetConfig(size=32, widths=(4, 4, 8, 8))).eval()

    monkeypatch.setattr(embedded, "load_networks", lambda **_: Networks)
    said: list[str] = []
    results = measure_renderer_quality(
        random_renderer(), held_out, faces=2, looks=3, inversions=2, steps=10, batch=8, tell=said.append
    )
    assert said == ["normals", "landmarks", "identity", "inversion", "distance"]
    text = write_renderer_report(results, tmp_path, {"weights": "random"})
    for part in ("N(G(n, z)) to n", "one n, many z", "steps to reach it", "not comparable", "< 8°"):
        assert part in text
    assert json.loads((tmp_path / "renderer.json").read_text())["measures"]["normals"]["photos"] > 0


def test_what_a_renderer_lacks_is_noted(held_out):
    results = measure_renderer_quality(Renderer(Drawer()), held_out, measures=("normals", "identity", "inversion"))
    assert all("not_measured" in figures for figures in results.values())
    assert "not measured: there is no inverter in these weights" in renderer_table(results)
    with pytest.raises(ArgumentError, match="no measure 'beauty'"):
        measure_renderer_quality(Renderer(Drawer()), held_out, measures=("beauty",))


def test_goals_are_judged_as_stated():
    curve = InversionCurve({"pixel": 0.1}, (0, 100, 200), {"pixel": (1.0, 0.5, 0.05)}, {"pixel": 200})
    short = InversionCurve({"pixel": 0.1}, (0, 50), {"pixel": (1.0, 0.5)}, {"pixel": None})
    table = renderer_table({"inversion": {"pictures": vars(curve), "photos": vars(curve), "codes": vars(short)}})
    row = next(line for line in table.splitlines() if "own pictures: steps" in line)
    assert [cell.strip() for cell in row.split("|")][2:5] == ["200", ">= 100", "yes"]
    row = next(line for line in table.splitlines() if "over codes" in line)
    assert [cell.strip() for cell in row.split("|")][2:5] == ["> 50", ">= 100", "no"]


def test_random_pictures_depend_on_the_seed_alone(tiny_model):
    generator = random_renderer().generator
    one, again, other = (
        torch.cat(list(drawn_pictures(generator, tiny_model, 3, batch=2, seed=seed))) for seed in (1, 1, 2)
    )
    assert one.shape == (3, 3, CONFIG.size, CONFIG.size)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_model_that_has_changed_since_is_noticed(monkeypatch):
    portraits = FakePortraits(count=8, size=32)
    portraits.folder = "portraits"
    held_out = HeldOut(portraits, 32)
    true = 32 * true_landmarks(portraits.geometry(range(8)), 8)
    monkeypatch.setattr(portraits, "landmarks", lambda rows: true)
    warn_of_changed_models(held_out)
    monkeypatch.setattr(portraits, "landmarks", lambda rows: true + 0.5)
    with pytest.warns(GarfastWarning, match="'tiny' has changed since the portraits in portraits were drawn"):
        warn_of_changed_models(held_out)


def test_too_few_portraits():
    portraits = FakePortraits(count=1)
    portraits.folder = "x"
    with pytest.raises(EvaluationError, match="fewer than two portraits"):
        HeldOut(portraits, 32)
