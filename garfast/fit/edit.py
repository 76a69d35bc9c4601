"""Edited faces (section 3.2 of the paper): other coefficients or pose, same style and noise, back in the photograph.

The photograph follows the mesh (`garfast.fit.warp`). With a renderer, what G's picture of the edited face differs by
from its picture of the unedited one, each point of the surface compared with itself, is added: shading and folds come
from G, detail from the photograph. What the photograph does not show G draws alone, with the low frequencies of the
photograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.errors import ArgumentError, ParametersFileError
from garfast.fit.normal_pyramid import averaged_normals, check_draws_normals, sample_sizes
from garfast.fit.pictures import picture_size
from garfast.fit.rendering import Box, box_of_points
from garfast.fit.saved_face import Face, SavedFace, same_model
from garfast.fit.warp import Warp, warp_photo
from garfast.landmarks.alignment import Alignment, align_landmarks
from garfast.morphable import Camera, OrthographicCamera
from garfast.morphable.rotation import matrix_to_axis_angle
from garfast.ops import rasterize_normals

if TYPE_CHECKING:
    from garfast.fit.latent import Latent
    from garfast.networks.renderer import Renderer

# Side of the grid on which low frequencies are compared, and the radius of their blur on it.
_COARSE, _BLUR = 48, 3
# Over this share of the face's size its picture fades into the photograph.
_FEATHER = 0.05
_MOST_TURN = 90  # degrees, from the photograph's view


@dataclass(frozen=True, eq=False)
class Look:
    """What the renderer needs beside geometry: styles [1,num_styles,style_dim] and noise maps [1,1,r,r]."""

    w: Tensor
    noise: list[Tensor]

    def toward(self, other: Look, share: float) -> Look:
        """Between this look (share 0) and another (share 1); noise keeps its variance."""
        norm = (share**2 + (1 - share) ** 2) ** 0.5
        noise = [((1 - share) * a + share * b) / norm for a, b in zip(self.noise, other.noise, strict=True)]
        return Look(torch.lerp(self.w, other.w, share), noise)


class Editor:
    """Draws changed versions of one fitted face.

    Args:
        saved: the fit.
        renderer: G and its companions; None draws with photograph and texture alone.
        latent: style, noise and alignment of the fit; needed with a renderer.
        longest: the pictures' longest side, pixels; None: the photograph's, up to 2048.

    Attributes:
        face: the fitted face, in pixels of the pictures.
        photo: [3,H,W] 0..1, the photograph at their size.
        look: of the fit, where there is a renderer.

    Raises:
        ImageFileError: the photograph or the texture is missing.
        ParametersFileError: the latent is missing, or of another renderer.
        WeightsFileError: the renderer takes no normal maps.
    """

    def __init__(
        self,
        saved: SavedFace,
        renderer: Renderer | None = None,
        latent: Latent | None = None,
        *,
        longest: int | None = None,
    ) -> None:
        original = saved.photo
        size = _size(original, longest)
        self.photo = _resized(original, size)
        self.factor = size[1] / original.shape[1]
        self.face = replace(saved.face, camera=moved_camera(saved.face.camera, (0, 0), self.factor, size))
        self.texture = saved.texture
        self.renderer = renderer
        self.look: Look | None = None
        if renderer is not None:
            if latent is None:
                raise ParametersFileError(
                    f"{saved.folder} holds no style and noise: fit the photograph with a renderer"
                )
            self.look = look_of(renderer, latent)
            matrix = latent.alignment.matrix.float().clone()
            matrix[:, :, :2] /= self.factor
            self.alignment = Alignment(matrix, latent.alignment.size)

    @torch.no_grad()
    def picture(self, face: Face, look: Look | None = None) -> np.ndarray:
        """The photograph with a changed face, uint8 [H,W,3].

        Args:
            face: the editor's face, changed.
            look: style and noise where they are not those of the fit; needs a renderer.

        Raises:
            ArgumentError: the head is turned away from what the photograph shows.
        """
        turn = torch.rad2deg(matrix_to_axis_angle(face.pose.matrix() @ self.face.pose.matrix().mT)[:, :2].norm())
        if turn > _MOST_TURN:
            raise ArgumentError(
                f"the head would be turned by {float(turn):.0f} degrees, to where the photograph shows nothing: "
                f"{_MOST_TURN} are the most"
            )
        warp = warp_photo(self.photo, self.face, face, self.texture, covered_later=self.renderer is not None)
        colour = warp.colour
        if self.renderer is not None and colour.numel():
            colour = self._painted(face, look, warp)
        picture = self.photo.clone()
        height, width = colour.shape[-2:]
        picture[:, warp.y0 : warp.y0 + height, warp.x0 : warp.x0 + width] = colour
        return (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    @torch.no_grad()
    def aligned(self, face: Face, look: Look | None = None) -> Tensor:
        """G's picture of a face [3,S,S], 0..1, on the renderer's template."""
        assert self.renderer is not None
        assert self.look is not None
        return render_aligned(self.renderer, face, self.alignment_of(face), look or self.look).clamp(0, 1)

    def alignment_of(self, face: Face) -> Alignment:
        """Where a changed face lies on the template, see `posed_alignment`."""
        return posed_alignment(self.alignment, self.face, face)

    def face_box(self, faces: Sequence[Face], margin: float = 0.25) -> Box:
        """A square around the landmarks of faces with a margin for hair and chin, pixels."""
        points = torch.cat([face.landmarks[0] for face in faces])
        square = box_of_points(points).square(margin)
        lift = 0.12 * square.height  # landmarks end at the brows
        return Box(square.x0, square.y0 - lift, square.x1, square.y1 - lift)

    def _painted(self, face: Face, look: Look | None, warp: Warp) -> Tensor:
        """The warped photograph with what G says of the edit, in the warp's part of the picture: [3,h,w]."""
        height, width = warp.colour.shape[-2:]
        centres = _centres(warp.x0, warp.y0, height, width)
        drawn = _sample_aligned(self.aligned(face, look), self.alignment_of(face), centres)
        change = drawn - _sample_aligned(self._own, self.alignment, warp.source)
        x0, y0, difference = self._difference
        extent = warp.source.new_tensor([difference.shape[-1], difference.shape[-2]])
        grid = (warp.source - warp.source.new_tensor([x0, y0])) / extent * 2 - 1
        difference = F.grid_sample(difference, grid[None], padding_mode="border", align_corners=False)
        painted = torch.lerp(warp.colour[None] + change, drawn + difference, warp.hidden[None])
        box = box_of_points(face.landmarks[0])
        mask = soft_mask(warp.face[None], _FEATHER * max(box.width, box.height))
        return torch.lerp(warp.colour[None], painted, mask)[0]

    @cached_property
    def _own(self) -> Tensor:
        """G's picture of the unedited face."""
        return self.aligned(self.face)

    @cached_property
    def _difference(self) -> tuple[int, int, Tensor]:
        """The low frequencies that G's picture of the unedited face lacks: where they lie (x, y), and [1,3,h,w]."""
        still = warp_photo(self.photo, self.face, self.face, self.texture)
        height, width = still.colour.shape[-2:]
        own = _sample_aligned(self._own, self.alignment, _centres(still.x0, still.y0, height, width))
        return still.x0, still.y0, low_frequencies(still.colour[None] - own, still.face[None])


