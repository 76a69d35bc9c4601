"""The ICT importer on the real data (where present) and on broken input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from garfast.errors import ModelFileError
from garfast.morphable import MorphableModel, euler_to_matrix
from garfast.morphable.importers.ict import BROW_DROP, JAW_FACING, import_ict

# The landmark on the other side of the face, for each of the 68.
FLIP = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
]


@pytest.fixture(scope="module")
def face(ict_path: Path) -> MorphableModel:
    return import_ict(ict_path)


@pytest.fixture(scope="module")
def head_path(ict_path: Path) -> Path:
    path = ict_path.with_name("ict_facekit.npz")
    if not path.is_file():
        pytest.skip(f"no whole ICT-FaceKit model at {path}")
    return path


@pytest.fixture(scope="module")
def head(head_path: Path) -> MorphableModel:
    return import_ict(head_path)


def test_units_and_counts(face: MorphableModel) -> None:
    assert face.name == "ict"
    assert face.num_shape == 100
    assert "jawOpen" in face.exp_names
    assert 140 < float(face.mean[:, 0].max() - face.mean[:, 0].min()) < 160  # mm
    assert face.exp_bounds.equal(torch.tensor([[0.0, 4.0]]).repeat(face.num_exp, 1))
    assert "MIT" in face.licence


def test_a_face_is_the_kits_formula(face: MorphableModel, ict_path: Path) -> None:
    with np.load(ict_path) as archive:
        data = dict(archive)
    weights = np.random.default_rng(0).normal(size=100)
    names = list(data["expression_names"])
    expected = data["vertices"] + np.tensordot(weights, data["identity"], 1)
    expected += 0.5 * data["expression"][names.index("mouthSmile_L")]
    # Jaw open by 0.6 with the lips closed over half of that.
    expected += 0.6 * data["expression"][names.index("jawOpen")] + 0.3 * data["expression"][names.index("mouthClose")]
    exp = torch.zeros(face.num_exp)
    for name, weight in (("mouthSmile_L", 0.5), ("jawOpen", 0.3), ("jawOpenMouthClose", 0.3)):
        exp[face.exp_names.index(name)] = weight * 4
    vertices = face.evaluate(torch.tensor(weights, dtype=torch.float32), exp)[0]
    assert face.num_vertices == len(data["vertices"])
    np.testing.assert_allclose(vertices.numpy(), 10 * expected, atol=2e-3)


@pytest.mark.parametrize("which", ["face", "head"])
def test_landmarks_and_contour_are_symmetric(which: str, request: pytest.FixtureRequest) -> None:
    model: MorphableModel = request.getfixturevalue(which)
    marks = model.landmarks(model.mean)
    flipped = marks[FLIP] * torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(flipped, marks, atol=0.1, rtol=0)
    assert model.mirror is not None
    mirrored = torch.where(model.contour >= 0, model.mirror[model.contour], -1)
    torch.testing.assert_close(mirrored.flip(0)[:8], model.contour[:8])


def test_brow_landmarks_are_lowered_on_the_surface(face: MorphableModel, ict_path: Path) -> None:
    with np.load(ict_path) as archive:
        before = 10 * archive["vertices"][archive["landmarks68"][17:27]]
    after = face.landmarks(face.mean)[17:27].numpy()
    np.testing.assert_allclose(after[:, :2], before[:, :2] - [0, BROW_DROP], atol=1e-3)
    assert np.abs(after[:, 2] - before[:, 2]).max() < 6  # still on the brow ridge, not behind it


def test_chin_landmarks_lie_on_its_lower_edge(face: MorphableModel, ict_path: Path) -> None:
    with np.load(ict_path) as archive:
        before = 10 * archive["vertices"][archive["landmarks68_jaw_alt"][:17]]
    moved = face.landmarks(face.mean)[:17].numpy() - before
    assert np.abs(moved[[*range(6), *range(11, 17)]]).max() < 1e-3
    assert (moved[6:11, 1] < -0.8).all()  # mm
    assert 2.5 < -moved[8, 1] < 4.5
    assert np.linalg.norm(moved, axis=1).max() < 10
    # Its tangent from the chin toward the neck: the surface has turned away from the front by the angle asked for.
    chin = face.landmarks(face.mean)[8]
    midline = face.mean[(face.mean[:, 0].abs() < 0.1) & ((face.mean - chin).norm(dim=1) < 8)]
    behind, ahead = midline[midline[:, 2] < chin[2]], midline[midline[:, 2] > chin[2]]
    step = ahead[(ahead - chin).norm(dim=1).argmin()] - behind[(behind - chin).norm(dim=1).argmin()]
    assert float(torch.rad2deg(torch.atan2(step[2], step[1]))) == pytest.approx(JAW_FACING, abs=6)


def test_first_candidate_is_the_jaw_landmark(face: MorphableModel) -> None:
    assert face.contour[:, 0].equal(face.landmark_triangles[:17, 0])


@pytest.mark.parametrize("yaw", [30.0, 45.0, 60.0])
def test_far_jaw_candidates_reach_the_outline_of_a_turned_head(face: MorphableModel, yaw: float) -> None:
    """At its height, no skin of the lower face lies more than 2 mm outside the outermost candidate."""
    rotation = euler_to_matrix(torch.tensor(np.radians(yaw)), torch.tensor(0.0), torch.tensor(0.0)).float()
    turned = face.mean @ rotation.T
    for landmark in range(12, 16):  # where planes are near level; 16 lies at the height of the eye
        chain = face.contour[landmark]
        chain = chain[chain >= 0]
        best = turned[chain][turned[chain, 0].argmax()]
        left_half = (face.mean[:, 0] > 25) & (face.regions["skin"] > 0)
        near = left_half & ((turned[:, 1] - best[1]).abs() < 3)
        assert float(turned[near, 0].max() - best[0]) < 2.0, landmark


def test_regions_lie_where_they_should(head: MorphableModel) -> None:
    assert {"skin", "lips", "lids", "brows", "eyeballs", "iris", "pupil", "teeth", "tongue", "mouth_socket"} <= set(
        head.regions
    )
    marks = head.landmarks(head.mean)

    def centre(name: str, side: torch.Tensor | None = None) -> torch.Tensor:
        mask = head.regions[name] if side is None else head.regions[name] * side
        return (mask[:, None] * head.mean).sum(0) / mask.sum()

    left = (head.mean[:, 0] > 0).float()
    assert (centre("lips") - marks[48:60].mean(0)).norm() < 6
    assert (centre("brows", left) - marks[22:27].mean(0)).norm() < 6
    eye = marks[42:48].mean(0)
    assert (centre("pupil", left) - eye)[:2].norm() < 4
    iris = head.mean[(head.regions["iris"] * left) > 0.5]
    assert 10 < float(iris[:, 0].max() - iris[:, 0].min()) < 13
    assert centre("scalp")[1] > 60
    assert centre("neck")[1] < -60
    ears = centre("ears", left)
    assert ears[0] > 65
    assert abs(float(ears[2])) < 25


def test_the_whole_head_draws_only_what_can_be_seen(head: MorphableModel, head_path: Path) -> None:
    with np.load(head_path) as archive:
        assert head.num_vertices < len(archive["vertices"])
    assert not any(name.startswith("Pupil") for name in head.exp_names)
    assert head.uv.min() >= 0
    assert head.uv.max() <= 1
    used = torch.zeros(head.num_vertices, dtype=torch.bool)
    used[head.triangles.long().reshape(-1)] = True
    assert used.all()


def test_the_narrow_face_of_the_whole_head(head_path: Path, face: MorphableModel) -> None:
    part = import_ict(head_path, part="face")
    assert set(part.regions) == set(face.regions)
    torch.testing.assert_close(part.mean[:6706], face.mean[:6706])
    assert 6706 < part.num_vertices < 8000
    assert part.contour.equal(face.contour)


def test_saved_and_loaded(face: MorphableModel, tmp_path: Path) -> None:
    face.save(tmp_path / "ict.npz")
    assert MorphableModel.load(tmp_path / "ict.npz").shape_basis.equal(face.shape_basis)


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no file or folder .*FaceXModel"):
        import_ict(tmp_path / "nothing")


def test_folder_without_the_kit(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"has no generic_neutral_mesh\.obj"):
        import_ict(tmp_path)


def test_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "face.npz").write_text("nothing")
    with pytest.raises(ModelFileError, match=r"is not an \.npz file: the FaceXModel folder"):
        import_ict(tmp_path / "face.npz")


def test_other_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "face.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(ModelFileError, match="has no array 'triangles'"):
        import_ict(tmp_path / "face.npz")


def test_arrays_that_do_not_fit_together(ict_path: Path, tmp_path: Path) -> None:
    with np.load(ict_path) as archive:
        data = dict(archive)
    data["identity"] = data["identity"][:2]
    data["expression"] = data["expression"][:2]
    data["expression_names"] = data["expression_names"][:2]
    np.savez(tmp_path / "a.npz", **(data | {"region": data["region"][:10]}))
    with pytest.raises(ModelFileError, match="do not fit together"):
        import_ict(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **(data | {"triangles": data["triangles"] + 100000}))
    with pytest.raises(ModelFileError, match="does not fit together"):
        import_ict(tmp_path / "b.npz")
    identity = data["identity"].copy()
    identity[0, 0, 0] = np.nan
    np.savez(tmp_path / "c.npz", **(data | {"identity": identity}))
    with pytest.raises(ModelFileError, match="'shape_basis' contains NaN"):
        import_ict(tmp_path / "c.npz")
