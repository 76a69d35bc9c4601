"""Rigid and similarity transforms between corresponding points, in closed form and robustly (numpy, float64)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError

Floats = NDArray[np.float64]


class Similarity(NamedTuple):
    """``moved = scale * rotation @ point + translation``.

    Attributes:
        rotation: [..., 3, 3], a proper rotation.
        translation: [..., 3], in the unit of the points.
        scale: [...], 1 for a rigid transform.
    """

    rotation: Floats
    translation: Floats
    scale: Floats

    @classmethod
    def identity(cls) -> Similarity:
        """Leaves every point where it is."""
        return cls(np.eye(3), np.zeros(3), np.ones(()))

    def apply(self, points: NDArray[np.floating]) -> Floats:
        """Move points [..., N, 3]."""
        turned = points @ np.swapaxes(self.rotation, -1, -2)
        return self.scale[..., None, None] * turned + self.translation[..., None, :]

    def after(self, first: Similarity) -> Similarity:
        """The transform that does ``first`` and then this one."""
        return Similarity(
            self.rotation @ first.rotation,
            self.scale[..., None] * (self.rotation @ first.translation[..., None])[..., 0] + self.translation,
            self.scale * first.scale,
        )

    def inverse(self) -> Similarity:
        """The transform that undoes this one."""
        back = np.swapaxes(self.rotation, -1, -2)
        scale = 1 / self.scale
        return Similarity(back, -scale[..., None] * (back @ self.translation[..., None])[..., 0], scale)

    @property
    def angle(self) -> Floats:
        """[...] the angle of the rotation, radians."""
        cosine = (np.trace(self.rotation, axis1=-2, axis2=-1) - 1) / 2
        return np.arccos(np.clip(cosine, -1, 1))


def align_points(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    weights: NDArray[np.floating] | None = None,
    scale: bool = False,
) -> Similarity:
    """The transform that brings points nearest to their partners in the least-squares sense.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991). Never a
    reflection.

    Args:
        source: [..., N, 3] points to move; leading dimensions are a batch.
        target: [..., N, 3] where they belong.
        weights: [..., N] not negative; all equal where None.
        scale: whether the size may change.

    Raises:
        ArgumentError: shapes that do not fit, fewer than three points, values that are not finite, or points that all
            lie in one place.
    """
    p, q = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if p.ndim < 2 or p.shape[-1] != 3 or p.shape != q.shape or p.shape[-2] < 3:
        raise ArgumentError(
            f"alignment needs two sets of at least 3 points of one shape [..., N, 3], got {p.shape} and {q.shape}"
        )
    w = np.ones(p.shape[:-1]) if weights is None else np.broadcast_to(np.asarray(weights, np.float64), p.shape[:-1])
    if not (np.isfinite(p).all() and np.isfinite(q).all() and np.isfinite(w).all()) or (w < 0).any():
        raise ArgumentError("alignment needs finite points and finite weights that are not negative")
    total = w.sum(-1)
    if (total <= 0).any():
        raise ArgumentError("alignment needs at least one point with a positive weight")
    w = w / total[..., None]
    centre_p, centre_q = (w[..., None] * p).sum(-2), (w[..., None] * q).sum(-2)
    p, q = p - centre_p[..., None, :], q - centre_q[..., None, :]
    spread = (w * (p * p).sum(-1)).sum(-1)
    if (spread <= 1e-24).any():
        raise ArgumentError("points that all lie in one place cannot be aligned")
    covariance = np.swapaxes(w[..., None] * q, -1, -2) @ p
    u, values, vt = np.linalg.svd(covariance)
    sign = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    flip = np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)
    rotation = (u * flip[..., None, :]) @ vt
    factor = (values * flip).sum(-1) / spread if scale else np.ones_like(spread)
    translation = centre_q - factor[..., None] * (rotation @ centre_p[..., None])[..., 0]
    return Similarity(rotation, translation, np.asarray(factor))


def align_robust(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    weights: NDArray[np.floating] | None = None,
    scale: bool = False,
    iterations: int = 30,
) -> Similarity:
    """Like :func:`align_points`, but partners far from where they should be lose their influence.

    Iteratively re-weighted least squares with Tukey's biweight, whose width follows the median residual.

    Args:
        source: [N, 3].
        target: [N, 3].
        weights: [N].
        scale: whether the size may change.
        iterations: at most so many.

    Raises:
        ArgumentError: as for :func:`align_points`; or a batch was given.
    """
    if np.ndim(source) != 2:
        raise ArgumentError(f"robust alignment takes one set of points [N, 3], got {np.shape(source)}")
    base = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    current = align_points(source, target, weights=base, scale=scale)
    for _ in range(iterations):
        distance = np.linalg.norm(current.apply(source) - target, axis=-1)
        # 4.685 standard deviations, estimated from the median of the lengths of 3D Gaussian errors.
        width = 4.685 * max(float(np.median(distance[base > 0])) / 1.538, 1e-9)
        robust = base * np.clip(1 - (distance / width) ** 2, 0, None) ** 2
        following = align_points(source, target, weights=robust, scale=scale)
        change = np.abs(following.apply(source) - current.apply(source)).max()
        current = following
        if change < 1e-9:
            break
    return current


def rotation_from_axis(axis: NDArray[np.floating]) -> Floats:
    """The rotation [3, 3] about an axis [3] by its length in radians (Rodrigues)."""
    vector = np.asarray(axis, np.float64)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # Near 0 both factors are taken from their series.
    first = np.sin(angle) / angle if angle > 1e-8 else 1.0
    second = (1 - np.cos(angle)) / angle**2 if angle > 1e-4 else 0.5
    return np.eye(3) + first * cross + second * (cross @ cross)
