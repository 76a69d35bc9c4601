"""The whole fit with a renderer: stages, files, falling back, and what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from garfast.cli.fit import command
from garfast.errors import ArgumentError, GarfastError, ParametersFileError, WeightsFileError
from garfast.fit import refinement_stages
from garfast.fit.inversion import align_photo, aligned_state, invert, unaligned
from garfast.fit.latent import FILE_NAME, Latent, fingerprint, load_latent, save_latent
from garfast.fit.pipeline import Fitter, Job, default_stages
from garfast.fit.refine_config import GEOMETRY, LossWeights, RefineConfig, RefineStage, preset, scaled
from garfast.fit.result import FitResult
from garfast.io.images import write_image
from garfast.io.parameters import load_parameters
from garfast.landmarks import Detection
from garfast.landmarks.alignment import Alignment
from garfast.morphable import MorphableModel, OrthographicCamera, PinholeCamera, Pose
from garfast.networks.renderer import Renderer, save_renderer
from tests.fit.tiny_renderer import make_renderer
from tests.tiny_face import TinyScene, make_scene

SHORT = RefineConfig(
    (
        RefineStage("geometry", 15, GEOMETRY, LossWeights(normals=1)),
        RefineStage("joint", 2, weights=LossWeights(photometric=1, perceptual=1, landmark=0.01, noise=0.1)),
    )
)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return make_renderer()


@pytest.fixture(scope="module")
def scene(tiny_model: MorphableModel) -> TinyScene:
    return make_scene(tiny_model, yaw=0.2)


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large pictures are tested elsewhere, and take seconds."""
    for picture in ("sheet_picture", "overlay_picture"):
        monkeypatch.setattr(f"garfast.fit.output.{picture}", lambda result: np.zeros((4, 4, 3), np.uint8))


def job(scene: TinyScene, shift: float = 0.0) -> Job:
    ones = np.ones(68, np.float32)
    return Job(scene.photo, Detection(scene.landmarks + shift, ones, 1.0, np.zeros(4), "given"))


def fitter(model: MorphableModel, renderer: Renderer, config: RefineConfig | None) -> Fitter:
    stages = default_stages(texture_size=32, renderer=renderer, refinement=config)
    return Fitter(model=model, device="cpu", stages=stages)


@pytest.fixture(scope="module")
def lenient() -> RefineConfig:
    """Keeps what a random estimator led to. So small a picture has no squares to hold out."""
    return RefineConfig(SHORT.stages, normal_tilt=0.0, max_growth_nme=10.0, min_gain=0.0, holdout=0.0)


@pytest.fixture(scope="module")
def result(tiny_model: MorphableModel, renderer: Renderer, scene: TinyScene, lenient: RefineConfig) -> FitResult:
    (found,) = fitter(tiny_model, renderer, lenient).fit_many([job(scene)])
    assert isinstance(found, FitResult)
    return found


def test_stages_and_their_record(result: FitResult) -> None:
    assert [stage.name for stage in result.stages] == ["landmarks", "inversion", "refinement", "geometry", "texture"]
    losses = result.stages[2].losses
    assert losses["kept"] is True
    assert losses["geometry"]["steps"] == 15
    assert set(losses["joint"]["last"]) == {"photometric", "perceptual", "landmark", "noise"}
    assert result.appearance is not None
    assert result.appearance.warning is None
    for picture in (result.appearance.photo, result.appearance.render, result.appearance.inverted):
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
    assert result.appearance.normals_estimated is not None
    assert result.appearance.normals_fitted[16, 16, 2] > 150


def test_a_refinement_that_is_worse_is_not_kept(
    tiny_model: MorphableModel, renderer: Renderer, scene: TinyScene
) -> None:
    config = RefineConfig(SHORT.stages, min_gain=0.99)
    full, plain = (
        Fitter(model=tiny_model, device="cpu", stages=stages).fit(*(scene.photo, job(scene).detection))
        for stages in (
            default_stages(texture_size=32, renderer=renderer, refinement=config),
            default_stages(texture_size=32),
        )
    )
    np.testing.assert_array_equal(full.vertices, plain.vertices)
    assert full.camera.to_dict() == plain.camera.to_dict()
    assert full.appearance is not None
    assert full.appearance.warning is not None
    assert full.appearance.warning.startswith("The refinement was not kept, the mesh is the landmark fit's: the ")
    assert full.stages[2].losses["kept"] is False
    stored = full.parameters().info["renderer"]["refinement"]
    assert stored["kept"] is False
    assert set(stored["before"]) == {"landmarks", "normals", "photometric"}


