"""Puts photographs on the fixed 68-landmark template that the renderer was trained with, and cameras with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError, LandmarkError
from garfast.morphable.camera import Camera, OrthographicCamera, Pose
from garfast.morphable.rotation import matrix_to_axis_angle

# fmt: off
TEMPLATE: tuple[tuple[float, float], ...] = (
    (0.2000, 0.3635), (0.2093, 0.4519), (0.2255, 0.5294), (0.2455, 0.6186),
    (0.2731, 0.6885), (0.3183, 0.7523), (0.3797, 0.8051), (0.4370, 0.8301),
    (0.5000, 0.8361), (0.5630, 0.8301), (0.6203, 0.8051), (0.6817, 0.7523),
    (0.7269, 0.6885), (0.7545, 0.6186), (0.7745, 0.5294), (0.7907, 0.4519),
    (0.8000, 0.3635), (0.2803, 0.2959), (0.3251, 0.2703), (0.3720, 0.2639),
    (0.4168, 0.2724), (0.4573, 0.2895), (0.5427, 0.2895), (0.5832, 0.2724),
    (0.6280, 0.2639), (0.6749, 0.2703), (0.7197, 0.2959), (0.5000, 0.3428),
    (0.5000, 0.3983), (0.5000, 0.4538), (0.5000, 0.5114), (0.4471, 0.5476),
    (0.4736, 0.5536), (0.5000, 0.5544), (0.5264, 0.5536), (0.5529, 0.5476),
    (0.3063, 0.3556), (0.3451, 0.3392), (0.3878, 0.3407), (0.4266, 0.3659),
    (0.3878, 0.3815), (0.3451, 0.3797), (0.5734, 0.3659), (0.6122, 0.3407),
    (0.6549, 0.3392), (0.6937, 0.3556), (0.6549, 0.3797), (0.6122, 0.3815),
    (0.3942, 0.6521), (0.4381, 0.6271), (0.4761, 0.6129), (0.5000, 0.6206),
    (0.5239, 0.6129), (0.5619, 0.6271), (0.6058, 0.6521), (0.5619, 0.6755),
    (0.5299, 0.6866), (0.5000, 0.6893), (0.4701, 0.6866), (0.4381, 0.6755),
    (0.4073, 0.6508), (0.4695, 0.6464), (0.5000, 0.6496), (0.5305, 0.6464),
    (0.5927, 0.6508), (0.5305, 0.6464), (0.5000, 0.6496), (0.4695, 0.6464),
)
# fmt: on
"""Where the landmarks of a mean frontal face lie in an aligned picture, as fractions of its side, x right and y down:
the built-in face's own, made symmetric, with a box 0.6 of the side wide around (0.5, 0.55)."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Similarities from photo pixels to the pixels of aligned pictures.

    Attributes:
        matrix: [B, 2, 3]; ``aligned = matrix[:, :, :2] @ photo + matrix[:, :, 2]``, x right and y down, both with
            pixel centres at +0.5.
        size: side of the aligned pictures, pixels.
    """

    matrix: Tensor
    size: int

    def apply(self, points: Tensor) -> Tensor:
        """Photo pixels [B, N, 2] to aligned pixels."""
        return points @ self.matrix[:, :, :2].transpose(1, 2) + self.matrix[:, None, :, 2]

    def undo(self, points: Tensor) -> Tensor:
        """Aligned pixels [B, N, 2] to photo pixels."""
        turned = self.matrix[:, :, :2] / self.scale[:, None, None].square()
        return (points - self.matrix[:, None, :, 2]) @ turned

    @property
    def scale(self) -> Tensor:
        """[B] aligned pixels per photo pixel."""
        return self.matrix[:, :, 0].norm(dim=-1)

    def camera(self, camera: Camera, pose: Pose) -> tuple[Camera, Pose]:
        """The camera and pose that show in the aligned picture what the given ones show in the photograph.

        The picture's rotation turns the head about the line of sight, its scale and shift go into the camera; both
        are exact for either projection. A gradient reaches camera and pose.
        """
        cosine, sine = (self.matrix[:, :, 0] / self.scale[:, None]).to(pose.rotation).unbind(-1)
        zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
        # Photo pixels have y down and camera space has it up, hence the sign of the sine.
        turn = torch.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one], -1).view(-1, 3, 3)
        rotation = matrix_to_axis_angle(turn @ pose.matrix())
        turned = Pose(rotation, (turn @ pose.translation[..., None])[..., 0])
        size, scale = (self.size, self.size), self.scale.to(pose.rotation)
        if isinstance(camera, OrthographicCamera):
            offset = self.apply(camera.offset[:, None].to(self.matrix))[:, 0].to(camera.offset)
            return replace(camera, scale=camera.scale * scale, offset=offset, image_size=size), turned
        centre = self.apply(camera.centre[:, None].to(self.matrix))[:, 0].to(camera.centre)
        return replace(camera, focal=camera.focal * scale[:, None], centre=centre, image_size=size), turned


def align_landmarks(landmarks: Tensor, size: int) -> Alignment:
    """The similarities that bring landmarks nearest to the template in the least-squares sense (Umeyama 1991).

    Args:
        landmarks: [B, 68, 2] photo pixels, iBUG order; NaN where one is missing.
        size: side of the aligned pictures, pixels.

    Raises:
        LandmarkError: the shape is wrong, or fewer than two different landmarks are there.
    """
    if landmarks.dim() != 3 or landmarks.shape[1:] != (68, 2):
        raise LandmarkError(f"landmarks must have shape [B, 68, 2], got {list(landmarks.shape)}")
    source = landmarks.double()
    here = (~source.isnan().any(-1, keepdim=True)).double()
    source = source.nan_to_num()
    target = source.new_tensor(TEMPLATE)[None] * size
    count = here.sum(1, keepdim=True).clamp_min(1)
    source_centre = (source * here).sum(1, keepdim=True) / count
    target_centre = (target * here).sum(1, keepdim=True) / count
    p, q = (source - source_centre) * here, (target - target_centre) * here
    spread = p.square().sum((1, 2))
    if bool((spread <= 0).any()):
        raise LandmarkError("landmarks that all lie in one place cannot be aligned: give at least two different ones")
    # The best similarity of the plane is a complex factor: the projection of the target onto the source.
    real = (p * q).sum((1, 2)) / spread
    imaginary = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(1) / spread
    linear = torch.stack([real, -imaginary, imaginary, real], -1).view(-1, 2, 2)
    shift = target_centre[:, 0] - (linear @ source_centre[:, 0, :, None])[..., 0]
    return Alignment(torch.cat([linear, shift[..., None]], -1).to(landmarks.dtype), size)


def align_images(images: Tensor, alignment: Alignment, *, padding: str = "reflection") -> Tensor:
    """Resample photographs onto the template, without aliasing where they shrink.

    Args:
        images: [B, C, H, W], any float range.
        alignment: one per image.
        padding: what lies outside the photograph: 'reflection', 'border' or 'zeros'.

    Returns:
        [B, C, size, size].
    """
    if images.dim() != 4 or len(images) != len(alignment.matrix):
        raise ArgumentError(
            f"images must have shape [B, C, H, W] with B = {len(alignment.matrix)}, got {list(images.shape)}"
        )
    rows = []
    for image, matrix, scale in zip(images, alignment.matrix, alignment.scale.tolist(), strict=True):
        rows.append(_resample(image[None], matrix, scale, alignment.size, padding))
    return torch.cat(rows)


def _resample(image: Tensor, matrix: Tensor, scale: float, size: int, padding: str) -> Tensor:
    """One photograph [1, C, H, W] -> [1, C, size, size]."""
    height, width = image.shape[-2:]
    ratio_y = ratio_x = 1.0
    if scale < 1:
        small = (max(1, math.ceil(height * scale)), max(1, math.ceil(width * scale)))
        ratio_y, ratio_x = small[0] / height, small[1] / width
        image = functional.interpolate(image, small, mode="bilinear", align_corners=False, antialias=True)
        height, width = small
    centres = torch.arange(size, device=image.device, dtype=torch.float64) + 0.5
    grid_y, grid_x = torch.meshgrid(centres, centres, indexing="ij")
    points = torch.stack([grid_x, grid_y], -1).view(1, -1, 2)
    source = Alignment(matrix.double()[None], size).undo(points).view(1, size, size, 2)
    extent = source.new_tensor([width / ratio_x, height / ratio_y])
    grid = (2 * source / extent - 1).to(image.dtype)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode=padding, align_corners=False)
