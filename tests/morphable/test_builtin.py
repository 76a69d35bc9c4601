"""The built-in face: its file, its proportions, its annotations, and that random faces stay whole."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from garfast.morphable import MorphableModel, load_model
from garfast.morphable.builtin import BUILTIN_PATH, anatomy, facts, load_builtin
from garfast.morphable.builtin.eyes import CENTRE, RADIUS
from garfast.morphable.builtin.landmarks import MIRRORED
from garfast.morphable.intersections import crossing_triangles
from garfast.morphable.model_file import read_arrays
from garfast.ops import vertex_normals
from garfast.synth.dice import Dice
from garfast.synth.person import sample_expression

Measure = Callable[[torch.Tensor], dict[str, float]]


@pytest.fixture(scope="module")
def face() -> MorphableModel:
    return load_builtin()


@pytest.fixture(scope="module")
def measure(face: MorphableModel) -> Measure:
    named = anatomy.points_of_file(BUILTIN_PATH)
    assert face.mirror is not None
    mirror = face.mirror.numpy()
    return lambda vertices: anatomy.measure(vertices.double().numpy(), mirror, named)


def test_loads_fast_by_name_and_is_small() -> None:
    times = []
    for _ in range(4):
        start = time.perf_counter()
        model = load_model("builtin")
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0
    assert model.num_vertices >= 4000
    assert model.num_shape >= 30
    assert model.num_exp >= 20
    assert BUILTIN_PATH.stat().st_size < 4 * 2**20


@pytest.mark.slow  # lays the mesh out again: about 15 s
def test_file_is_what_the_code_generates() -> None:
    from garfast.morphable.builtin.build import build_arrays

    built, kept = build_arrays(), read_arrays(BUILTIN_PATH)
    assert set(built) == set(kept)
    for key, value in built.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(kept[key].astype(float), value.astype(float), atol=0.01, err_msg=key)
        else:
            np.testing.assert_array_equal(kept[key], value, err_msg=key)


def test_mesh_is_closed_but_for_its_rims_and_mirrored(face: MorphableModel) -> None:
    triangles = face.triangles.long()
    edges = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    directed = edges[:, 0] * face.num_vertices + edges[:, 1]
    assert len(torch.unique(directed)) == len(directed)  # every edge at most once in each direction: one orientation
    mirror = face.mirror
    assert mirror is not None
    assert torch.equal(mirror[mirror], torch.arange(face.num_vertices))
    flipped = face.mean[mirror] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(flipped, face.mean, atol=2e-3)


def test_proportions_are_the_published_ones(face: MorphableModel, measure: Measure) -> None:
    for key, value in measure(face.mean).items():
        fact = facts.FACTS[key]
        assert abs(value - fact.mean) < 0.5 * fact.sd, (
            f"{key}: {value:.1f} mm, published {fact.mean:.1f} ({fact.sd:.1f})"
        )


def test_modes_change_what_they_are_named_after(face: MorphableModel, measure: Measure) -> None:
    rest = measure(face.mean)
    spread = dict.fromkeys(rest, 0.0)
    for name, mode in zip(face.shape_names, face.shape_basis, strict=True):
        more = measure(face.mean + 0.5 * mode)
        less = measure(face.mean - 0.5 * mode)
        for key in rest:
            slope = (more[key] - less[key]) / facts.FACTS[key].sd
            spread[key] += slope**2
            if key == name:
                assert 0.6 < slope < 1.3, f"{name}: {slope:.2f} standard deviations"
    for key, value in spread.items():
        assert 0.75 < value**0.5 < 1.4, f"{key}: random faces spread {value**0.5:.2f} of the published deviation"


def test_landmarks_are_mirrored_and_in_order(face: MorphableModel) -> None:
    points = face.landmarks(face.mean)
    mirrored = points[MIRRORED.copy()] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(mirrored, points, atol=0.02)
    assert points[36, 0] < points[39, 0] < 0 < points[42, 0] < points[45, 0]
    assert (points[:16, 0] < points[1:17, 0]).all()
    assert points[30, 2] == points[:, 2].max()
    assert points[8, 1] == points[:, 1].min()
    assert (points[17:27, 1] > points[36:48, 1].max()).all()


def test_contour_holds_each_jaw_landmark(face: MorphableModel) -> None:
    vertices = face.landmark_triangles[:17, 0]
    for landmark, path in zip(vertices, face.contour, strict=True):
        path = path[path >= 0]
        assert landmark in path
        assert len(path) == len(torch.unique(path)) >= 12
        steps = face.mean[path].diff(dim=0).norm(dim=1)
        assert steps.max() < 20


def test_texture_triangles_do_not_overlap(face: MorphableModel) -> None:
    assert face.uv.min() >= 0
    assert face.uv.max() <= 1
    a, b, c = face.uv[face.uv_triangles.long()].unbind(1)
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert area.min() > -1e-7
    # Sample points of the sheet fall into one triangle at most.
    size = 1600
    cover = np.zeros((size, size), np.int32)
    corners = torch.stack([a, b, c], 1).double().numpy() * size
    for t in corners[area.numpy() > 1e-8]:
        low, high = np.ceil(t.min(0) - 0.37).astype(int), np.floor(t.max(0) - 0.37).astype(int)
        if (high < low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
        sides = [
            (t[(k + 1) % 3, 0] - t[k, 0]) * (y + 0.37 - t[k, 1]) - (t[(k + 1) % 3, 1] - t[k, 1]) * (x + 0.37 - t[k, 0])
            for k in range(3)
        ]
        cover[y, x] += np.min(sides, axis=0) > 1e-3
    assert cover.max() == 1


def test_regions_cover_what_they_name(face: MorphableModel) -> None:
    for name in ("skin", "lips", "brows", "eyeballs", "iris", "pupil", "lids", "teeth", "tongue", "mouth_socket"):
        mask = face.regions[name]
        assert mask.max() > 0.95, name
    assert (face.regions["iris"] <= face.regions["eyeballs"]).all()
    lips = face.mean[face.regions["lips"] > 0.5]
    assert lips[:, 0].abs().max() < 27
    assert lips[:, 1].max() < -40 < -30


def _random(face: MorphableModel, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(count, face.num_shape, generator=generator)
    exp = torch.randn(count, face.num_exp, generator=generator)
    return shape, torch.minimum(torch.maximum(exp, face.exp_bounds[:, 0]), face.exp_bounds[:, 1])


def test_random_faces_have_no_spikes_or_folds(face: MorphableModel) -> None:
    triangles = face.triangles.long()
    skin = (face.regions["skin"][triangles] > 0.5).all(1)

    def normals(vertices: torch.Tensor) -> torch.Tensor:
        a, b, c = vertices[:, triangles[skin]].unbind(2)
        return torch.linalg.cross(b - a, c - a)

    rest = normals(face.mean[None])
    edges = torch.cat([triangles[skin][:, [0, 1]], triangles[skin][:, [1, 2]]])
    length = (face.mean[edges[:, 0]] - face.mean[edges[:, 1]]).norm(dim=1)
    folded = []
    for seed in range(4):
        vertices = face.evaluate(*_random(face, 25, seed))
        now = normals(vertices)
        cosine = (now * rest).sum(-1) / (now.norm(dim=-1) * rest.norm(dim=-1)).clamp_min(1e-9)
        folded.append((cosine < -0.2).float().mean(1))
        stretch = (vertices[:, edges[:, 0]] - vertices[:, edges[:, 1]]).norm(dim=2) / length
        strong = (stretch > 4) & (length > 0.8)
        assert strong.float().mean() < 1e-3
        assert (stretch * length).max() < 40
    share = torch.cat(folded)
    assert share.max() < 0.003
    assert share.mean() < 0.001


def _soft_triangles(face: MorphableModel) -> np.ndarray:
    """Skin, lid margins and the inside of the mouth; ears, eyeballs, teeth and tongue are separate pieces."""
    soft = (face.regions["skin"] > 0.99) | (face.regions["mouth_socket"] > 0.99)
    soft &= face.regions["ears"] < 0.5
    triangles = face.triangles.numpy()
    rows = triangles[soft.numpy()[triangles].all(1)]
    assert len(rows) > 20_000
    return rows


def _single_expressions(face: MorphableModel) -> torch.Tensor:
    """One row for each end of each expression's range."""
    ends = [(e, value) for e, bounds in enumerate(face.exp_bounds.tolist()) for value in bounds if value != 0]
    exp = torch.zeros(len(ends), face.num_exp)
    for row, (e, value) in zip(exp, ends, strict=True):
        row[e] = value
    return exp


