"""Coefficients of a face, by each of the ways that an evaluation compares."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from garfast.evaluate.rows import Row
from garfast.fit.stages import FitState, Stage, known, landmark_stage, run_stages
from garfast.landmarks import Detection
from garfast.morphable import MorphableModel
from garfast.networks.generator import Generator
from garfast.networks.inverter import Inversion, Inverter
from garfast.networks.renderer import Renderer, load_renderer

_PICTURES = ("geometry", "texture")
"""Stages that make files and change no coefficient."""

Floats = NDArray[np.float32]


class Fits:
    """Fits photographs of one model's faces by several ways, loading what each needs once.

    Args:
        model: the face model.
        projection: 'orthographic' or 'pinhole'.
        device: where to fit.
    """

    def __init__(self, model: MorphableModel, *, projection: str = "orthographic", device: str = "cpu") -> None:
        self.model = model.to(device)
        self.projection = projection
        self._renderers: dict[str | None, Renderer] = {}
        self._stages: dict[Row, Sequence[Stage]] = {}

    def coefficients(
        self, row: Row, image: NDArray[np.uint8], detection: Detection
    ) -> tuple[Floats, Floats, float, dict[str, Any]]:
        """Fit one face.

        Returns:
            shape [S], exp [E], the seconds it took, and what the stages say of themselves.

        Raises:
            GarfastError: what the fit raises, or what `prepare` raises.
        """
        if row.kind == "mean":
            return np.zeros(self.model.num_shape, np.float32), np.zeros(self.model.num_exp, np.float32), 0.0, {}
        start = time.perf_counter()
        state = self.state(row, image, detection)
        seconds = round(time.perf_counter() - start, 3)
        notes = {record.name: record.losses for record in state.records}
        return _array(known(state.shape, "shape")), _array(known(state.exp, "exp")), seconds, notes

    def state(self, row: Row, image: NDArray[np.uint8], detection: Detection) -> FitState:
        """What the stages of a row find out about one face; raises as `coefficients` does."""
        self.prepare([row])
        return run_stages(FitState(image=image, detection=detection, model=self.model), self._stages[row])

    def prepare(self, rows: Sequence[Row]) -> None:
        """Load what rows need, so that what is wrong with it is said before any work is done.

        Raises:
            WeightsFileError: networks are missing or cannot be used for a fit.
        """
        for row in rows:
            if row.kind != "mean" and row not in self._stages:
                self._stages[row] = self._make_stages(row)

    def _make_stages(self, row: Row) -> Sequence[Stage]:
        if row.kind == "landmarks":
            return (landmark_stage(self.projection),)
        from garfast.fit.pipeline import default_stages

        if row.weights not in self._renderers:
            self._renderers[row.weights] = load_renderer(row.weights, device=self.model.device)
        renderer = self._renderers[row.weights]
        if row.start != "inverter":
            blind = RandomCodes(renderer.generator) if row.start == "random" else None
            renderer = replace(renderer, inverter=cast("Inverter | None", blind))
        stages = default_stages(self.projection, renderer=renderer, refinement=row.refinement)
        return tuple(stage for stage in stages if stage.name not in _PICTURES)


class RandomCodes(nn.Module):
    """Takes the inverter's place and knows nothing: code and noise at random, the same each time for a picture.

    That is what the paper's ablation without inverting starts from ("random initialization").
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.config, self._shapes = generator.config, generator.noise_shapes()

    def forward(self, image: Tensor) -> Inversion:
        """image [B, 3, S, S]; there are no features."""
        z, noise = [], []
        for picture in image:
            random = torch.Generator().manual_seed(zlib.crc32(picture.cpu().numpy().tobytes()))
            z.append(torch.randn(self.config.z_dim, generator=random))
            noise.append([torch.randn(shape[1:], generator=random) for shape in self._shapes])
        maps = [torch.stack(level).to(image) for level in zip(*noise, strict=True)]
        return Inversion(torch.stack(z).to(image), image.new_zeros(len(image), self.config.style_dim), maps, [])


def _array(value: torch.Tensor) -> Floats:
    return value[0].detach().to("cpu", torch.float32).numpy()
