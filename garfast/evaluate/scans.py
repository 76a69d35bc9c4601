"""Meshes from files, the tip of a nose, and how far a face is from a scan of another topology."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError, EvaluationError
from garfast.evaluate.face_error import RADIUS
from garfast.evaluate.icp import IcpConfig, icp
from garfast.evaluate.rigid import Similarity, align_points, rotation_from_axis
from garfast.evaluate.surface import Surface, crop

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MESH_SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf", ".npz")
_METRES = (".glb", ".gltf")

# Where the coarse search for a pose begins: turns about x and y, degrees.
_STARTS = tuple(itertools.product((0.0, -20.0, 20.0), (0.0, -20.0, 20.0)))
_GOOD = 2.0  # mm; a start that ends this near is as good as any
_COARSE, _FINE = 300, 2500  # points
_MARGIN = 30.0  # mm around the compared part that a predicted face keeps


class Mesh(NamedTuple):
    """``vertices`` [V, 3] in mm and ``triangles`` [F, 3]."""

    vertices: Floats
    triangles: Ints


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """A triangle mesh in mm from an .obj, .ply, .stl, .off, .glb or .gltf file (the last two are in metres, as glTF
    prescribes, the others are taken for mm), or from an .npz file with ``vertices`` and ``triangles``.

    Raises:
        EvaluationError: the file cannot be read or holds no triangles.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise EvaluationError(f"{path} is no mesh that can be read: expected one of {', '.join(MESH_SUFFIXES)}")
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                vertices, triangles = arrays["vertices"], arrays["triangles"]
        else:
            import trimesh

            mesh: Any = trimesh.load(path, force="mesh", process=False, maintain_order=True, skip_materials=True)
            vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    except Exception as error:  # trimesh raises many kinds on malformed files
        raise EvaluationError(f"{path} is no readable mesh ({type(error).__name__})") from error
    vertices = vertices.astype(np.float64) * (1000.0 if suffix in _METRES else 1.0)
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or triangles.ndim != 2 or not len(triangles):
        raise EvaluationError(f"{path} holds no triangles")
    if not np.isfinite(vertices).all():
        raise EvaluationError(f"{path} holds vertices that are not finite")
    return Mesh(vertices, triangles.astype(np.int64))


def average_meshes(meshes: list[Mesh]) -> Mesh:
    """The mean of meshes of one topology, each brought rigidly onto the first.

    Raises:
        EvaluationError: there are none, or their topologies differ.
    """
    if not meshes:
        raise EvaluationError("there is no mesh to average")
    first = meshes[0]
    if any(mesh.vertices.shape != first.vertices.shape for mesh in meshes):
        raise EvaluationError("meshes of one person must have one topology to be averaged: the same vertices in order")
    moved = [align_points(mesh.vertices, first.vertices).apply(mesh.vertices) for mesh in meshes]
    return Mesh(np.mean(moved, axis=0), first.triangles)


def nose_tip(vertices: NDArray[np.floating]) -> Floats:
    """[3] the tip of the nose of an upright head that looks along +z: of the vertices near the middle, the foremost.

    The middle is searched within a third of the width and the middle half of the height, so that hair, chin and
    shoulders are out of it.
    """
    low, high = np.percentile(vertices, [1, 99], axis=0)
    middle, extent = (low + high) / 2, high - low
    near = (np.abs(vertices[:, 0] - middle[0]) < extent[0] / 6) & (np.abs(vertices[:, 1] - middle[1]) < extent[1] / 4)
    candidates = vertices[near] if near.any() else vertices
    tip: Floats = candidates[candidates[:, 2].argmax()].astype(np.float64)
    return tip


def read_point(path: str | os.PathLike[str]) -> Floats:
    """[3] a point from a text file with three numbers.

    Raises:
        EvaluationError: the file holds something else.
    """
    try:
        point = np.array(Path(path).read_text().replace(",", " ").split(), np.float64)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} should hold three numbers: x, y and z of the tip of the nose in mm") from error
    if point.shape != (3,) or not np.isfinite(point).all():
        raise EvaluationError(f"{path} should hold three numbers: x, y and z of the tip of the nose in mm")
    return point


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """How a face is compared with a scan.

    Attributes:
        radius: mm around the scan's tip of the nose that are compared.
        scale: whether the face may change its size; errors are in the scan's mm either way.
        direction: 'scan': from the scan's surface to the face's; 'mesh': from the face's to the scan's.
        trim: share of the scan's points, the worst ones, that have no say in the registration (not in the error).

    Raises:
        ArgumentError: a value is out of its range.
    """

    radius: float = RADIUS
    scale: bool = False
    direction: str = "scan"
    trim: float = 0.1

    def __post_init__(self) -> None:
        if self.direction not in ("scan", "mesh"):
            raise ArgumentError(f"the direction must be 'scan' or 'mesh', not {self.direction!r}")
        if not self.radius > 0 or not 0 <= self.trim < 0.9:
            raise ArgumentError("the radius must be positive and the trim from 0 to below 0.9")


