"""Pictures of a face from its parameters: shaded, textured, as normals, or drawn by the renderer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.fit.edit import Look, render_aligned
from garfast.fit.normal_pyramid import check_draws_normals
from garfast.fit.rendering import Box, box_of_points, clay, rasterize_crop, shade, shrink, textured
from garfast.fit.saved_face import Face
from garfast.fit.texture import unwrap
from garfast.landmarks.alignment import Alignment, align_landmarks
from garfast.morphable import MorphableModel, OrthographicCamera, Pose
from garfast.seeds import seeded

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

MODES = ("shaded", "textured", "normals", "renderer")
VIEWS = ("face", "photo")
MAX_SIDE = 8192

_BACKDROP = (232, 232, 229)
# Above this side a picture is rasterised as it is; below, twice as large for smooth edges.
_SUPERSAMPLED = 2048


def neutral_face(model: MorphableModel, size: int = 512) -> Face:
    """The mean face, looking into an orthographic camera that shows all of it."""
    box = (model.mean.amin(0) + model.mean.amax(0)) / 2
    reach = float((model.mean - box)[:, :2].abs().amax())
    scale = torch.tensor([0.47 * size / reach])
    offset = torch.stack([size / 2 - scale * box[0], size / 2 + scale * box[1]], -1)
    camera = OrthographicCamera(scale, offset, (size, size))
    shape, exp = torch.zeros(1, model.num_shape), torch.zeros(1, model.num_exp)
    return Face(model, shape, exp, Pose.identity(), camera)


def view_box(face: Face, view: str) -> Box:
    """What a view shows of the face's photograph: all of it ('photo'), or a square around the mesh ('face').

    Raises:
        ArgumentError: ``view`` is neither.
    """
    if view not in VIEWS:
        raise ArgumentError(f"a view is {' or '.join(VIEWS)}, not {view!r}")
    if view == "photo":
        height, width = face.camera.image_size
        return Box(0.0, 0.0, width, height)
    return box_of_points(face.camera.project(face.vertices)[0]).square(0.04)


@torch.no_grad()
def render_mesh(
    face: Face, mode: str, size: tuple[int, int], *, view: str = "face", texture: Tensor | None = None
) -> np.ndarray:
    """A picture of the mesh, uint8 [h,w,3].

    Args:
        mode: 'shaded' (clay in a studio's light), 'textured', or 'normals' (camera space, ``RGB = (n + 1) / 2``, black
            where no face is, and without smoothed edges).
        size: (height, width), pixels.
        view: 'face' or 'photo', see `view_box`.
        texture: [3,T,T] 0..1, for 'textured'.

    Raises:
        ArgumentError: mode or view is unknown, the size is not in 1..8192, or there is no texture.
    """
    if mode not in MODES[:3]:
        raise ArgumentError(f"a mesh is rendered {', '.join(MODES[:2])} or as {MODES[2]}, not {mode!r}")
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise ArgumentError(f"a picture's sides have 1 to {MAX_SIDE} pixels, not {size[1]} x {size[0]}")
    factor = 1 if mode == "normals" or max(size) > _SUPERSAMPLED else 2
    box = view_box(face, view)
    output = rasterize_crop(face.vertices, face.model, face.camera, box, (factor * size[0], factor * size[1]))
    background = output.normals.new_tensor((0, 0, 0) if mode == "normals" else _BACKDROP).view(1, 3, 1, 1) / 255
    if mode == "normals":
        colour = (output.normals + 1) / 2
    elif mode == "shaded":
        colour = clay(output.normals)
    else:
        if texture is None:
            raise ArgumentError("there is no texture: render the folder of a fit, or choose the mode shaded")
        uv, uv_triangles = unwrap(face.model)
        # The photograph's own light is in the texture: add only a little, to keep the shape readable.
        light = shade(output.normals, torch.ones_like(output.normals)).mean(1, keepdim=True)
        colour = textured(output, uv, uv_triangles, texture) * (0.72 + 0.4 * light)
    cover = output.mask
    image = shrink(colour * cover, factor) + (1 - shrink(cover, factor)) * background
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


@torch.no_grad()
def render_with(renderer: Renderer, face: Face, alignment: Alignment, look: Look) -> np.ndarray:
    """G's picture of a face on its template, uint8 [S,S,3].

    Args:
        alignment: from the pixels of the face's camera; see `template_alignment` and `garfast.fit.edit`.
    """
    image = render_aligned(renderer, face, alignment, look)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def template_alignment(renderer: Renderer, face: Face) -> Alignment:
    """Puts the landmarks of the face in this pose, with a neutral expression, on the template."""
    return align_landmarks(replace(face, exp=torch.zeros_like(face.exp)).landmarks, renderer.size)


def random_look(renderer: Renderer, seed: int) -> Look:
    """Style and noise drawn with a seed.

    Raises:
        WeightsFileError: the renderer takes no normal maps.
    """
    check_draws_normals(renderer.generator)
    generator = renderer.generator
    random = seeded(seed)
    z = torch.randn(1, generator.config.z_dim, generator=random)
    return Look(generator.styles(z), [torch.randn(shape, generator=random) for shape in generator.noise_shapes()])
