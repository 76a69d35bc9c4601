"""Meshes with known answers."""

from __future__ import annotations

import numpy as np


def plane(side: float = 100.0, cells: int = 10, height: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A square in z = height, facing +z: vertices [V, 3] and triangles [F, 3]."""
    x, y = np.meshgrid(np.linspace(-side / 2, side / 2, cells + 1), np.linspace(-side / 2, side / 2, cells + 1))
    vertices = np.stack([x.ravel(), y.ravel(), np.full(x.size, height)], 1)
    corner = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).reshape(-1, 1)
    lower, upper = np.array([0, 1, cells + 2]), np.array([0, cells + 2, cells + 1])
    return vertices, np.concatenate([corner + lower, corner + upper])


def sphere(radius: float = 50.0, rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """An octahedron refined ``rounds`` times, its vertices on the sphere, facing outward."""
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    triangles = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    for _ in range(rounds):
        corners = vertices[triangles]
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        split = [np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        flat = np.concatenate(split).reshape(-1, 3)
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        vertices, inverse = np.unique(flat.round(12), axis=0, return_inverse=True)
        triangles = inverse.reshape(-1, 3)
    return radius * vertices, triangles


def bumps(side: float = 100.0, cells: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A wavy square that no rigid motion but none maps to itself."""
    vertices, triangles = plane(side, cells)
    x, y = vertices[:, 0], vertices[:, 1]
    vertices[:, 2] = 6 * np.sin(x / 11) + 5 * np.cos(y / 14 + 1) + 0.002 * x * y
    return vertices, triangles
