"""Means and covariances of features, and the Frechet distance between them (FID when the features are InceptionV3's).

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (NeurIPS 2017).
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from garfast.errors import ArgumentError, EvaluationError
from garfast.io.atomic import atomic_path

Floats = NDArray[np.float64]


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches; float64, stable, mergeable.

    Args:
        label: what the features are; distances between different features are refused.

    Attributes:
        count: features so far.
        mean: [D].
        scatter: [D, D] sum of squared deviations from the mean.
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self.count = 0
        self.mean: Floats = np.zeros(0)
        self.scatter: Floats = np.zeros((0, 0))

    def update(self, features: Tensor | NDArray[np.floating]) -> None:
        """Take in features [N, D]; N may be 0.

        Raises:
            ArgumentError: another shape than before, or values that are not finite.
        """
        values = features.detach().double().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
        values = values.astype(np.float64, copy=False)
        if values.ndim != 2 or (self.count and values.shape[1] != len(self.mean)):
            expected = f"[N, {len(self.mean)}]" if self.count else "[N, D]"
            raise ArgumentError(f"features must have shape {expected}, got {list(values.shape)}")
        if not len(values):
            return
        if not np.isfinite(values).all():
            raise ArgumentError("features hold NaN or infinite values, so their statistics mean nothing")
        part = FeatureStatistics(self.label)
        part.count = len(values)
        part.mean = values.mean(0)
        centred = values - part.mean
        part.scatter = centred.T @ centred
        self._add(part)

    def merged(self, *others: FeatureStatistics) -> FeatureStatistics:
        """Statistics of these and other features together.

        Raises:
            ArgumentError: they are of different features.
        """
        whole = FeatureStatistics(self.label)
        for part in (self, *others):
            if part.label != self.label or (part.count and whole.count and len(part.mean) != len(whole.mean)):
                raise ArgumentError("statistics of different features cannot be merged")
            whole._add(part)
        return whole

    def _add(self, part: FeatureStatistics) -> None:
        """Chan, Golub and LeVeque's update of mean and scatter."""
        if not part.count:
            return
        if not self.count:
            self.count, self.mean, self.scatter = part.count, part.mean.copy(), part.scatter.copy()
            return
        total = self.count + part.count
        shift = part.mean - self.mean
        self.scatter += part.scatter + np.outer(shift, shift) * (self.count * part.count / total)
        self.mean += shift * (part.count / total)
        self.count = total

    @property
    def covariance(self) -> Floats:
        """[D, D] with N - 1 in the denominator.

        Raises:
            ArgumentError: there are fewer than two features.
        """
        if self.count < 2:
            raise ArgumentError(f"a covariance needs at least two pictures, got {self.count}")
        return self.scatter / (self.count - 1)

    def distance(self, other: FeatureStatistics) -> float:
        """The Frechet distance to other statistics.

        Raises:
            EvaluationError: they are of different features.
            ArgumentError: one of them has fewer than two.
        """
        if self.label != other.label or len(self.mean) != len(other.mean):
            raise EvaluationError(
                f"statistics of different features cannot be compared: {self.label or 'unnamed'} "
                f"({len(self.mean)}) and "
                f"{other.label or 'unnamed'} ({len(other.mean)})"
            )
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file.

        Raises:
            OutputError: it cannot be written.
        """
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, label=np.array(self.label), count=self.count, mean=self.mean, scatter=self.scatter)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeatureStatistics:
        """Read what `save` wrote, or the ``mu`` and ``sigma`` that other FID tools write (without a label).

        Raises:
            EvaluationError: the file is missing, damaged or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise EvaluationError(f"{path} is no readable .npz file of feature statistics") from error
        out = cls(str(found.get("label", "")))
        if {"count", "mean", "scatter"} <= set(found):
            out.count, out.mean, out.scatter = int(found["count"]), found["mean"], found["scatter"]
        elif {"mu", "sigma"} <= set(found):
            out.count = int(found.get("count", 50_000))
            out.mean, out.scatter = found["mu"], found["sigma"] * (out.count - 1)
        else:
            raise EvaluationError(f"{Path(path)} holds no feature statistics: mean and scatter, or mu and sigma")
        out.mean, out.scatter = out.mean.astype(np.float64), out.scatter.astype(np.float64)
        if out.mean.ndim != 1 or out.scatter.shape != (len(out.mean), len(out.mean)) or out.count < 1:
            raise EvaluationError(f"{Path(path)} holds feature statistics of shapes that do not fit together")
        if not (np.isfinite(out.mean).all() and np.isfinite(out.scatter).all()):
            raise EvaluationError(f"{Path(path)} holds feature statistics that are not finite")
        return out


def frechet_distance(mean1: ArrayLike, cov1: ArrayLike, mean2: ArrayLike, cov2: ArrayLike) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two Gaussians.

    The trace of the root is taken from the eigenvalues of the symmetric ``C1^(1/2) C2 C1^(1/2)``, which stays real and
    accurate for singular covariances, unlike a general matrix root of ``C1 C2``.

    Args:
        mean1, mean2: [D], numpy or torch.
        cov1, cov2: [D, D].

    Returns:
        The distance, never negative.

    Raises:
        ArgumentError: shapes that do not fit, or values that are not finite.
    """
    m1, c1, m2, c2 = (_array(value) for value in (mean1, cov1, mean2, cov2))
    size = len(m1) if m1.ndim == 1 else -1
    if m1.shape != (size,) or m2.shape != (size,) or c1.shape != (size, size) or c2.shape != (size, size):
        raise ArgumentError(
            f"means [D] and covariances [D, D] were expected, got {m1.shape}, {c1.shape}, {m2.shape}, {c2.shape}"
        )
    if not all(np.isfinite(value).all() for value in (m1, c1, m2, c2)):
        raise ArgumentError("means and covariances must be finite")
    values, vectors = np.linalg.eigh((c1 + c1.T) / 2)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    middle = root.T @ ((c2 + c2.T) / 2) @ root
    trace = np.sqrt(np.clip(np.linalg.eigvalsh((middle + middle.T) / 2), 0, None)).sum()
    shift = m1 - m2
    return float(max(shift @ shift + np.trace(c1) + np.trace(c2) - 2 * trace, 0.0))


def _array(value: ArrayLike) -> Floats:
    if isinstance(value, torch.Tensor):
        value = value.detach().double().cpu().numpy()
    return np.asarray(value, np.float64)
