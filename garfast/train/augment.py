"""What happens to a rendered face before a network sees it: other places, backgrounds, things in front, cameras."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_LUMA = (0.299, 0.587, 0.114)


def uniform(rng: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Float32 numbers, evenly spread."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def normal(rng: torch.Generator, shape: tuple[int, ...], spread: float = 1.0) -> Tensor:
    """Float32 numbers about 0, cut at 2.5 standard deviations."""
    return torch.randn(shape, generator=rng).clamp(-2.5, 2.5) * spread


def pick(rng: torch.Generator, pool: Tensor, count: int, size: int) -> Tensor:
    """Random windows [count, 3, size, size] of a uint8 pool of pictures at least as large, as float32 in 0..1."""
    rows = torch.randint(len(pool), (count,), generator=rng).tolist()
    corner = torch.randint(pool.shape[-1] - size + 1, (count, 2), generator=rng).tolist()
    return (
        torch.stack([pool[k, :, y : y + size, x : x + size] for k, (y, x) in zip(rows, corner, strict=True)])
        .float()
        .div_(255)
    )


def warp(images: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Cut square windows out of images, zero outside.

    Args:
        images: [B, C, H, W] float32.
        matrix: [B, 2, 3] takes window coordinates in -1..1 to image pixels.
        size: side of the windows, pixels.
    """
    height, width = images.shape[-2:]
    to_unit = torch.tensor([2 / width, 2 / height])
    theta = matrix * to_unit[:, None]
    theta[..., 2] -= 1
    grid = functional.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def cover(rng: torch.Generator, images: Tensor, pool: Tensor, share: float) -> Tensor:
    """Put discs and boards with the texture of some scene in front of a share of the images [B, 3, S, S], in place."""
    count, _, size, _ = images.shape
    rows = (torch.rand(count, generator=rng) < share).nonzero()[:, 0]
    count = len(rows)
    if not count:
        return images
    x, y = uniform(rng, (count, 1, 1), 0, size), uniform(rng, (count, 1, 1), 0, size)
    w, h = uniform(rng, (count, 1, 1), 0.05 * size, 0.27 * size), uniform(rng, (count, 1, 1), 0.05 * size, 0.3 * size)
    turn = uniform(rng, (count, 1, 1), 0, np.pi)
    round_ = torch.rand((count, 1, 1), generator=rng) < 0.5
    texture = pick(rng, pool, count, size)
    axis = torch.arange(size) + 0.5
    dx, dy = axis[None, None] - x, axis[None, :, None] - y
    a, b = (dx * turn.cos() + dy * turn.sin()) / w, (dy * turn.cos() - dx * turn.sin()) / h
    inside = torch.where(round_, a * a + b * b < 1, (a.abs() < 1) & (b.abs() < 1))
    images[rows] = torch.where(inside[:, None], texture, images[rows])
    return images


def develop(rng: torch.Generator, images: Tensor, *, jpeg: float = 0.25) -> Tensor:
    """Light, colour, blur, noise, few pixels and JPEG, other for each image [B, 3, S, S] in 0..1; float32 in 0..1."""
    count, _, size, _ = images.shape
    ramp = (torch.arange(size) + 0.5) / size - 0.5
    shade = ramp[None, None] * normal(rng, (count, 1, 1), 0.25) + ramp[None, :, None] * normal(rng, (count, 1, 1), 0.25)
    images = images * (1 + shade[:, None]) * _lamps(rng, count, size)
    images = torch.cat([_optics(rng, part) for part in images.chunk(max(1, count // 8))]).clamp(0, 1)
    images = images ** normal(rng, (count, 1, 1, 1), 0.25).exp()
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast = normal(rng, (count, 1, 1, 1), 0.22).exp()
    images = (images - mean) * contrast + mean + normal(rng, (count, 1, 1, 1), 0.07)
    images = images * normal(rng, (count, 3, 1, 1), 0.07).exp()
    gray = (images * torch.tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    colour = torch.where(torch.rand(count, generator=rng) < 0.15, 0.0, normal(rng, (count,), 0.3).exp())
    images = gray + (images - gray) * colour[:, None, None, None]
    strength = (torch.rand(count, generator=rng) < 0.6) * torch.rand(count, generator=rng) ** 2 * 0.08
    images = images + torch.randn(images.shape, generator=rng) * strength[:, None, None, None]
    images = images.clamp(0, 1)
    compressed = torch.rand(count, generator=rng) < jpeg
    quality = torch.randint(20, 92, (count,), generator=rng)
    for k in compressed.nonzero()[:, 0].tolist():
        images[k] = _jpeg(images[k], int(quality[k]))
    return images


def _lamps(rng: torch.Generator, count: int, size: int) -> Tensor:
    """Gains [B, 3, S, S] of the light of two coloured lamps on either side of a fifth of the images, 1 on the others.

    The lamps run along the colours of hot bodies, orange to blue, and less across them: parties, stages, windows.
    """
    heat = torch.tensor([1.0, 0.1, -1.1])[None, :] * normal(rng, (2 * count, 1), 0.3)
    tint = torch.tensor([-0.5, 1.0, -0.5])[None, :] * normal(rng, (2 * count, 1), 0.1)
    one, other = (heat + tint)[:, :, None, None].chunk(2)
    angle = uniform(rng, (count, 1, 1, 1), 0, 2 * np.pi)
    axis = ((torch.arange(size) + 0.5) / size - 0.5) * 2
    share = torch.sigmoid(uniform(rng, (count, 1, 1, 1), 0, 4) * (axis * angle.cos() + axis[:, None] * angle.sin()))
    lit = torch.rand((count, 1, 1, 1), generator=rng) < 0.2
    return torch.where(lit, torch.lerp(one, other, share).exp(), 1.0)


def _optics(rng: torch.Generator, images: Tensor) -> Tensor:
    """Blur, shrink and enlarge, sharpen, or nothing; one for the whole chunk."""
    size = images.shape[-1]
    kind, amount = torch.rand(2, generator=rng).tolist()
    if kind < 0.25:
        return _blur(images, (0.4 + 1.6 * amount) * size / 112)
    if kind < 0.5:
        small = max(8, int(size * (0.25 + 0.6 * amount)))
        less = functional.interpolate(images, size=(small, small), mode="bilinear", align_corners=False, antialias=True)
        mode = "bilinear" if kind < 0.4 else "bicubic"
        return functional.interpolate(less, size=(size, size), mode=mode, align_corners=False)
    if kind < 0.6:  # motion
        length = 2 + int(5 * amount * size / 112)
        kernel = torch.eye(length) if kind < 0.54 else torch.zeros(length, length)
        if not kernel.any():
            kernel[length // 2] = 1
        kernel = kernel.flip(0) if amount > 0.5 else kernel
        return _filter(images, kernel / kernel.sum())
    if kind < 0.72:
        return images + (0.3 + 1.2 * amount) * (images - _blur(images, 0.9))
    return images


def _blur(images: Tensor, sigma: float) -> Tensor:
    reach = max(1, int(np.ceil(2.5 * sigma)))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    return _filter(_filter(images, kernel[None]), kernel[:, None])


def _filter(images: Tensor, kernel: Tensor) -> Tensor:
    height, width = kernel.shape
    pad = (width // 2, (width - 1) // 2, height // 2, (height - 1) // 2)
    padded = functional.pad(images, pad, mode="replicate")
    return functional.conv2d(padded, kernel.expand(3, 1, -1, -1), groups=3)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    from PIL import Image

    array = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1).float() / 255
