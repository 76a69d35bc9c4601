"""The ICT Face Model Light as published: a folder of .obj files and one JSON file.

https://github.com/ICT-VGL/ICT-FaceKit, folder ``FaceXModel``. The index tables below are facts of that model's
topology, from its README.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ModelFileError
from garfast.morphable.surface import mirrored_vertices

NUM_VERTICES = 26719
NARROW_FACE = 6706  # vertices 0..6705 are the face without ears, back of the head and lower neck
NEUTRAL_FILE = "generic_neutral_mesh.obj"
INDEX_FILE = "vertex_indices.json"
# Expression files of the kit that its list leaves out.
EXTRA_EXPRESSIONS = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")
# The second jaw line of the kit's README, in place of its landmarks 0..7 and 9..16.
JAW_RIGHT = (1278, 1272, 12, 1834, 243, 781, 2199, 1447)
JAW_LEFT = (3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496)

# name -> number of vertices, in the order of the files
REGION_SIZES = {
    "face": 9409,
    "head_neck": 1839,
    "mouth_socket": 2046,
    "eye_socket_left": 384,
    "eye_socket_right": 384,
    "gums_tongue": 2977,
    "teeth": 4412,
    "eyeball_left": 1570,
    "eyeball_right": 1570,
    "lacrimal_fluid_left": 204,
    "lacrimal_fluid_right": 204,
    "eye_blend_left": 24,
    "eye_blend_right": 24,
    "eye_occlusion_left": 152,
    "eye_occlusion_right": 152,
    "eyelashes_left": 684,
    "eyelashes_right": 684,
}


class IctArrays(NamedTuple):
    """The raw model in the kit's own units (centimetres), before anything is chosen or scaled."""

    vertices: NDArray[np.float64]  # [V, 3] the generic neutral mesh
    triangles: NDArray[np.int64]  # [F, 3]
    identity: NDArray[np.float32]  # [S, V, 3] differences from the neutral mesh, one standard deviation each
    expression: NDArray[np.float32]  # [E, V, 3] differences from the neutral mesh at weight 1
    expression_names: tuple[str, ...]
    landmarks: NDArray[np.int64]  # [68] iBUG order, with the second jaw line
    region: NDArray[np.str_]  # [V] names of REGION_SIZES
    narrow: NDArray[np.bool_]  # [V] the vertex belongs to the narrow face
    uv: NDArray[np.float64]  # [U, 2]
    uv_triangles: NDArray[np.int64]  # [F, 3]
    mirror: NDArray[np.int64]  # [V]
    one_tile: bool  # the texture coordinates share one unit square without overlaps


class ObjMesh(NamedTuple):
    """Positions, texture coordinates and triangles of an .obj file; quads are split along their shorter diagonal."""

    vertices: NDArray[np.float64]
    uv: NDArray[np.float64]
    triangles: NDArray[np.int64]
    uv_triangles: NDArray[np.int64]


def read_obj_vertices(path: Path) -> NDArray[np.float64]:
    """The ``v`` lines of an .obj file, [V, 3].

    Raises:
        ModelFileError: the file is missing, or a line is not three finite numbers.
    """
    data = _bytes(path)
    # The kit's files have one run of plain `v x y z` lines: converting it whole is six times faster than line by line.
    start, last = data.find(b"\nv "), data.rfind(b"\nv ")
    stop = data.find(b"\n", last + 1)
    run = data[start : stop if stop >= 0 else len(data)] if start >= 0 and not data.startswith(b"v ") else b""
    count = run.count(b"\nv ")
    fields = run.replace(b"\nv ", b" ").split() if count == run.count(b"\n") else []
    if count and len(fields) == 3 * count:
        try:
            values = np.array(fields, np.float64).reshape(-1, 3)
        except ValueError:
            pass  # the slow way names the mistake
        else:
            if np.isfinite(values).all():
                return values
    return _numbers(data.splitlines(), b"v ", 3, path)


def read_obj(path: Path) -> ObjMesh:
    """Read an .obj file of triangles and quads; where it has no texture coordinates, ``uv`` is empty.

    Raises:
        ModelFileError: the file is missing or malformed.
    """
    lines = _bytes(path).splitlines()
    vertices = _numbers(lines, b"v ", 3, path)
    uv = _numbers(lines, b"vt ", 2, path)
    triangles: list[list[int]] = []
    uv_triangles: list[list[int]] = []
    try:
        for line in lines:
            if line.startswith(b"f "):
                corners = [corner.split(b"/") for corner in line.split()[1:]]
                positions = [_index(corner[0], len(vertices)) for corner in corners]
                textures = [_index(corner[1], len(uv)) for corner in corners if len(corner) > 1 and corner[1]]
                for triangle in _split(positions, vertices):
                    triangles.append([positions[k] for k in triangle])
                    if len(uv):
                        uv_triangles.append([textures[k] for k in triangle])
    except (ValueError, IndexError) as error:
        raise ModelFileError(f"{path} has a malformed face line: fetch the file again") from error
    if not triangles:
        raise ModelFileError(f"{path} has no faces: a mesh of the ICT Face Model was expected")
    return ObjMesh(
        vertices,
        uv,
        np.array(triangles, np.int64),
        np.array(uv_triangles, np.int64).reshape(-1, 3),
    )