def test_equation_10_alone(tiny_model: MorphableModel, renderer: Renderer, scene: TinyScene) -> None:
    """The preset 'paper': nothing but the renderer moves the mesh, so its inverter matters, and nothing judges it."""
    config = scaled(preset("paper"), 0.03)
    shapes = []
    without = (replace(renderer, inverter=None), replace(config, latent="w"))
    for networks, settings in ((renderer, config), without):
        found = fitter(tiny_model, networks, settings).fit(scene.photo, job(scene).detection)
        losses = found.stages[2].losses
        assert losses["kept"] is True
        assert losses["joint"]["steps"] == 4
        assert set(losses["joint"]["last"]) == {"photometric", "perceptual", "noise"}
        shapes.append(found.shape)
    plain = Fitter(model=tiny_model, device="cpu", stages=default_stages(texture_size=32))
    before = plain.fit(scene.photo, job(scene).detection).shape
    assert (shapes[0] != before).any()
    assert (shapes[0] != shapes[1]).any()


def test_inversion_alone_leaves_the_geometry(
    tiny_model: MorphableModel, renderer: Renderer, scene: TinyScene, tmp_path: Path
) -> None:
    found = fitter(tiny_model, renderer, None).fit(scene.photo, job(scene).detection)
    assert [stage.name for stage in found.stages] == ["landmarks", "inversion", "geometry", "texture"]
    assert found.appearance is not None
    assert found.appearance.refinement is None
    np.testing.assert_array_equal(found.appearance.inverted, found.appearance.render)
    found.save(tmp_path / "out")
    assert "none: inversion only" in (tmp_path / "out" / "report.html").read_text()


def test_what_is_written_can_be_read(result: FitResult, renderer: Renderer, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "out")
    latent = load_latent(folder)
    assert latent.renderer == fingerprint(renderer.generator)
    assert latent.info == {"kept": True}
    assert result.appearance is not None
    torch.testing.assert_close(latent.w, result.appearance.latent.w)
    for stored, noise in zip(latent.noise, result.appearance.latent.noise, strict=True):
        torch.testing.assert_close(stored, noise, atol=2e-3, rtol=1e-3)
    info = load_parameters(folder).info["renderer"]
    assert info["size"] == 32
    assert info["refinement"]["kept"] is True
    np.testing.assert_allclose(info["alignment"], latent.alignment.matrix[0].numpy(), rtol=1e-5)
    page = (folder / "report.html").read_text()
    assert "kept: " in page


def test_latents_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ParametersFileError, match="fit the photograph with a renderer's weights"):
        load_latent(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(b"nothing")
    with pytest.raises(ParametersFileError, match="truncated or no latent"):
        load_latent(path)
    alignment = Alignment(torch.eye(2, 3)[None], 8)
    save_latent(path, Latent(torch.zeros(1, 2, 3), None, [torch.zeros(1, 1, 4, 4)], alignment, "name"))
    assert load_latent(tmp_path).z is None
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ParametersFileError, match="truncated or no latent"):
        load_latent(path)


def test_faces_are_fitted_together_and_fail_alone(
    tiny_model: MorphableModel, renderer: Renderer, scene: TinyScene, lenient: RefineConfig, result: FitResult
) -> None:
    blind = Detection(np.full((68, 2), np.nan, np.float32), np.zeros(68, np.float32), 1.0, np.zeros(4), "given")
    first, failed, second = fitter(tiny_model, renderer, lenient).fit_many(
        [job(scene), Job(scene.photo, blind), job(scene, 1.5)]
    )
    assert isinstance(failed, GarfastError)
    assert isinstance(first, FitResult)
    assert isinstance(second, FitResult)
    np.testing.assert_allclose(first.vertices, result.vertices, atol=0.3)
    assert np.abs(first.landmarks_fitted - second.landmarks_fitted).max() > 0.5


def test_alignment_and_back(tiny_model: MorphableModel, scene: TinyScene) -> None:
    """Faces in the aligned picture, and put back, lie where they were, under both cameras."""
    landmarks = torch.from_numpy(scene.landmarks)[None]
    turned = torch.tensor([[0.9, -0.2], [0.2, 0.9]])
    image, alignment = align_photo(scene.photo, landmarks @ turned, 32)
    assert image.shape == (1, 3, 32, 32)
    pinhole = PinholeCamera(torch.tensor([[400.0, 400.0]]), torch.tensor([[90.0, 110.0]]), (240, 200))
    far = Pose(scene.pose.rotation, torch.tensor([[5.0, -3.0, -600.0]]))
    size = (240, 200)
    for camera, pose in ((scene.camera, scene.pose), (pinhole, far)):
        assert isinstance(camera, (OrthographicCamera, PinholeCamera))
        coefficients = torch.zeros(1, 6), torch.zeros(1, 4)
        state = aligned_state(alignment, *coefficients, pose, camera)
        vertices = tiny_model.evaluate(*coefficients)
        photo = camera.project(pose.apply(vertices))
        inside = state.camera.project(state.pose.apply(vertices))
        torch.testing.assert_close(alignment.apply(photo), inside, atol=2e-3, rtol=1e-4)
        back_pose, back_camera = unaligned(state, alignment, size)
        assert back_camera.image_size == size
        torch.testing.assert_close(back_camera.project(back_pose.apply(vertices)), photo, atol=2e-2, rtol=1e-4)


