"""What a renderer in training is judged by, on fixed held-out geometry and codes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.io.images import picture_array
from garfast.networks.frechet import FeatureStatistics
from garfast.networks.generator import Generator, on_sphere
from garfast.networks.normal_estimator import angles_between
from garfast.networks.renderer import Renderer
from garfast.seeds import mixed_seed, seeded
from garfast.train.gar.losses import multiscale_l1
from garfast.train.gar.report import gallery, tile
from garfast.train.gar.task import GarTask, Scene, per_picture
from garfast.train.portraits import HELD_OUT, normal_maps, resize

PERSONS = 8
"""Identities that are measured, with two geometries and two codes each."""
COMPARED = 256
"""Pictures whose features are compared with photographs', at most."""
_SEED = 2**31 - 1


@torch.no_grad()
def measure_renderer(task: GarTask) -> dict[str, float]:
    """Figures of the averaged weights.

    Returns:
        ``normal_error``: degrees between N's view of G's pictures and their geometry. ``landmark_error``: distance
        of the landmarks seen in them from the geometry's own, and ``landmark_spread`` between those seen with one
        geometry and two codes, both in percent of the landmark box's size.
        ``same_identity`` and ``other_identity``: cosines between pictures with one code and shape, and with two codes.
        ``contrast``: standard deviation over codes, so that a collapse shows. ``reconstruction``: mean absolute
        difference of held-out photographs and their pictures with V's codes. ``frechet``: distance of the features
        of `COMPARED` pictures with random codes from those of as many held-out photographs; small sets make it large,
        so compare it only with itself. What a missing network would measure is left out.
    """
    renderer = task.renderer()
    generator = renderer.generator
    scene = task.scene(task.sampler.sample([_SEED], PERSONS), 2 * PERSONS).repeat(2)
    rng = _random()
    z = torch.randn(2 * PERSONS, generator.config.z_dim, generator=rng).to(task.device)
    image = _render(generator, scene, per_picture(z, PERSONS))
    figures = {"contrast": float(image.reshape(2 * PERSONS, 2, -1).std(1).mean())}
    teachers = task.teachers
    if teachers.normals is not None:
        seen = resize(image, scene.normals.shape[-1])
        figures["normal_error"] = float(angles_between(teachers.normals(seen).normals, scene.normals).mean())
    if teachers.landmarks is not None:
        points = task.landmark_points(image, scene.landmarks)
        box = (scene.landmarks.amax(1) - scene.landmarks.amin(1)).prod(1, keepdim=True).sqrt()
        figures["landmark_error"] = float(100 * ((points - scene.landmarks).norm(dim=-1) / box).mean())
        pairs = (points / box[..., None]).view(2 * PERSONS, 2, 68, 2)
        figures["landmark_spread"] = float(100 * (pairs[:, 0] - pairs[:, 1]).norm(dim=-1).mean())
    if teachers.identity is not None:
        found = functional.normalize(teachers.identity(image).float(), dim=1).view(PERSONS, 2, 2, -1)
        figures["same_identity"] = float((found[:, 0] * found[:, 1]).sum(-1).mean())
        figures["other_identity"] = float((found[:, 0, 0] * found[:, 1, 1]).sum(-1).mean())
    if renderer.inverter is not None and task.portraits is not None:
        rows = range(min(32, HELD_OUT, task.portraits.count))
        photo = task.pictures(task.portraits, rows)
        scene = task.scene(task.portraits.geometry(rows), len(rows))
        found = on_sphere(renderer.inverter(photo).z)
        figures["reconstruction"] = float(multiscale_l1(_render(generator, scene, found), photo, levels=1))
    if renderer.comparing_network() is not None:
        figures["frechet"] = picture_distance(task, renderer)
    return figures


@torch.no_grad()
def picture_distance(task: GarTask, renderer: Renderer, batch: int = 16) -> float:
    """Frechet distance of G's pictures, of random codes and of held-out portraits' geometry where there are such, from
    held-out photographs of the kind that D sees (or the first ones, where there are too few to hold any out)."""
    count = min(COMPARED, task.photos.count, *([task.first] if task.first else []))
    if task.portraits is not None:
        count = min(count, HELD_OUT, task.portraits.count)
    rng = _random()
    photos, drawn = FeatureStatistics(), FeatureStatistics()
    for start in range(0, count, batch):
        rows = range(start, min(start + batch, count))
        photos.update(renderer.picture_features(task.pictures(task.photos, rows)))
        if task.portraits is None:
            scene = task.scene(task.sampler.sample([_SEED, 2, start], len(rows), 1), len(rows))
        else:
            scene = task.scene(task.portraits.geometry(rows), len(rows))
        z = torch.randn(len(rows), renderer.generator.config.z_dim, generator=rng).to(task.device)
        drawn.update(renderer.picture_features(_render(renderer.generator, scene, z)))
    return photos.distance(drawn)


@torch.no_grad()
def sample_sheet(task: GarTask, codes: int = 6) -> np.ndarray:
    """A picture to judge the averaged weights by, uint8 [H, W, 3].

    Above, rows of one geometry (its normal map first) under ``codes`` codes, which are the same down each column.
    Below, where V is trained, held-out photographs, their normal maps and G's pictures of them.
    """
    renderer = task.renderer()
    generator, size = renderer.generator, task.settings.generator.size
    groups = task.sampler.sample([_SEED, 1], 4, 1)
    scene = task.scene(groups, 4)
    maps = normal_maps(groups, 4, [size])[0]
    rng = _random()
    z = torch.randn(codes, generator.config.z_dim, generator=rng).to(task.device)
    noise = generator.sample_noise(1)
    sheet = gallery(generator, scene.given.maps, z, params=scene.given.params, noise=noise, shown=maps, gap=0)
    if renderer.inverter is not None and task.portraits is not None:
        shown = range(0, min(4 * (codes + 1), task.portraits.count), 4)
        photo = task.pictures(task.portraits, shown)
        groups = task.portraits.geometry(shown)
        scene = task.scene(groups, len(shown))
        found = on_sphere(renderer.inverter(photo).z)
        gap = photo.new_ones(codes + 1 - len(shown), *photo.shape[1:])
        rows = [photo, normal_maps(groups, len(shown), [size])[0], _render(generator, scene, found)]
        grid = np.stack([picture_array(torch.cat([row, gap])) for row in rows])
        sheet = np.concatenate([sheet, tile(grid, 0)])
    return sheet


def _random() -> torch.Generator:
    """Random numbers for codes; those of noise, which must not repeat them, start anew too."""
    torch.manual_seed(mixed_seed(_SEED, 1))
    return seeded(_SEED)


def _render(generator: Generator, scene: Scene, z: Tensor) -> Tensor:
    return generator(scene.given.maps, z, params=scene.given.params).image.float().clamp(-1, 1)