def test_skin_does_not_pass_through_itself(face: MorphableModel) -> None:
    triangles = _soft_triangles(face)
    shape, _ = _random(face, 20, 7)
    faces = torch.cat([face.mean[None], face.evaluate(shape)])
    assert [len(crossing_triangles(v.numpy(), triangles)) for v in faces] == [0] * 21


@pytest.mark.parametrize("seed", [0, 1])
def test_random_samples_do_not_pass_through_themselves(face: MorphableModel, seed: int) -> None:
    shape, exp = face.sample(15, torch.Generator().manual_seed(seed))
    triangles = _soft_triangles(face)
    assert [len(crossing_triangles(v.numpy(), triangles)) for v in face.evaluate(shape, exp)] == [0] * 15


def test_moods_do_not_pass_through_themselves(face: MorphableModel) -> None:
    rng = Dice(1)
    exp = torch.from_numpy(np.stack([sample_expression(rng, face, 1.0) for _ in range(15)]))
    shape, _ = face.sample(15, torch.Generator().manual_seed(2))
    triangles = _soft_triangles(face)
    assert [len(crossing_triangles(v.numpy(), triangles)) for v in face.evaluate(shape, exp)] == [0] * 15


def test_lids_that_blink_and_squint_slide_over_each_other(face: MorphableModel) -> None:
    triangles = _soft_triangles(face)
    lids = (face.regions["lids"] > 0.3).numpy()
    triangles = triangles[lids[triangles].all(1)]
    shape, _ = face.sample(60, torch.Generator().manual_seed(3))
    for blink, squint in ((2.0, 1.0), (1.0, 2.0), (1.5, 1.5)):
        exp = torch.zeros(60, face.num_exp)
        for side in ("left", "right"):
            exp[:, face.exp_names.index(f"blink_{side}")] = blink
            exp[:, face.exp_names.index(f"squint_{side}")] = squint
        crossing = [len(crossing_triangles(v.numpy(), triangles)) for v in face.evaluate(shape, exp)]
        assert crossing == [0] * 60, (blink, squint)


