"""A few drawings in the form of rendered faces, for tests that need no renderer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from garfast.train.renders import SIZE


def write_fake_renders(folder: Path, count: int) -> Path:
    """Discs with 85 points on rings, mirrored ones on the mirrored side."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((count, SIZE, SIZE, 4), np.uint8)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    disc = (x - SIZE / 2) ** 2 + (y - SIZE / 2) ** 2 < 45**2
    images[..., :3] = rng.integers(0, 255, (count, 1, 1, 3), np.uint8)
    images[..., 3] = np.where(disc, 255, 0)
    angle = np.linspace(0, 2 * np.pi, 85, endpoint=False)
    ring = SIZE / 2 + 40 * np.stack([np.sin(angle), np.cos(angle)], 1)
    np.save(folder / "images.npy", images)
    np.save(folder / "points.npy", np.repeat(ring[None], count, 0).astype(np.float32))
    np.save(folder / "angles.npy", rng.uniform(-1.3, 1.3, (count, 3)).astype(np.float32))
    (folder / "count.txt").write_text(str(count))
    (folder / "settings.json").write_text(json.dumps({"count": count}))
    return folder
