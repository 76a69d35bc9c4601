"""How well a renderer does what it is for: keep geometry and identity apart from looks. On held-out portraits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import EvaluationError, GarfastWarning
from garfast.evaluate.drawing import condition_for, draw, to_bytes
from garfast.evaluate.features import FeatureExtractor, own_features
from garfast.evaluate.fid import BlockedStatistics, SetDistance, gather, set_distance
from garfast.networks.landmark_net import LandmarkNet, find_landmarks
from garfast.networks.normal_estimator import FACE, angles_between, estimate_both_sides
from garfast.networks.renderer import Renderer
from garfast.seeds import seeded
from garfast.train.portraits import HELD_OUT, Geometry, Portraits, landmark_places, normal_maps, taken_pictures

_CHANGED = 5e-4  # of the picture's side; rounding is below 1e-5


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Portraits that no training saw, read in batches.

    Args:
        portraits: a folder of ``garfast train portraits``.
        size: side of the renderer's pictures, pixels.
        count: at most so many, the first rows; trainings leave the first `HELD_OUT` out.

    Raises:
        EvaluationError: there are no portraits.
    """

    portraits: Portraits
    size: int
    count: int = HELD_OUT

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", min(self.count, HELD_OUT, self.portraits.count))
        if self.count < 2:
            raise EvaluationError(f"{self.portraits.folder} holds fewer than two portraits: make more")

    def rows(self, batch: int, count: int | None = None) -> Iterator[list[int]]:
        """Batches of row numbers."""
        total = self.count if count is None else min(count, self.count)
        for start in range(0, total, batch):
            yield list(range(start, min(start + batch, total)))

    def photos(self, rows: Sequence[int], size: int | None = None) -> Tensor:
        """[B, 3, S, S] in -1..1 at the renderer's size or another."""
        return taken_pictures(self.portraits, rows, self.size if size is None else size)

    def persons(self, count: int) -> list[list[int]]:
        """Rows of at most ``count`` persons, each with at least two portraits by the same model."""
        groups: dict[int, list[int]] = {}
        for row, person in enumerate(self.portraits.person(range(self.count)).tolist()):
            groups.setdefault(person, []).append(row)
        return [rows for rows in groups.values() if len(rows) > 1][:count]


def warn_of_changed_models(held_out: HeldOut, count: int = 64) -> None:
    """Warn where a face model is no longer the one that the portraits were drawn with, so that their geometry is not
    quite what they show: the landmarks kept with the pictures are not where the model now has them."""
    rows = list(range(min(count, held_out.count)))
    groups = held_out.portraits.geometry(rows)
    kept = held_out.portraits.landmarks(rows) / held_out.portraits.size
    moved = (true_landmarks(groups, len(rows)) - kept).norm(dim=-1).mean(1)
    for name in sorted({group.model.name for group in groups}):
        of_model = torch.cat([moved[group.rows] for group in groups if group.model.name == name])
        if float(of_model.mean()) > _CHANGED:
            warnings.warn(
                f"the face model '{name}' has changed since the portraits in {held_out.portraits.folder} were drawn "
                f"(landmarks differ by {100 * float(of_model.mean()):.1f} % of the picture): draw new ones",
                GarfastWarning,
                stacklevel=2,
            )


