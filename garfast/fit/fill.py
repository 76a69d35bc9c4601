"""Filling the parts of a texture that no photograph shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def push_pull(colour: Tensor, weight: Tensor) -> Tensor:
    """Smoothly continue what is known into what is not (the push-pull pyramid of Gortler et al., "The Lumigraph").

    Args:
        colour: [C,H,W].
        weight: [1,H,W], 0 (unknown) to 1 (known).

    Returns:
        [C,H,W]: ``colour`` where the weight is 1, elsewhere blended into a smooth continuation; 0 where nothing at all
        is known.
    """
    height, width = colour.shape[1:]
    if max(height, width) == 1:
        return torch.where(weight > 0, colour, torch.zeros_like(colour))
    pad = (0, width % 2, 0, height % 2)
    total = 4 * F.avg_pool2d(F.pad(weight, pad)[None], 2)[0]
    summed = 4 * F.avg_pool2d(F.pad(colour * weight, pad)[None], 2)[0]
    coarse = push_pull(summed / total.clamp_min(1e-12), total.clamp_max(1.0))
    size = (height + height % 2, width + width % 2)
    fine = F.interpolate(coarse[None], size=size, mode="bilinear", align_corners=False)[0, :, :height, :width]
    known = weight.clamp(0, 1)
    return known * colour + (1 - known) * fine


def texture_islands(uv_triangles: Tensor) -> Tensor:
    """The connected piece of the texture that each triangle belongs to: int64 [F], numbered from 0."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    corners = uv_triangles.cpu().numpy()
    count = int(corners.max()) + 1 if corners.size else 0
    rows, columns = corners[:, [0, 1]].reshape(-1), corners[:, [1, 2]].reshape(-1)
    graph = coo_matrix(([True] * len(rows), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    import numpy as np

    _, island = np.unique(labels[corners[:, 0]], return_inverse=True)
    return torch.from_numpy(island.astype(np.int64)).to(uv_triangles.device)


def fill_islands(colour: Tensor, weight: Tensor, islands: Tensor) -> Tensor:
    """`push_pull` inside each island of a texture on its own, so that an eye takes nothing from the cheek beside it.

    Args:
        colour: [C,H,W].
        weight: [1,H,W] in 0..1.
        islands: int64 [H,W], the island of each texel, -1 outside all of them.

    Returns:
        [C,H,W], 0 outside the islands and in those of which nothing is known.
    """
    result = torch.zeros_like(colour)
    count = int(islands.max()) + 1 if islands.numel() else 0
    for island in range(count):
        inside = islands == island
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        if len(rows) == 0:
            continue
        window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        here = inside[window][None]
        part, certain = colour[:, window[0], window[1]], weight[:, window[0], window[1]] * here
        filled = push_pull(part, certain)
        result[:, window[0], window[1]] = torch.where(here, filled, result[:, window[0], window[1]])
    return result


def pad_islands(image: Tensor, known: Tensor, reach: int = 12) -> Tensor:
    """Continue each island's border outward, so that texture filtering and mip-mapping show no seams.

    Args:
        image: [C,H,W].
        known: bool [H,W], the texels inside islands; at least one.
        reach: texels within this distance copy the nearest island texel; beyond, the colours blend smoothly.
    """
    from scipy.ndimage import distance_transform_edt

    if not bool(known.any()):
        return image
    distance, nearest = distance_transform_edt(~known.cpu().numpy(), return_indices=True)
    rows, columns = torch.from_numpy(nearest).long().to(image.device)
    near = torch.from_numpy(distance <= reach).to(image)[None]
    return push_pull(image[:, rows, columns], near)
