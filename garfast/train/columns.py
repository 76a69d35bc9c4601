"""Folders of arrays with a row for each picture, which are filled in order and go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garfast.errors import TrainingError
from garfast.io.atomic import atomic_path

Layout = Mapping[str, tuple[tuple[int, ...], type]]
"""Shape of a row and type of each column."""

_SETTINGS = "settings.json"
_DONE = "count.txt"
_BLOCK = 32


def fill_columns(
    folder: Path,
    layout: Layout,
    settings: Mapping[str, Any],
    draw: Callable[[range], Iterable[Mapping[str, Any]]],
    *,
    what: str,
    progress: bool,
) -> None:
    """Fill a folder, or what is missing of it.

    Args:
        folder: where to; made when missing.
        layout: of the columns.
        settings: what decides the rows, ``count`` among it; kept as ``settings.json``.
        draw: the rows of a range, in order, each with all columns.
        what: the rows are, for messages.
        progress: show a bar.

    Raises:
        TrainingError: the folder was begun with other settings.
    """
    from tqdm import tqdm

    arrays, count = _open(folder, layout, settings, what), settings["count"]
    done = rows_done(folder)
    with tqdm(initial=done, total=count, disable=not progress, unit="face") as bar:
        for k, row in enumerate(draw(range(done, count)), done):
            for name in layout:
                arrays[name][k] = row[name]
            bar.update()
            if (k + 1) % _BLOCK == 0 or k + 1 == count:
                with atomic_path(folder / _DONE) as temporary:
                    temporary.write_text(str(k + 1))


def _open(folder: Path, layout: Layout, settings: Mapping[str, Any], what: str) -> dict[str, NDArray[Any]]:
    path = folder / _SETTINGS
    if path.is_file():
        if json.loads(path.read_text()) != settings:
            raise TrainingError(f"{folder} holds {what} made with other settings: choose an empty folder")
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in layout}
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (settings["count"], *shape))
        for name, (shape, dtype) in layout.items()
    }
    (folder / _DONE).write_text("0")
    with atomic_path(path) as temporary:  # last: where it is, the folder is whole
        temporary.write_text(json.dumps(settings))
    return arrays


def rows_done(folder: Path) -> int:
    """How many rows are filled so far.

    Raises:
        OSError, ValueError: the folder is none of these.
    """
    return int((folder / _DONE).read_text())


def read_columns(folder: Path, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Settings and columns, mapped into memory, of a folder that is finished or still being filled.

    Raises:
        OSError, ValueError: the folder is none of these.
    """
    settings = json.loads((folder / _SETTINGS).read_text())
    return settings, {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
