"""Settings of the landmark fit."""

from __future__ import annotations

from dataclasses import dataclass

from garfast.errors import ArgumentError

DETECTOR_NOISE = 0.012
"""Least ``noise`` for landmarks that a network found, face sizes. The residuals cannot tell it, as a model with more
coefficients than landmarks fits their errors as well. Measured with the embedded detector on synthetic faces, whose
surface comes out best with 0.012 to 0.016; with 0.002 it is no better than the mean face's."""

# The search for a first pose looks at this many head orientations.
MAX_STARTS = 24


@dataclass(frozen=True)
class LandmarkFitConfig:
    """Settings of :func:`fit_landmarks`.

    "Face size" is the square root of the area of the landmarks' bounding box, the unit of NME; lengths in the picture
    are given in it, so that a photo and its enlargement give the same face.

    The problem minimised is ``sum_i w_i |u_i - l_i|^2 / noise^2 + shape_prior |shape|^2 + exp_prior |exp|^2`` with
    robust weights: the most probable face, where landmarks err by ``noise`` and coefficients are N(0, 1).

    Attributes:
        contour: 'sliding' moves landmarks 0-16 along the outline as the head turns, as people annotate pictures and 2D
            detectors answer; 'fixed' keeps them on their own points of the jaw, as 3D-consistent detectors answer.
        contour_weight: weight ``w`` of landmarks 0-16: they are the least repeatable ones.
        contour_tangent_weight: with 'sliding', how much of that weight an error along the outline keeps; where on the
            outline a landmark sits is mostly convention.
        contour_facing_degrees: with 'sliding', a side of the face that is turned to the camera by more than this keeps
            its landmarks on the jaw line.
        brow_weight: weight ``w`` of landmarks 17-26: brows sit higher or lower on the ridge than a model's points.
        shape_prior: weight of the identity coefficients' prior, in squared standard deviations.
        exp_prior: the same for expression.
        noise_min, noise_max: bounds of the landmark error (standard deviation of each coordinate, in face sizes). The
            error itself is estimated from the residuals of each face, which balances landmarks against priors.
        robust_cutoff: a landmark that misses by this many noise deviations keeps a quarter of its weight
            (Geman-McClure).
        focal: pinhole only: focal length in pixels, where it is known (EXIF, calibration); None estimates it.
        focal_prior: pinhole only: the focal length expected when none is given, in longer image sides.
        focal_spread: pinhole only: standard deviation of the logarithm of the focal length around ``focal_prior``;
            0 keeps it there.
        principal_point: pinhole only: (x, y) in photo pixels; None is the middle of the image.
        starts: head poses that are followed until the full model can tell which is right.
        max_iterations: outer iterations (contour, robust weights and noise are updated in each).
        inner_steps: Levenberg-Marquardt steps in each of them.
        contour_iterations: outer iterations after which the contour points are left where they are, so that two
            equally good points cannot alternate for ever.
        tolerance: a fit has converged when no landmark moves by more than this in an outer iteration, face sizes.
        max_nme: a fit whose mean error is larger than this many face sizes is not called converged.
    """

    contour: str = "sliding"
    contour_weight: float = 0.5
    contour_tangent_weight: float = 0.25
    contour_facing_degrees: float = 8.0
    brow_weight: float = 0.3
    shape_prior: float = 1.0
    exp_prior: float = 1.0
    noise_min: float = 0.001
    noise_max: float = 0.03
    robust_cutoff: float = 5.0
    focal: float | None = None
    focal_prior: float = 1.2
    focal_spread: float = 0.25
    principal_point: tuple[float, float] | None = None
    starts: int = 2
    max_iterations: int = 40
    inner_steps: int = 1
    contour_iterations: int = 15
    tolerance: float = 2e-4
    max_nme: float = 0.15

    def __post_init__(self) -> None:
        if self.contour not in ("sliding", "fixed"):
            raise ArgumentError(f"contour must be 'sliding' or 'fixed', got {self.contour!r}")
        if not 0 < self.noise_min <= self.noise_max:
            raise ArgumentError(
                f"noise_min and noise_max must be 0 < min <= max, got {self.noise_min}, {self.noise_max}"
            )
        for name in ("focal_prior", "robust_cutoff", "tolerance", "max_nme", "shape_prior", "exp_prior"):
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("max_iterations", "inner_steps"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.starts <= MAX_STARTS:
            raise ArgumentError(f"starts must be between 1 and {MAX_STARTS}, got {self.starts}")
        if self.focal is not None and not self.focal > 0:
            raise ArgumentError(f"focal must be positive, got {self.focal}")
