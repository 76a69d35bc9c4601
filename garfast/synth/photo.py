"""What a camera does to a picture: exposure, white balance, blur, noise, few pixels, JPEG."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from garfast.synth import native
from garfast.synth.colour import from_linear
from garfast.synth.dice import Dice
from garfast.synth.native import Floats
from garfast.synth.noise import white_noise
from garfast.synth.quick import limited

# The transfer curve by table: no power for every level of every picture.
_TRANSFER_LEVELS = 1 << 14
_TRANSFER = from_linear(np.linspace(0, 1, _TRANSFER_LEVELS + 1))
Bytes = NDArray[np.uint8]

_BRIGHTEST = 2.0  # light where the tone curve ends
_LIGHT = _BRIGHTEST * np.linspace(0, 1, 513, dtype=np.float32) ** 2  # where a tone curve is given


def develop(rng: Dice, linear: Floats, faults: float) -> Bytes:
    """Turn linear light into a photograph.

    Args:
        linear: [H, W, 3], about 1 for a white surface that faces the light.
        faults: strength of everything that can go wrong; 0 gives an even development.

    Returns:
        uint8 sRGB [H, W, 3].
    """
    height, width = linear.shape[:2]
    exposure = math.exp(rng.normal(-0.12, 0.3 * faults))
    balance = np.exp(rng.normal(0, (0.06 if rng.random() < 0.8 else 0.16) * faults, 3))
    how = native.Development((exposure * balance).astype(np.float32), _curve(rng, faults), _BRIGHTEST)
    if rng.random() < 0.35 * faults:
        how = how._replace(falloff=rng.uniform(0.05, 0.3), centre=(rng.normal(0, 0.2), rng.normal(0, 0.2)))
    if rng.random() < 0.1 * faults:  # stray light lifts the blacks
        how = how._replace(stray=rng.uniform(0.01, 0.12))
    if rng.random() < 0.12 * faults:  # black and white, or washed out
        how = how._replace(gray=1.0 if rng.random() < 0.55 else rng.uniform(0.2, 0.9))
    if rng.random() < 0.6 * faults:
        grain, shared = rng.log_uniform(0.8, 14), 0.7 if rng.random() < 0.5 else 0.0  # often mostly in brightness
        noise = white_noise(rng, (height, width, 3))
        how = how._replace(noise=noise, own_noise=(1 - shared) * grain, shared_noise=shared * grain)
    if rng.random() < 0.12 * faults:
        linear = _motion(rng, linear)
    picture = native.develop(linear, how)
    unit = min(height, width) / 128
    if rng.random() < 0.3 * faults:
        picture = native.blur(picture, rng.uniform(0.3, 1.5) * unit)
    if rng.random() < 0.22 * faults:
        share = rng.uniform(0.3, 0.8)
        small = (max(8, round(width * share)), max(8, round(height * share)))
        smooth = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS))
        few = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
        picture = np.asarray(few.resize((width, height), smooth))
    if rng.random() < 0.15 * faults:
        picture = native.blur(picture, unit, sharpen=rng.uniform(0.4, 1.6))
    if rng.random() < 0.5 * faults:
        picture = _jpeg(picture, int(rng.uniform(22, 95)))
    return picture


def _curve(rng: Dice, faults: float) -> Floats:
    """sRGB values 0..255 at the levels of light: a shoulder for the highlights, then the transfer curve."""
    shoulder = rng.uniform(0.55, 0.95)
    contrast = math.exp(rng.normal(0, 0.13 * faults))
    start, room = int(np.searchsorted(_LIGHT, shoulder)), 1 - shoulder
    bent = _LIGHT.copy()
    bent[start:] = 1 - room * np.exp((shoulder - _LIGHT[start:]) * np.float32(1 / room))
    curve = _TRANSFER[(bent * _TRANSFER_LEVELS).astype(np.int16)]
    return limited(curve * np.float32(255 * contrast) + np.float32(127.5 * (1 - contrast)), 0, 255)


def _motion(rng: Dice, image: Floats) -> Floats:
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


def _jpeg(picture: Bytes, quality: int) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer, formats=("JPEG",)))
