"""The anti-aliasing of ``rasterize_normals`` in plain PyTorch.

The outline is made of the edges of drawn triangles whose neighbour is missing or faces the other way. Where an outline
edge E crosses the line between the centres of two neighbouring pixels, it has an outside pixel o and an inside pixel i.
Let s in [0, 1] be the distance from o's centre to the crossing. If E lies in front of what o shows, then, along this
line, E's surface covers o's cell from the crossing on:

s < 1/2:   o takes the colour of E at the crossing with the weight  (1/2 - s) a
s >= 1/2:  i takes the colour of o                with the weight  (s - 1/2) a

For every pixel and direction only the nearest such crossing counts; beyond the border of the image there is background.
If i does not show the surface of E, as where it is thinner than a pixel, its far side has been blended into i
too, and i gives back (s - 1/2) a of it.

a shares an outline between its horizontal and its vertical crossings: a_h + a_v = 1 at every point of it, with
a_h = n_x^2 + (1 - n_x^2 - n_y^2) h, where n is the surface normal there and h the square of the horizontal part of the
edge's unit normal on the image (1/2 at the edge's ends, with a passage of one pixel); a_v likewise. So when the outline
passes a pixel's centre, what the pixel's own sample jumps by is what its crossings make up for: the image stays
continuous, and its gradient moves the outline.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from garfast.ops.rasterize_reference import Screen, at_level, screen_area, unit

# Offset of the inside pixel (row, column) from the outside pixel, by direction.
_ROW_STEP = (0, 0, 1, -1)
_COLUMN_STEP = (1, -1, 0, 0)


class Crossings(NamedTuple):
    """N crossings: where, how much, what colour."""

    sample: Tensor
    row: Tensor  # of the outside pixel
    column: Tensor
    direction: Tensor  # of the inside pixel: right, left, below, above
    edge: Tensor  # 3 triangle + corner
    distance: Tensor  # s
    share: Tensor  # a
    depth: Tensor
    normal: Tensor  # [N, 3]


def antialias_reference(
    screen: Screen,
    index: Tensor,
    vertex_normals: Tensor,
    cull: bool,
    ids: Tensor,
    depth: Tensor,
    normals: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Blend one level: ids [B,H,W], depth [B,1,H,W], normals [B,3,H,W], mask [B,1,H,W] -> normals and mask."""
    batch, height, width = ids.shape
    sample, triangle, corner = outline_edges(screen, index, cull)
    found = Crossings(
        *(
            torch.cat(pair)
            for pair in zip(
                _crossings(screen, index, vertex_normals, sample, triangle, corner, (height, width), vertical=False),
                _crossings(screen, index, vertex_normals, sample, triangle, corner, (height, width), vertical=True),
                strict=True,
            )
        )
    )
    # One pixel of background around the image: an outline may have its outside there.
    height, width = height + 2, width + 2
    shown = torch.where(ids >= 0, depth[:, 0].detach(), torch.inf)
    shown = torch.nn.functional.pad(shown, (1, 1, 1, 1), value=torch.inf).reshape(-1)
    found = found._replace(row=found.row + 1, column=found.column + 1)
    found = _select(found, _inside_image(found.row, found.column, height, width))
    outside = (found.sample * height + found.row) * width + found.column
    found = _select(found, found.depth < shown[outside])
    # The nearest crossing of each pixel and direction; of equally near ones, the one of the lowest edge.
    slot = ((found.sample * height + found.row) * width + found.column) * 4 + found.direction
    order = torch.argsort(found.edge, stable=True)
    order = order[torch.argsort(found.distance[order], stable=True)]
    order = order[torch.argsort(slot[order], stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = slot[order][1:] != slot[order][:-1]
    found, slot = _select(found, order[first]), slot[order[first]]
    table = slot.new_full((shown.numel() * 4,), -1)
    table[slot] = torch.arange(len(slot), device=slot.device)

    outside = slot // 4
    row = found.row + torch.tensor(_ROW_STEP, device=slot.device)[found.direction]
    column = found.column + torch.tensor(_COLUMN_STEP, device=slot.device)[found.direction]
    exists = _inside_image(row, column, height, width)
    inside = torch.where(exists, (found.sample * height + row) * width + column, 0)
    near = found.distance < 0.5
    covers = shown[inside] < shown[outside]
    opposite = table[inside * 4 + (found.direction ^ 1)]
    thin = ~covers & (opposite >= 0)
    if len(slot):
        thin = thin & (found.distance[opposite] + found.distance <= 1)
    counts = near | (exists & (covers | thin))
    lost = ~near & covers  # the inside pixel takes the outside pixel's colour
    target = torch.where(near, outside, inside)[counts]

    colours = torch.nn.functional.pad(torch.cat([normals, mask], 1), (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, 4)
    edge_colour = torch.cat([found.normal, torch.ones_like(found.normal[:, :1])], 1)
    colour = torch.where(lost[:, None], colours[outside], edge_colour)[counts]
    half = torch.where(lost, found.distance - 0.5, 0.5 - found.distance)
    weight = (found.share * half)[counts]
    total = weight.new_zeros(len(colours)).index_add(0, target, weight)
    limit = total.clamp(min=1)
    taken = torch.zeros_like(colours).index_add(0, target, weight[:, None] * colour)
    blended = colours * (1 - total / limit)[:, None] + taken / limit[:, None]
    image = blended.reshape(batch, height, width, 4)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
    return image[:, :3].contiguous(), image[:, 3:].contiguous()


@torch.no_grad()
def outline_edges(screen: Screen, index: Tensor, cull: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sample, triangle and corner k (the edge runs from corner k to k + 1) of every outline edge.

    An edge of more than two triangles is never one. Of two triangles that face each other's way, the front one has it.
    """
    faces = len(index)
    ends = torch.stack([index, index.roll(-1, 1)], -1).reshape(-1, 2)
    low, high = ends.amin(1), ends.amax(1)
    key, order = torch.sort(low * (int(index.max()) + 1 if faces else 1) + high, stable=True)
    same = key[1:] == key[:-1]
    no = same.new_zeros(1)
    before, after = torch.cat([no, same]), torch.cat([same, no])
    count = torch.unique_consecutive(key, return_counts=True)[1].repeat_interleave(
        torch.unique_consecutive(key, return_counts=True)[1]
    )
    partner = torch.where(after, order.roll(-1), order.roll(1))
    neighbour = torch.where(before | after, partner // 3, -1)
    neighbour, count = torch.empty_like(neighbour).scatter(0, order, neighbour), count.scatter(0, order, count)
    side = screen_area(screen, index).nan_to_num(0).sign()  # [B, F]
    mine = side[:, torch.arange(3 * faces, device=index.device) // 3]
    other = torch.where(neighbour >= 0, side[:, neighbour.clamp(min=0)], 0) if faces else mine
    drawn = mine > 0 if cull else mine != 0
    outline = drawn & (count <= 2) & (other != mine) & ((mine > 0) | (other == 0))
    sample, edge = torch.nonzero(outline, as_tuple=True)
    return sample, edge // 3, edge % 3


def _crossings(
    screen: Screen,
    index: Tensor,
    vertex_normals: Tensor,
    sample: Tensor,
    triangle: Tensor,
    corner: Tensor,
    size: tuple[int, int],
    vertical: bool,
) -> Crossings:
    """Where the edges cross the lines through the pixels' centres: rows, or columns if ``vertical``."""
    pair = torch.stack([index[triangle, corner], index[triangle, (corner + 1) % 3]], 1)
    ends = at_level(screen, sample[:, None], pair, size)
    # p: along the line, c: across it.
    p, c = (ends.v, ends.u) if vertical else (ends.u, ends.v)
    with torch.no_grad():
        lines = torch.arange(size[1] if vertical else size[0], device=p.device, dtype=p.dtype) + 0.5
        edge, line = torch.nonzero((c[:, :1] <= lines) != (c[:, 1:] <= lines), as_tuple=True)
        front = screen_area(screen, index)[sample, triangle][edge] > 0
    sample, triangle, corner, pair = sample[edge], triangle[edge], corner[edge], pair[edge]
    (pa, pb), (ca, cb) = p[edge].unbind(1), c[edge].unbind(1)
    (wa, wb), (da, db) = ends.inverse_w[edge].unbind(1), ends.depth[edge].unbind(1)
    t = (line.to(p.dtype) + 0.5 - ca) / (cb - ca)
    position = pa + t * (pb - pa) - 0.5
    on_edge = t * wb / (wa + t * (wb - wa))  # perspective-correct
    depth = da + on_edge * (db - da)
    na, nb = vertex_normals[sample[:, None], pair].unbind(1)
    normal = unit(na + on_edge[:, None] * (nb - na))
    across, along_edge = (cb - ca) ** 2, (pb - pa) ** 2
    squared = across + along_edge
    reach = (squared.sqrt() * torch.minimum(t, 1 - t)).clamp(max=1)
    h = 0.5 + (across / squared - 0.5) * reach
    along, other = (normal[:, 1], normal[:, 0]) if vertical else (normal[:, 0], normal[:, 1])
    share = along**2 + (1 - along**2 - other**2) * h
    # Whether the inside lies towards larger p.
    forward = ((cb > ca) ^ vertical) == front
    before = position.detach().floor()
    fraction = position - before
    pixel = before.long() + (~forward).long()
    distance = torch.where(forward, fraction, 1 - fraction)
    row, column = (pixel, line) if vertical else (line, pixel)
    direction = (~forward).long() + (2 if vertical else 0)
    return Crossings(sample, row, column, direction, 3 * triangle + corner, distance, share, depth.detach(), normal)


def _inside_image(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    return (row >= 0) & (row < height) & (column >= 0) & (column < width)


def _select(crossings: Crossings, which: Tensor) -> Crossings:
    return Crossings(*(values[which] for values in crossings))
