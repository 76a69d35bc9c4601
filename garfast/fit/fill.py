"""Filling the parts of a texture that no photograph shows."""

from __future__ import annotations

from functools import cached_property

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


class Islands:
    """The pieces of a texture, each of which is filled on its own, so that an eye takes nothing from the cheek beside
    it.

    What filling needs to know of them does not change with what they show, and is found out once.

    Attributes:
        labels: int64 [H,W], the island of each texel, -1 outside all of them.
        inside: bool [H,W], the texels inside islands.
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.inside = labels >= 0

    @cached_property
    def _windows(self) -> list[tuple[slice, slice, Tensor]]:
        """The box of each island, and which texels in it are the island's, bool [1,h,w]."""
        windows = []
        for island in range(int(self.labels.max()) + 1 if self.labels.numel() else 0):
            here = self.labels == island
            rows, columns = here.any(1).nonzero(), here.any(0).nonzero()
            if len(rows):
                box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
                windows.append((*box, here[box][None]))
        return windows

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        """Of each texel the distance [H,W] to the nearest one inside, and which that is, in the flattened texture,
        int64 [H,W]."""
        from scipy.ndimage import distance_transform_edt

        distance, nearest = distance_transform_edt(~self.inside.cpu().numpy(), return_indices=True)
        rows, columns = torch.from_numpy(nearest).long()
        index = (rows * self.labels.shape[1] + columns).to(self.labels.device)
        return torch.from_numpy(distance).to(self.labels.device), index

    def fill(self, colour: Tensor, weight: Tensor) -> Tensor:
        """`push_pull` inside each island.

        Args:
            colour: [C,H,W].
            weight: [1,H,W] in 0..1.

        Returns:
            [C,H,W], 0 outside the islands and in those of which nothing is known.
        """
        result = torch.zeros_like(colour)
        for rows, columns, here in self._windows:
            filled = push_pull(colour[:, rows, columns], weight[:, rows, columns] * here)
            result[:, rows, columns] = torch.where(here, filled, result[:, rows, columns])
        return result

    def pad(self, image: Tensor, reach: int = 12) -> Tensor:
        """Continue each island's border outward, so that texture filtering and mip-mapping show no seams.

        Args:
            image: [C,H,W].
            reach: texels within this distance copy the nearest island texel; beyond, the colours blend smoothly.
        """
        if not bool(self.inside.any()):
            return image
        distance, nearest = self._nearest
        continued = image.flatten(1)[:, nearest.flatten()].view_as(image)
        return push_pull(continued, (distance <= reach).to(image)[None])
