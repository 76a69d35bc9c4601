"""What a training of the renderer shows of itself: sample grids, scalars, throughput and memory."""

from __future__ import annotations

import importlib.util
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError, TrainingError
from garfast.io.images import picture_array, write_image
from garfast.train.gar import distributed

if TYPE_CHECKING:
    from garfast.networks.generator import Generator

SAMPLES = "samples"
"""Folder of the sample grids within a run's folder."""
EVENTS = "tensorboard"
"""Folder of the TensorBoard events within a run's folder."""

_BACKGROUND = 255


@torch.no_grad()
def gallery(
    generator: Generator,
    maps: Sequence[Tensor] | Tensor | None,
    z: Tensor,
    *,
    params: Tensor | None = None,
    noise: Sequence[Tensor] | str = "zero",
    truncation: float = 1.0,
    shown: Tensor | None = None,
    batch: int = 8,
    gap: int = 2,
) -> np.ndarray:
    """A grid of renderings: a row for each geometry, a column for each latent code (the paper's Figure 4).

    Along a row the geometry is fixed and z varies, along a column it is the other way round. The first column shows
    the geometry itself.

    Args:
        generator: the renderer; its device is used.
        maps: condition maps of N geometries, as for ``Generator.forward``: levels [N, C, r, r] coarse to fine, or one
            tensor [N, C, size, size]; None for condition='params' or 'none'.
        z: [M, z_dim].
        params: [N, params_dim] for condition='params'.
        noise: the same for all: one map [1, 1, r, r] per convolution, or 'zero'.
        truncation: as for ``Generator.forward``.
        shown: [N, 1 or 3, h, w] in -1..1, the first column's pictures; if left out, the finest maps if there are any.
        batch: pictures that are rendered at once.
        gap: white pixels between the cells.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ArgumentError: there is no geometry, no code, or their numbers differ between the arguments.
    """
    device = generator.constant.device
    levels = None if maps is None else [maps] if isinstance(maps, Tensor) else list(maps)
    given = [*(levels or []), *(x for x in (params, shown) if x is not None)]
    rows = len(given[0]) if given else 1
    if rows == 0 or len(z) == 0 or any(len(x) != rows for x in given):
        raise ArgumentError(f"gallery: {len(z)} codes and geometries of {[len(x) for x in given]} make no grid")
    if shown is None and levels is not None:
        shown = levels[-1]
    count, cells = len(z), []
    pairs = torch.cartesian_prod(torch.arange(rows), torch.arange(count)).view(-1, 2)
    for part in pairs.split(batch):
        row, column = part.unbind(1)
        chosen = None if levels is None else [level[row.to(level.device)].to(device) for level in levels]
        condition = chosen[0] if chosen is not None and isinstance(maps, Tensor) else chosen
        parameters = None if params is None else params[row.to(params.device)].to(device)
        image = generator(
            condition,
            z[column.to(z.device)].to(device),
            params=parameters,
            noise=noise if isinstance(noise, str) else [n.to(device).expand(len(part), -1, -1, -1) for n in noise],
            truncation=truncation,
        ).image
        cells.append(picture_array(image))
    size = cells[0].shape[1]
    grid = np.concatenate(cells).reshape(rows, count, size, size, 3)
    if shown is not None:
        grid = np.concatenate([picture_array(_fit(shown, size))[:, None], grid], 1)
    return tile(grid, gap)


def _fit(pictures: Tensor, size: int) -> Tensor:
    pictures = pictures.float().expand(-1, 3, -1, -1)
    if pictures.shape[-1] == size:
        return pictures
    return torch.nn.functional.interpolate(pictures, size=(size, size), mode="nearest")


def tile(grid: np.ndarray, gap: int) -> np.ndarray:
    """Cells uint8 [R, C, h, w, 3] in one picture uint8 [H, W, 3], ``gap`` white pixels between them."""
    rows, columns, height, width, _ = grid.shape
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), _BACKGROUND, np.uint8)
    for r in range(rows):
        for c in range(columns):
            y, x = r * (height + gap), c * (width + gap)
            out[y : y + height, x : x + width] = grid[r, c]
    return out


class Meter:
    """Throughput and memory since the last look."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._start()

    def _start(self) -> None:
        self._since, self._images, self._steps = time.perf_counter(), 0, 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def step(self, images: int) -> None:
        """After each step: how many real pictures the joint batch had."""
        self._images += images
        self._steps += 1

    def read(self) -> dict[str, float]:
        """``images_per_second``, ``seconds_per_step`` and ``peak_mib``, and start again.

        Peak memory is what tensors took on the GPU, or the largest resident size of the process on a CPU. On a GPU this
        waits for the work that was queued.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = max(time.perf_counter() - self._since, 1e-9)
        numbers = {
            "images_per_second": self._images / seconds,
            "seconds_per_step": seconds / max(self._steps, 1),
            "peak_mib": self._peak() / 2**20,
        }
        self._start()
        return numbers

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device))
        # Kilobytes, but bytes on macOS.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


class Reporter:
    """Writes what a run shows into its folder; with several processes only the first one does.

    Args:
        out: the run's folder.
        tensorboard: whether to write events for TensorBoard; None: where it is installed.

    Raises:
        TrainingError: TensorBoard is asked for and not installed.
    """

    def __init__(self, out: str | os.PathLike[str], *, tensorboard: bool | None = None) -> None:
        self.out = Path(out)
        present = importlib.util.find_spec("tensorboard") is not None
        if tensorboard and not present:
            raise TrainingError("TensorBoard is not installed: pip install 'garfast[train]', or train without it")
        self._events = present if tensorboard is None else tensorboard
        self._writer: Any = None

    def scalars(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Numbers under ``kind``, such as 'train'; a listener of the training loop."""
        writer = self._open(step)
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(f"{kind}/{name}", value, step)
            writer.flush()

    def picture(self, step: int, name: str, image: np.ndarray) -> Path | None:
        """A picture uint8 [H, W, 3], as samples/NAME-STEP.png and in TensorBoard; its path, None if not written.

        Raises:
            OutputError: it cannot be written.
        """
        if not distributed.is_first():
            return None
        path = self.out / SAMPLES / f"{name}-{step:07d}.png"
        write_image(path, image)
        writer = self._open(step)
        if writer is not None:
            writer.add_image(name, image, step, dataformats="HWC")
            writer.flush()
        return path

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, step: int) -> Any:
        if not self._events or not distributed.is_first():
            return None
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # A run that goes on from an older checkpoint replaces what came after it.
            self._writer = SummaryWriter(str(self.out / EVENTS), purge_step=step)
        return self._writer
