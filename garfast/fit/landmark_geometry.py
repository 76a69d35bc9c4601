"""The few points of a face model that landmarks see, and which of them a sliding contour landmark means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from garfast.fit.rows import Rows
from garfast.morphable import MorphableModel

NUM_LANDMARKS = 68
NUM_CONTOUR = 17

# A candidate that lies ``a`` mm beside the landmark along the outline is held to reach a^2 / (2 ALONG_RADIUS) mm less
# far, at most ALONG_LIMIT: enough to choose within a flat stretch of outline, too little to leave it.
ALONG_RADIUS = 50.0
ALONG_LIMIT = 1.5


@dataclass(frozen=True)
class Contour(Rows):
    """Where the 17 contour landmarks of B faces sit: weighted sums of three neighbouring candidates.

    Attributes:
        points: [B, 17, 3] indices of points of the geometry. weights: [B, 17, 3].
        column: [B, 17] int64 column of ``LandmarkGeometry.candidates`` that is nearest.
    """

    points: Tensor
    weights: Tensor
    column: Tensor


@dataclass(frozen=True)
class LandmarkGeometry:
    """A face model cut down to its 68 landmarks and the candidate vertices of the 17 contour landmarks.

    Points 0..67 are the landmarks themselves, the rest the candidates. Everything is float64 and linear in the
    coefficients ``c = (shape, exp)``: ``points = mean + basis @ c``.

    Attributes:
        mean: [P, 3] mm.
        basis: [P, 3, C] mm per standard deviation, C = S + E, shape modes first.
        lower, upper: [C] bounds of the coefficients (infinite where free).
        num_shape: S.
        candidates: [17, 1 + K] indices of points, in order along the surface: the landmark itself, then its
            candidates; padded with the landmark.
        padding: [17, 1 + K] where ``candidates`` is padding.
        vertices: [17, 1 + K] the model's vertex of each candidate (for the landmark itself: its heaviest corner).
        outward: [17, 3] unit directions in model space, away from the face in the frontal view.
    """

    mean: Tensor
    basis: Tensor
    lower: Tensor
    upper: Tensor
    num_shape: int
    candidates: Tensor
    padding: Tensor
    vertices: Tensor
    outward: Tensor

    @staticmethod
    def from_model(model: MorphableModel) -> LandmarkGeometry:
        """Gather landmarks and contour candidates of ``model``, on its device."""
        corners = model.landmark_triangles.long()
        weights = model.landmark_weights.double()
        contour = _frontal_chains(model)
        known = contour >= 0
        used, slots = torch.unique(
            torch.cat([corners.reshape(-1), contour.clamp(min=0).reshape(-1)]), return_inverse=True
        )
        corner_slots = slots[: corners.numel()].reshape(corners.shape)
        candidate_slots = slots[corners.numel() :].reshape(contour.shape)

        def reduce(values: Tensor) -> Tensor:  # [..., V, 3] -> [..., 68 + 17 K, 3]
            few = values[..., used, :].double()
            landmarks = (few[..., corner_slots, :] * weights[:, :, None]).sum(-2)
            return torch.cat([landmarks, few[..., candidate_slots.reshape(-1), :]], -2)

        mean = reduce(model.mean)
        basis = torch.cat([reduce(model.shape_basis), reduce(model.exp_basis)]).permute(1, 2, 0).contiguous()
        free = torch.full((model.num_shape,), torch.inf, dtype=torch.float64, device=mean.device)
        bounds = model.exp_bounds.double()

        fixed = torch.arange(NUM_CONTOUR, device=mean.device)[:, None]
        sliding = NUM_LANDMARKS + torch.arange(contour.numel(), device=mean.device).reshape(contour.shape)
        own = torch.full_like(fixed, -1)
        return LandmarkGeometry(
            mean=mean,
            basis=basis,
            lower=torch.cat([-free, bounds[:, 0]]),
            upper=torch.cat([free, bounds[:, 1]]),
            num_shape=model.num_shape,
            candidates=torch.cat([fixed, torch.where(known, sliding, fixed)], 1),
            padding=torch.cat([torch.zeros_like(fixed, dtype=torch.bool), ~known], 1),
            vertices=torch.cat([own, contour], 1),
            outward=_outward(mean[:NUM_CONTOUR]),
        )

    @property
    def num_coefficients(self) -> int:
        return self.basis.shape[2]

    def points(self, coefficients: Tensor) -> Tensor:
        """All points in model space, [B, P, 3] mm, for coefficients [B, C]."""
        offsets = coefficients @ self.basis.reshape(-1, self.num_coefficients).T
        return self.mean + offsets.reshape(-1, *self.mean.shape)

    def own_contour(self, batch: int) -> Contour:
        """Every contour landmark on its own point of the jaw, for ``batch`` faces."""
        return self._contour(self.mean.new_zeros(batch, NUM_CONTOUR).long(), self.mean.new_zeros(batch, NUM_CONTOUR))

    def choose_contour(
        self, coefficients: Tensor, rotation: Tensor, facing_sine: float, seen: Tensor | None = None
    ) -> Contour:
        """Pick the point that each contour landmark means in the present pose.

        Where a side of the face is turned to the camera, the jaw line itself is seen and annotated: the landmark stays
        on its own point. Where it is turned away, the outline hides the jaw line: the landmark moves along its chain of
        candidates to where that reaches farthest outward in the picture, between vertices at the top of a parabola.
        "Outward" is the normal of the jaw line in the frontal view, turned with the head in the picture plane; its
        depth after the rotation says which of the two cases holds.

        Args:
            coefficients: [B, C].
            rotation: [B, 3, 3].
            facing_sine: sine of the angle from which a side counts as turned to the camera.
            seen: [B, 17, 2] where the landmarks were found, mm in the axes of the picture (y up) from the model's
                origin. Where a chain follows the outline for a while, the part of it nearest to the landmark is taken.
        """
        chains = self.points(coefficients)[:, self.candidates] @ rotation.mT[:, None]  # [B, 17, K + 1, 3]
        normal = self.contour_normals(rotation)[:, :, None]
        reach = (chains[..., :2] * normal).sum(-1)
        if seen is not None:
            off = chains[..., :2] - seen[:, :, None]
            along = off[..., 1] * normal[..., 0] - off[..., 0] * normal[..., 1]
            reach = reach - (along.square() / (2 * ALONG_RADIUS)).clamp(max=ALONG_LIMIT)
        # Padding repeats the landmark's own point and must not win over it, nor be the neighbour of a maximum.
        reach = torch.where(self.padding, -torch.inf, reach)
        facing = (self.outward @ rotation.mT)[..., 2] > facing_sine
        column = torch.where(facing, 0, reach.argmax(-1))
        inside = (column > 0) & (column < self.candidates.shape[1] - 1)
        around = torch.where(inside, column, 1)[..., None] + torch.arange(-1, 2, device=column.device)
        before, top, after = reach.gather(2, around.clamp(max=reach.shape[2] - 1)).unbind(-1)
        inside &= after.isfinite()
        bend = 2 * top - before - after
        between = torch.where(inside & (bend > 1e-9), 0.5 * (after - before) / bend.clamp(min=1e-9), 0.0)
        return self._contour(column, between.clamp(-0.5, 0.5))

    def _contour(self, column: Tensor, between: Tensor) -> Contour:
        """Quadratic interpolation of the chains at ``column + between``; between must be 0 at a chain's ends."""
        around = (column[..., None] + torch.arange(-1, 2, device=column.device)).clamp(0, self.candidates.shape[1] - 1)
        points = self.candidates.expand(column.shape[0], -1, -1).gather(2, around)
        weights = [between * (between - 1) / 2, 1 - between.square(), between * (between + 1) / 2]
        return Contour(points=points, weights=torch.stack(weights, -1), column=column)

    def select(self, contour: Contour) -> tuple[Tensor, Tensor]:
        """Mean [B, 68, 3] and basis [B, 68, 3, C] of the 68 landmarks, with these contour points."""
        weights = contour.weights[..., None]
        mean = (self.mean[contour.points] * weights).sum(2)
        basis = (self.basis[contour.points] * weights[..., None]).sum(2)
        batch = mean.shape[0]
        mean = torch.cat([mean, self.mean[NUM_CONTOUR:NUM_LANDMARKS].expand(batch, -1, -1)], 1)
        basis = torch.cat([basis, self.basis[NUM_CONTOUR:NUM_LANDMARKS].expand(batch, -1, -1, -1)], 1)
        return mean, basis

    def contour_vertices(self, contour: Contour) -> Tensor:
        """The model's vertex nearest to each contour point, [B, 17] int64; -1: the landmark's own point."""
        return self.vertices.expand(contour.column.shape[0], -1, -1).gather(2, contour.column[..., None])[..., 0]

    def contour_normals(self, rotation: Tensor) -> Tensor:
        """Outward normals of the 17 contour landmarks in the picture, y up: [B, 17, 2]."""
        return (_roll(rotation) @ self.outward[:, :2].T).mT