def look_of(renderer: Renderer, latent: Latent) -> Look:
    """A fit's style and noise for its renderer.

    Raises:
        ParametersFileError: they are of another renderer.
        WeightsFileError: the renderer takes no normal maps.
    """
    from garfast.fit.latent import fingerprint

    check_draws_normals(renderer.generator)
    if latent.renderer != fingerprint(renderer.generator):
        raise ParametersFileError(
            "the fit's style and noise belong to another renderer: give the weights it was fitted with (--weights), or "
            "fit the photograph again with these"
        )
    return Look(latent.w, list(latent.noise))


def posed_alignment(alignment: Alignment, fitted: Face, changed: Face) -> Alignment:
    """The alignment of a fitted face after a change of its pose; shape and expression leave it alone.

    The roll goes into it, so that the renderer always sees upright faces and roll is a warp of its picture.

    Args:
        alignment: from the pixels of the faces' camera.
    """
    size = alignment.size
    before = align_landmarks(fitted.landmarks, size)
    after = align_landmarks(replace(fitted, pose=changed.pose).landmarks, size)
    matrix = _square(alignment.matrix) @ torch.linalg.inv(_square(before.matrix)) @ _square(after.matrix)
    return Alignment(matrix[:, :2].float(), size)


@torch.no_grad()
def render_aligned(renderer: Renderer, face: Face, alignment: Alignment, look: Look) -> Tensor:
    """G's picture of a face [3,S,S], about 0..1.

    Args:
        alignment: from the pixels of the face's camera to the renderer's picture.
    """
    camera, pose = alignment.camera(face.camera, face.pose)
    vertices = pose.apply(face.model.evaluate(face.shape, face.exp))
    levels = rasterize_normals(
        vertices,
        face.model.triangles,
        camera.ndc(),
        sample_sizes(renderer.generator),
        projection=camera.projection,
        adjacency=face.model.adjacency,
    )
    image = renderer.generator(averaged_normals(levels), w=look.w, noise=look.noise).image
    return (image[0] + 1) / 2


