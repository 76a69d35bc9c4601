"""Iterative closest points: brings points onto a surface, rigidly or with a change of size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError
from garfast.evaluate.rigid import Similarity, align_points, rotation_from_axis
from garfast.evaluate.surface import Nearest, Surface

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class IcpConfig:
    """How :func:`icp` works.

    Attributes:
        metric: 'plane' minimises the distance to the tangent plane of the nearest place (converges in a few steps),
            'point' that to the nearest place itself.
        scale: whether the size may change.
        iterations: at most so many.
        tolerance: mm; it ends when no point moves further than this in a step ...
        improvement: ... or when the root mean square distance changes by less than this share of it.
        max_distance: mm; points further from the surface have no say.
        trim: share of the points with the largest distances that have no say, 0..1; for surfaces that overlap in part.

    Raises:
        ArgumentError: a value is out of its range.
    """

    metric: str = "plane"
    scale: bool = False
    iterations: int = 60
    tolerance: float = 1e-4
    improvement: float = 1e-5
    max_distance: float = np.inf
    trim: float = 0.0

    def __post_init__(self) -> None:
        if self.metric not in ("plane", "point"):
            raise ArgumentError(f"the metric of ICP must be 'plane' or 'point', not {self.metric!r}")
        if self.iterations < 0 or self.improvement < 0 or not 0 <= self.trim < 1:
            raise ArgumentError("ICP needs iterations and improvement of 0 or more, and a trim from 0 to below 1")
        if not self.tolerance > 0 or not self.max_distance > 0:
            raise ArgumentError("ICP needs a positive tolerance and max_distance, in mm")


class IcpResult(NamedTuple):
    """What :func:`icp` returns.

    Attributes:
        transform: moves the points onto the surface.
        nearest: of the moved points, on the surface; its distances are the errors.
        iterations: used.
        converged: whether the points or their distances stopped changing.
    """

    transform: Similarity
    nearest: Nearest
    iterations: int
    converged: bool


def icp(
    points: NDArray[np.floating],
    surface: Surface,
    *,
    start: Similarity | None = None,
    weights: NDArray[np.floating] | None = None,
    config: IcpConfig | None = None,
) -> IcpResult:
    """Bring points onto a surface (Besl and McKay 1992; Chen and Medioni 1992 for the point-to-plane metric).

    Args:
        points: [N, 3] to move, mm.
        surface: where to.
        start: where to begin; the points as they are where None.
        weights: [N] how much each point counts, not negative.
        config: see :class:`IcpConfig`.

    Raises:
        ArgumentError: the points are malformed, or no point lies near enough to the surface to have a say.
    """
    config = config or IcpConfig()
    p = np.asarray(points, np.float64)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (len(p),) or (w < 0).any() or not np.isfinite(w).all():
        raise ArgumentError(f"ICP needs {len(p)} finite weights that are not negative")
    transform = start or Similarity.identity()
    moved = transform.apply(p)
    nearest, before = surface.nearest(moved), np.inf
    for iteration in range(1, config.iterations + 1):
        influence = _influence(nearest.distance, w, config)
        if config.metric == "plane":
            step = _plane_step(moved, nearest, influence, config.scale)
        else:
            step = align_points(moved, nearest.points, weights=influence, scale=config.scale)
        transform = step.after(transform)
        following = transform.apply(p)
        change = float(np.linalg.norm(following - moved, axis=1).max())
        moved = following
        nearest = surface.nearest(moved)
        error = _root_mean_square(nearest, influence, config)
        if change < config.tolerance or abs(before - error) < config.improvement * error:
            return IcpResult(transform, nearest, iteration, True)
        before = error
    return IcpResult(transform, nearest, config.iterations, config.iterations == 0)


def _influence(distance: Floats, weights: Floats, config: IcpConfig) -> Floats:
    use = (distance <= config.max_distance) & (weights > 0)
    if config.trim > 0 and use.any():
        use &= distance <= np.quantile(distance[use], 1 - config.trim)
    if use.sum() < 6:
        raise ArgumentError(
            f"ICP has only {int(use.sum())} points near the surface: check that both are in mm and in roughly one place"
        )
    return np.where(use, weights, 0.0)


def _root_mean_square(nearest: Nearest, weights: Floats, config: IcpConfig) -> float:
    distance = nearest.to_plane if config.metric == "plane" else nearest.distance
    return float(np.sqrt(np.average(distance**2, weights=weights)))


def _plane_step(moved: Floats, nearest: Nearest, weights: Floats, scale: bool) -> Similarity:
    """One Gauss-Newton step on the weighted sum of squared distances to the tangent planes."""
    centre = np.average(moved, axis=0, weights=weights)
    local = moved - centre
    size = float(np.sqrt(np.average((local**2).sum(1), weights=weights))) or 1.0
    normals = nearest.normals
    # In units of the point set's size the unknowns (angles, shifts, relative size) are comparable.
    columns = [np.cross(local / size, normals), normals]
    if scale:
        columns.append((local / size * normals).sum(1, keepdims=True))
    system = np.concatenate(columns, 1)
    hessian = system.T @ (weights[:, None] * system)
    gradient = system.T @ (weights * nearest.to_plane / size)
    # What the surface leaves open (sliding along a plane, turning on a sphere) stays as it is.
    solution = -np.linalg.pinv(hessian, rcond=1e-9, hermitian=True) @ gradient
    rotation = rotation_from_axis(solution[:3])
    factor = float(np.exp(solution[6])) if scale else 1.0
    translation = centre + size * solution[3:6] - factor * (rotation @ centre)
    return Similarity(rotation, translation, np.asarray(factor))
