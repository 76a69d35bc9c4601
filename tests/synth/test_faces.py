"""Synthetic photographs: what they hold, that the truth fits the picture, and that samples repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from garfast.errors import ArgumentError
from garfast.morphable import Pose, camera_from_dict, load_model
from garfast.ops import rasterize_normals
from garfast.synth import SynthConfig, SyntheticFaces
from garfast.synth.sheet import contact_sheet


@pytest.fixture(scope="module")
def samples(ict_faces):
    return [ict_faces.sample(k) for k in range(8)]


def test_keys_shapes_and_types(ict_faces, samples):
    model = ict_faces.models[0]
    expected = {
        "image": ((96, 96, 3), np.uint8),
        "coverage": ((96, 96), np.uint8),
        "normal_map": ((3, 96, 96), np.float32),
        "mask": ((96, 96), np.uint8),
        "landmarks68": ((68, 2), np.float32),
        "landmarks68_contour": ((68, 2), np.float32),
        "landmarks68_3d": ((68, 3), np.float32),
        "visibility": ((68,), np.float32),
        "shape": ((model.num_shape,), np.float32),
        "exp": ((model.num_exp,), np.float32),
        "pose": ((6,), np.float32),
        "angles": ((3,), np.float32),
        "vertices": ((model.num_vertices, 3), np.float32),
    }
    for sample in samples:
        for key, (shape, dtype) in expected.items():
            assert sample[key].shape == shape, key
            assert sample[key].dtype == dtype, key


def test_truth_fits_together(ict_faces, samples):
    model = ict_faces.models[0]
    for sample in samples:
        pose = Pose(torch.from_numpy(sample["pose"][None, :3]), torch.from_numpy(sample["pose"][None, 3:]))
        vertices = pose.apply(model.evaluate(torch.from_numpy(sample["shape"]), torch.from_numpy(sample["exp"])))
        np.testing.assert_allclose(vertices[0].numpy(), sample["vertices"], atol=2e-2)
        points = model.landmarks(vertices)
        # Drawn from bases in 16 bits: a few hundredths of a millimetre at most.
        np.testing.assert_allclose(points[0].numpy(), sample["landmarks68_3d"], atol=5e-2)
        pixels = camera_from_dict(sample["camera"]).project(points)[0].numpy()
        np.testing.assert_allclose(pixels, sample["landmarks68"], atol=5e-2)


def test_normals_are_unit_where_the_mask_is(samples):
    for sample in samples:
        length = np.linalg.norm(sample["normal_map"], axis=0)
        np.testing.assert_allclose(length[sample["mask"] == 1], 1, atol=1e-4)
        assert (length[sample["mask"] == 0] == 0).all()
        assert 0.05 < sample["mask"].mean() < 0.98
        # What is seen faces the camera.
        assert sample["normal_map"][2][sample["mask"] == 1].mean() > 0.3


def test_normals_agree_with_the_operator(ict_head):
    every_triangle = SyntheticFaces(ict_head, size=96, seed=3, config=SynthConfig(vertices=True, simplify=0.0))
    mask, angle = _apart(ict_head, every_triangle.sample(2))
    assert mask < 0.002
    # The mouth's inside is left out while the lips are closed, and only then may a pixel between them differ.
    assert (angle < 2.5).mean() > 0.98


def test_a_simplified_mesh_shows_the_same_face(ict_faces, samples):
    apart = [_apart(ict_faces.models[0], sample) for sample in samples]
    assert max(mask for mask, _ in apart) < 0.003
    assert np.concatenate([angle for _, angle in apart]).mean() < 2.5


def _apart(model, sample):
    """How much the mask of a sample differs from that of all triangles, and the angles between normals, degrees."""
    camera = camera_from_dict(sample["camera"])
    vertices = torch.from_numpy(sample["vertices"])[None]
    drawn = rasterize_normals(vertices, model.triangles, camera.ndc(), (96, 96), projection=camera.projection)
    mask = drawn.mask[0, 0].numpy() == 1
    cosine = (drawn.normals[0].numpy() * sample["normal_map"]).sum(0)[mask & (sample["mask"] == 1)]
    return (mask != (sample["mask"] == 1)).mean(), np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("thing", ["hat", "glasses", "object", "beard", "hair"])
def test_things_change_the_picture_and_not_the_truth(ict_head, thing):
    nothing = {"hat": 0.0, "glasses": 0.0, "object": 0.0, "beard": 0.0, "hair": 0.0}
    plain = SyntheticFaces(ict_head, 64, seed=2, config=SynthConfig(**nothing, normals=False)).sample(1)
    worn = SyntheticFaces(ict_head, 64, seed=2, config=SynthConfig(**(nothing | {thing: 1.0}), normals=False)).sample(1)
    for key in ("landmarks68", "shape", "exp", "pose"):
        np.testing.assert_array_equal(plain[key], worn[key])
    assert (plain["image"] != worn["image"]).mean() > 0.01


def test_the_built_in_face_can_be_drawn(tmp_path):
    faces = SyntheticFaces(load_model("builtin"), 64, seed=1)
    samples = [faces.sample(k) for k in range(4)]
    assert any(sample["exp"].any() for sample in samples)
    assert all(sample["image"].std() > 5 for sample in samples)
    contact_sheet(faces, tmp_path / "sheet.png", 3, columns=2, landmarks=True)
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape == (128, 128, 3)


def test_landmarks_lie_on_the_head(samples):
    for sample in samples:
        # Inner face points: all on the head's mask (the brows' outer ends and the jaw may touch its rim).
        for x, y in sample["landmarks68"][27:]:
            column, row = int(x), int(y)
            if 0 <= column < 96 and 0 <= row < 96:
                around = sample["mask"][max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                assert around.any()


def test_the_contour_lies_farthest_outward(ict_faces, samples):
    template = ict_faces._painters[0].template
    for sample in samples:
        chains = [model_rows[model_rows >= 0] for model_rows in ict_faces.models[0].contour.numpy()]
        roll = float(sample["angles"][2])
        turn = np.array([[np.cos(roll), -np.sin(roll)], [-np.sin(roll), -np.cos(roll)]])
        outward = template.contour_directions @ turn
        for k, rows in enumerate(chains):
            points = torch.from_numpy(sample["vertices"][rows])[None]
            pixels = camera_from_dict(sample["camera"]).project(points)[0].numpy()
            best = pixels[(pixels @ outward[k]).argmax()]
            np.testing.assert_allclose(sample["landmarks68_contour"][k] @ outward[k], best @ outward[k], atol=0.05)


def test_contour_moves_only_the_jaw_and_outward(ict_head):
    turned = SynthConfig(max_yaw=60, tail_yaw=60, normals=False)
    faces = SyntheticFaces(ict_head, size=64, seed=5, config=turned)
    moved = 0
    for k in range(6):
        sample = faces.sample(k)
        np.testing.assert_array_equal(sample["landmarks68"][17:], sample["landmarks68_contour"][17:])
        distance = np.linalg.norm(sample["landmarks68"] - sample["landmarks68_contour"], axis=1)
        moved += int((distance > 2).sum())
    assert moved > 10


def test_a_sample_depends_on_seed_and_index_alone(ict_head, ict_faces, samples):
    again = SyntheticFaces(ict_head, size=96, seed=3, config=SynthConfig(vertices=True)).sample(5)
    other = SyntheticFaces(ict_head, size=96, seed=4, config=SynthConfig(vertices=True)).sample(5)
    for key in ("image", "normal_map", "landmarks68", "pose"):
        assert again[key].tobytes() == samples[5][key].tobytes()
        assert other[key].tobytes() != samples[5][key].tobytes()


def test_samples_do_not_depend_on_their_company(ict_head):
    models = [(ict_head, 0.5), (load_model("builtin"), 0.5)]
    faces = SyntheticFaces(models, size=48, seed=4, config=SynthConfig(photos_per_person=2))
    indices = [*range(7), 12, 3, 40]
    together = list(faces.samples(indices))
    assert {sample["model"] for sample in together} == {0, 1}
    for index, sample in zip(indices, together, strict=True):
        assert sample["index"] == index
        alone = faces.sample(index)
        assert alone.keys() == sample.keys()
        for key, value in alone.items():
            np.testing.assert_array_equal(value, sample[key], key)


def test_batch_stacks_samples(ict_faces, samples):
    batch = ict_faces.batch([1, 4])
    assert batch["image"].shape == (2, 96, 96, 3)
    np.testing.assert_array_equal(batch["image"][1].numpy(), samples[4]["image"])
    assert len(batch["camera"]) == 2
    with pytest.raises(ArgumentError, match="at least one"):
        ict_faces.batch([])


def test_a_loader_takes_batches(ict_head):
    faces = SyntheticFaces(ict_head, size=32, length=5)
    batches = list(torch.utils.data.DataLoader(faces, 3, collate_fn=list))
    assert [[sample["index"] for sample in batch] for batch in batches] == [[0, 1, 2], [3, 4]]
    np.testing.assert_array_equal(batches[1][1]["image"], faces[4]["image"])


def test_angles_and_framing_stay_in_range(ict_head):
    config = SynthConfig(max_yaw=30, tail_yaw=40, max_pitch=10, tail_pitch=12, face_scale=(0.2, 0.3), normals=False)
    faces = SyntheticFaces(ict_head, size=64, seed=9, config=config)
    for k in range(8):
        sample = faces.sample(k)
        yaw, pitch, roll = np.degrees(sample["angles"])
        assert abs(yaw) <= 40.01
        assert abs(pitch) <= 12.01
        assert abs(roll) <= 45.01
        extent = np.ptp(sample["landmarks68"], axis=0).max() / 64
        assert 0.19 < extent < 0.31
        assert "normal_map" not in sample


def test_bad_arguments(ict_head):
    with pytest.raises(ArgumentError, match="at least one model"):
        SyntheticFaces([])
    with pytest.raises(ArgumentError, match="16 pixels"):
        SyntheticFaces(ict_head, size=8)
    with pytest.raises(ArgumentError, match="face_scale"):
        SynthConfig(face_scale=(0.5, 0.2))
    with pytest.raises(ArgumentError, match="share"):
        SynthConfig(glasses=1.5)