def low_frequencies(difference: Tensor, cover: Tensor) -> Tensor:
    """The smooth part of a difference [1,3,h,w] where ``cover`` [1,1,h,w] is set, continued beyond."""
    both = F.interpolate(torch.cat([difference * cover, cover], 1), (_COARSE, _COARSE), mode="area")
    for _ in range(3):
        both = F.avg_pool2d(both, 2 * _BLUR + 1, 1, _BLUR)
    # Far from the face the weight is tiny, and still says what is nearest; nothing at all means no difference.
    smooth = both[:, :3] / both[:, 3:].clamp_min(1e-6)
    return F.interpolate(smooth, difference.shape[-2:], mode="bilinear", align_corners=False)


def soft_mask(mask: Tensor, feather: float) -> Tensor:
    """A mask [1,1,h,w] that falls to 0 at its rim, over ``feather`` pixels inside it."""
    radius = max(round(feather / 2), 1)
    inner = 1 - F.max_pool2d(1 - mask, 2 * radius + 1, 1, radius)
    for _ in range(2):
        inner = F.avg_pool2d(inner, 2 * (radius // 2) + 1, 1, radius // 2, count_include_pad=False)
    return torch.minimum(inner, mask)


def moved_camera(camera: Camera, shift: tuple[float, float], factor: float, size: tuple[int, int]) -> Camera:
    """The camera of a picture moved by ``shift`` pixels (x, y), then enlarged, of (height, width) ``size``."""
    if isinstance(camera, OrthographicCamera):
        offset = (camera.offset + camera.offset.new_tensor(shift)) * factor
        return replace(camera, scale=camera.scale * factor, offset=offset, image_size=size)
    centre = (camera.centre + camera.centre.new_tensor(shift)) * factor
    return replace(camera, focal=camera.focal * factor, centre=centre, image_size=size)


def with_expression(face: Face, other: Face) -> Face:
    """A face with another one's expression.

    Raises:
        ArgumentError: they are of different models.
    """
    same_model(face.model, other.model)
    return replace(face, exp=other.exp.clone())


def _size(photo: np.ndarray, longest: int | None) -> tuple[int, int]:
    height, width = photo.shape[:2]
    if longest is None:
        return picture_size(height, width)
    if longest < 16:
        raise ArgumentError(f"a picture's longest side has at least 16 pixels, not {longest}")
    factor = min(longest / max(height, width), 1.0)
    return max(round(height * factor), 1), max(round(width * factor), 1)


def _resized(photo: np.ndarray, size: tuple[int, int]) -> Tensor:
    image = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float() / 255
    if size != photo.shape[:2]:
        image = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    return image[0]


def _sample_aligned(picture: Tensor, alignment: Alignment, points: Tensor) -> Tensor:
    """A picture [3,S,S] on the template at photo pixels [h,w,2]: [1,3,h,w]."""
    image, scale, size = picture[None], float(alignment.scale), alignment.size
    if scale > 1:  # the photograph is coarser: shrink first, else single pixels would be picked
        side = max(round(size / scale), 1)
        image = F.interpolate(image, (side, side), mode="bilinear", align_corners=False, antialias=True)
    at = alignment.apply(points.reshape(1, -1, 2)).reshape(1, *points.shape) / size * 2 - 1
    return F.grid_sample(image, at, mode="bicubic", padding_mode="border", align_corners=False)


def _centres(x0: int, y0: int, height: int, width: int) -> Tensor:
    x, y = x0 + torch.arange(width) + 0.5, y0 + torch.arange(height) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _square(matrix: Tensor) -> Tensor:
    """[B,2,3] as [B,3,3], double precision."""
    last = matrix.new_tensor([0.0, 0.0, 1.0]).expand(len(matrix), 1, 3)
    return torch.cat([matrix, last], 1).double()
