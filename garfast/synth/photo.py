"""What a camera does to a picture: exposure, white balance, blur, noise, few pixels, JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_LEVELS = 4096


def develop(rng: np.random.Generator, linear: Floats, faults: float) -> Bytes:
    """Turn linear light into a photograph.

    Args:
        linear: [H, W, 3], about 1 for a white surface that faces the light.
        faults: strength of everything that can go wrong; 0 gives an even development.

    Returns:
        uint8 sRGB [H, W, 3].
    """
    height, width = linear.shape[:2]
    exposure = np.exp(rng.normal(-0.12, 0.3 * faults))
    balance = np.exp(rng.normal(0, 0.06 * faults, 3)) if rng.random() < 0.8 else np.exp(rng.normal(0, 0.16 * faults, 3))
    image = linear * (exposure * balance).astype(np.float32)
    if rng.random() < 0.35 * faults:
        image *= _vignette(rng, height, width)
    if rng.random() < 0.1 * faults:  # stray light lifts the blacks
        image += np.float32(rng.uniform(0.01, 0.12))
    if rng.random() < 0.12 * faults:
        image = _motion(rng, image)
    image = _tone(rng, image, faults)
    if rng.random() < 0.12 * faults:  # black and white, or washed out
        gray = image @ np.array([0.3, 0.59, 0.11], np.float32)
        image += (gray[..., None] - image) * np.float32(1.0 if rng.random() < 0.55 else rng.uniform(0.2, 0.9))
    if rng.random() < 0.6 * faults:
        image += _grain(rng, height, width)
    picture = Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))
    unit = min(height, width) / 128
    if rng.random() < 0.3 * faults:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.5) * unit)))
    if rng.random() < 0.22 * faults:
        share = rng.uniform(0.3, 0.8)
        small = (max(8, round(width * share)), max(8, round(height * share)))
        filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
        picture = picture.resize(small, Image.Resampling.BOX).resize((width, height), filters[rng.integers(3)])
    if rng.random() < 0.15 * faults:
        picture = picture.filter(ImageFilter.UnsharpMask(1.0 * unit, int(rng.uniform(40, 160)), 0))
    if rng.random() < 0.5 * faults:
        picture = _jpeg(picture, int(rng.uniform(22, 95)))
    return np.asarray(picture)


def _tone(rng: np.random.Generator, image: Floats, faults: float) -> Floats:
    """sRGB values 0..255 of linear light: a shoulder for the highlights, then the transfer curve, by table."""
    shoulder = rng.uniform(0.55, 0.95)
    contrast = float(np.exp(rng.normal(0, 0.13 * faults)))
    x = np.linspace(0, 2, _LEVELS)
    over = np.maximum(x - shoulder, 0)
    bent = np.where(x > shoulder, shoulder + (1 - shoulder) * (1 - np.exp(-over / (1 - shoulder))), x)
    curve = np.where(bent <= 0.0031308, 12.92 * bent, 1.055 * np.maximum(bent, 1e-6) ** (1 / 2.4) - 0.055)
    curve = np.clip(0.5 + (curve - 0.5) * contrast, 0, 1)
    index = np.clip(image * ((_LEVELS - 1) / 2), 0, _LEVELS - 1).astype(np.int16)
    return (curve * 255).astype(np.float32)[index]


def _vignette(rng: np.random.Generator, height: int, width: int) -> Floats:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    centre = rng.normal(0, 0.2, 2).astype(np.float32)
    falloff = 1 - np.float32(rng.uniform(0.05, 0.3)) * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    return np.clip(falloff, 0.2, 1)[..., None].astype(np.float32)


def _motion(rng: np.random.Generator, image: Floats) -> Floats:
    """The mean of copies shifted along a short line."""
    height, width = image.shape[:2]
    length = rng.uniform(1.5, 6) * min(height, width) / 128
    angle = rng.uniform(0, np.pi)
    steps = max(3, int(np.ceil(length)))
    shifts = {
        (round(length * t * np.sin(angle)), round(length * t * np.cos(angle))) for t in np.linspace(-0.5, 0.5, steps)
    }
    pad = int(np.ceil(length)) + 1
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    total = np.zeros_like(image)
    for dy, dx in sorted(shifts):
        total += padded[pad + dy : pad + dy + height, pad + dx : pad + dx + width]
    return total / np.float32(len(shifts))


def _grain(rng: np.random.Generator, height: int, width: int) -> Floats:
    strength = np.float32(np.exp(rng.uniform(np.log(0.8), np.log(14))))
    noise = rng.standard_normal((height, width, 3), np.float32)
    if rng.random() < 0.5:  # mostly in brightness
        noise = 0.3 * noise + 0.7 * noise[..., :1]
    return noise * strength


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
