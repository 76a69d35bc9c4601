"""What a camera does to a picture: exposure, white balance, blur, noise, few pixels, JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from garfast.synth.colour import from_linear
from garfast.synth.native import Floats, apply_curve
from garfast.synth.noise import white_noise

# The transfer curve by table: no power for every level of every picture.
_TRANSFER_LEVELS = 1 << 14
_TRANSFER = from_linear(np.linspace(0, 1, _TRANSFER_LEVELS + 1))
Bytes = NDArray[np.uint8]

_LEVELS = 4096
_BRIGHTEST = 2.0  # light where the tone curve ends
_LIGHT = np.linspace(0, _BRIGHTEST, _LEVELS, dtype=np.float32)


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
    gain = (exposure * balance).astype(np.float32)
    image = linear
    if rng.random() < 0.35 * faults:
        image = image * _vignette(rng, height, width)
    if rng.random() < 0.1 * faults:  # stray light lifts the blacks
        image = image + np.float32(rng.uniform(0.01, 0.12)) / gain
    if rng.random() < 0.12 * faults:
        image = _motion(rng, image)
    image = _tone(rng, image, gain, faults)
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


def _tone(rng: np.random.Generator, image: Floats, gain: Floats, faults: float) -> Floats:
    """sRGB values 0..255 of linear light times ``gain`` [3]: a shoulder for the highlights, then the transfer curve."""
    shoulder = rng.uniform(0.55, 0.95)
    contrast = float(np.exp(rng.normal(0, 0.13 * faults)))
    bent = _LIGHT.copy()
    start = int(shoulder / _BRIGHTEST * (_LEVELS - 1)) + 1
    room = 1 - shoulder
    bent[start:] = 1 - room * np.exp((shoulder - _LIGHT[start:]) / room)
    curve = _TRANSFER[(bent * _TRANSFER_LEVELS).astype(np.int16)]
    curve = np.clip((0.5 + (curve - 0.5) * contrast) * 255, 0, 255).astype(np.float32)
    return apply_curve(image, gain, curve, _BRIGHTEST)


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
    noise = white_noise(rng, (height, width, 3))
    if rng.random() < 0.5:  # mostly in brightness
        noise = 0.3 * noise + 0.7 * noise[..., :1]
    return noise * strength


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