def with_contour(points: Tensor, vertices: Tensor, contour: Tensor) -> Tensor:
    """Landmarks with the jaw's where the outline is.

    Args:
        points: [B, 68, 3] the model's own.
        vertices: [B, V, 3].
        contour: [B, 17] int64 which vertex each landmark of the jaw means; negative: its own point.
    """
    own, rest = points[:, : contour.shape[1]], points[:, contour.shape[1] :]
    moved = vertices.gather(1, contour.clamp_min(0)[..., None].expand(-1, -1, 3))
    return torch.cat([torch.where(contour[..., None] < 0, own, moved), rest], 1)


def _frontal_chains(model: MorphableModel) -> Tensor:
    """The part of each contour chain in front of its landmark, [17, K] int64, outermost first, padded with -1.

    A model's chains run along the surface in either direction and may go on behind the jaw line, over ear and neck. The
    outline of those is not the outline of the face, so a chain ends at the landmark's own point, which is left out.
    """
    own = model.landmarks(model.mean)[:NUM_CONTOUR]
    rows = []
    for row, point in zip(model.contour, own, strict=True):
        chain = row[row >= 0]
        places = model.mean[chain]
        split = int((places - point).norm(dim=1).argmin())
        ahead, behind = slice(split + 1, None), slice(0, split)
        if places[behind, 2].sum() - split * point[2] > places[ahead, 2].sum() - (len(chain) - 1 - split) * point[2]:
            rows.append(chain[behind].flip(0))
        else:
            rows.append(chain[ahead])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).long()


def _outward(jaw: Tensor) -> Tensor:
    """Normals of the jaw polyline in the frontal view, [17, 3] with z = 0, away from the face."""
    xy = jaw[:, :2]
    tangent = torch.cat([xy[1:2] - xy[:1], xy[2:] - xy[:-2], xy[-1:] - xy[-2:-1]])
    normal = torch.stack([tangent[:, 1], -tangent[:, 0]], 1)
    normal = normal / normal.norm(dim=1, keepdim=True).clamp(min=1e-12)
    # The sign that points away from the middle of the line, as a whole: single points may be ambiguous.
    away = ((xy - xy.mean(0)) * normal).sum()
    normal = torch.where(away < 0, -normal, normal)
    return torch.cat([normal, torch.zeros_like(normal[:, :1])], 1)


def _roll(rotation: Tensor) -> Tensor:
    """The rotation within the picture plane that is closest to ``rotation``'s upper left block: [B, 2, 2]."""
    cosine = rotation[:, 0, 0] + rotation[:, 1, 1]
    sine = rotation[:, 1, 0] - rotation[:, 0, 1]
    length = torch.sqrt(cosine**2 + sine**2).clamp(min=1e-12)
    cosine, sine = cosine / length, sine / length
    return torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
