"""Contact sheets of synthetic photographs, to look at."""

from __future__ import annotations

import os

import numpy as np

from garfast.errors import ArgumentError
from garfast.io.images import write_image
from garfast.synth.faces import SyntheticFaces


def contact_sheet(
    faces: SyntheticFaces, path: str | os.PathLike[str], count: int, columns: int = 10, landmarks: bool = False
) -> None:
    """Draw the first ``count`` photographs side by side into one image file.

    Args:
        columns: photographs in a row; the last row is filled with black.
        landmarks: mark them, green where the picture shows them and red where something hides them.

    Raises:
        ArgumentError: nothing to draw.
        OutputError: the file cannot be written.
    """
    if count < 1 or columns < 1:
        raise ArgumentError(f"a contact sheet needs photographs and columns, got {count} in {columns}")
    height, width = faces.size
    rows = -(-count // columns)
    sheet = np.zeros((rows * height, min(columns, count) * width, 3), np.uint8)
    for index, sample in enumerate(faces.samples(range(count))):
        image = sample["image"].copy()
        if landmarks:
            for (x, y), seen in zip(sample["landmarks68"], sample["visibility"], strict=True):
                column, row = int(x), int(y)
                if 0 <= column < width and 0 <= row < height:
                    image[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] = (
                        (0, 255, 0) if seen else (255, 0, 0)
                    )
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = image
    write_image(path, sheet)
