"""How far a fitted face is from the true one: the face region of a model, and distances over it in mm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.errors import ArgumentError
from garfast.evaluate.icp import IcpConfig, icp
from garfast.evaluate.rigid import Similarity, align_points
from garfast.evaluate.surface import Nearest, Surface, keep_vertices
from garfast.morphable import MorphableModel

Floats = NDArray[np.float64]

NOSE_TIP = 30
"""The landmark at the tip of the nose."""

RADIUS = 95.0
"""mm around the tip of the nose, the part of a face that the Florence protocol compares."""

# What is no outer skin of the face: inside the eyes and the mouth, or the back of the head.
_NOT_FACE = ("eyeballs", "iris", "pupil", "teeth", "tongue", "mouth_socket", "nostrils", "ears", "scalp", "neck")
_FACE = ("skin", "lips", "lids", "brows")

_MARGIN = 30.0  # mm around the region that the fitted surface keeps, so that its rim is never the nearest place
_ICP_POINTS = 1500


@dataclass(frozen=True)
class FaceRegion:
    """The part of a model's faces that is compared: outer skin without eyeballs, mouth, ears, neck and scalp.

    Attributes:
        triangles: [F, 3] of the skin (the whole head's), into the model's vertices.
        skin: [V] bool, vertices of these triangles.
        nose_rows: [3] and nose_weights: [3], the tip of the nose.
        radius: mm around the tip of the nose that is compared.
    """

    triangles: NDArray[np.int64]
    skin: NDArray[np.bool_]
    nose_rows: NDArray[np.int64]
    nose_weights: Floats
    radius: float

    @classmethod
    def of(cls, model: MorphableModel, radius: float = RADIUS) -> FaceRegion:
        """The region of a model's faces.

        Raises:
            ArgumentError: the radius is not positive, or the model's masks leave no triangle.
        """
        if not radius > 0:
            raise ArgumentError(f"the radius of the face region must be positive, got {radius} mm")
        masks = {name: mask.cpu().numpy() > 0.5 for name, mask in model.regions.items()}
        skin = np.zeros(model.num_vertices, bool)
        for name in _FACE:
            skin |= masks.get(name, False)
        if not skin.any():
            skin[:] = True
        for name in _NOT_FACE:
            skin &= ~masks.get(name, np.zeros_like(skin))
        triangles = model.triangles.cpu().numpy().astype(np.int64)
        triangles = triangles[skin[triangles].all(1)]
        if not len(triangles):
            raise ArgumentError(f"the masks of the model '{model.name}' leave no skin to compare")
        used = np.zeros_like(skin)
        used[triangles] = True
        return cls(
            triangles,
            used,
            model.landmark_triangles[NOSE_TIP].cpu().numpy(),
            model.landmark_weights[NOSE_TIP].cpu().numpy().astype(np.float64),
            radius,
        )

    def nose_tip(self, vertices: NDArray[np.floating]) -> Floats:
        """[3] the tip of the nose of vertices [V, 3]."""
        tip: Floats = self.nose_weights @ np.asarray(vertices, np.float64)[self.nose_rows]
        return tip

    def rows(self, vertices: NDArray[np.floating], margin: float = 0.0) -> NDArray[np.bool_]:
        """[V] bool: vertices of the skin within the radius (and a margin, mm) of the tip of the nose."""
        near = np.linalg.norm(vertices - self.nose_tip(vertices), axis=1) <= self.radius + margin
        return self.skin & near


@dataclass(frozen=True)
class FaceError:
    """How far a face is from the true one after the best rigid motion (no change of size); means over the true
    face's region, in which every square millimetre counts the same.

    Attributes:
        plane: mm, mean distance of true points to the tangent planes of the fitted surface at its nearest places.
        surface: mm, mean distance of true points to the fitted surface.
        rms: mm, root of the mean square of ``plane``.
        vertex: mm, mean distance between corresponding vertices, after the motion that is best for these.
        normals: degrees, mean angle between the normals of corresponding vertices, after the motion of ``plane``.
    """

    plane: float
    surface: float
    rms: float
    vertex: float
    normals: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


class TrueFace:
    """A face to compare others of the same model with.

    Args:
        vertices: [V, 3] mm, in any rigid position.
        region: what is compared.

    Raises:
        ArgumentError: nothing of the face lies in the region.
    """

    def __init__(self, vertices: NDArray[np.floating], region: FaceRegion) -> None:
        self.vertices = np.asarray(vertices, np.float64)
        self.region = region
        self.rows = np.flatnonzero(region.rows(self.vertices))
        areas = Surface(self.vertices, region.triangles).vertex_areas[self.rows]
        if len(self.rows) < 10 or not areas.sum() > 0:
            raise ArgumentError(f"fewer than 10 vertices lie within {region.radius:g} mm of the tip of the nose")
        self.weights = areas / areas.sum()

    @cached_property
    def normals(self) -> Floats:
        """[N, 3] unit normals of the compared vertices."""
        return _normals(self.vertices, self.region.triangles)[self.rows]

    def error(self, vertices: NDArray[np.floating]) -> FaceError:
        """How far a face [V, 3] of the same model, in any rigid position, is from this one.

        Raises:
            ArgumentError: it has another number of vertices, or values that are not finite.
        """
        fitted = np.asarray(vertices, np.float64)
        if fitted.shape != self.vertices.shape:
            raise ArgumentError(
                f"a face of the same model was expected: vertices {list(self.vertices.shape)}, got {list(fitted.shape)}"
            )
        motion, nearest = self._register(fitted)
        true = self.vertices[self.rows]
        partners = fitted[self.rows]
        best = align_points(true, partners, weights=self.weights)
        turned = self.normals @ motion.rotation.T
        cosine = (turned * _normals(fitted, self.region.triangles)[self.rows]).sum(1)
        plane = np.abs(nearest.to_plane)
        return FaceError(
            plane=float(self.weights @ plane),
            surface=float(self.weights @ nearest.distance),
            rms=float(np.sqrt(self.weights @ plane**2)),
            vertex=float(self.weights @ np.linalg.norm(best.apply(true) - partners, axis=1)),
            normals=float(np.degrees(self.weights @ np.arccos(np.clip(cosine, -1, 1)))),
        )

    def distances(self, vertices: NDArray[np.floating]) -> Floats:
        """[V] point-to-plane distances, mm, signed (positive where the true face lies outside); NaN off the region."""
        _, nearest = self._register(np.asarray(vertices, np.float64))
        out = np.full(len(self.vertices), np.nan)
        out[self.rows] = nearest.to_plane
        return out

    def _register(self, fitted: Floats) -> tuple[Similarity, Nearest]:
        """The rigid motion that brings this face onto a fitted one, and the nearest places there."""
        near = self.region.rows(fitted, _MARGIN)
        part, triangles, _ = keep_vertices(fitted, self.region.triangles, near)
        surface = Surface(part, triangles)
        true = self.vertices[self.rows]
        start = align_points(true, fitted[self.rows], weights=self.weights)
        some = slice(None, None, max(1, len(true) // _ICP_POINTS))
        config = IcpConfig(tolerance=1e-3, improvement=1e-4, iterations=30)
        motion = icp(true[some], surface, start=start, weights=self.weights[some], config=config).transform
        return motion, surface.nearest(motion.apply(true))


def _normals(vertices: Floats, triangles: NDArray[np.int64]) -> Floats:
    from garfast.ops import vertex_normals

    unit = vertex_normals(torch.from_numpy(vertices).float(), torch.from_numpy(triangles).int())
    return unit.reshape(-1, 3).double().numpy()
