"""Pictures without faces: what training puts behind faces, in front of them, and shows as what a face is not."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Pictures that are part of every scikit-image installation and show nobody.
_PICTURES = (
    "brick.png", "cell.png", "chelsea.png", "chessboard_RGB.png", "clock_motion.png", "coffee.png", "coins.png",
    "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png",
    "microaneurysms.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png", "phantom.png",
    "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
# Parts of other pictures that show nobody: the astronaut's suit and flag below her face are no part of these.
_LARGEST = 1400


@lru_cache(maxsize=1)
def named_pictures() -> dict[str, NDArray[np.uint8]]:
    """scikit-image's pictures without people that are installed, by file name, uint8 RGB [H, W, 3] each."""
    from PIL import Image
    from skimage import data

    found = {}
    for name in _PICTURES:
        path = Path(data.__file__).parent / name
        if path.is_file():
            picture: Image.Image = Image.open(path)
            if picture.mode == "RGBA":
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture = picture.convert("RGB")
            picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
            found[name] = np.asarray(picture)
    return found


def pictures() -> tuple[NDArray[np.uint8], ...]:
    """The images of :func:`named_pictures`."""
    return tuple(named_pictures().values())


def scene(rng: np.random.Generator, size: int, *, photographs: float = 0.6) -> NDArray[np.uint8]:
    """A square picture without a face, uint8 RGB [size, size, 3].

    Args:
        rng: source of chance.
        size: side, pixels.
        photographs: share of parts of real pictures; the rest is made up: soft clutter, noise of many sizes, shapes,
            stripes and blobs.
    """
    from PIL import Image, ImageFilter

    sources = pictures()
    kind = rng.random()
    if kind < photographs and sources:
        array = _part(rng, sources[rng.integers(len(sources))], size)
        if rng.random() < 0.15:  # two pictures mixed: textures that neither has
            other = _part(rng, sources[rng.integers(len(sources))], size)
            array = array + (other - array) * np.float32(rng.uniform(0.2, 0.8))
    elif kind < photographs + 0.45 * (1 - photographs):
        array = _clutter(rng, size)
    else:
        array = _shapes(rng, size)
    image = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(float(np.exp(rng.uniform(np.log(0.4), np.log(0.04 * size))))))
    return np.asarray(image)


