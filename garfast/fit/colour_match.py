"""Brings a render's colours to a photograph's by a smooth correction, so that light and tone do not drive geometry."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Side of the pictures on which the correction is estimated.
_SIDE = 64


def match_colours(render: Tensor, photo: Tensor, weights: Tensor, *, order: int = 2, ridge: float = 0.01) -> Tensor:
    """The render in the photograph's light, in the weighted least-squares sense.

    For channel c of the render r and polynomials P_0 = 1, P_1, ... of degree ``order`` in x and y,

        r'_c = sum_j M_cj r_j + sum_{k>0} g_ck P_k r_c + sum_k o_ck P_k,

    a colour matrix, a smooth gain and a smooth offset; ``ridge`` draws it to the identity. The solution is in closed
    form and without host synchronisation. It counts as constant: gradients flow to the render through r' only.

    Args:
        render, photo: [B, 3, S, S], RGB -1..1.
        weights: [B, 1, S, S] not negative; where all are 0 the render comes back unchanged.
        order: 0, 1 or 2.
        ridge: relative to the mean weight; larger keeps the correction smaller.

    Returns:
        [B, 3, S, S].
    """
    matrix, gain, offset = _solve(render.detach(), photo, weights, order, ridge)
    basis = polynomials(render.shape[-1], order, render)
    smooth_gain = (gain @ basis[1:].flatten(1)).unflatten(-1, basis.shape[1:]) if order > 0 else 0.0
    smooth_offset = (offset @ basis.flatten(1)).unflatten(-1, basis.shape[1:])
    mixed = (matrix @ render.flatten(2)).unflatten(-1, render.shape[2:])
    return render + mixed + smooth_gain * render + smooth_offset


def polynomials(side: int, order: int, like: Tensor) -> Tensor:
    """1, x, y, x^2, xy, y^2 up to degree ``order`` at pixel centres of a square picture, in -1..1: [K, S, S]."""
    x = (torch.arange(side, device=like.device, dtype=like.dtype) * 2 + 1) / side - 1
    y, x = torch.meshgrid(x, x, indexing="ij")
    return torch.stack([x**i * y ** (n - i) for n in range(order + 1) for i in range(n, -1, -1)])


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve [N, n, n] positive definite systems for [N, n]; Gauss-Jordan, whose steps suit a CUDA graph."""
    size = matrix.shape[-1]
    system = torch.cat([matrix, right[..., None]], -1)
    unit = torch.eye(size, device=matrix.device, dtype=matrix.dtype)
    for k in range(size):
        row = system[:, k] / system[:, k, k, None]
        system = system - (system[:, :, k] - unit[k])[..., None] * row[:, None]
    return system[..., -1]


@torch.no_grad()
def _solve(render: Tensor, photo: Tensor, weights: Tensor, order: int, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Changes to the identity: matrix [B, 3, 3], gain [B, 3, K - 1], offset [B, 3, K]."""
    factor = max(1, render.shape[-1] // _SIDE)
    cover = functional.avg_pool2d(weights, factor)
    share = weights / functional.interpolate(cover, scale_factor=factor).clamp_min(1e-6)
    render = functional.avg_pool2d(render * share, factor)
    photo = functional.avg_pool2d(photo * share, factor)
    basis = polynomials(render.shape[-1], order, render)
    batch, count = len(render), len(basis)
    columns = torch.cat(
        [
            render[:, None].expand(-1, 3, -1, -1, -1),
            basis[1:] * render[:, :, None],
            basis.expand(batch, 3, -1, -1, -1),
        ],
        2,
    ).flatten(3)
    weighted = columns * cover[:, None].flatten(3)
    normal = weighted @ columns.transpose(2, 3)
    right = (weighted @ (photo - render).flatten(2)[..., None])[..., 0]
    size = normal.shape[-1]
    scale = ridge * cover.sum((1, 2, 3)) + 1e-3
    normal = normal + scale[:, None, None, None] * torch.eye(size, device=normal.device, dtype=normal.dtype)
    found = solve_positive(normal.flatten(0, 1), right.flatten(0, 1)).unflatten(0, (batch, 3))
    matrix, gain, offset = found.split([3, count - 1, count], -1)
    return matrix, gain, offset
