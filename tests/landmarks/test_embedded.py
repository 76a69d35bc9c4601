from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from garfast.errors import ArgumentError, WeightsFileError
from garfast.landmarks import detect, example_landmarks, read_landmarks
from garfast.landmarks.detection import IBUG_FLIP
from garfast.landmarks.embedded import VIEWS, WEIGHTS, _turn_back, detect_embedded, frames, load_networks, mark
from garfast.networks.landmark_net import NUM_POINTS

# Percent of the square root of the landmark box's area, on the one real photo that is here.
ASTRONAUT_BOUND = 4.0


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return read_landmarks(example_landmarks())[0].landmarks


def _nme(found: np.ndarray, truth: np.ndarray) -> float:
    size = np.sqrt(np.ptp(truth[:, 0]) * np.ptp(truth[:, 1]))
    return float(100 * np.linalg.norm(found - truth, axis=1).mean() / size)


def test_the_weights_are_small_and_the_networks_too():
    files = list(WEIGHTS.glob("*.safetensors"))
    assert {file.name for file in files} == {"faces.safetensors", "landmarks.safetensors"}
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    networks = load_networks()
    assert sum(p.numel() for p in networks.marker.parameters()) <= 3_000_000
    assert not networks.marker.training


def test_the_astronaut_is_found_and_marked(astronaut, truth):
    found = detect_embedded(astronaut)
    assert len(found) == 1
    face = found[0]
    assert face.landmarks.shape == (68, 2)
    assert face.landmarks.dtype == np.float32
    assert face.landmarks_score.shape == (68,)
    assert 0 < face.landmarks_score.min() <= face.landmarks_score.max() <= 1
    assert 0.5 <= face.score <= 1
    assert (face.source, face.contour) == ("embedded", "sliding")
    assert _nme(face.landmarks, truth) < ASTRONAUT_BOUND


def test_both_jaw_lines(astronaut):
    sliding, fixed = detect_embedded(astronaut)[0], detect_embedded(astronaut, jaw="3d")[0]
    assert fixed.contour == "fixed"
    assert np.array_equal(sliding.landmarks[17:], fixed.landmarks[17:])
    assert not np.array_equal(sliding.landmarks[:17], fixed.landmarks[:17])
    size = np.sqrt(fixed.size)
    assert np.linalg.norm(sliding.landmarks[:17] - fixed.landmarks[:17], axis=1).max() < 0.2 * size


def test_detect_uses_it(astronaut):
    one, two = detect(astronaut, "embedded")[0], detect_embedded(astronaut)[0]
    assert np.array_equal(one.landmarks, two.landmarks)  # and the same twice, bit by bit


def test_mirroring_the_photo_mirrors_the_landmarks(astronaut):
    face = detect_embedded(astronaut)[0]
    mirrored = detect_embedded(np.ascontiguousarray(astronaut[:, ::-1]))[0]
    from garfast.landmarks import IBUG_FLIP

    back = mirrored.landmarks[IBUG_FLIP] * [-1, 1] + [astronaut.shape[1], 0]
    assert _nme(back, face.landmarks) < 1.5


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket", "coins", "text", "page", "brick", "gravel", "moon"])
def test_no_face_in_pictures_of_other_things(name):
    from skimage import data

    image = getattr(data, name)()
    image = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])
    assert detect_embedded(image) == []


def test_a_small_face_in_a_large_picture(astronaut, truth):
    canvas = np.full((1500, 3000, 3), 90, np.uint8)
    canvas[::40] = 140
    small = np.asarray(Image.fromarray(astronaut).resize((400, 400), Image.Resampling.BOX))
    canvas[800:1200, 2100:2500] = small
    found = detect_embedded(canvas)
    assert len(found) == 1
    assert _nme(found[0].landmarks, truth * (400 / 512) + [2100, 800]) < 1.5 * ASTRONAUT_BOUND


@pytest.mark.parametrize("angle", [-30, 30])
def test_a_leaning_head(astronaut, truth, angle):
    turned = np.asarray(Image.fromarray(astronaut).rotate(angle, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)))
    radians = np.radians(angle)
    offset = truth - 256
    x = np.cos(radians) * offset[:, 0] + np.sin(radians) * offset[:, 1]
    y = np.cos(radians) * offset[:, 1] - np.sin(radians) * offset[:, 0]
    found = detect_embedded(turned)
    assert len(found) == 1
    assert _nme(found[0].landmarks, np.stack([x, y], 1) + 256) < 1.5 * ASTRONAUT_BOUND


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_photo_that_lies_on_its_side(astronaut, truth, quarter):
    found = detect_embedded(np.ascontiguousarray(np.rot90(astronaut, quarter)))
    assert len(found) == 1
    marks = found[0]._replace(landmarks=found[0].landmarks)
    for _ in range(4 - quarter):
        marks = marks._replace(landmarks=_rot90(marks.landmarks, 512))
    assert _nme(marks.landmarks, truth) < 1.5 * ASTRONAUT_BOUND


def _rot90(points: np.ndarray, width: float) -> np.ndarray:
    """Points of a photo after ``numpy.rot90`` of it."""
    return np.stack([points[:, 1], width - points[:, 0]], 1)