@torch.no_grad()
def normal_errors(renderer: Renderer, held_out: HeldOut, *, batch: int = 16, seed: int = 0) -> dict[str, float]:
    """Angular errors of the normal estimator N, degrees, mean over pixels of faces.

    Returns:
        ``photos``: N of true portraits at their own size, averaged with that of their mirror images as fits do, against
        their true normals. ``pictures``: N(G(n, z)) against n. ``photos_small``: N of true portraits once and at the
        renderer's size: what ``pictures`` can be compared with. Each also as ``..._median``.

    Raises:
        EvaluationError: the renderer has no N.
    """
    if renderer.normals is None:
        raise EvaluationError("there is no normal estimator in these weights")
    device = renderer.generator.constant.device
    full = held_out.portraits.size
    found: dict[str, list[Tensor]] = {"photos": [], "photos_small": [], "pictures": []}
    random = seeded(seed)
    for rows in held_out.rows(batch):
        groups = held_out.portraits.geometry(rows)
        true = normal_maps(groups, len(rows), full)
        assert isinstance(true, Tensor)
        estimate = estimate_both_sides(renderer.normals, held_out.photos(rows, full).to(device)).normals.cpu()
        found["photos"].append(angles_between(estimate, true))
        condition = condition_for(renderer.generator, groups, len(rows))
        small = renderer.normals(held_out.photos(rows).to(device)).normals
        found["photos_small"].append(angles_between(small, condition.normals).cpu())
        z = torch.randn(len(rows), renderer.generator.config.z_dim, generator=random).to(device)
        drawn = draw(renderer.generator, condition, z, noise=random_noise(renderer, len(rows), random))
        found["pictures"].append(angles_between(renderer.normals(drawn).normals, condition.normals).cpu())
    out = {}
    for name, parts in found.items():
        angles = torch.cat(parts)
        out[name], out[f"{name}_median"] = float(angles.mean()), float(angles.median())
    return out


def true_landmarks(groups: Sequence[Geometry], batch: int) -> Tensor:
    """[B, 68, 2] the models' own landmarks, fractions of the aligned picture."""
    return (landmark_places(groups, batch) + 1) / 2