def find_kit(folder: Path) -> Path:
    """The folder with the kit's meshes: the given one, or ``FaceXModel`` in it.

    Raises:
        ModelFileError: neither has the neutral mesh.
    """
    for candidate in (folder, folder / "FaceXModel"):
        if (candidate / NEUTRAL_FILE).is_file():
            return candidate
    raise ModelFileError(
        f"{folder} has no {NEUTRAL_FILE}: the FaceXModel folder of ICT-FaceKit, or an .npz made from it, was expected"
    )


def read_kit(folder: Path) -> IctArrays:
    """Read the kit's folder.

    Args:
        folder: ``FaceXModel`` or the folder around it.

    Raises:
        ModelFileError: a file is missing, malformed or does not belong to this model.
    """
    folder = find_kit(folder)
    expression_names, landmarks = read_indices(folder / INDEX_FILE)
    mesh = read_obj(folder / NEUTRAL_FILE)
    if len(mesh.vertices) != NUM_VERTICES:
        raise ModelFileError(
            f"{folder / NEUTRAL_FILE} has {len(mesh.vertices)} vertices: "
            f"the ICT Face Model Light with {NUM_VERTICES} was expected"
        )
    identity = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    if not identity or identity[-1].stem != f"identity{len(identity) - 1:03d}":
        raise ModelFileError(
            f"{folder} has {len(identity)} identity files and not a complete run of identity000.obj, "
            "identity001.obj ...: fetch the missing ones"
        )
    extra = [name for name in EXTRA_EXPRESSIONS if name not in expression_names and (folder / f"{name}.obj").is_file()]
    expression_names = (*expression_names, *extra)
    region = np.repeat(np.array(list(REGION_SIZES)), list(REGION_SIZES.values()))
    pairs = np.array([str(name).removesuffix("_left").removesuffix("_right") for name in REGION_SIZES])
    groups = np.repeat(np.unique(pairs, return_inverse=True)[1], list(REGION_SIZES.values()))
    return IctArrays(
        vertices=mesh.vertices,
        triangles=mesh.triangles,
        identity=_differences(identity, mesh.vertices),
        expression=_differences([folder / f"{name}.obj" for name in expression_names], mesh.vertices),
        expression_names=expression_names,
        landmarks=landmarks,
        region=region,
        narrow=np.arange(NUM_VERTICES) < NARROW_FACE,
        uv=mesh.uv,
        uv_triangles=mesh.uv_triangles,
        mirror=mirrored_vertices(mesh.vertices, groups),
        one_tile=False,
    )


def with_second_jaw_line(landmarks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The kit's 68 landmarks with its second jaw line in 0..7 and 9..16."""
    landmarks = landmarks.copy()
    landmarks[:8], landmarks[9:17] = JAW_RIGHT, JAW_LEFT
    return landmarks


def read_indices(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Expression names and the 68 landmark vertices (second jaw line) of the kit's index file.

    Raises:
        ModelFileError: the file is missing or is not the kit's.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for name in data["expressions"])
        landmarks = np.array(data["idx_to_landmark_verts"], np.int64)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: it belongs to the kit's FaceXModel folder") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{path} is not the kit's index file: JSON with 'expressions' and 'idx_to_landmark_verts' was expected"
        ) from error
    if landmarks.shape != (68,) or landmarks.min() < 0 or landmarks.max() >= NUM_VERTICES:
        raise ModelFileError(f"{path} must list 68 landmark vertices below {NUM_VERTICES}")
    if any(not name.isidentifier() for name in names):
        raise ModelFileError(f"{path} has an expression name that is not a plain word")
    return names, with_second_jaw_line(landmarks)


def _differences(paths: list[Path], neutral: NDArray[np.float64]) -> NDArray[np.float32]:
    result = np.empty((len(paths), *neutral.shape), np.float32)
    for row, path in zip(result, paths, strict=True):
        vertices = read_obj_vertices(path)
        if vertices.shape != neutral.shape:
            raise ModelFileError(f"{path} has {len(vertices)} vertices, the neutral mesh has {len(neutral)}")
        row[:] = vertices - neutral
    return result


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: it belongs to the kit's FaceXModel folder") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error})") from error


def _numbers(lines: list[bytes], prefix: bytes, columns: int, path: Path) -> NDArray[np.float64]:
    rows = [line[len(prefix) :].split() for line in lines if line.startswith(prefix)]
    try:
        values = np.array([row[:columns] for row in rows], np.float64).reshape(-1, columns)
    except ValueError as error:
        raise ModelFileError(f"{path} has a '{prefix.decode().strip()}' line that is not {columns} numbers") from error
    if not np.isfinite(values).all():
        raise ModelFileError(f"{path} contains NaN or infinite values")
    return values


def _index(text: bytes, count: int) -> int:
    index = int(text)
    index = index - 1 if index > 0 else count + index
    if not 0 <= index < count:
        raise IndexError(index)
    return index


def _split(polygon: list[int], vertices: NDArray[np.float64]) -> tuple[tuple[int, int, int], ...]:
    if len(polygon) == 3:
        return ((0, 1, 2),)
    if len(polygon) != 4:
        raise ValueError("a face must have three or four corners")
    a, b, c, d = (vertices[k] for k in polygon)
    if np.sum((a - c) ** 2) <= np.sum((b - d) ** 2):
        return ((0, 1, 2), (0, 2, 3))
    return ((0, 1, 3), (1, 2, 3))
