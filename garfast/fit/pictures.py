"""The pictures of a fit: normal map, overlay and one sheet of everything, as uint8 RGB arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from garfast.fit.rendering import (
    Box,
    box_of_points,
    clay,
    rasterize_crop,
    shade,
    shrink,
    textured,
    turntable_ndc,
)
from garfast.ops import RasterOutput, rasterize_normals, vertex_normals

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from garfast.fit.result import FitResult

# Pictures of larger photographs are made at this size; params.json always speaks of the original pixels.
LONGEST_SIDE = 2048
# The overlay is enlarged until the box of the landmarks has this many pixels, within `LONGEST_SIDE`, else they would be
# blots.
OVERLAY_FACE = 280
YAWS = (-70.0, -35.0, 0.0, 35.0, 70.0)

_TILE, _GAP, _MARGIN, _HEADER, _LABEL = 360, 18, 36, 92, 30
_PAPER, _BACKDROP, _INK, _SOFT_INK = (250, 250, 248), (232, 232, 229), (32, 33, 36), (110, 112, 116)
_FOUND, _FITTED = (0, 200, 255), (255, 82, 60)
_OPACITY = 0.72


def picture_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the pictures of a photograph: its own, or scaled down to `LONGEST_SIDE`."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def normals_picture(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A normal map [H,W,3] as colours: (n + 1) / 2 where ``mask`` [H,W] is set, black elsewhere."""
    colours = np.round((normals + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return np.where(mask[..., None], colours, np.uint8(0))


@torch.no_grad()
def overlay_picture(result: FitResult) -> np.ndarray:
    """The photograph with the fitted mesh and both sets of landmarks drawn over it, uint8 [h,w,3]."""
    height, width = result.image.shape[:2]
    face = box_of_points(torch.from_numpy(result.landmarks_fitted))
    enlarged = max(1.0, OVERLAY_FACE / max(face.width, face.height, 1.0)) * max(height, width)
    factor = min(enlarged, LONGEST_SIDE) / max(height, width)
    size = max(round(height * factor), 1), max(round(width * factor), 1)
    picture = _resized(result.image, size)
    scale = size[1] / width
    box = _clip(_mesh_box(result), width, height)
    if box is None:
        return np.array(picture)
    # Only the face's part is rendered: a large photograph costs no more than its face.
    x0, y0 = int(box.x0 * scale), int(box.y0 * scale)
    x1, y1 = min(int(np.ceil(box.x1 * scale)), size[1]), min(int(np.ceil(box.y1 * scale)), size[0])
    window = Box(x0 / scale, y0 * height / size[0], x1 / scale, y1 * height / size[0])
    part = picture.crop((x0, y0, x1, y1))
    part = _draw_mesh(result, part, window)
    part = _draw_landmarks(result, part, window)
    picture.paste(part, (x0, y0))
    return np.array(picture)


@torch.no_grad()
def sheet_picture(result: FitResult) -> np.ndarray:
    """Photograph, landmarks, overlay, normals and texture in the photograph's view; then what the renderer saw and
    drew, where there is one; below, turned views of the mesh."""
    from PIL import Image, ImageDraw

    renderer_row = _renderer_row(result)
    columns, rows = len(YAWS), 4 if renderer_row else 3
    width = 2 * _MARGIN + columns * _TILE + (columns - 1) * _GAP
    height = _MARGIN + _HEADER + rows * (_TILE + _LABEL) + (rows - 1) * _GAP + _MARGIN // 2
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title = result.source.name if result.source is not None else "photograph"
    draw.text((_MARGIN, _MARGIN - 8), _shortened(title, 70), font=_font(34), fill=_INK)
    draw.text((_MARGIN, _MARGIN + 40), _facts(result), font=_font(20), fill=_SOFT_INK)

    labels = ("photograph", "landmarks: found (blue), fitted (red)", "fitted mesh", "normals", "texture")
    turned = [f"{abs(yaw):.0f}° {'left' if yaw < 0 else 'right'}" if yaw else "front" for yaw in YAWS]
    clay_views, texture_views = _turntable(result)
    table = [
        list(zip(labels, _photo_row(result), strict=True)),
        list(zip((f"shape, {t}" for t in turned), clay_views, strict=True)),
        list(zip((f"texture, {t}" for t in turned), texture_views, strict=True)),
    ]
    if renderer_row:
        table.insert(1, renderer_row)
    for row, tiles in enumerate(table):
        for column, (label, tile) in enumerate(tiles):
            x = _MARGIN + column * (_TILE + _GAP)
            y = _MARGIN + _HEADER + row * (_TILE + _LABEL + _GAP)
            sheet.paste(tile, (x, y))
            draw.text((x, y + _TILE + 6), label, font=_font(17), fill=_SOFT_INK)
    return np.array(sheet)


def _renderer_row(result: FitResult) -> list[tuple[str, Image]]:
    """What the renderer saw and drew, by label; empty where there was none."""
    from PIL import Image

    appearance = result.appearance
    if appearance is None:
        return []
    refined = appearance.refinement is not None
    tiles = [
        ("photograph, aligned", appearance.photo),
        ("normals seen in it", appearance.normals_estimated),
        ("normals of the mesh", appearance.normals_fitted),
        ("rendered by G after the inversion", appearance.inverted),
        ("rendered by G, refined", appearance.render if refined else None),
    ]
    size = (_TILE, _TILE)
    return [
        (label, Image.fromarray(tile).resize(size, Image.Resampling.BICUBIC))
        for label, tile in tiles
        if tile is not None
    ]


def _photo_row(result: FitResult) -> list[Image]:
    from PIL import Image

    # The mesh fills the tiles, unless it is a whole head whose back would leave the face small.
    landmarks = box_of_points(torch.from_numpy(result.landmarks_fitted))
    mesh = _mesh_box(result).square(0.04)
    box = min(
        max(mesh, landmarks.square(0.28), key=lambda box: box.width), landmarks.square(0.5), key=lambda box: box.width
    )
    photo = _photo_crop(result.image, box, _TILE)
    output = _raster(result, box, (2 * _TILE, 2 * _TILE))
    texture = torch.from_numpy(result.texture).permute(2, 0, 1).float() / 255
    looked_up = textured(output, torch.from_numpy(result.uv), torch.from_numpy(result.uv_triangles), texture)
    return [
        photo,
        _draw_landmarks(result, photo.copy(), box),
        _draw_mesh(result, photo.copy(), box),
        Image.fromarray(_composite(0.5 * (output.normals + 1), output.mask, (0, 0, 0))[0]),
        Image.fromarray(_composite(looked_up, output.mask, _BACKDROP)[0]),
    ]


def _turntable(result: FitResult) -> tuple[list[Image], list[Image]]:
    from PIL import Image

    model = result.model
    vertices, camera = turntable_ndc(torch.from_numpy(result.vertices), YAWS)
    texture = torch.from_numpy(result.texture).permute(2, 0, 1).float() / 255
    uv, uv_triangles = torch.from_numpy(result.uv), torch.from_numpy(result.uv_triangles)
    shaded, coloured = [], []
    for view in range(len(YAWS)):  # one at a time: five views at twice the size would take some 200 MB
        normals = vertex_normals(vertices[view : view + 1], model.triangles, adjacency=model.adjacency)
        output = rasterize_normals(
            vertices[view : view + 1],
            model.triangles,
            camera[view],
            2 * _TILE,
            normals=normals,
            adjacency=model.adjacency,
            cull_backfaces=False,
        )
        assert isinstance(output, RasterOutput)
        looked_up = textured(output, uv, uv_triangles, texture)
        # The photograph's own light is in the texture: add only a little, to keep the shape readable.
        lit = looked_up * (0.72 + 0.4 * shade(output.normals, torch.ones_like(output.normals)).mean(1, keepdim=True))
        shaded.append(Image.fromarray(_composite(clay(output.normals), output.mask, _BACKDROP)[0]))
        coloured.append(Image.fromarray(_composite(lit, output.mask, _BACKDROP)[0]))
    return shaded, coloured


def _raster(result: FitResult, box: Box, resolution: tuple[int, int]) -> RasterOutput:
    return rasterize_crop(torch.from_numpy(result.vertices_camera)[None], result.model, result.camera, box, resolution)


def _mesh_box(result: FitResult) -> Box:
    pixels = result.camera.project(torch.from_numpy(result.vertices_camera)[None])[0]
    return box_of_points(torch.cat([pixels, torch.from_numpy(result.landmarks_fitted)]))


def _composite(
    colour: Tensor, mask: Tensor, background: tuple[int, int, int] | Tensor, opacity: float = 1.0, factor: int = 2
) -> np.ndarray:
    """Lay [B,3,H,W] colours (0..1) over a background where the mask is set, then shrink: uint8 [B,H,W,3]."""
    if not isinstance(background, Tensor):
        background = colour.new_tensor(background).view(1, 3, 1, 1) / 255
    cover = shrink(mask, factor)
    front = shrink(colour * mask, factor)
    image = opacity * front + (1 - opacity * cover) * background
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _draw_mesh(result: FitResult, picture: Image, box: Box) -> Image:
    """The shaded mesh, partly transparent, over a picture that shows ``box`` of the photograph."""
    from PIL import Image

    width, height = picture.size
    factor = 2 if max(width, height) <= 1200 else 1  # beyond, the edges are fine enough and the memory is not
    output = _raster(result, box, (factor * height, factor * width))
    background = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    return Image.fromarray(_composite(clay(output.normals), output.mask, background, _OPACITY, factor)[0])


def _draw_landmarks(result: FitResult, picture: Image, box: Box) -> Image:
    """Found landmarks as rings, fitted ones as dots, joined by lines; drawn larger and shrunk for smooth edges."""
    from PIL import Image, ImageDraw

    width, height = picture.size
    factor = 3 if max(width, height) <= 1200 else 2
    layer = Image.new("RGBA", (factor * width, factor * height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    to_layer = np.array([layer.width / box.width, layer.height / box.height])
    origin = np.array([box.x0, box.y0])
    found, fitted = (result.landmarks - origin) * to_layer, (result.landmarks_fitted - origin) * to_layer
    span = float(np.ptp(fitted, axis=0).max())
    radius = max(0.014 * span, 2.6 * factor)
    line = max(round(0.34 * radius), 1)
    for start, end in zip(found, fitted, strict=True):
        if np.isfinite(start).all():
            draw.line([tuple(start), tuple(end)], fill=(255, 255, 255, 220), width=line)
    for points, colour, ring in ((fitted, _FITTED, False), (found, _FOUND, True)):
        for x, y in points[np.isfinite(points).all(1)]:
            around = (x - radius, y - radius, x + radius, y + radius)
            if ring:
                draw.ellipse(around, outline=(*colour, 255), width=line + 1)
            else:
                inner = 0.55 * radius
                draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=(*colour, 255))
    # Colours under full transparency are black; premultiplied shrinking keeps them out of the edges.
    layer = layer.convert("RGBa").resize((width, height), Image.Resampling.BOX).convert("RGBA")
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def _photo_crop(photo: np.ndarray, box: Box, size: int) -> Image:
    """A square of the photograph; what lies outside of it has the backdrop's colour."""
    from PIL import Image

    height, width = photo.shape[:2]
    x0, y0 = int(np.floor(box.x0)), int(np.floor(box.y0))
    x1, y1 = int(np.ceil(box.x1)), int(np.ceil(box.y1))
    canvas = Image.new("RGB", (x1 - x0, y1 - y0), _BACKDROP)
    inside = photo[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if inside.size:
        canvas.paste(Image.fromarray(np.ascontiguousarray(inside)), (max(-x0, 0), max(-y0, 0)))
    exact = (box.x0 - x0, box.y0 - y0, box.x1 - x0, box.y1 - y0)
    return canvas.resize((size, size), Image.Resampling.LANCZOS, box=exact)


def _resized(photo: np.ndarray, size: tuple[int, int]) -> Image:
    from PIL import Image

    picture = Image.fromarray(photo)
    return picture if photo.shape[:2] == size else picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)


def _clip(box: Box, width: int, height: int) -> Box | None:
    margin = 0.06 * max(box.width, box.height)
    x0, y0 = max(box.x0 - margin, 0), max(box.y0 - margin, 0)
    x1, y1 = min(box.x1 + margin, width), min(box.y1 + margin, height)
    return Box(x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def _facts(result: FitResult) -> str:
    yaw, pitch, roll = (round(angle) + 0 for angle in result.angles)
    face = f"face {result.face_index} of {result.face_count}   ·   " if result.face_count > 1 else ""
    return (
        f"{face}model {result.model.name}   ·   landmarks {result.detector}   ·   mean landmark residual "
        f"{result.mean_residual:.2f} px ({100 * result.nme:.2f} % of the face)   ·   yaw {yaw}°, pitch {pitch}°, "
        f"roll {roll}°"
    )


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