@torch.no_grad()
def landmark_control(
    renderer: Renderer,
    held_out: HeldOut,
    network: LandmarkNet,
    *,
    faces: int = 32,
    looks: int = 64,
    batch: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """How far landmarks move when only the looks z change; percent of the face's size ``sqrt(w h)``.

    Args:
        renderer: G.
        held_out: whose geometry is drawn.
        network: the embedded landmark network.
        faces: geometries.
        looks: codes z of each.
        batch: pictures at once.
        seed: of the codes.

    Returns:
        ``spread``: mean distance of landmarks from their mean over the looks. ``worst_face``: of the worst geometry.
        ``truth``: mean distance from the model's own landmarks, which includes the network's own error, and
        ``truth_photos``: that error on the true portraits. ``contrast``: standard deviation of the pictures' colours
        (0..255) over the looks, on the face, which tells control from a collapse to one look.
    """
    device = renderer.generator.constant.device
    random = seeded(seed)
    spreads, truths, photo_errors, contrasts = [], [], [], []
    for row in range(min(faces, held_out.count)):
        groups = held_out.portraits.geometry([row])
        true = true_landmarks(groups, 1).to(device)
        box = torch.cat([true.amin(1), true.amax(1)], 1)
        size = float((box[0, 2:] - box[0, :2]).prod().sqrt())
        condition = condition_for(renderer.generator, groups, 1)
        points, colours = [], []
        for start in range(0, looks, batch):
            number = min(batch, looks - start)
            z = torch.randn(number, renderer.generator.config.z_dim, generator=random).to(device)
            drawn = draw(renderer.generator, condition.repeat(number), z, noise=random_noise(renderer, number, random))
            points.append(find_landmarks(network, drawn, box.expand(number, -1)))
            colours.append(drawn)
        marks, pictures = torch.cat(points), torch.cat(colours)
        face = condition.normals[0].square().sum(0) > FACE
        contrasts.append(127.5 * float(pictures.std(0)[:, face].mean()) if looks > 1 and face.any() else 0.0)
        spreads.append(100 / size * float((marks - marks.mean(0)).norm(dim=-1).mean()))
        truths.append(100 / size * float((marks - true).norm(dim=-1).mean()))
        photo = held_out.photos([row]).to(device)
        photo_errors.append(100 / size * float((find_landmarks(network, photo, box) - true).norm(dim=-1).mean()))
    return {
        "spread": float(np.mean(spreads)),
        "worst_face": float(np.max(spreads)),
        "truth": float(np.mean(truths)),
        "truth_photos": float(np.mean(photo_errors)),
        "contrast": float(np.mean(contrasts)),
    }


@torch.no_grad()
def identity_control(
    renderer: Renderer, held_out: HeldOut, *, persons: int = 64, batch: int = 16, seed: int = 0
) -> dict[str, float]:
    """Cosines of identity embeddings, means over pairs.

    Args:
        renderer: G and F.
        held_out: whose persons are drawn, each in two of their poses and expressions.
        persons: how many.
        batch: pictures at once.
        seed: of the codes.

    Returns:
        ``same_z``: one person's shape and one z, other pose and expression. ``other_z``: one person's shape in one pose
        with two z. ``others``: two persons with two z. ``photos_same`` and ``photos_others``: of true portraits of one
        person and of two.

    Raises:
        EvaluationError: the renderer has no F, or no person has two portraits.
    """
    if renderer.identity is None:
        raise EvaluationError("there is no identity network in these weights")
    rows = [group[:2] for group in held_out.persons(persons)]
    if len(rows) < 2:
        raise EvaluationError(
            "the portraits show fewer than two persons twice: draw them with several photographs each"
        )
    device = renderer.generator.constant.device
    random = seeded(seed)
    first: list[Tensor] = []
    second: list[Tensor] = []
    other: list[Tensor] = []
    photos: list[Tensor] = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        number = len(part)
        flat = [row for pair in part for row in pair]
        condition = condition_for(renderer.generator, held_out.portraits.geometry(flat), 2 * number)
        here, there = (condition.rows(torch.arange(k, 2 * number, 2, device=device)) for k in (0, 1))
        z = [torch.randn(number, renderer.generator.config.z_dim, generator=random).to(device) for _ in range(2)]
        for store, faces, code in ((first, here, z[0]), (second, there, z[0]), (other, here, z[1])):
            drawn = draw(renderer.generator, faces, code, noise=random_noise(renderer, number, random))
            store.append(_unit(renderer.identity(drawn)))
        photos.append(_unit(renderer.identity(held_out.photos(flat).to(device))).view(number, 2, -1))
    a, b, c, p = torch.cat(first), torch.cat(second), torch.cat(other), torch.cat(photos)
    return {
        "same_z": float((a * b).sum(1).mean()),
        "other_z": float((a * c).sum(1).mean()),
        "others": float((a * b.roll(1, 0)).sum(1).mean()),
        "photos_same": float((p[:, 0] * p[:, 1]).sum(1).mean()),
        "photos_others": float((p[:, 0] * p[:, 1].roll(1, 0)).sum(1).mean()),
    }


@torch.no_grad()
def picture_distance(
    renderer: Renderer,
    held_out: HeldOut,
    extractor: FeatureExtractor | None = None,
    *,
    batch: int = 16,
    seed: int = 0,
) -> tuple[SetDistance, SetDistance]:
    """The Frechet distance of drawn pictures from held-out portraits: their geometry, random looks.

    Returns:
        The distance, and for comparison that between the two halves of the held-out portraits.

    Raises:
        EvaluationError: there is no network to compare by.
    """
    extractor = extractor or own_features(renderer)
    device = renderer.generator.constant.device
    random = seeded(seed)

    def pictures() -> Iterator[Tensor]:
        for rows in held_out.rows(batch):
            condition = condition_for(renderer.generator, held_out.portraits.geometry(rows), len(rows))
            z = torch.randn(len(rows), renderer.generator.config.z_dim, generator=random).to(device)
            yield to_bytes(draw(renderer.generator, condition, z, noise=random_noise(renderer, len(rows), random)))

    photos = gather((to_bytes(held_out.photos(rows)) for rows in held_out.rows(batch)), extractor)
    drawn = gather(pictures(), extractor)
    # Persons come in rows one after the other, so the halves show different ones.
    half = held_out.count // 2

    def part(begin: int, end: int) -> BlockedStatistics:
        rows = (range(start, min(start + batch, end)) for start in range(begin, end, batch))
        return gather((to_bytes(held_out.photos(some)) for some in rows), extractor)

    floor = set_distance(part(0, half), part(half, held_out.count), extractor)
    return set_distance(photos, drawn, extractor), floor


def random_noise(renderer: Renderer, batch: int, random: torch.Generator) -> list[Tensor]:
    """Noise maps for a batch, on the renderer's device."""
    device = renderer.generator.constant.device
    return [torch.randn(shape, generator=random).to(device) for shape in renderer.generator.noise_shapes(batch)]


def _unit(embedding: Tensor) -> Tensor:
    return functional.normalize(embedding.float(), dim=1)
