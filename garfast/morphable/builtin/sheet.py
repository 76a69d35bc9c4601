"""Pictures of the built-in face: the overview in the documentation, and every mode at the ends of its range."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from garfast.io.atomic import atomic_path
from garfast.morphable.model import MorphableModel
from garfast.morphable.rotation import euler_to_matrix
from garfast.ops import interpolate, rasterize_normals

_SKIN = (0.80, 0.62, 0.53)
# Region, colour, strength; painted in this order.
_PAINT = (
    ("scalp", (0.30, 0.24, 0.20), 0.45),
    ("lips", (0.72, 0.40, 0.37), 0.7),
    ("brows", (0.22, 0.15, 0.10), 0.75),
    ("lids", (0.72, 0.50, 0.44), 0.25),
    ("nostrils", (0.0, 0.0, 0.0), 0.75),
    ("eyeballs", (0.92, 0.90, 0.88), 1.0),
    ("iris", (0.33, 0.24, 0.15), 1.0),
    ("pupil", (0.02, 0.02, 0.02), 1.0),
    ("mouth_socket", (0.45, 0.16, 0.16), 1.0),
    ("tongue", (0.65, 0.30, 0.30), 1.0),
    ("teeth", (0.92, 0.90, 0.84), 1.0),
)
_BACKGROUND = (0.93, 0.94, 0.96)
_LIGHTS = (((-0.55, 0.60, 0.75), 0.68), ((0.80, 0.10, 0.45), 0.16))
_CENTRE = (0.0, 2.0, 18.0)


def colours(model: MorphableModel) -> Tensor:
    """Plain colours [V, 3] in 0..1 from the model's regions."""
    out = torch.tensor(_SKIN).expand(model.num_vertices, 3).clone()
    for name, colour, strength in _PAINT:
        if name in model.regions:
            w = strength * model.regions[name][:, None]
            out = out * (1 - w) + torch.tensor(colour) * w
    return out


def draw(
    model: MorphableModel,
    vertices: Tensor,
    yaw: float = 0.0,
    pitch: float = 0.0,
    size: int = 260,
    height: float = 250.0,
    centre: tuple[float, float, float] = _CENTRE,
) -> np.ndarray:
    """A shaded picture [size, size, 3] uint8 of vertices [V, 3].

    yaw, pitch: degrees by which the head turns (see ``euler_to_matrix``); height: mm from the lower to the upper edge;
    centre: the point of the head in the middle of the picture.
    """
    angles = (torch.tensor(np.radians(a), dtype=vertices.dtype) for a in (yaw, pitch, 0.0))
    turned = (vertices - torch.tensor(centre)) @ euler_to_matrix(*angles).T
    scale = 2.0 / height
    camera = torch.tensor([scale, scale, 0.0, 0.0])
    output = rasterize_normals(turned[None], model.triangles, camera, 2 * size)
    albedo = interpolate(colours(model), model.triangles, output)[0]
    n, mask = output.normals[0], output.mask[0]
    light = 0.28 + 0.10 * n[1]
    for direction, power in _LIGHTS:
        d = torch.tensor(direction)
        light = light + power * torch.einsum("k,khw->hw", d / d.norm(), n).clamp_min(0)
    half = torch.tensor((-0.55, 0.60, 1.75))
    shine = 0.10 * torch.einsum("k,khw->hw", half / half.norm(), n).clamp_min(0) ** 28
    image = (albedo * light + shine).clamp(0, 1) ** 0.87
    image = image * mask + torch.tensor(_BACKGROUND)[:, None, None] * (1 - mask)
    image = torch.nn.functional.avg_pool2d(image[None], 2)[0]
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def overview(model: MorphableModel, size: int = 260, seed: int = 11) -> np.ndarray:
    """The mean face from four sides, random identities, and expressions, as one picture."""
    mean = model.mean
    views = [draw(model, mean, *view, size=size) for view in ((0, 0), (-35, 0), (-90, 0), (-20, 28))]
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.randn(8, model.num_shape, generator=generator)
    people = [
        draw(model, v, yaw, size=size)
        for v, yaw in zip(model.evaluate(shapes), (0, -35, 0, 35, 0, -35, 0, -90), strict=True)
    ]
    moods: tuple[dict[str, float], ...] = (
        {"smile_left": 1.8, "smile_right": 1.8, "squint_left": 0.6, "squint_right": 0.6, "jaw_open": 0.35},
        {"jaw_open": 1.7, "eyes_wide": 1.3, "brow_raise_inner": 1.2, "brow_raise_outer_left": 1.2}
        | {"brow_raise_outer_right": 1.2},
        {"frown_left": 1.5, "frown_right": 1.5, "brow_raise_inner": 1.6, "chin_raise": 1.0},
        {"brow_lower": 2.0, "nose_wrinkle": 1.5, "lip_press": 1.2, "squint_left": 0.7, "squint_right": 0.7},
        {"pucker": 2.0},
        {"blink_left": 2.0, "smile_left": 1.5},
        {"cheek_puff": 2.0},
        {"upper_lip_raise": 1.6, "lower_lip_depress": 1.6, "gaze_left_right": 1.5},
    )
    faces = []
    for mood, yaw in zip(moods, (0, 20, 0, -20, -35, 0, 20, -20), strict=True):
        exp = torch.zeros(model.num_exp)
        for name, value in mood.items():
            exp[model.exp_names.index(name)] = value
        vertices = model.evaluate(None, exp)[0]
        faces.append(draw(model, vertices, yaw, size=size, height=190.0, centre=(0.0, -8.0, 45.0)))
    return _grid([*views, *people, *faces], 4)


def modes(model: MorphableModel, kind: str, size: int = 150) -> np.ndarray:
    """Every mode at both ends, front and side: kind 'identity' at -2 and 2, 'expression' at the ends of its range."""
    basis = model.shape_basis if kind == "identity" else model.exp_basis
    tiles = []
    for j, mode in enumerate(basis):
        low, high = (-2.0, 2.0) if kind == "identity" else model.exp_bounds[j].tolist()
        for value in (low, high):
            for yaw in (0, -45):
                tiles.append(
                    draw(model, model.mean + value * mode, yaw, size=size, height=185.0, centre=(0.0, -6.0, 35.0))
                )
    return _grid(tiles, 12)


def save(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", optimize=True)


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    blank = np.full_like(tiles[0], 255)
    tiles = tiles + [blank] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)], 0)
