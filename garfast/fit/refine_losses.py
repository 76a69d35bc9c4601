"""The terms of equation 10 and its regularisers. Each gives one number per face, [B], and is differentiable.

None of them reads a value back from the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.fit.colour_match import solve_positive
from garfast.morphable import axis_angle_to_matrix
from garfast.ops import upfirdn2d

NUM_LANDMARKS = 68
# Beyond so many deviations a landmark's pull grows no more; the landmark fit's cutoff.
_CUTOFF = 5.0
# Smallest side of a noise map on which its autocorrelation is measured.
_COARSEST = 8


def masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over all but the first dimension; 0 where all weights are 0. [B, ...] -> [B]."""
    weights = weights.expand_as(values)
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp_min(1e-6)


def charbonnier(a: Tensor, b: Tensor, weights: Tensor, *, eps: float = 0.02) -> Tensor:
    """``sqrt((a - b)^2 + eps^2) - eps``, smooth near 0 and linear far from it; weights [B, 1, H, W]. -> [B]."""
    return masked_mean(((a - b).square() + eps * eps).sqrt() - eps, weights)


@torch.no_grad()
def inlier_weights(a: Tensor, b: Tensor, weights: Tensor, cutoff: float) -> Tensor:
    """How far each pixel may be trusted not to be hair, a hand or a highlight: 1 / (1 + (r / (cutoff mean r))^2).

    Args:
        a, b: [B, C, H, W] pictures; r is their distance, blurred over 3 x 3 pixels.
        weights: [B, 1, H, W], over which the mean is taken.
        cutoff: in means; a residual of this size gives 1/2.

    Returns:
        [B, 1, H, W]. Without gradient.
    """
    residual = functional.avg_pool2d((a - b).abs().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    mean = masked_mean(residual, weights).view(-1, 1, 1, 1).clamp_min(1e-3)
    return 1 / (1 + (residual / (cutoff * mean)).square())


def normal_disagreement(normals: Tensor, estimate: Tensor, weights: Tensor, cutoff: float) -> Tensor:
    """Huber loss of the distance of unit normals: d^2 / (2 cutoff) up to ``cutoff``, then linear.

    Args:
        normals, estimate: [B, 3, H, W].
        weights: [B, 1, H, W], 0 where either has no normal.

    Returns:
        [B]; for a small angle t (radians) everywhere, about t^2 / (2 cutoff).
    """
    squared = (normals - estimate).square().sum(1, keepdim=True)
    distance = (squared + 1e-12).sqrt()
    huber = torch.where(distance < cutoff, squared / (2 * cutoff), distance - cutoff / 2)
    return masked_mean(huber, weights)


@torch.no_grad()
def without_tilt(estimate: Tensor, normals: Tensor, weights: Tensor, most: float) -> Tensor:
    """The estimated normals, turned as a whole by the small rotation that brings them nearest to the mesh's.

    An estimator's errors are for a good part one tilt of the whole face, which says nothing about its shape; the pose
    is better known from the landmarks.

    Args:
        estimate, normals: [B, 3, H, W].
        weights: [B, 1, H, W].
        most: largest rotation, radians; 0 leaves the estimate as it is.

    Returns:
        [B, 3, H, W]. Without gradient.
    """
    if most <= 0:
        return estimate
    e, n, w = estimate.flatten(2), normals.flatten(2), weights.flatten(2)
    # |e + r x e - n|^2, summed, is least at the solution of  sum (|e|^2 - e e^T) r = sum e x n.
    power = (w * e.square()).sum((1, 2)).clamp_min(1e-6)
    unit = torch.eye(3, dtype=e.dtype, device=e.device)
    matrix = (power * 1.001)[:, None, None] * unit - (w * e) @ e.transpose(1, 2)
    rotation = solve_positive(matrix, (w * torch.linalg.cross(e, n, dim=1)).sum(2))
    angle = rotation.norm(dim=1, keepdim=True).clamp_min(1e-9)
    rotation = rotation * (angle.clamp_max(most) / angle)
    return (axis_angle_to_matrix(rotation) @ e).view_as(estimate)


def tent(radius: int) -> Tensor:
    """The filter [4 radius + 1] that blurs as a box of 2 radius + 1 does twice. Its sum is 1."""
    box = torch.ones(1, 1, 2 * radius + 1) / (2 * radius + 1)
    return functional.conv1d(box, box, padding=2 * radius)[0, 0]


def blurred_normals(normals: Tensor, weights: Tensor, taps: Tensor, impl: str = "auto") -> Tensor:
    """Unit normals averaged over the neighbourhood that has weight, and made unit again.

    Args:
        normals: [B, 3, H, W].
        weights: [B, 1, H, W]; what has none takes no part.
        taps: [odd] the filter along rows and columns, such as `tent`; [1]: leaves them as they are.
        impl: of `upfirdn2d`.

    Returns:
        [B, 3, H, W]; without meaning where nothing near has weight.
    """
    if len(taps) == 1:
        return normals
    total = upfirdn2d(normals * weights, taps, padding=len(taps) // 2, impl=impl)
    return total * torch.rsqrt(total.square().sum(1, keepdim=True) + 1e-8)


@torch.no_grad()
def mean_angle(normals: Tensor, estimate: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean angle between unit normals [B, 3, H, W], degrees. -> [B]."""
    cosine = (normals * estimate).sum(1, keepdim=True).clamp(-1, 1)
    return masked_mean(torch.rad2deg(torch.acos(cosine)), weights)


def landmark_distance(points: Tensor, targets: Tensor, weights: Tensor, noise: Tensor | float) -> Tensor:
    """``2 c^2 (sqrt(1 + r^2 / (c noise)^2) - 1)``, c = 5: r^2 / noise^2 up to some c noise, then linear.

    Weighted, summed and divided by 68: with `coefficient_prior`, at equal weights, equation 12.

    Args:
        points, targets: [B, 68, 2]; what has no weight may be NaN in ``targets``.
        weights: [B, 68].
        noise: in the unit of the points; a number, or [B].

    Returns:
        [B].
    """
    targets = torch.where(weights[..., None] > 0, targets, points.detach())
    scale = noise.view(-1, 1) if isinstance(noise, Tensor) else noise
    squared = (points - targets).square().sum(-1) / (scale * scale)
    robust = 2 * _CUTOFF**2 * ((1 + squared / _CUTOFF**2).sqrt() - 1)
    return (weights * robust).sum(1) / points.shape[1]


def coefficient_prior(shape: Tensor, exp: Tensor) -> Tensor:
    """Sum of squares of all coefficients [B, S] and [B, E] in standard deviations, over 68: see above. -> [B]."""
    return torch.cat([shape, exp], 1).square().sum(1) / NUM_LANDMARKS


def latent_prior(w: Tensor, mean: Tensor) -> Tensor:
    """Mean square distance of w [B, L, D] to the mean style [D]. -> [B]."""
    return (w - mean).square().mean((1, 2))


def noise_correlation(maps: Sequence[Tensor]) -> Tensor:
    """What the noise maps have of a picture: squared correlations of neighbouring pixels at all scales.

    Each map [B, 1, r, r] with r >= 8 is correlated with itself shifted by one pixel in x and in y, then halved in size,
    down to 8; the squares of the correlation coefficients are added up and averaged over the maps. Near 0 for white
    noise. The idea is StyleGAN2's (its appendix on projecting images).

    Raises:
        ArgumentError: no map is that large.
    """
    terms = []
    for noise in maps:
        if noise.shape[-1] < _COARSEST:
            continue
        total = noise.new_zeros(len(noise))
        while True:
            power = noise.square().mean((1, 2, 3)) + 1e-8
            for dim in (-1, -2):
                total = total + ((noise * noise.roll(1, dim)).mean((1, 2, 3)) / power).square()
            if noise.shape[-1] <= _COARSEST:
                break
            noise = functional.avg_pool2d(noise, 2)
        terms.append(total)
    if not terms:
        raise ArgumentError(f"noise_correlation: no noise map is {_COARSEST} or more pixels wide")
    return torch.stack(terms).mean(0)


@torch.no_grad()
def renormalise(noise: Tensor) -> Tensor:
    """A noise map [B, 1, r, r] with mean 0 and variance 1, what the renderer was trained with."""
    centred = noise - noise.mean((1, 2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((1, 2, 3), keepdim=True) + 1e-8)
