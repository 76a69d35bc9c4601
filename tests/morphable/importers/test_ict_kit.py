"""The kit's folder of .obj files: a small one with the same structure, and every way it can be broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from garfast.errors import ModelFileError
from garfast.morphable.importers import ict_kit
from garfast.morphable.importers.ict import import_ict
from garfast.morphable.importers.ict_kit import read_kit, read_obj, read_obj_vertices
from tests.morphable.importers.kit import few_modes, write_kit, write_obj

SIZES = {"face": 60, "eyeball_left": 20, "eyeball_right": 20}


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """100 vertices, 3 identities, 2 listed expressions and one that the list leaves out."""
    monkeypatch.setattr(ict_kit, "NUM_VERTICES", 100)
    monkeypatch.setattr(ict_kit, "NARROW_FACE", 50)
    monkeypatch.setattr(ict_kit, "REGION_SIZES", SIZES)
    monkeypatch.setattr(ict_kit, "JAW_RIGHT", tuple(range(8)))
    monkeypatch.setattr(ict_kit, "JAW_LEFT", tuple(range(9, 17)))
    random = np.random.default_rng(0)
    half = random.normal(size=(50, 3)) + np.array([3.0, 0, 0])
    vertices = np.stack([half, half * [-1, 1, 1]], 1).reshape(-1, 3)
    vertices[60:80], vertices[80:] = half[30:], half[30:] * [-1, 1, 1]
    uv = random.uniform(size=(100, 2))
    faces = [[k, k + 1, k + 2, k + 3] for k in range(0, 96, 4)] + [[0, 5, 9]]
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    write_obj(folder / "generic_neutral_mesh.obj", vertices, uv, faces)
    for k, name in enumerate(["identity000", "identity001", "identity002", "jawOpen", "mouthSmile_L", "cheekRaiser_L"]):
        write_obj(folder / f"{name}.obj", vertices + k, uv, faces)
    indices = {"expressions": ["jawOpen", "mouthSmile_L"], "idx_to_landmark_verts": list(range(20, 88))}
    (folder / "vertex_indices.json").write_text(json.dumps(indices))
    return folder


def test_everything_is_read(kit: Path) -> None:
    raw = read_kit(kit.parent)  # the folder around it does as well
    assert raw.vertices.shape == (100, 3)
    assert raw.triangles.shape == (24 * 2 + 1, 3)
    assert raw.identity.shape == (3, 100, 3)
    assert raw.expression_names == ("jawOpen", "mouthSmile_L", "cheekRaiser_L")
    np.testing.assert_allclose(raw.identity[2], 2, atol=1e-6)
    np.testing.assert_allclose(raw.expression[:, 0, 0], [3, 4, 5], atol=1e-6)
    assert raw.landmarks[:17].tolist() == [*range(8), 28, *range(9, 17)]
    assert raw.landmarks[17] == 37
    assert (raw.region[60:80] == "eyeball_left").all()
    assert raw.narrow.sum() == 50
    np.testing.assert_allclose(raw.vertices[raw.mirror] * [-1, 1, 1], raw.vertices)
    assert (raw.mirror[60:80] == np.arange(80, 100)).all()


def test_quads_are_split_along_the_shorter_diagonal(tmp_path: Path) -> None:
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [5, 1, 0], [1, 1, 0]])  # 1-3 is shorter than 0-2
    write_obj(tmp_path / "a.obj", vertices, np.zeros((0, 2)), [])
    (tmp_path / "a.obj").write_text((tmp_path / "a.obj").read_text() + "f 1 2 3 4\n")
    assert read_obj(tmp_path / "a.obj").triangles.tolist() == [[0, 1, 3], [1, 2, 3]]


def test_obj_dialects(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_bytes(
        b"# comment\r\nv 0 0 0\r\nv 1 0 0 1.0\r\nv  0 1 0\r\nvn 0 0 1\r\n"
        b"vt 0 0 0\r\nvt 1 0\r\nvt 0 1\r\nf -3/1/1 2/2/1 3/3/1\r\n"
    )
    mesh = read_obj(tmp_path / "a.obj")
    assert mesh.triangles.tolist() == [[0, 1, 2]]
    assert mesh.uv_triangles.tolist() == [[0, 1, 2]]
    assert mesh.vertices[2].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "#\nv 0 0 0\nv 1 2 3\nv 4 5 6\nvt 0 0\nf 1 2 3\n",
        "#\nv 0 0 0\nv 1 2 3\nv 4 5 6",
        "v 0 0 0\nv 1 2 3\nv 4 5 6\n",
        "v 0 0 0\n\nv 1 2 3\n# between\nv 4 5 6\n",
        "#\r\nv 0 0 0\r\nv 1 2 3\r\nv 4 5 6\r\n",
        "#\nv 0 0 0 1\nv 1 2 3 1\nv 4 5 6 1\n",
    ],
)
def test_vertices_in_every_layout(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_bytes(text.encode())
    assert read_obj_vertices(tmp_path / "a.obj").tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("text", ["#\nv 0 0 x\n", "#\nv 0 0 nan\n", "#\nv 0 0\nv 0 0 0\n"])
def test_malformed_vertices(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(ModelFileError, match=r"not 3 numbers|NaN"):
        read_obj_vertices(tmp_path / "a.obj")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 x\nf 1 1 1\n", "'v' line that is not 3 numbers"),
        ("v 0 0\n", "'v' line that is not 3 numbers"),
        ("v 0 0 nan\n", "NaN"),
        ("v 0 0 0\nf 1 2 3\n", "malformed face line"),
        ("v 0 0 0\nf 1 1 1 1 1\n", "malformed face line"),
        ("v 0 0 0\n", "has no faces"),
        ("", "has no faces"),
    ],
)
def test_malformed_meshes(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(ModelFileError, match=message):
        read_obj(tmp_path / "a.obj")


def _fewer_vertices(kit: Path) -> None:
    write_obj(kit / "identity001.obj", np.zeros((7, 3)), np.zeros((0, 2)), [[0, 1, 2]])


def _other_neutral(kit: Path) -> None:
    write_obj(kit / "generic_neutral_mesh.obj", np.zeros((7, 3)), np.zeros((7, 2)), [[0, 1, 2]])


def _bad_json(kit: Path) -> None:
    (kit / "vertex_indices.json").write_text('{"expressions": [')


def _other_json(kit: Path) -> None:
    (kit / "vertex_indices.json").write_text('{"a": 1}')


def _few_landmarks(kit: Path) -> None:
    (kit / "vertex_indices.json").write_text('{"expressions": [], "idx_to_landmark_verts": [1, 2]}')


def _strange_name(kit: Path) -> None:
    data = {"expressions": ["../../secret"], "idx_to_landmark_verts": list(range(68))}
    (kit / "vertex_indices.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda kit: (kit / "identity001.obj").unlink(), "not a complete run"),
        (lambda kit: (kit / "jawOpen.obj").unlink(), r"jawOpen\.obj is missing"),
        (lambda kit: (kit / "vertex_indices.json").unlink(), r"vertex_indices\.json is missing"),
        (_fewer_vertices, r"identity001\.obj has 7 vertices, the neutral mesh has 100"),
        (_other_neutral, "has 7 vertices: the ICT Face Model Light"),
        (_bad_json, "is not the kit's index file"),
        (_other_json, "is not the kit's index file"),
        (_few_landmarks, "68 landmark vertices"),
        (_strange_name, "not a plain word"),
    ],
)
def test_broken_kits(kit: Path, break_it: Callable[[Path], None], message: str) -> None:
    break_it(kit)
    with pytest.raises(ModelFileError, match=message):
        read_kit(kit)


def test_the_folder_and_the_arrays_give_the_same_model(ict_path: Path, tmp_path: Path) -> None:
    """The real mesh written as the kit writes it, with a few of its modes."""
    whole = ict_path.with_name("ict_facekit.npz")
    if not whole.is_file():
        pytest.skip(f"no whole ICT-FaceKit model at {whole}")
    data = few_modes(whole)
    np.savez(tmp_path / "arrays.npz", **data)
    folder = write_kit(tmp_path / "kit", data)
    expected, model = import_ict(tmp_path / "arrays.npz"), import_ict(folder)
    assert read_obj_vertices(folder / "jawOpen.obj").shape == data["vertices"].shape
    assert model.exp_names == expected.exp_names == ("jawOpen", "jawOpenMouthClose", "eyeBlink_L")
    for field in ("mean", "shape_basis", "exp_basis", "landmark_weights", "uv"):
        torch.testing.assert_close(getattr(model, field), getattr(expected, field), atol=1e-4, rtol=1e-5)
    for field in ("triangles", "uv_triangles", "landmark_triangles", "contour"):
        assert getattr(model, field).equal(getattr(expected, field)), field
    assert model.mirror is not None
    assert expected.mirror is not None
    assert float((model.mirror == expected.mirror).float().mean()) > 0.99
    for name, mask in expected.regions.items():
        torch.testing.assert_close(model.regions[name], mask, atol=1e-3, rtol=0)
