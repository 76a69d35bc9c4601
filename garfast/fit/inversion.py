"""Before the refinement: align the photograph, ask the estimator for normals and the inverter for z and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from garfast.fit.refine_problem import check_renderer
from garfast.fit.refine_state import RefineState, RefineTarget
from garfast.landmarks.alignment import Alignment, align_images, align_landmarks
from garfast.morphable import Camera, Pose
from garfast.networks.inverter import style_of
from garfast.networks.normal_estimator import estimate_both_sides

if TYPE_CHECKING:
    from garfast.networks.renderer import Renderer

# Seed of the noise where there is no inverter.
_SEED = 0


def align_photo(photo: np.ndarray, landmarks: Tensor, size: int) -> tuple[Tensor, Alignment]:
    """A photograph uint8 [H,W,3] on the template by its landmarks [1,68,2].

    Returns:
        [1, 3, size, size], -1..1 on the landmarks' device, and the alignment.
    """
    alignment = align_landmarks(landmarks, size)
    image = torch.from_numpy(np.array(photo)).to(landmarks.device).permute(2, 0, 1)[None].float()
    return align_images(image / 127.5 - 1, alignment).clamp(-1, 1), alignment


def aligned_state(alignment: Alignment, shape: Tensor, exp: Tensor, pose: Pose, camera: Camera) -> RefineState:
    """Faces fitted in photographs, as they are in the aligned pictures."""
    camera, pose = alignment.camera(camera, pose)
    return RefineState(shape, exp, pose, camera)


def unaligned(state: RefineState, alignment: Alignment, image_size: tuple[int, int]) -> tuple[Pose, Camera]:
    """Pose and camera in the photograph, of (height, width) ``image_size``, of faces in aligned pictures."""
    scale = alignment.scale
    linear = alignment.matrix[:, :, :2].transpose(1, 2) / scale.square()[:, None, None]
    shift = -(linear @ alignment.matrix[:, :, 2:])
    back = Alignment(torch.cat([linear, shift], -1), state.size)
    camera, pose = back.camera(state.camera, state.pose)
    return pose, replace(camera, image_size=image_size)


@torch.no_grad()
def target_of(
    renderer: Renderer | None,
    images: Tensor,
    landmarks: Tensor,
    landmark_weights: Tensor,
    contour_vertices: Tensor | None = None,
    landmark_noise: Tensor | None = None,
) -> RefineTarget:
    """What aligned photographs [B, 3, S, S] say: their landmarks and the landmarks' noise (aligned pixels), and the
    estimator's normals. The other arguments are as in `RefineTarget`."""
    normals = cover = None
    if renderer is not None and renderer.normals is not None:
        estimate = estimate_both_sides(renderer.normals, images)
        normals, cover = estimate.normals, estimate.mask_logits.sigmoid()
    return RefineTarget(images, landmarks, landmark_weights, contour_vertices, normals, cover, landmark_noise)


@torch.no_grad()
def invert(renderer: Renderer, images: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Style, code and noise of aligned photographs [B, 3, S, S] from the inverting network V.

    Without one, the mean style and a fixed noise: what the descent would have to start from.

    Returns:
        w [B, num_styles, style_dim], z [B, z_dim] or None, and the noise maps.

    Raises:
        WeightsFileError: the networks do not go together.
    """
    generator = renderer.generator
    check_renderer(renderer, images.shape[-1])
    if renderer.inverter is None:
        batch, count = len(images), generator.config.num_styles
        w = generator.mapping.mean_w.expand(batch, count, -1).clone()
        seeded = torch.Generator().manual_seed(_SEED)
        noise = [
            torch.randn((1, *shape[1:]), generator=seeded).to(images).expand(batch, -1, -1, -1).clone()
            for shape in generator.noise_shapes()
        ]
        return w, None, noise
    found = renderer.inverter(images)
    w = style_of(generator, found.z, found.offset)[:, None].repeat(1, generator.config.num_styles, 1)
    return w, found.z, list(found.noise)
