"""Textured meshes out: Wavefront ``.obj`` + ``.mtl`` + ``.png``, and one binary glTF ``.glb``.

Both keep the model's axes: x right, y up, z out of the face, as seen by somebody in front of it, which is what viewers
and Blender's importers show upright and facing the viewer. An OBJ has no unit; ours is in millimetres. glTF
prescribes metres, so the ``.glb`` is in metres (millimetres / 1000).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from garfast.errors import ArgumentError
from garfast.io.atomic import atomic_path
from garfast.io.images import write_image

if TYPE_CHECKING:
    import trimesh

METRES_PER_MILLIMETRE = 1e-3


class MeshArrays(NamedTuple):
    """A textured triangle mesh in numpy arrays.

    Attributes:
        vertices: float32 [V,3], millimetres.
        triangles: int32 [F,3], counter-clockwise seen from outside.
        normals: float32 [V,3], unit vertex normals.
        uv: float32 [U,2], texture coordinates in 0..1, v up (v = 1 is the texture's first row).
        uv_triangles: int32 [F,3], corners of ``triangles`` as rows of ``uv``.
        texture: uint8 [T,T,3], RGB.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray
    texture: np.ndarray


def write_obj(path: str | os.PathLike[str], mesh: MeshArrays) -> None:
    """Write ``NAME.obj`` in millimetres, with ``NAME.mtl`` and ``NAME.png`` beside it.

    Numbers have nine significant digits, so float32 comes back bit for bit. Each file appears whole or not at all,
    the ``.obj`` last.

    Raises:
        ArgumentError: shapes that do not belong together, or values that are not finite.
        OutputError: a file cannot be written.
    """
    path = Path(path)
    _check(mesh)
    material = path.with_suffix(".mtl")
    picture = path.with_suffix(".png")
    write_image(picture, mesh.texture)
    with atomic_path(material) as temporary:
        temporary.write_text(f"newmtl face\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture.name}\n")
    corners = np.stack([mesh.triangles, mesh.uv_triangles, mesh.triangles], axis=2).reshape(-1, 9) + 1
    lines = [
        "# garfast: millimetres; x right, y up, z out of the face",
        f"mtllib {material.name}",
        "o face",
        *_rows("v %.9g %.9g %.9g", mesh.vertices),
        *_rows("vt %.9g %.9g", mesh.uv),
        *_rows("vn %.9g %.9g %.9g", mesh.normals),
        "usemtl face",
        *_rows("f %d/%d/%d %d/%d/%d %d/%d/%d", corners),
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def write_glb(path: str | os.PathLike[str], mesh: MeshArrays) -> None:
    """Write one ``.glb`` with normals and the texture inside, in metres as glTF prescribes.

    Raises:
        ArgumentError: shapes that do not belong together, or values that are not finite.
        OutputError: the file cannot be written.
    """
    content = glb_bytes(mesh)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def glb_bytes(mesh: MeshArrays) -> bytes:
    """The content of the ``.glb`` that `write_glb` writes.

    Raises:
        ArgumentError: shapes that do not belong together, or values that are not finite.
    """
    from trimesh.exchange.gltf import export_glb

    in_metres = mesh._replace(vertices=mesh.vertices * np.float32(METRES_PER_MILLIMETRE))
    return export_glb(to_trimesh(in_metres).scene(), include_normals=True)


def to_trimesh(mesh: MeshArrays) -> trimesh.Trimesh:
    """The mesh as `trimesh.Trimesh` in millimetres, with texture and normals.

    A vertex on a texture seam is repeated, once for each of its texture coordinates, because trimesh (and glTF) have
    one per vertex; where ``uv_triangles`` equals ``triangles`` the vertices and their order stay as they are.

    Raises:
        ArgumentError: shapes that do not belong together, or values that are not finite.
    """
    import trimesh
    from PIL import Image

    _check(mesh)
    vertices, triangles, normals, uv = _split(mesh)
    material = trimesh.visual.material.PBRMaterial(
        name="face",
        baseColorTexture=Image.fromarray(mesh.texture),
        metallicFactor=0.0,
        roughnessFactor=0.8,
        doubleSided=True,
    )
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return trimesh.Trimesh(vertices, triangles, vertex_normals=normals, visual=visual, process=False)


def _split(mesh: MeshArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles, normals and uv with one texture coordinate per vertex."""
    if len(mesh.uv) == len(mesh.vertices) and np.array_equal(mesh.triangles, mesh.uv_triangles):
        return mesh.vertices, mesh.triangles, mesh.normals, mesh.uv
    pairs = np.stack([mesh.triangles.reshape(-1), mesh.uv_triangles.reshape(-1)], axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    triangles = inverse.reshape(-1, 3).astype(np.int32)
    return mesh.vertices[unique[:, 0]], triangles, mesh.normals[unique[:, 0]], mesh.uv[unique[:, 1]]


def _check(mesh: MeshArrays) -> None:
    for name, columns in (("vertices", 3), ("normals", 3), ("uv", 2)):
        array = getattr(mesh, name)
        if array.ndim != 2 or array.shape[1] != columns:
            raise ArgumentError(f"a mesh's {name} must be [N,{columns}], not {list(array.shape)}")
        if not np.isfinite(array).all():
            raise ArgumentError(f"a mesh's {name} hold NaN or infinite values: nothing was written")
    if mesh.normals.shape != mesh.vertices.shape or mesh.triangles.shape != mesh.uv_triangles.shape:
        raise ArgumentError("a mesh needs one normal for each vertex and one uv triangle for each triangle")
    for name, rows in (("triangles", len(mesh.vertices)), ("uv_triangles", len(mesh.uv))):
        array = getattr(mesh, name)
        if array.ndim != 2 or array.shape[1] != 3 or (array.size and not 0 <= array.min() <= array.max() < rows):
            raise ArgumentError(f"a mesh's {name} must be [F,3] with indices from 0 to {rows - 1}")
    if mesh.texture.dtype != np.uint8 or mesh.texture.ndim != 3 or mesh.texture.shape[2] != 3:
        raise ArgumentError(f"a mesh's texture must be uint8 [H,W,3], not {mesh.texture.dtype} {mesh.texture.shape}")


def _rows(form: str, array: np.ndarray) -> list[str]:
    return [form % tuple(row) for row in array.tolist()]
