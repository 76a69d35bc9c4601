"""Import the ICT Face Model Light (USC Institute for Creative Technologies, MIT licence).

Source: https://github.com/ICT-VGL/ICT-FaceKit; Li et al., "Learning Formation of Physically-Based Face Attributes",
CVPR 2020 (arXiv:2004.03458). What the import decides, beyond centimetres -> millimetres:

- Identity modes are one standard deviation each already (the kit draws their weights from N(0, 1)).
- Expression modes are blendshapes with weights 0..1. One standard deviation is set to 0.25 of full activation, so the
  bounds are 0 and 4. The kit states no statistics; this is a choice.
- ``mouthClose`` makes sense only on an open jaw, so that mode becomes ``jawOpen + mouthClose``: the jaw opens behind
  closed lips. Non-negative coefficients then keep mouthClose <= jawOpen by themselves.
- The kit's second jaw line serves as landmarks 0..16, since it follows the contour that 68-point detectors mark. Its
  points of the chin (6..10) lie on the front, where the surface faces 45 to 65 degrees away; they go down to the lower
  edge that annotators mark, where it faces 70 degrees away (3.6 mm lower for 8, 4.6 for 7 and 9, 1 for 6 and 10).
- Brow landmarks (17..26) are lowered along the surface by 4.5 mm: the kit's sit on top of the brow ridge, 2-7 mm above
  where detectors put them.
- Shells that only a special shader can draw are left out (tear film, blend and occlusion shells, eyelash cards, and the
  inner iris shells behind the cornea), and so are modes that move nothing of what is left.
- Texture coordinates are packed into one square.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.errors import ArgumentError, ModelFileError
from garfast.morphable.importers.ict_kit import IctArrays, read_kit
from garfast.morphable.importers.ict_regions import region_masks
from garfast.morphable.model import MorphableModel
from garfast.morphable.model_file import read_arrays
from garfast.morphable.surface import contour_chains, front_points, lower_edge_points

EXPRESSION_STD = 0.25  # activation per standard deviation
BROW_DROP = 4.5  # mm
JAW_FACING = 70.0  # degrees from the view of the front: where the chin's lower edge is marked
MM_PER_CM = 10.0
SOURCE = (
    "ICT Face Model Light, https://github.com/ICT-VGL/ICT-FaceKit; Li et al., Learning Formation of Physically-Based "
    "Face Attributes, CVPR 2020"
)
LICENCE = (
    "MIT, Copyright (c) 2020 USC Institute for Creative Technologies; keep the kit's licence notice with copies of "
    "this file"
)
_EXPECTED = "the FaceXModel folder of ICT-FaceKit, or an .npz made from it, was expected"
_DROPPED = ("lacrimal_fluid", "eye_blend", "eye_occlusion", "eyelashes")
_SCLERA = 770  # the first vertices of each eyeball are the outer shell, the rest the iris behind it
_STILL = 0.5  # mm; a mode that moves no vertex further is left out
# Where each jaw landmark's chain ends, as a fraction of its distance from the axis: before the lid corner (0), nose and
# mouth (1-4), lower lip (8).
_INNER = (0.74, 0.40, 0.42, 0.42, 0.45, 0.50, 0.55, 0.60, 0.62)
_AXIS_Y = -20.0  # mm; between nose and mouth
# Where each part's unit tile of texture coordinates goes: left, bottom, side.
_HEAD_TILES = {
    "face": (0.0, 0.25, 0.75),
    "head_neck": (0.0, 0.0, 0.25),
    "mouth_socket": (0.0, 0.0, 0.25),
    "eye_socket_left": (0.0, 0.0, 0.25),
    "eye_socket_right": (0.0, 0.0, 0.25),
    "gums_tongue": (0.25, 0.0, 0.25),
    "teeth": (0.5, 0.0, 0.25),
    "eyeball_left": (0.75, 0.25, 0.25),
    "eyeball_right": (0.75, 0.0, 0.25),
}
# The narrow face leaves the lower corners of its own tile free.
_FACE_TILES = {"eyeball_left": (0.86, 0.0, 0.14), "eyeball_right": (0.0, 0.0, 0.14)}


def import_ict(path: str | os.PathLike[str], part: Literal["all", "face"] = "all") -> MorphableModel:
    """Make a face model from the ICT Face Model Light.

    Args:
        path: the kit's folder (``FaceXModel`` or the one around it), or an ``.npz`` with the same content as plain
            arrays (``vertices``, ``triangles``, ``identity``, ``expression``, ``landmarks68`` ...).
        part: 'all' keeps everything that can be seen: head, neck, mouth, teeth and eyes; 'face' keeps the narrow face
            and the front of the eyeballs.

    Returns:
        A model named 'ict' in millimetres, see the module's notes.

    Raises:
        ModelFileError: the path is missing, of another kind, or its contents do not fit together.
    """
    source = Path(path)
    if not source.exists():
        raise ModelFileError(f"there is no file or folder {source}: {_EXPECTED}")
    try:
        raw = read_kit(source) if source.is_dir() else _read_npz(source)
        model = _build(_visible(raw, part))
        model.validate()
    except (ArgumentError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{source} does not fit together as an ICT face model: {error}") from error
    return model


def _read_npz(path: Path) -> IctArrays:
    arrays = read_arrays(path, _EXPECTED)
    required = (
        "vertices",
        "triangles",
        "identity",
        "expression",
        "expression_names",
        "landmarks68_jaw_alt",
        "region",
        "region_names",
        "narrow_face_vertex_count",
        "uv",
        "uv_triangles",
        "mirror",
    )
    missing = [key for key in required if key not in arrays]
    if missing:
        raise ModelFileError(f"{path} has no array '{missing[0]}': {_EXPECTED}")
    vertices = arrays["vertices"].astype(np.float64)
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or arrays["region"].shape != vertices.shape[:1]:
        raise ModelFileError(f"{path} has arrays whose shapes do not fit together: {_EXPECTED}")
    has_atlas = "uv_atlas" in arrays
    return IctArrays(
        vertices=vertices,
        triangles=arrays["triangles"].astype(np.int64),
        identity=arrays["identity"].astype(np.float32),
        expression=arrays["expression"].astype(np.float32),
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        landmarks=arrays["landmarks68_jaw_alt"].astype(np.int64),
        region=arrays["region_names"][arrays["region"]],
        narrow=np.arange(len(vertices)) < int(arrays["narrow_face_vertex_count"]),
        uv=arrays["uv_atlas" if has_atlas else "uv"].astype(np.float64),
        uv_triangles=arrays["uv_triangles"].astype(np.int64),
        mirror=arrays["mirror"].astype(np.int64),
        one_tile=has_atlas,
    )


def _visible(raw: IctArrays, part: str) -> IctArrays:
    """Keep the vertices that are worth drawing, and the triangles all of whose corners are kept."""
    keep = np.array([not str(name).startswith(_DROPPED) for name in raw.region])
    for side in ("eyeball_left", "eyeball_right"):
        shell = np.flatnonzero(raw.region == side)
        keep[shell[_SCLERA:]] = False
        if part == "face":
            depth = raw.vertices[shell, 2]
            keep[shell[depth < np.median(depth[:_SCLERA])]] = False
    if part == "face":
        keep &= raw.narrow | np.char.startswith(raw.region, "eyeball")
    kept = keep[raw.triangles].all(1)
    renumber = np.cumsum(keep) - 1
    if not keep[raw.mirror[keep]].all() or not keep[raw.landmarks].all():
        raise ArgumentError("a mirrored vertex or a landmark lies on a part that is not drawn")
    uv_used, uv_triangles = np.unique(raw.uv_triangles[kept], return_inverse=True)
    return IctArrays(
        vertices=raw.vertices[keep],
        triangles=renumber[raw.triangles[kept]],
        identity=raw.identity[:, keep],
        expression=raw.expression[:, keep],
        expression_names=raw.expression_names,
        landmarks=renumber[raw.landmarks],
        region=raw.region[keep],
        narrow=raw.narrow[keep],
        uv=raw.uv[uv_used],
        uv_triangles=uv_triangles.reshape(-1, 3),
        mirror=renumber[raw.mirror[keep]],
        one_tile=raw.one_tile,
    )


def _build(raw: IctArrays) -> MorphableModel:
    vertices = raw.vertices * MM_PER_CM
    expression, names = _expressions(raw)
    skin = raw.narrow[raw.triangles].all(1)
    landmark_triangles = np.repeat(raw.landmarks[:, None], 3, 1)
    landmark_weights = np.tile(np.array([1.0, 0.0, 0.0]), (len(raw.landmarks), 1))
    lowered = vertices[raw.landmarks[17:27], :2] - np.array([0.0, BROW_DROP])
    landmark_triangles[17:27], landmark_weights[17:27] = front_points(vertices, raw.triangles[skin], lowered)
    brows = (vertices[landmark_triangles[17:27]] * landmark_weights[17:27, :, None]).sum(1)
    # The chin, then the left side as the mirror image of the right.
    lower, shares = lower_edge_points(
        vertices, raw.triangles[skin], raw.landmarks[:9], axis_y=_AXIS_Y, facing=JAW_FACING
    )
    landmark_triangles[:9], landmark_weights[:9] = lower, shares
    landmark_triangles[9:17], landmark_weights[9:17] = raw.mirror[lower[7::-1]], shares[7::-1]
    right = contour_chains(vertices, raw.triangles[skin], lower[:, 0], axis_y=_AXIS_Y, inner=np.array(_INNER))
    left = np.where(right >= 0, raw.mirror[right], -1)[-2::-1]  # the chin's chain is its own mirror image
    contour = np.concatenate([right, left])
    identity = raw.identity * np.float32(MM_PER_CM)
    return MorphableModel(
        name="ict",
        mean=_floats(vertices),
        triangles=torch.from_numpy(raw.triangles.astype(np.int32)),
        shape_basis=_floats(identity),
        exp_basis=_floats(expression * np.float32(MM_PER_CM * EXPRESSION_STD)),
        exp_bounds=torch.tensor([[0.0, 1 / EXPRESSION_STD]]).repeat(len(names), 1),
        landmark_triangles=torch.from_numpy(landmark_triangles),
        landmark_weights=_floats(landmark_weights),
        contour=torch.from_numpy(contour),
        uv=_floats(_packed_uv(raw)),
        uv_triangles=torch.from_numpy(raw.uv_triangles.astype(np.int32)),
        shape_names=tuple(f"identity{i:03d}" for i in range(len(identity))),
        exp_names=names,
        mirror=torch.from_numpy(raw.mirror),
        regions={name: _floats(mask) for name, mask in region_masks(raw, vertices, brows).items()},
        source=SOURCE,
        licence=LICENCE,
    )


def _expressions(raw: IctArrays) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    expression, names = raw.expression.copy(), list(raw.expression_names)
    if "jawOpen" in names and "mouthClose" in names:
        expression[names.index("mouthClose")] += expression[names.index("jawOpen")]
        names[names.index("mouthClose")] = "jawOpenMouthClose"
    moving = np.linalg.norm(expression, axis=2).max(1) * MM_PER_CM > _STILL
    return expression[moving], tuple(name for name, moves in zip(names, moving, strict=True) if moves)


def _packed_uv(raw: IctArrays) -> NDArray[np.float64]:
    """One square for all parts: the kit gives each material a unit tile of its own, and both eyeballs the face's."""
    if raw.one_tile:
        return raw.uv
    tiles = _HEAD_TILES if (raw.region == "head_neck").any() else _FACE_TILES
    part = np.empty(len(raw.uv), raw.region.dtype)
    part[raw.uv_triangles.reshape(-1)] = raw.region[raw.triangles.reshape(-1)]
    # Vertices on the border of face and head have a texture coordinate for each; the tile tells them apart.
    part[(raw.uv[:, 0] >= 1) & (part == "face")] = "head_neck"
    part[(raw.uv[:, 0] < 1) & (part == "head_neck")] = "face"
    uv = raw.uv - np.floor(raw.uv)
    for name, (left, bottom, size) in tiles.items():
        uv[part == name] = uv[part == name] * size + np.array([left, bottom])
    return uv


def _floats(values: NDArray[np.floating]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
