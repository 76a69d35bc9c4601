"""What numpy does slowly for few numbers: limits, and products and lengths of vectors.

Side by side on a loaded machine, 80 vectors: 33 us instead of 65 for products, 9 instead of 21 for lengths.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def limited(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """What ``numpy.clip`` gives, for a third of its time."""
    return np.minimum(np.maximum(values, low), high)


def cross(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vector products [..., 3] of [..., 3] and [..., 3]."""
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.result_type(a, b))
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        np.subtract(a[..., i] * b[..., j], a[..., j] * b[..., i], out=out[..., k])
    return out


def unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vectors [..., 3] at length 1; a vector of length 0 stays."""
    squared = np.einsum("...i,...i->...", vectors, vectors)
    return vectors * (1 / np.sqrt(np.maximum(squared, 1e-12)))[..., None]