def test_teeth_stay_behind_the_lips(face: MorphableModel) -> None:
    triangles = face.triangles.numpy()
    front = (face.mean[:, 2] > 60) & (face.mean[:, 1] < -25)
    skin = ((face.regions["skin"] > 0.99) & (face.regions["ears"] < 0.5) & front).numpy()
    skin = triangles[skin[triangles].all(1)]
    hard = ((face.regions["teeth"] > 0.5) | (face.regions["tongue"] > 0.5)).numpy()
    both = np.concatenate([skin, triangles[hard[triangles].all(1)]])
    shape, exp = face.sample(20, torch.Generator().manual_seed(5))
    for vertices in face.evaluate(shape, exp):
        first, second = crossing_triangles(vertices.numpy(), both).T
        assert not ((first < len(skin)) & (second >= len(skin))).any()


def test_chin_landmarks_lie_on_its_lower_edge(face: MorphableModel) -> None:
    normals = vertex_normals(face.mean[None], face.triangles)[0]
    chin = face.landmark_triangles[6:11, 0]
    assert int(chin[2]) == anatomy.points_of_file(BUILTIN_PATH)["menton"]
    assert (normals[chin, 2] < 0.45).all()
    assert (normals[chin, 1] < -0.5).all()


def test_no_single_expression_makes_the_skin_pass_through_itself(face: MorphableModel) -> None:
    triangles = _soft_triangles(face)
    exp = _single_expressions(face)
    crossing = [len(crossing_triangles(face.evaluate(None, e[None])[0].numpy(), triangles)) for e in exp]
    named = [face.exp_names[int(e.abs().argmax())] for e in exp]
    assert [(name, n) for name, n in zip(named, crossing, strict=True) if n] == []


def test_teeth_and_tongue_keep_clear_of_each_other(face: MorphableModel) -> None:
    hard = ((face.regions["teeth"] > 0.5) | (face.regions["tongue"] > 0.5)).numpy()
    triangles = face.triangles.numpy()
    triangles = triangles[hard[triangles].all(1)]
    shape, _ = _random(face, 5, 8)
    for vertices in torch.cat([face.mean[None], face.evaluate(shape)]):
        assert len(crossing_triangles(vertices.numpy(), triangles)) == 0


def test_lids_stay_in_front_of_the_eyeballs(face: MorphableModel) -> None:
    shape, exp = _random(face, 60, 5)
    exp[:, [face.exp_names.index("gaze_left_right"), face.exp_names.index("gaze_up_down")]] = 0.0
    vertices = face.evaluate(shape, exp)
    for side in (1.0, -1.0):
        centre = torch.tensor(CENTRE * [side, 1, 1], dtype=torch.float32)
        lids = (face.regions["lids"] > 0.6) & (face.regions["skin"] == 1) & (face.mean[:, 0] * side > 0)
        rest = (face.mean - centre).norm(dim=1)
        lids &= (rest > RADIUS + 1.0) & (rest < RADIUS + 4.0)
        ball = (face.regions["eyeballs"] > 0.5) & (face.mean[:, 0] * side > 0)
        # The eyeball moves rigidly with the face; its own centre follows from its points.
        moved = (vertices[:, ball] - face.mean[ball]).mean(1) + centre
        distance = (vertices[:, lids] - moved[:, None]).norm(dim=2)
        assert (distance < RADIUS - 0.2).float().mean() < 2e-3


def test_closed_lips_do_not_cross(face: MorphableModel) -> None:
    shape, _ = _random(face, 100, 6)
    points = face.landmarks(face.evaluate(shape))
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        gap = points[:, upper, 1] - points[:, lower, 1]
        assert gap.min() > -0.4
        assert gap.max() < 2.5


def test_sheet_draws_the_face(face: MorphableModel) -> None:
    from garfast.morphable.builtin.sheet import draw

    picture = draw(face, face.mean, size=48).astype(int)
    assert picture.shape == (48, 48, 3)
    assert (picture[0, 0] > 225).all()  # background
    assert picture[26, 24, 0] > picture[26, 24, 2] + 20  # skin