@pytest.mark.parametrize("side", [1.05, 1.2, 1.5])
def test_a_photo_that_is_the_crop_of_a_face(astronaut, truth, side):
    low, high = truth.min(0), truth.max(0)
    half = 0.5 * side * (high - low).max()
    x0, y0 = (0.5 * (low + high) - half).round().astype(int)
    crop = np.ascontiguousarray(astronaut[y0 : y0 + int(2 * half), x0 : x0 + int(2 * half)])
    found = detect_embedded(crop)
    assert len(found) == 1
    assert _nme(found[0].landmarks, truth - [x0, y0]) < 1.5 * ASTRONAUT_BOUND


def test_several_faces_the_largest_first(astronaut):
    face = astronaut[0:256, 96:352]
    canvas = np.full((400, 700, 3), 100, np.uint8)
    canvas[100:356, 20:276] = face
    canvas[50:210, 300:460] = np.asarray(Image.fromarray(face).resize((160, 160), Image.Resampling.BOX))
    canvas[220:390, 500:670] = np.asarray(Image.fromarray(face[:, ::-1]).resize((170, 170), Image.Resampling.BOX))
    found = detect_embedded(canvas)
    assert len(found) == 3
    assert [face.size for face in found] == sorted((face.size for face in found), reverse=True)
    assert found[0].box[0] < 276


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (13, 13), (20, 900), (64, 64), (257, 31)])
def test_pictures_of_any_size_without_a_face(shape):
    assert detect_embedded(np.full((*shape, 3), 127, np.uint8)) == []


def test_wrong_arguments(astronaut):
    with pytest.raises(ArgumentError, match="uint8"):
        detect_embedded(astronaut.astype(np.float32))
    with pytest.raises(ArgumentError, match="uint8"):
        detect_embedded(astronaut[..., 0])
    with pytest.raises(ArgumentError, match="jaw must be one of"):
        detect_embedded(astronaut, jaw="round")
    with pytest.raises(WeightsFileError, match="there is no weight file"):
        load_networks(Path("/nonexistent"))


def test_turned_landmarks_come_back():
    rng = np.random.default_rng(0)
    points = rng.uniform(10, 90, (68, 2)).astype(np.float32)
    height, width = 100, 160
    turned = points
    for quarter in (1, 2, 3):
        turned = _rot90(turned, width if quarter % 2 else height)
        from garfast.landmarks import Detection

        face = Detection(turned, np.ones(68, np.float32), 1.0, np.zeros(4, np.float32), "embedded")
        assert np.allclose(_turn_back(face, quarter, (height, width)).landmarks, points, atol=1e-3)


def test_marking_follows_the_place_it_is_given(astronaut, truth):
    """A crop that is shifted, turned and of another size moves the landmarks by much less than itself."""
    marker = load_networks().marker
    photo = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)
    box = torch.tensor(truth).unsqueeze(0).repeat(1, 1, 1)
    place = frames(torch.cat([box, box[:, :17]], 1))
    moved = place + torch.tensor([[0.04, -0.04, 0.08, 0.0]]) * place[:, 2:3] + torch.tensor([[0, 0, 0, 0.15]])
    with torch.no_grad():
        one, score, face = mark(marker, photo, place)
        two, _, _ = mark(marker, photo, moved)
    assert one.shape == (1, NUM_POINTS, 2)
    assert score.shape == (1, NUM_POINTS)
    assert face.item() > 0.5
    assert _nme(two[0].numpy(), one[0].numpy()) < 4.0


def test_a_mirrored_photo_has_mirrored_landmarks(astronaut: np.ndarray):
    """The views of a face are as many of one side as of the other."""
    marker = load_networks().marker
    photo = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)
    place = torch.tensor([[224.0, 120.0, 110.0, 0.1]])
    mirrored = torch.tensor([[astronaut.shape[1] - 224.0, 120.0, 110.0, -0.1]])
    with torch.no_grad():
        here, sure, face = mark(marker, photo, place, VIEWS)
        there, sure_there, face_there = mark(marker, photo.flip(2), mirrored, VIEWS)
    back = there.numpy()[0, IBUG_FLIP] * [-1, 1] + [astronaut.shape[1], 0]
    assert _nme(back, here[0, :68].numpy()) < 0.05
    torch.testing.assert_close(sure_there[0, :68][IBUG_FLIP], sure[0, :68], atol=0.02, rtol=0)
    torch.testing.assert_close(face_there, face, atol=1e-3, rtol=0)


def test_views_are_averaged(astronaut: np.ndarray):
    marker = load_networks().marker
    photo = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)
    places = torch.tensor([[224.0, 120.0, 110.0, 0.1], [200.0, 130.0, 90.0, 0.0]])
    with torch.no_grad():
        every = mark(marker, photo, places, VIEWS)
        single = [mark(marker, photo, places, [view]) for view in VIEWS]
    torch.testing.assert_close(every[0], torch.stack([one[0] for one in single]).mean(0), atol=1e-2, rtol=0)
    torch.testing.assert_close(every[2], torch.stack([one[2] for one in single]).mean(0), atol=1e-4, rtol=0)


def test_frames_are_upright():
    rng = np.random.default_rng(1)
    points = torch.from_numpy(rng.uniform(-10, 10, (1, NUM_POINTS, 2)).astype(np.float32))
    points[:, 36:48, 1] -= 30
    points[:, 48:68, 1] += 30
    upright = frames(points)
    angle = 0.7
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    turned = frames(points @ turn.T)
    assert turned[0, 3] - upright[0, 3] == pytest.approx(angle, abs=1e-3)
    assert torch.allclose(turned[0, 2], upright[0, 2], rtol=1e-3)
    assert torch.allclose(turned[0, :2], upright[0, :2] @ turn.T, atol=1e-2)