@dataclass(frozen=True)
class ScanError:
    """Distances in the scan's mm, means over the compared surface by area.

    Attributes:
        plane: to the nearest tangent planes.
        surface: to the nearest places.
        rms: root of the mean square of ``plane``.
        scale: the size of the face after registration over its own; 1 without a change.
    """

    plane: float
    surface: float
    rms: float
    scale: float


def scan_error(
    face: Mesh, scan: Mesh, *, face_nose: Floats, scan_nose: Floats, config: ScanConfig | None = None
) -> ScanError:
    """Register a face with a scan by ICP and measure how far they are apart.

    Both must be upright and look along +z within about 30 degrees; where they are and how they are turned within that
    is found, beginning with the tips of the noses on each other.

    Args:
        face: the predicted face, any topology.
        scan: the true surface.
        face_nose, scan_nose: [3] tips of the noses.
        config: see :class:`ScanConfig`.

    Raises:
        ArgumentError: nothing of the face or the scan lies near its nose.
    """
    config = config or ScanConfig()
    vertices, triangles, _ = crop(scan.vertices, scan.triangles, scan_nose, config.radius)
    target = Surface(vertices, triangles)
    part, faces, _ = crop(face.vertices, face.triangles, face_nose, config.radius + _MARGIN)
    surface = Surface(part, faces)
    points, weights = np.asarray(vertices, np.float64), target.vertex_areas
    # The scan is moved onto the face: its points all have a partner there, the face has more than the scan shows.
    motion = _register(points, weights, surface, scan_nose, face_nose, config)
    if config.direction == "scan":
        nearest = surface.nearest(motion.apply(points))
        unit = 1 / float(motion.scale)
    else:
        back = motion.inverse()
        moved = back.apply(np.asarray(part, np.float64))
        near = np.linalg.norm(moved - scan_nose, axis=1) <= config.radius
        if not near.any():
            raise ArgumentError("no vertex of the face lies near the scan's nose after registration")
        nearest = Surface(scan.vertices, scan.triangles).nearest(moved[near])
        weights, unit = surface.vertex_areas[near], 1.0
    weights = weights / weights.sum()
    plane = unit * np.abs(nearest.to_plane)
    return ScanError(
        plane=float(weights @ plane),
        surface=float(weights @ (unit * nearest.distance)),
        rms=float(np.sqrt(weights @ plane**2)),
        scale=1 / float(motion.scale),
    )


def _register(
    points: Floats, weights: Floats, surface: Surface, nose: Floats, target: Floats, config: ScanConfig
) -> Similarity:
    """The motion of the scan's points onto the face: the best of several starts, refined."""
    some = _subset(len(points), _COARSE)
    best: tuple[float, Similarity] | None = None
    coarse = IcpConfig(trim=max(config.trim, 0.1), iterations=12, tolerance=0.05, improvement=1e-3)
    for pitch, yaw in _STARTS:
        rotation = rotation_from_axis(np.radians([pitch, 0, 0])) @ rotation_from_axis(np.radians([0, yaw, 0]))
        start = Similarity(rotation, target - rotation @ nose, np.ones(()))
        result = icp(points[some], surface, start=start, weights=weights[some], config=coarse)
        distance = np.sort(result.nearest.distance)[: int(0.9 * len(some))]
        error = float(np.sqrt((distance**2).mean()))
        if best is None or error < best[0]:
            best = (error, result.transform)
        if error < _GOOD:
            break
    assert best is not None
    fine = IcpConfig(trim=config.trim, scale=config.scale, iterations=60, tolerance=1e-3, improvement=1e-5)
    some = _subset(len(points), _FINE)
    return icp(points[some], surface, start=best[1], weights=weights[some], config=fine).transform


def _subset(count: int, wanted: int) -> Ints:
    """At most about ``wanted`` of ``count`` indices, the same ones every time."""
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[:wanted])