def scenes(seed: int, count: int, size: int, *, photographs: float = 0.6) -> Tensor:
    """``count`` scenes as uint8 [count, 3, size, size]; the same for the same arguments."""
    rng = np.random.default_rng([seed, 71])
    stack = np.stack([scene(rng, size, photographs=photographs) for _ in range(count)])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def _part(rng: np.random.Generator, picture: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """A turned, mirrored, recoloured square of a picture, float32 [size, size, 3]."""
    from PIL import Image

    height, width = picture.shape[:2]
    side = min(height, width) * np.exp(rng.uniform(np.log(0.12), 0.0))
    side = max(side, min(32.0, height, width))
    image = Image.fromarray(picture)
    angle = rng.normal(0, 12) if rng.random() < 0.7 else rng.uniform(-180, 180)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    radians = np.radians(angle)
    cos, sin = np.cos(radians) * side / size, np.sin(radians) * side / size
    cx, cy = x + side / 2, y + side / 2
    if side > 2 * size:  # shrink first, so that fine texture does not turn into noise
        factor = int(side // size)
        image = image.reduce(factor)
        cos, sin, cx, cy = cos / factor, sin / factor, cx / factor, cy / factor
    # Outside the picture its mirror image goes on.
    array = np.asarray(image)
    u = np.arange(size) + 0.5 - size / 2
    px = cx + cos * u[None] - sin * u[:, None] - 0.5
    py = cy + sin * u[None] + cos * u[:, None] - 0.5
    out = _sample(array, px, py)
    if rng.random() < 0.5:
        out = out[:, ::-1]
    if rng.random() < 0.08:
        out = out[::-1]
    if rng.random() < 0.25:
        out = out[..., rng.permutation(3)]
    if rng.random() < 0.3:
        gray = out.mean(2, keepdims=True)
        out = (gray + (out - gray) * rng.uniform(0, 0.6)) * rng.uniform(0.6, 1.35, 3)
    if rng.random() < 0.08:
        out = 255 - out
    return np.ascontiguousarray(out * rng.uniform(0.55, 1.25) + rng.normal(0, 12), np.float32)


def _sample(array: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bilinear, mirrored at the borders."""
    height, width = array.shape[:2]
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None].astype(np.float32), (y - y0)[..., None].astype(np.float32)

    def fold(i: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        i = np.mod(i, 2 * n)
        return np.where(i < n, i, 2 * n - 1 - i)

    xa, xb, ya, yb = fold(x0, width), fold(x0 + 1, width), fold(y0, height), fold(y0 + 1, height)
    top = array[ya, xa] * (1 - fx) + array[ya, xb] * fx
    bottom = array[yb, xa] * (1 - fx) + array[yb, xb] * fx
    return top * (1 - fy) + bottom * fy


def _clutter(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Noise of several sizes, sometimes turned into hard-edged patches."""
    from PIL import Image

    base = rng.uniform(10, 240) * np.exp(rng.normal(0, 0.2, 3))
    out = np.broadcast_to(base.astype(np.float32), (size, size, 3)).copy()
    coloured = rng.random() < 0.5
    for cells in (2, 4, 8, 16, 32, 64):
        if cells < size and rng.random() < 0.65:
            coarse = rng.normal(0, rng.uniform(0, 40), (cells, cells, 3 if coloured else 1)).astype(np.float32)
            layers = [
                np.asarray(Image.fromarray(coarse[..., k]).resize((size, size), Image.Resampling.BICUBIC))
                for k in range(coarse.shape[2])
            ]
            out += np.stack(layers, -1)
    if rng.random() < 0.35:
        levels = rng.uniform(20, 90)
        out = np.round(out / levels) * levels
    if rng.random() < 0.5:
        out += rng.normal(0, rng.uniform(0, 25), (size, size, 1)).astype(np.float32)
    return out


def _shapes(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Boxes, discs, rings and lines; pairs of discs over bars, which are not faces either."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(np.clip(_clutter(rng, size), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    skin = rng.random() < 0.3

    def colour() -> tuple[int, ...]:
        if skin and rng.random() < 0.6:
            tone = np.array([0.85, 0.62, 0.5]) * rng.uniform(60, 290)
        else:
            tone = rng.uniform(0, 255) * np.exp(rng.normal(0, 0.35, 3))
        return tuple(int(c) for c in np.clip(tone, 0, 255))

    for _ in range(rng.integers(2, 30)):
        x, y = rng.uniform(-0.1, 1.0, 2) * size
        w, h = np.exp(rng.uniform(np.log(0.02), np.log(0.5), 2)) * size
        kind = rng.random()
        if kind < 0.35:
            draw.rectangle((x, y, x + w, y + h), fill=colour())
        elif kind < 0.65:
            draw.ellipse((x, y, x + w, y + h * rng.uniform(0.5, 1.5)), fill=colour())
        elif kind < 0.75:
            draw.ellipse((x, y, x + w, y + w), outline=colour(), width=max(1, int(0.15 * w)))
        elif kind < 0.9:
            end = (x + w * rng.choice([-1, 1]), y + h)
            draw.line((x, y, *end), fill=colour(), width=max(1, int(rng.uniform(0.005, 0.04) * size)))
        else:
            eye, tone = 0.12 * w + 1, colour()
            for side in (0.25, 0.75):
                draw.ellipse((x + side * w - eye, y - eye, x + side * w + eye, y + eye), fill=tone)
    if rng.random() < 0.25:  # stripes: blinds, brickwork, fences
        period, tone = int(rng.uniform(3, 24)), colour()
        for k in range(0, size, period):
            box = (k, 0, k + period // 3, size) if period % 2 else (0, k, size, k + period // 3)
            draw.rectangle(box, fill=tone)
    return np.asarray(image, np.float32)
