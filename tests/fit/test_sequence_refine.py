"""The refinement of a film."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from garfast.cli import main
from garfast.errors import ArgumentError
from garfast.fit.latent import fingerprint, load_latent
from garfast.fit.refine import refine
from garfast.fit.refine_config import GEOMETRY, LossWeights, RefineConfig, RefineStage
from garfast.fit.refine_judge import measures
from garfast.fit.refine_problem import Problem
from garfast.fit.refine_state import RefineOutcome, RefineState
from garfast.fit.sequence import FittedSequence, fit_sequence
from garfast.fit.sequence_refine import carried, refine_sequence
from garfast.io.images import read_image, write_image
from garfast.io.parameters import load_parameters
from garfast.landmarks import Detection
from garfast.landmarks.boxes import bounding_box
from garfast.morphable import Camera, MorphableModel, OrthographicCamera, PinholeCamera, Pose
from garfast.networks.normal_estimator import NormalEstimate
from garfast.networks.renderer import Renderer, save_renderer
from garfast.ops import rasterize_normals
from tests.fit.tiny_renderer import make_renderer
from tests.tiny_face import make_scene, write_pts

SIZE = (120, 100)
LOST = 3
CONFIG = RefineConfig(
    (
        RefineStage("geometry", 30, GEOMETRY, LossWeights(normals=1, landmark=0.1, prior=0.01)),
        RefineStage("joint", 2, weights=LossWeights(photometric=0.01, normals=1, landmark=0.1, prior=0.01, noise=0.1)),
    ),
    normal_tilt=0.0,
)


def show(normals: Tensor) -> Tensor:
    """Normals [B, 3, H, W] as colours in -1..1: x and y, and, on the face, a blue that grows to the right."""
    column = torch.linspace(-1, 1, normals.shape[3])
    face = normals.square().sum(1, keepdim=True) > 0.5
    return torch.cat([normals[:, :2], face * (0.6 + 0.3 * column)], 1)


class Reader(nn.Module):
    """An estimator of what `show` made, mirrored or not, as an estimator does not care which side is which."""

    def forward(self, image: Tensor) -> NormalEstimate:
        x, y, blue = image.split(1, 1)
        face = (blue > 0.2).to(image)
        column = torch.linspace(-1, 1, image.shape[3]).expand_as(blue)

        def centred(values: Tensor) -> Tensor:
            return face * (values - (face * values).sum((2, 3), True) / face.sum((2, 3), True).clamp_min(1))

        rightward = (centred(blue) * centred(column)).sum((2, 3), True).sign()
        z = (1 - x.square() - y.square()).clamp_min(0).sqrt()
        normals = nn.functional.normalize(torch.cat([rightward * x, y, z], 1), dim=1, eps=1e-6)
        return NormalEstimate(normals, 40 * (blue - 0.2))


class Film:
    """A turning, talking face whose pictures show its normals."""

    def __init__(self, model: MorphableModel, frames: int = 6) -> None:
        generator = torch.Generator().manual_seed(1)
        self.shape = torch.randn(1, model.num_shape, generator=generator)
        time = torch.arange(frames) / 3
        self.exp = torch.stack([torch.sin(time), torch.cos(time), 0.5 * time, -0.3 * time], 1)
        self.pose = Pose.from_euler(0.2 * torch.sin(time), 0.1 * torch.cos(time), torch.zeros(frames))
        self.camera = OrthographicCamera(torch.full((frames,), 0.5), torch.tensor([[52.0, 58.0]]) + time[:, None], SIZE)
        self.vertices = self.pose.apply(model.evaluate(self.shape, self.exp))
        (level,) = rasterize_normals(self.vertices, model.triangles, self.camera.ndc(), [SIZE])
        colours = (127.5 + 127.5 * show(level.normals)).round().to(torch.uint8)
        self.photos = colours.permute(0, 2, 3, 1).contiguous().numpy()
        noise = 1.5 * torch.randn(frames, 68, 2, generator=generator)
        points = (self.camera.project(model.landmarks(self.vertices)) + noise).numpy()
        one = np.ones(68, np.float32)
        self.detections: list[Detection | None] = [
            None if number == LOST else Detection(found, one, 1.0, bounding_box(found), "made", "fixed")
            for number, found in enumerate(points)
        ]

    def frames(self) -> Iterator[np.ndarray]:
        return iter(self.photos)

    def error(self, fitted: FittedSequence) -> float:
        """Mean distance of vertices in camera space without depth's offset, mm."""
        found = torch.cat([fitted.face(number).vertices for number in range(len(fitted))])
        off = found - self.vertices
        off = (off - off.mean(1, keepdim=True))[[n for n in range(len(fitted)) if n != LOST]]
        return float(off.norm(dim=-1).mean())


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return replace(make_renderer(), normals=Reader())


