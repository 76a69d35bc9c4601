"""What is behind the face: parts of the pictures that scikit-image ships, and made-up walls, rooms and blurs."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from garfast.synth import native
from garfast.synth.dice import Dice
from garfast.synth.noise import white_noise

Bytes = NDArray[np.uint8]

# Pictures without faces that are part of every scikit-image installation.
_PICTURES = (
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "color.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
_LARGEST = 640
_WIDE_BLUR = 2.5  # pixels
_FADED = np.eye(3, 4) * 0.4 + np.array([0.2, 0.2, 0.2, 0.0])  # RGB (and 1) to RGB with little colour left


@lru_cache(maxsize=1)
def _pictures() -> tuple[tuple[Image.Image, ...], ...]:
    """The pictures that are there in a fixed order, at most ``_LARGEST`` pixels a side, each with its halvings."""
    from skimage import data

    folder = Path(data.__file__).parent
    found = []
    for name in _PICTURES:
        path = folder / name
        if path.is_file():
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
            found.append((picture, *(picture.reduce(factor) for factor in (2, 4))))
    return tuple(found)


def background(rng: Dice, size: tuple[int, int], busy: float = 1.0) -> Bytes:
    """A background, uint8 sRGB [H, W, 3]; out of focus more often than not.

    Args:
        rng: source of everything random.
        size: (H, W) pixels.
        busy: share of backgrounds drawn from all kinds; the rest are soft gradients.
    """
    height, width = size
    kind = rng.random()
    pictures = _pictures()
    if kind >= busy:
        return np.asarray(_soft(rng, (width, height)))
    kind /= busy
    blur = float(rng.uniform(0.3, 6)) * width / 128 if rng.random() < 0.65 else 0.0
    # What is blurred over several pixels is drawn at half the resolution, at a quarter of the cost.
    coarse = 2 if blur >= _WIDE_BLUR else 1
    drawn = (width // coarse, height // coarse)
    if kind < 0.55 and pictures:
        image = _part_of(rng, rng.choice(pictures), drawn)
    elif kind < 0.8:
        image = _soft(rng, drawn)
    else:
        image = _shapes(rng, drawn)
    array = np.asarray(image)
    if blur:
        array = native.blur(array, blur / coarse)
    if coarse == 1:
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))


def _part_of(rng: Dice, picture: tuple[Image.Image, ...], size: tuple[int, int]) -> Image.Image:
    whole = picture[0]
    share = rng.uniform(0.15, 1.0)
    side = share * min(whole.width / size[0], whole.height / size[1])
    w, h = size[0] * side, size[1] * side
    x, y = rng.uniform(0, whole.width - w), rng.uniform(0, whole.height - h)
    # From the smallest halving that still has a pixel for each of the part's.
    level = min(max(int(math.log2(side)), 0), len(picture) - 1)
    near = picture[level]
    across, down = near.width / whole.width, near.height / whole.height
    box = (x * across, y * down, (x + w) * across, (y + h) * down)
    image = near.resize(size, Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.35:
        # Another colour cast: the same texture as another wall or fabric.
        tint = rng.uniform(0.5, 1.4, 3)
        image = image.convert("RGB", tuple((tint[:, None] * _FADED).reshape(-1).tolist()))
    return image


def _soft(rng: Dice, size: tuple[int, int]) -> Image.Image:
    """Walls and blurred rooms: smooth noise of a few sizes over a base colour."""
    total = (rng.uniform(15, 240) * np.exp(rng.normal(0, 0.15, 3))).astype(np.float32)[:, None, None]
    for cells in (2, 4, 9):
        colour = rng.random() < 0.25
        amount = rng.uniform(0, 22 if colour else 45)
        coarse = rng.normal(0, amount, (3 if colour else 1, cells, cells)).astype(np.float32)
        total = total + _stretch(cells, size[1]) @ coarse @ _stretch(cells, size[0]).T
    if rng.random() < 0.5:
        total += np.float32(rng.uniform(0, 10)) * white_noise(rng, (1, size[1], size[0]))
    planes = np.clip(total, 0, 255, out=total).astype(np.uint8)
    # A third of the time that numpy takes to lay them out by pixels.
    return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])


@lru_cache(maxsize=32)
def _stretch(cells: int, size: int) -> NDArray[np.float32]:
    """[size, cells] what each of so many values in a row adds to the pixels of a smooth (bicubic) row through them."""
    unit = Image.fromarray(np.eye(cells, dtype=np.float32))
    return np.ascontiguousarray(unit.resize((size, cells), Image.Resampling.BICUBIC)).T.copy()


def _shapes(rng: Dice, size: tuple[int, int]) -> Image.Image:
    """Rooms and streets in a few strokes: edges, boxes, lights."""
    image = _soft(rng, size)
    draw = ImageDraw.Draw(image)
    unit = size[0]
    for _ in range(2 + rng.below(10)):
        x, y = rng.uniform(-0.1, 1.0, 2) * size
        w, h = (unit * rng.log_uniform(0.04, 0.7) for _ in range(2))
        colour = tuple(int(c) for c in np.clip(rng.uniform(0, 255) * np.exp(rng.normal(0, 0.18, 3)), 0, 255))
        shape = rng.random()
        if shape < 0.5:
            draw.rectangle((x, y, x + w, y + h), fill=colour)
        elif shape < 0.75:
            draw.ellipse((x, y, x + min(w, h), y + min(w, h)), fill=colour)
        else:
            draw.line((x, y, x + w * rng.choice([-1, 1]), y + h), fill=colour, width=max(1, int(0.02 * unit)))
    return image