def test_without_an_inverter_the_mean_style_is_the_start() -> None:
    renderer = make_renderer(inverter=False)
    w, z, noise = invert(renderer, torch.zeros(2, 3, 32, 32))
    assert z is None
    assert (w == renderer.generator.mapping.mean_w).all()
    torch.testing.assert_close(noise[-1][0], noise[-1][1])
    assert noise[-1].shape == (2, 1, 32, 32)


@pytest.mark.parametrize("name", ["invert", "refine", "judge"])
def test_memory_that_runs_out_is_said(
    tiny_model: MorphableModel, renderer: Renderer, scene: TinyScene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(refinement_stages, name, fail)
    fit = fitter(tiny_model, renderer, SHORT)
    with pytest.raises(GarfastError, match="not enough memory to fit 4 faces at once: try --batch 2"):
        fit.fit_many([job(scene)] * 4)


class TestCommand:
    """``garfast fit``; a model file and landmark files stand in for model and detector."""

    @pytest.fixture
    def photo(self, tmp_path: Path, scene: TinyScene) -> Path:
        path = tmp_path / "photo.png"
        write_image(path, scene.photo)
        np.save(tmp_path / "photo.npy", scene.landmarks)
        return path

    def run(self, photo: Path, model: MorphableModel, *more: str) -> tuple[int, str]:
        model.save(photo.parent / "tiny.npz")
        arguments = [str(photo), "-o", str(photo.parent / "out"), "--landmarks", str(photo.with_suffix(".npy"))]
        outcome = CliRunner().invoke(command, [*arguments, "--model", str(photo.parent / "tiny.npz"), *more])
        return outcome.exit_code, outcome.output if outcome.exception is None else str(outcome.exception)

    def test_full(self, photo: Path, tiny_model: MorphableModel, renderer: Renderer) -> None:
        save_renderer(photo.parent / "weights", renderer)
        settings = photo.parent / "settings.toml"
        settings.write_text('[[stage]]\nname = "geometry"\nsteps = 2\n')
        weights = str(photo.parent / "weights")
        code, said = self.run(photo, tiny_model, "--weights", weights, "--config", str(settings))
        assert code == 0, said
        assert "refinement " in said
        assert (photo.parent / "out" / "photo" / FILE_NAME).is_file()

    def test_no_weights(
        self, photo: Path, tiny_model: MorphableModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("garfast.networks.renderer.SHIPPED", tmp_path / "none")
        code, said = self.run(photo, tiny_model, "--stages", "full")
        assert code != 0
        assert "--stages full needs a renderer, but there are no renderer weights" in said
        code, said = self.run(photo, tiny_model)
        assert code == 0, said
        assert said.startswith("Fitting landmarks only: there are no renderer weights")
        assert [stage["name"] for stage in load_parameters(tmp_path / "out" / "photo").info["stages"]][:2] == [
            "landmarks",
            "geometry",
        ]

    def test_weights_of_another_kind(self, photo: Path, tiny_model: MorphableModel) -> None:
        code, said = self.run(photo, tiny_model, "--weights", str(photo.parent))
        assert code != 0
        assert "generator.safetensors" in said

    def test_settings(self) -> None:
        shown = CliRunner().invoke(command, ["--show-config", "--preset", "fast"]).output
        assert shown.startswith('latent = "w+"')
        wrong = CliRunner().invoke(command, ["--show-config", "--preset", "slow"])
        assert isinstance(wrong.exception, ArgumentError)
        both = CliRunner().invoke(command, ["--show-config", "--preset", "fast", "--config", "x"])
        assert "exclude each other" in both.output


def test_a_renderer_without_normal_maps_is_refused(tiny_model: MorphableModel) -> None:
    from garfast.networks.generator import Generator

    other = make_renderer()
    config = replace(other.generator.config, condition="depth")
    with pytest.raises(WeightsFileError, match="faces need one that takes normal maps"):
        default_stages(renderer=Renderer(Generator(config)))
    small = Renderer(make_renderer(64).generator, other.inverter)
    with pytest.raises(WeightsFileError, match="the inverter takes pictures of 32 pixels, but the renderer makes 64"):
        default_stages(renderer=small)
