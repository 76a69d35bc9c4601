"""From a photograph to a `FitResult` and its folder."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import garfast
from garfast.errors import ArgumentError, ImageFileError, LandmarkError, ModelFileError, OutputError
from garfast.fit.output import OUTPUT_FILES
from garfast.fit.pipeline import Fitter, default_stages, fit_faces
from garfast.fit.result import FitResult
from garfast.fit.stages import FitState, Stage, geometry_stage, landmark_stage, run_stages, texture_stage
from garfast.io.images import read_image, write_image
from garfast.io.parameters import load_parameters
from garfast.landmarks import Detection
from garfast.morphable import MorphableModel, camera_from_dict
from tests.tiny_face import TinyScene, make_scene

trimesh = pytest.importorskip("trimesh")

QUICK = default_stages(texture_size=64)


@pytest.fixture(scope="module")
def scene(tiny_model: MorphableModel) -> TinyScene:
    return make_scene(tiny_model, yaw=0.25)


@pytest.fixture(scope="module")
def result(tiny_model: MorphableModel, scene: TinyScene) -> FitResult:
    return garfast.fit(scene.photo, landmarks=scene.landmarks, model=tiny_model, device="cpu", stages=QUICK)


def test_garfast_fit_is_a_function_and_a_package() -> None:
    code = (
        "import sys, garfast\n"
        "assert 'garfast.fit' not in sys.modules\n"
        "assert callable(garfast.fit)\n"
        "assert not {'scipy', 'trimesh', 'PIL', 'skimage', 'garfast.fit.pipeline'} & set(sys.modules)\n"
        "import garfast.fit.pipeline\n"
        "assert callable(garfast.fit) and callable(garfast.fit.pipeline.fit)\n"
        "from garfast import fit, FitResult\n"
        "assert fit is garfast.fit and FitResult.__module__ == 'garfast.fit.result'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_finds_the_face_that_was_photographed(result: FitResult, scene: TinyScene) -> None:
    assert result.converged
    assert result.mean_residual < 1.0
    assert result.nme == pytest.approx(result.mean_residual / 120, rel=0.5)
    yaw, pitch, roll = result.angles
    assert np.rad2deg(0.25) == pytest.approx(yaw, abs=4)
    assert abs(pitch) < 4
    assert abs(roll) < 3
    projected = result.camera.project(torch.from_numpy(result.vertices_camera)[None])[0].numpy()
    truth = scene.camera.project(scene.vertices)[0].numpy()
    assert np.linalg.norm(projected - truth, axis=1).mean() < 4


def test_arrays_agree_with_each_other(result: FitResult, tiny_model: MorphableModel) -> None:
    vertices = result.model.num_vertices
    assert result.vertices.shape == result.vertices_camera.shape == result.vertex_normals.shape == (vertices, 3)
    assert result.shape.shape == (tiny_model.num_shape,)
    assert result.exp.shape == (tiny_model.num_exp,)
    assert result.normals.shape == (240, 200, 3)
    assert result.mask.shape == (240, 200)
    np.testing.assert_allclose(np.linalg.norm(result.normals[result.mask], axis=1), 1, atol=1e-3)
    assert (result.normals[~result.mask] == 0).all()
    assert result.normals[result.mask][:, 2].mean() > 0.5
    np.testing.assert_allclose(np.linalg.norm(result.vertex_normals, axis=1), 1, atol=1e-3)
    homogeneous = np.concatenate([result.vertices, np.ones((vertices, 1))], 1)
    opengl = homogeneous @ result.opengl_matrix.T
    np.testing.assert_allclose(opengl[:, :3], result.vertices_camera, atol=1e-3)
    opencv = homogeneous @ result.opencv_matrix.T
    opencv[:, 2] = 1  # orthographic
    pixels = (opencv[:, :3] @ result.intrinsics.T)[:, :2]
    expected = result.camera.project(torch.from_numpy(result.vertices_camera)[None])[0].numpy()
    np.testing.assert_allclose(pixels, expected, atol=1e-2)
    np.testing.assert_allclose(result.landmarks_fitted[17:], pixels[tiny_model.landmark_triangles[17:, 0]], atol=1e-2)


def test_says_what_ran(result: FitResult) -> None:
    assert [stage.name for stage in result.stages] == ["landmarks", "geometry", "texture"]
    assert result.stages[0].losses["nme"] == pytest.approx(result.nme, rel=0.3)
    assert result.seconds > 0
    assert result.detection.source == "given"
    assert set(result.backends) == {"vertex_normals", "rasterize_normals"}


def test_mesh(result: FitResult) -> None:
    mesh = result.mesh()
    assert isinstance(mesh, trimesh.Trimesh)
    np.testing.assert_allclose(mesh.vertices, result.vertices, atol=1e-4)


def test_pinhole(tiny_model: MorphableModel, scene: TinyScene) -> None:
    stages = default_stages("pinhole", texture_size=64)
    result = garfast.fit(scene.photo, landmarks=scene.landmarks, model=tiny_model, device="cpu", stages=stages)
    assert result.camera.projection == "pinhole"
    assert result.vertices_camera[:, 2].max() < 0
    assert result.mask.sum() > 5000


def test_stages_can_be_added_between(tiny_model: MorphableModel, scene: TinyScene) -> None:
    def grow(state: FitState) -> dict[str, float]:
        assert state.shape is not None
        state.shape = state.shape + 1
        return {"steps": 3, "loss": 0.5}

    landmark, *rest = QUICK
    fitter = Fitter(landmarks=scene.landmarks, model=tiny_model, device="cpu", stages=[landmark, *rest])
    plain = fitter.fit(scene.photo, fitter.detect(scene.photo)[0])
    fitter = Fitter(
        landmarks=scene.landmarks, model=tiny_model, device="cpu", stages=[landmark, Stage("grow", grow), *rest]
    )
    grown = fitter.fit(scene.photo, fitter.detect(scene.photo)[0])
    np.testing.assert_allclose(grown.shape, plain.shape + 1, atol=1e-5)
    assert np.abs(grown.vertices - plain.vertices).max() > 1
    assert grown.parameters().info["stages"][1]["losses"] == {"steps": 3, "loss": 0.5}
    fitter = Fitter(model=tiny_model, device="cpu", stages=[geometry_stage(), texture_stage()])
    with pytest.raises(ArgumentError, match="no stage of the fit sets"):
        fitter.fit(scene.photo, plain.detection)


def test_several_faces_largest_first(tiny_model: MorphableModel, scene: TinyScene) -> None:
    centre = scene.landmarks.mean(0)
    small = (scene.landmarks - centre) * 0.6 + centre
    options = {"landmarks": np.stack([small, scene.landmarks]), "model": tiny_model, "device": "cpu", "stages": QUICK}
    results = fit_faces(scene.photo, **options)
    assert [r.face_index for r in results] == [1, 2]
    assert all(r.face_count == 2 for r in results)
    ratio = float(results[1].camera.scale / results[0].camera.scale)
    assert ratio == pytest.approx(0.6, rel=0.1)
    second = garfast.fit(scene.photo, face=2, **options)
    np.testing.assert_array_equal(second.shape, results[1].shape)
    with pytest.raises(LandmarkError, match="face 3 was asked for, but 2 faces"):
        garfast.fit(scene.photo, face=3, **options)
    with pytest.raises(ArgumentError, match="fit_faces"):
        garfast.fit(scene.photo, face="all", **options)


def test_wrong_arguments(tmp_path: Path, tiny_model: MorphableModel, scene: TinyScene) -> None:
    good = {"landmarks": scene.landmarks, "model": tiny_model, "device": "cpu", "stages": QUICK}
    nan_photo = scene.photo.astype(np.float32) / 255
    nan_photo[0, 0] = np.nan
    nan_landmarks = np.full((68, 2), np.nan, np.float32)
    for image, change, error, words in (
        (tmp_path / "none.png", {}, ImageFileError, "there is no image"),
        (nan_photo, {}, ArgumentError, "NaN"),
        (scene.photo, {"landmarks": scene.landmarks[:5]}, LandmarkError, r"\[68,2\]"),
        (scene.photo, {"landmarks": nan_landmarks}, LandmarkError, "nothing at all"),
        (scene.photo, {"landmarks": scene.landmarks * np.inf}, LandmarkError, "infinite"),
        (scene.photo, {"device": "nonsense"}, ArgumentError, "nonsense"),
        (scene.photo, {"projection": "fisheye"}, ArgumentError, "fisheye"),
        (scene.photo, {"model": tmp_path / "none.npz"}, ModelFileError, "none.npz"),
    ):
        with pytest.raises(error, match=words) as caught:
            garfast.fit(image, **(good | change))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="there is no device 'cuda'"):
        Fitter(device="cuda")


def test_saved_folder(tmp_path: Path, result: FitResult) -> None:
    folder = result.save(tmp_path / "out" / "face")
    assert sorted(p.name for p in folder.iterdir()) == sorted(OUTPUT_FILES)
    assert [p.name for p in folder.parent.iterdir()] == ["face"]
    obj = trimesh.load(folder / "mesh.obj", process=False, force="mesh")
    glb = trimesh.load(folder / "mesh.glb", process=False, force="mesh")
    np.testing.assert_array_equal(obj.vertices[obj.faces].astype(np.float32), result.vertices[result.triangles])
    np.testing.assert_allclose(glb.vertices * 1000, result.vertices, atol=1e-3)
    normals = read_image(folder / "normals.png")
    assert normals.shape == result.image.shape
    np.testing.assert_array_equal(normals.any(2), result.mask)
    decoded = normals[result.mask] / 127.5 - 1
    np.testing.assert_allclose(decoded, result.normals[result.mask], atol=0.005)

    loaded = load_parameters(folder)
    np.testing.assert_array_equal(loaded.shape, result.shape)
    np.testing.assert_array_equal(loaded.landmarks, result.landmarks)
    camera = camera_from_dict(loaded.camera)
    torch.testing.assert_close(camera.ndc(), result.camera.ndc())
    assert loaded.pose["yaw"] == pytest.approx(result.angles[0], abs=1e-4)
    np.testing.assert_array_equal(np.asarray(loaded.info["opengl"], np.float32), result.opengl_matrix)
    assert loaded.info["versions"]["torch"] == torch.__version__
    json.dumps(loaded.info, allow_nan=False)


def test_saving_again(tmp_path: Path, result: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_pictures(monkeypatch)
    result.save(tmp_path / "face")
    with pytest.raises(OutputError, match="overwrite"):
        result.save(tmp_path / "face")
    (tmp_path / "face" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        result.save(tmp_path / "face", overwrite=True)
    (tmp_path / "face" / "notes.txt").unlink()
    (tmp_path / "face" / "mesh.obj").unlink()
    result.save(tmp_path / "face", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "face").iterdir()) == sorted(OUTPUT_FILES)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        result.save(tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("writer", ["write_obj", "write_image", "write_report", "save_parameters"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, result: FitResult, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    quick_pictures(monkeypatch)

    def full(path: Path, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"garfast.fit.output.{writer}", full)
    with pytest.raises(OutputError, match="no space left on the disk"):
        result.save(tmp_path / "face")
    assert not list(tmp_path.iterdir())


def test_nan_is_not_written(tmp_path: Path, result: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_pictures(monkeypatch)
    exp = result.exp.copy()
    exp[0] = np.nan
    with pytest.raises(ArgumentError, match="exp"):
        dataclasses.replace(result, exp=exp).save(tmp_path / "face")
    vertices = result.vertices.copy()
    vertices[0] = np.nan
    with pytest.raises(ArgumentError, match="vertices"):
        dataclasses.replace(result, vertices=vertices).save(tmp_path / "face")
    assert not list(tmp_path.iterdir())


def test_a_large_photograph_has_smaller_pictures(tiny_model: MorphableModel) -> None:
    scene = make_scene(tiny_model, size=(600, 500), scale=2.0)
    photo = np.zeros((600, 6000, 3), np.uint8)
    photo[:, :500] = scene.photo
    result = garfast.fit(photo, landmarks=scene.landmarks, model=tiny_model, device="cpu", stages=QUICK)
    assert result.normals.shape == (205, 2048, 3)
    assert result.camera.image_size == (600, 6000)
    assert result.landmarks_fitted[8] == pytest.approx(scene.landmarks[8], abs=4)


def test_landmarks_outside_the_photograph_are_refused(tiny_model: MorphableModel, scene: TinyScene) -> None:
    for landmarks in (scene.landmarks + 5000, [list(point) for point in scene.landmarks + 5000]):
        with pytest.raises(LandmarkError, match="lie outside the photo"):
            garfast.fit(scene.photo, landmarks=landmarks, model=tiny_model, device="cpu", stages=QUICK)


def test_a_small_photograph(tmp_path: Path, tiny_model: MorphableModel) -> None:
    scene = make_scene(tiny_model, size=(64, 64), scale=0.27)
    write_image(tmp_path / "small.png", scene.photo)
    result = garfast.fit(
        tmp_path / "small.png", landmarks=scene.landmarks, model=tiny_model, device="cpu", stages=QUICK
    )
    assert result.source == tmp_path / "small.png"
    assert result.sha256 is not None
    assert result.normals.shape == (64, 64, 3)
    assert result.mask.sum() > 500


def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sheet_picture", "overlay_picture"):
        monkeypatch.setattr(f"garfast.fit.output.{name}", lambda result: np.zeros((4, 4, 3), np.uint8))


def test_landmarks_that_a_network_found_are_trusted_less(tiny_model: MorphableModel, scene: TinyScene) -> None:
    """The same points with errors that the model could follow: as a detector's they leave the face nearer the mean."""
    noise = np.random.default_rng(0).normal(0, 0.3, scene.landmarks.shape).astype(np.float32)
    box = np.concatenate([scene.landmarks.min(0), scene.landmarks.max(0)])
    lengths = []
    for source in ("file a.pts", "embedded"):
        detection = Detection(scene.landmarks + noise, np.ones(68, np.float32), 1.0, box, source, "fixed")
        state = run_stages(FitState(scene.photo, detection, tiny_model), [landmark_stage()])
        assert state.shape is not None
        assert state.exp is not None
        lengths.append(float(torch.cat([state.shape, state.exp], 1).norm()))
    assert lengths[1] < lengths[0]
