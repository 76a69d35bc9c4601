"""Faces of the tiny model in aligned pictures, with what a perfect estimator would see in them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from garfast.fit.inversion import invert
from garfast.fit.refine_state import RefineState, RefineTarget
from garfast.morphable import MorphableModel, OrthographicCamera, Pose
from garfast.networks.renderer import Renderer
from garfast.ops import rasterize_normals


class Faces(NamedTuple):
    """The truth, what the pictures say, and a start that is a little off."""

    truth: RefineState
    target: RefineTarget
    start: RefineState


def make_faces(
    model: MorphableModel, renderer: Renderer | None, *, batch: int = 2, size: int = 32, seed: int = 0
) -> Faces:
    """``batch`` faces whose pictures G drew, or grey ones without a renderer."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shape, exp = random(batch, model.num_shape), 0.5 * random(batch, model.num_exp)
    zero = torch.zeros(batch)
    pose = Pose.from_euler(0.2 * random(batch), 0.1 * random(batch), zero)
    camera = OrthographicCamera(torch.full((batch,), size / 210), torch.full((batch, 2), size / 2.0), (size, size))
    vertices = pose.apply(model.evaluate(shape, exp))
    resolutions = [size] if renderer is None else renderer.generator.config.resolutions
    levels = rasterize_normals(vertices, model.triangles, camera.ndc(), resolutions, adjacency=model.adjacency)
    normals, cover = levels[-1].normals, levels[-1].mask
    image, w, z, noise = torch.zeros(batch, 3, size, size), None, None, None
    if renderer is not None:
        z = random(batch, 16)
        w, noise = renderer.generator.styles(z), [random(*shape) for shape in renderer.generator.noise_shapes(batch)]
        with torch.no_grad():
            image = renderer.generator([level.normals for level in levels], w=w, noise=noise).image
    landmarks = camera.project(model.landmarks(vertices))
    target = RefineTarget(image, landmarks, torch.ones(batch, 68), None, normals, cover)
    truth = RefineState(shape, exp, pose, camera, w, z, noise)
    moved = Pose(pose.rotation + 0.05 * random(batch, 3), pose.translation)
    start = RefineState(0.3 * shape, 0.3 * exp, moved, camera)
    if renderer is not None:
        w, z, noise = invert(renderer, image)
        start = RefineState(0.3 * shape, 0.3 * exp, moved, camera, w, z, noise)
    return Faces(truth, target, start)