@pytest.fixture(scope="module")
def film(tiny_model: MorphableModel) -> Film:
    return Film(tiny_model)


@pytest.fixture(scope="module")
def plain(tiny_model: MorphableModel, film: Film) -> FittedSequence:
    return fit_sequence(tiny_model, film.detections, SIZE, fps=25.0)


@pytest.fixture(scope="module")
def refined(tiny_model: MorphableModel, film: Film, plain: FittedSequence, renderer: Renderer) -> FittedSequence:
    return refine_sequence(tiny_model, plain, film.frames, renderer, CONFIG)


def test_a_film_comes_out_better_and_as_smooth(film: Film, plain: FittedSequence, refined: FittedSequence) -> None:
    assert refined.refinement is not None
    assert refined.refinement["kept"], refined.refinement
    assert "warning" not in refined.refinement
    assert refined.refinement["after"]["normals"] < 0.9 * refined.refinement["before"]["normals"]
    assert refined.refinement["nearer"] >= 0.8
    assert film.error(refined) < 0.9 * film.error(plain)
    assert (refined.shape != plain.shape).any()
    assert refined.gaps == [(LOST, LOST)]

    def roughness(sequence: FittedSequence) -> float:
        return float(np.abs(np.diff(sequence.exp, 2, axis=0)).mean())

    assert roughness(refined) < 1.5 * roughness(plain)


def test_frames_start_warm(refined: FittedSequence, renderer: Renderer) -> None:
    """From the frame before, the first from what the shape came from: fewer steps, no inversion."""
    for number, records in enumerate(refined.records):
        if number == LOST:
            assert records == ()
            assert refined.latents[number] is None
            continue
        assert [record.name for record in records] == ["landmarks", "refinement"]
        assert records[1].losses["geometry"]["steps"] == 12
        assert records[1].losses["kept"] is True
        assert records[1].losses["after"]["normals"] < records[1].losses["before"]["normals"]
        latent = refined.latents[number]
        assert latent is not None
        assert latent.info == {"kept": True}
    assert refined.renderer == fingerprint(renderer.generator)


