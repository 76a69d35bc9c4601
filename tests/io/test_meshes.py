"""Meshes come back as they were written, with their texture the right way up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from garfast.errors import ArgumentError, OutputError
from garfast.io.images import read_image
from garfast.io.meshes import MeshArrays, glb_bytes, to_trimesh, write_glb, write_obj

trimesh = pytest.importorskip("trimesh")


@pytest.fixture
def mesh() -> MeshArrays:
    """A unit square of two triangles in awkward float32 coordinates whose texture has a seam along the diagonal."""
    vertices = np.array([[0, 0, 1 / 3], [1 / 7, 0, 0], [1e2 / 3, np.pi, -1e-7], [0, 1, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    normals = np.array([[0, 0, 1], [0, 0.6, 0.8], [0, 0, 1], [1, 0, 0]], np.float32)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.25, 1 / 3]], np.float32)
    uv_triangles = np.array([[0, 1, 2], [4, 2, 3]], np.int32)
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4] = (255, 0, 0)  # the upper half (v > 0.5) is red
    texture[4:] = (0, 0, 255)
    return MeshArrays(vertices, triangles, normals, uv, uv_triangles, texture)


def test_obj_round_trip_is_exact(tmp_path: Path, mesh: MeshArrays) -> None:
    write_obj(tmp_path / "mesh.obj", mesh)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mesh.mtl", "mesh.obj", "mesh.png"]
    lines = (tmp_path / "mesh.obj").read_text().splitlines()

    def numbers(key: str) -> np.ndarray:
        return np.array([line.split()[1:] for line in lines if line.split()[0] == key], np.float32)

    for key, array in (("v", mesh.vertices), ("vt", mesh.uv), ("vn", mesh.normals)):
        np.testing.assert_array_equal(numbers(key), array)
    np.testing.assert_array_equal(read_image(tmp_path / "mesh.png"), mesh.texture)

    loaded = trimesh.load(tmp_path / "mesh.obj", process=False, force="mesh")
    corners = loaded.vertices[loaded.faces].astype(np.float32)
    np.testing.assert_array_equal(corners, mesh.vertices[mesh.triangles])
    np.testing.assert_array_equal(loaded.visual.uv[loaded.faces].astype(np.float32), mesh.uv[mesh.uv_triangles])
    np.testing.assert_array_equal(np.asarray(loaded.visual.material.image.convert("RGB")), mesh.texture)


def _glb_attribute(glb: bytes, name: str) -> np.ndarray:
    """A float vector attribute of the only mesh, read from the bytes (trimesh's loader may compute normals anew)."""
    length = int.from_bytes(glb[12:16], "little")
    header = json.loads(glb[20 : 20 + length])
    accessor = header["accessors"][header["meshes"][0]["primitives"][0]["attributes"][name]]
    view = header["bufferViews"][accessor["bufferView"]]
    start = 28 + length + view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(glb, "<f4", 3 * accessor["count"], start).reshape(-1, 3)


def test_glb_is_in_metres_with_normals_and_texture(tmp_path: Path, mesh: MeshArrays) -> None:
    write_glb(tmp_path / "mesh.glb", mesh)
    loaded = trimesh.load(tmp_path / "mesh.glb", process=False, force="mesh")
    np.testing.assert_allclose(loaded.vertices[loaded.faces], mesh.vertices[mesh.triangles] * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(loaded.visual.uv[loaded.faces], mesh.uv[mesh.uv_triangles], atol=1e-6)
    normals = _glb_attribute((tmp_path / "mesh.glb").read_bytes(), "NORMAL")
    np.testing.assert_allclose(normals[loaded.faces], mesh.normals[mesh.triangles], atol=1e-6)
    material = loaded.visual.material
    np.testing.assert_array_equal(np.asarray(material.baseColorTexture.convert("RGB")), mesh.texture)
    assert material.doubleSided
    # The corner (0, 1) of the square has v = 1: red, the texture's first row.
    corner = np.flatnonzero((loaded.visual.uv == [0, 1]).all(1))
    assert loaded.visual.to_color().vertex_colors[corner][0, :3].tolist() == [255, 0, 0]


def test_vertex_order_survives_where_there_is_no_seam(mesh: MeshArrays) -> None:
    plain = mesh._replace(uv=mesh.uv[:4], uv_triangles=mesh.triangles)
    as_trimesh = to_trimesh(plain)
    np.testing.assert_array_equal(as_trimesh.vertices.astype(np.float32), mesh.vertices)
    np.testing.assert_array_equal(as_trimesh.faces, mesh.triangles)
    assert len(to_trimesh(mesh).vertices) == 5
    assert glb_bytes(plain)[:4] == b"glTF"


def test_wrong_meshes_are_refused(tmp_path: Path, mesh: MeshArrays) -> None:
    broken = mesh.vertices.copy()
    broken[1, 1] = np.nan
    for wrong, words in (
        (mesh._replace(vertices=broken), "NaN"),
        (mesh._replace(triangles=mesh.triangles + 2), "indices from 0 to 3"),
        (mesh._replace(normals=mesh.normals[:2]), "one normal"),
        (mesh._replace(uv=mesh.uv[:, :1]), r"\[N,2\]"),
        (mesh._replace(texture=mesh.texture[..., 0]), "texture"),
    ):
        with pytest.raises(ArgumentError, match=words):
            write_obj(tmp_path / "mesh.obj", wrong)
        with pytest.raises(ArgumentError, match=words):
            write_glb(tmp_path / "mesh.glb", wrong)
    assert not list(tmp_path.iterdir())


def test_full_disk(tmp_path: Path, mesh: MeshArrays, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left"):
        write_glb(tmp_path / "mesh.glb", mesh)
    assert not list(tmp_path.iterdir())