def test_batches_bound_what_is_computed_at_once(
    tiny_model: MorphableModel,
    film: Film,
    plain: FittedSequence,
    refined: FittedSequence,
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def problem(*arguments: Any) -> Problem:
        sizes.append(len(arguments[2].image))
        return Problem(*arguments)

    monkeypatch.setattr("garfast.fit.refine.Problem", problem)
    said: list[tuple[str, int, int]] = []
    both = refine_sequence(
        tiny_model, plain, film.frames, renderer, CONFIG, batch=2, progress=lambda *what: said.append(what)
    )
    assert sizes == [2, 2, 1, 2, 2, 1]
    assert both.refinement is not None
    assert both.refinement["kept"]
    np.testing.assert_allclose(both.shape, refined.shape, atol=0.02)
    assert list(dict.fromkeys(what for what, _, _ in said)) == ["look", "shape", "refine", "judge"]
    assert said[-1] == ("judge", 5, 5)
    assert ("shape", 32, 32) in said
    with pytest.raises(ArgumentError, match="at least one frame"):
        refine_sequence(tiny_model, plain, film.frames, renderer, CONFIG, batch=0)


def test_what_is_no_better_is_not_kept(
    tiny_model: MorphableModel, film: Film, plain: FittedSequence, renderer: Renderer
) -> None:
    config = replace(CONFIG, stages=(replace(CONFIG.stages[0], steps=2),), min_gain=0.99)
    same = refine_sequence(tiny_model, plain, film.frames, renderer, config)
    for name in ("shape", "exp", "rotation", "translation"):
        np.testing.assert_array_equal(getattr(same, name), getattr(plain, name))
    assert same.refinement is not None
    assert same.refinement["kept"] is False
    assert "fell only" in same.refinement["reason"]
    assert same.records[0][1].losses["kept"] is False
    assert same.latents[0] is not None


def test_a_frame_that_diverges_is_said(
    tiny_model: MorphableModel,
    film: Film,
    plain: FittedSequence,
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_diverges(*arguments: Any, **options: Any) -> RefineOutcome:
        outcome = refine(*arguments, **options)
        second = torch.arange(len(outcome.diverged)) == 1
        return replace(outcome, diverged=second) if options.get("shared_shape") else outcome

    def unmeasured(*arguments: Any, **options: Any) -> Any:
        first, last, finite = measures(*arguments, **options)
        return first, last | {"photometric": last["photometric"] * torch.nan}, finite

    monkeypatch.setattr("garfast.fit.sequence_refine.refine", one_diverges)
    monkeypatch.setattr("garfast.fit.sequence_refine.measures", unmeasured)
    config = replace(CONFIG, stages=(replace(CONFIG.stages[0], steps=2),))
    fitted = refine_sequence(tiny_model, plain, film.frames, renderer, config)
    assert fitted.refinement is not None
    assert "diverged in frames 2, and the shape" in fitted.refinement["warning"]
    assert fitted.records[0][1].losses["after"]["photometric"] is None
    json.dumps([record.losses for records in fitted.records for record in records], allow_nan=False)


def test_a_known_shape_stays(tiny_model: MorphableModel, film: Film, renderer: Renderer) -> None:
    known = fit_sequence(tiny_model, film.detections, SIZE, fps=25.0, shape=film.shape)
    config = replace(CONFIG, stages=(replace(CONFIG.stages[0], steps=3),), min_gain=0.0)
    fitted = refine_sequence(tiny_model, known, film.frames, renderer, config)
    np.testing.assert_array_equal(fitted.shape, known.shape)
    # Without another frame to start from, the first one starts from the inverting network, and takes all steps.
    assert [record.name for record in fitted.records[0]] == ["landmarks", "inversion", "refinement"]
    assert fitted.records[0][2].losses["geometry"]["steps"] == 3
    assert fitted.records[1][1].losses["geometry"]["steps"] == 2


def test_inversion_alone(tiny_model: MorphableModel, film: Film, plain: FittedSequence, renderer: Renderer) -> None:
    inverted = refine_sequence(tiny_model, plain, film.frames, renderer, None, batch=4)
    np.testing.assert_array_equal(inverted.exp, plain.exp)
    assert inverted.refinement is None
    assert [latent is None for latent in inverted.latents] == [number == LOST for number in range(6)]
    assert [record.name for record in inverted.records[5]] == ["landmarks", "inversion"]


@pytest.mark.parametrize("perspective", [False, True])
def test_a_change_is_carried_over(tiny_model: MorphableModel, perspective: bool) -> None:
    def state(count: int, *, scale: float, offset: float, turn: float, exp: float) -> RefineState:
        pose = Pose.from_euler(*(torch.full((count,), value) for value in (turn, 0.1, 0.0)))
        middle = torch.full((count, 2), 16 + offset)
        camera: Camera = OrthographicCamera(torch.full((count,), scale), middle, (32, 32))
        if perspective:
            camera = PinholeCamera(torch.full((count, 2), 300.0), torch.full((count, 2), 16.0), (32, 32))
            pose = replace(pose, translation=torch.full((count, 3), -100 * scale))
        shape, values = torch.zeros(count, tiny_model.num_shape), torch.full((count, tiny_model.num_exp), exp)
        return RefineState(shape, values, pose, camera)

    before = state(1, scale=1.0, offset=0.0, turn=0.1, exp=0.0)
    styled = replace(
        state(1, scale=1.5, offset=1.0, turn=0.2, exp=0.4), w=torch.ones(1, 3, 2), noise=[torch.ones(1, 1, 4, 4)]
    )
    moved = carried(before, styled, state(2, scale=2.0, offset=3.0, turn=0.3, exp=2.9), tiny_model)
    assert moved.batch == 2
    torch.testing.assert_close(moved.exp, torch.full((2, 4), 3.0))  # the bound
    torch.testing.assert_close(moved.pose.euler()[0], torch.full((2,), 0.4), atol=1e-2, rtol=0)
    if isinstance(moved.camera, OrthographicCamera):
        torch.testing.assert_close(moved.camera.scale, torch.full((2,), 3.0))
        torch.testing.assert_close(moved.camera.offset, torch.full((2, 2), 20.0))
    else:
        torch.testing.assert_close(moved.pose.translation, torch.full((2, 3), -250.0))
    assert moved.w is not None
    assert moved.noise is not None
    assert moved.w.shape == (2, 3, 2)
    assert moved.noise[0].shape == (2, 1, 4, 4)


def test_the_command(tmp_path: Path, tiny_model: MorphableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("garfast.fit.sequence_output._TEXTURE", 32)
    for number, yaw in enumerate((0.0, 0.1)):
        scene = make_scene(tiny_model, yaw=yaw)
        write_image(tmp_path / "frames" / f"{number}.png", scene.photo)
        write_pts(tmp_path / "frames" / f"{number}.pts", scene.landmarks)
    tiny_model.save(tmp_path / "tiny.npz")
    save_renderer(tmp_path / "weights", make_renderer())
    (tmp_path / "settings.toml").write_text('[[stage]]\nname = "joint"\nsteps = 2\n')
    monkeypatch.chdir(tmp_path)
    fixed = ("frames", "--sequence", "--model", "tiny.npz", "--device", "cpu", "--landmarks", "file")
    settings = ("--weights", "weights", "--config", "settings.toml")

    def run(output: str, *more: str) -> tuple[str, dict[str, Any]]:
        result = CliRunner().invoke(main, ["fit", *fixed, *settings, "-o", output, *more])
        assert result.exit_code == 0, result.output
        return result.output, json.loads((tmp_path / output / "frames" / "sequence.json").read_text())

    said, facts = run("full", "--batch", "2")
    assert "refinement kept: " in said or "refinement not kept: " in said
    assert facts["stages"] == ["landmarks", "refinement"]
    assert set(facts["renderer"]["refinement"]) == {"kept", "reason", "before", "after", "nearer"}
    frame = load_parameters(tmp_path / "full" / "frames" / "params" / "000002.json")
    assert [stage["name"] for stage in frame.info["stages"]] == ["landmarks", "refinement"]
    latent = load_latent(tmp_path / "full" / "frames" / "latents" / "000002.safetensors")
    assert latent.renderer == facts["renderer"]["weights"]
    arguments = ("--mode", "renderer", "--model", "tiny.npz", "--weights", "weights", "-o", "drawn.png")
    drawn = CliRunner().invoke(main, ["render", "full/frames/params/000002.json", *arguments])
    assert drawn.exit_code == 0, drawn.output
    assert read_image(tmp_path / "drawn.png").shape == (32, 32, 3)
    said, facts = run("inverted", "--stages", "inversion")
    assert "refinement" not in said
    assert facts["stages"] == ["landmarks", "inversion"]
    said, facts = run("landmarks", "--stages", "landmarks")
    assert facts["renderer"] is None
    assert not (tmp_path / "landmarks" / "frames" / "latents").exists()
