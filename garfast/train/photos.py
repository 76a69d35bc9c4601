"""Photographs to train on, from a folder or from tar shards, and the order in which they are taken.

Every source has ``count``, ``size`` and ``take(rows) -> uint8 [B, 3, size, size]``, as ``Portraits`` does.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from garfast.errors import ArgumentError, ImageFileError, TrainingError
from garfast.io.atomic import atomic_path, writing
from garfast.io.images import IMAGE_SUFFIXES, as_image

if TYPE_CHECKING:
    from garfast.train.portraits import Portraits

Rows = Sequence[int] | NDArray[np.integer]

_AHEAD = 4096
"""At most so many pictures are decoded in advance."""


class PhotoSource(ABC):
    """Photographs that are decoded when they are taken.

    The middle square of each is taken and resized with antialiasing. A file that cannot be decoded is skipped: its
    rows show the next one that can, so that what a row shows depends on the files alone.

    Args:
        names: of the files, in order.
        size: side of the pictures, pixels.
        cache: folder for a memory-mapped file of the decoded pictures, 3 * size**2 bytes each; it is made as they are
            taken, and may be shared by processes of one machine. None keeps nothing.
        threads: that decode.

    Attributes:
        count: how many there are.
        size: side of the pictures, pixels.
        broken: file names that could not be decoded so far, with the reason.
    """

    def __init__(
        self,
        names: Sequence[str],
        size: int,
        *,
        cache: str | os.PathLike[str] | None = None,
        threads: int = 1,
    ) -> None:
        if size < 4 or threads < 1:
            raise ArgumentError(f"photographs of size {size} by {threads} threads cannot be read: both must be larger")
        self._names = list(names)
        self.size, self.count = size, len(self._names)
        self.broken: dict[str, str] = {}
        self._cache = None if cache is None else _Cache(Path(cache), self._names, self.fingerprint(), size)
        self._pool = ThreadPoolExecutor(threads, "photos")
        self._coming: dict[int, Future[NDArray[np.uint8] | None]] = {}

    @property
    def skipped(self) -> int:
        """How many files could not be decoded so far."""
        return len(self.broken)

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells these files from others of the same names, for the cache."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The bytes of a file."""

    def prepare(self, rows: Rows) -> None:
        """Start to decode rows that will be taken soon."""
        for index in np.asarray(rows).tolist():
            if index not in self._coming and len(self._coming) < _AHEAD:
                self._coming[index] = self._pool.submit(self._picture, index)

    def take(self, rows: Rows) -> Tensor:
        """uint8 [B, 3, size, size] sRGB.

        Raises:
            ArgumentError: there is no such row.
            TrainingError: none of the files can be decoded.
        """
        wanted = np.asarray(rows).tolist()
        if any(not 0 <= row < self.count for row in wanted):
            raise ArgumentError(f"rows must lie in 0..{self.count - 1}")
        self.prepare(wanted)
        pictures: dict[int, NDArray[np.uint8]] = {}
        for index in set(wanted):
            future = self._coming.pop(index, None)
            pictures[index] = self._or_next(index, self._picture(index) if future is None else future.result())
        out = np.stack([pictures[row] for row in wanted])
        return torch.from_numpy(np.ascontiguousarray(out.transpose(0, 3, 1, 2)))

    def _or_next(self, index: int, picture: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        for step in range(1, len(self._names)):
            if picture is not None:
                return picture
            picture = self._picture((index + step) % len(self._names))
        if picture is None:
            raise TrainingError(f"none of the {len(self._names)} photographs can be decoded: {self._example()}")
        return picture

    def _example(self) -> str:
        name, reason = next(iter(self.broken.items()))
        return f"{name}: {reason}"

    def _picture(self, index: int) -> NDArray[np.uint8] | None:
        """uint8 [size, size, 3], or None of a broken file."""
        if self._names[index] in self.broken:
            return None
        if self._cache is not None and (kept := self._cache.get(index)) is not None:
            return kept
        try:
            picture = _decode(self.read(index), self.size)
        except (ImageFileError, OSError) as error:
            self.broken[self._names[index]] = str(error)
            return None
        if self._cache is not None:
            self._cache.put(index, picture)
        return picture


class FolderPhotos(PhotoSource):
    """The image files in a folder and the folders in it, in order of their paths; such as FFHQ as it is unpacked.

    Raises:
        TrainingError: there is none.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: int,
        *,
        cache: str | os.PathLike[str] | None = None,
        threads: int = 1,
    ) -> None:
        self.folder = Path(folder)
        names = sorted(
            (Path(place) / name).relative_to(self.folder).as_posix()
            for place, _, files in os.walk(self.folder, followlinks=True)
            for name in files
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        )
        if not names:
            raise TrainingError(
                f"{folder} holds no photographs: expected {', '.join(IMAGE_SUFFIXES[:4])} or tar shards"
            )
        super().__init__(names, size, cache=cache, threads=threads)

    def fingerprint(self) -> str:
        """The folder's place; files that are replaced in it are not noticed."""
        return str(self.folder.resolve())

    def read(self, index: int) -> bytes:
        """The bytes of a file."""
        return (self.folder / self._names[index]).read_bytes()


class TarPhotos(PhotoSource):
    """The image files in tar archives, such as `garfast synth` and WebDataset write.

    The archives' headers are read once; then every picture is read where it lies, without unpacking.

    Args:
        archives: uncompressed tar files.

    Raises:
        TrainingError: an archive cannot be read, or there is no image in any.
    """

    def __init__(
        self,
        archives: Sequence[str | os.PathLike[str]],
        size: int,
        *,
        cache: str | os.PathLike[str] | None = None,
        threads: int = 1,
    ) -> None:
        self.archives = [Path(archive) for archive in archives]
        self._places: list[tuple[int, int, int]] = []  # archive, offset, length
        names = []
        for number, archive in enumerate(self.archives):
            for name, offset, length in _index(archive):
                names.append(f"{archive.name}/{name}")
                self._places.append((number, offset, length))
        if not names:
            raise TrainingError(f"there is no photograph in {', '.join(map(str, self.archives)) or 'no archive'}")
        super().__init__(names, size, cache=cache, threads=threads)

    def fingerprint(self) -> str:
        """The archives' places and sizes."""
        return repr([(str(archive.resolve()), archive.stat().st_size) for archive in self.archives])

    def read(self, index: int) -> bytes:
        """The bytes of a file."""
        number, offset, length = self._places[index]
        with open(self.archives[number], "rb") as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) < length:
            raise ImageFileError(f"the archive {self.archives[number]} is shorter than it was")
        return data


def open_photos(
    path: str | os.PathLike[str],
    size: int,
    *,
    cache: str | os.PathLike[str] | None = None,
    threads: int = 1,
) -> PhotoSource | Portraits:
    """The photographs of a folder of images, of tar shards (a .tar or a folder of them), or the portraits of a folder.

    Args:
        path: the folder or archive.
        size, cache, threads: as for :class:`PhotoSource`; portraits have their own size.

    Raises:
        TrainingError: there are none, or portraits of another size.
    """
    place = Path(path)
    if place.is_file():
        return TarPhotos([place], size, cache=cache, threads=threads)
    if not place.is_dir():
        raise TrainingError(f"there is no folder or archive {place} to take photographs from")
    if (place / "images.npy").is_file():
        from garfast.train.portraits import Portraits

        portraits = Portraits(place)
        if portraits.size != size:
            raise TrainingError(f"the portraits in {place} have {portraits.size} pixels a side, {size} are needed")
        return portraits
    archives = sorted(place.glob("*.tar"))
    if archives:
        return TarPhotos(archives, size, cache=cache, threads=threads)
    return FolderPhotos(place, size, cache=cache, threads=threads)


class ShardedOrder:
    """Which rows each part of each step takes: a permutation of all rows for each epoch, dealt out in turn.

    It has no state: a run that goes on at some step takes the rows it would have taken, and processes that share a
    step take different ones without talking to each other.

    Args:
        count: rows of the source.
        seed: of the permutations.
        first: rows before it are left out (held out).

    Raises:
        ArgumentError: there is no row.
    """

    def __init__(self, count: int, seed: int, *, first: int = 0) -> None:
        if count <= first:
            raise ArgumentError(f"there is no order of rows {first}..{count - 1}")
        self.count, self.seed, self.first = count - first, seed, first
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def rows(self, turn: int, batch: int) -> NDArray[np.int64]:
        """[batch] rows of a turn, ``step * parts + part``; ``batch`` is the same at all turns."""
        places = np.arange(turn * batch, (turn + 1) * batch)
        epochs = places // self.count
        out = np.empty(batch, np.int64)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            out[chosen] = self._permutation(epoch)[places[chosen] % self.count]
        return out + self.first

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            self._epochs = {old: order for old, order in self._epochs.items() if old >= epoch - 1}
            self._epochs[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return self._epochs[epoch]


class _Cache:
    """Decoded pictures in a memory-mapped file, with a byte for each that says whether it is there."""

    def __init__(self, folder: Path, names: Sequence[str], fingerprint: str, size: int) -> None:
        digest = hashlib.sha256("\n".join([fingerprint, str(size), *names]).encode()).hexdigest()[:16]
        self.path = folder / f"photos-{size}-{digest}.npy"
        self.flags_path = folder / f"photos-{size}-{digest}-there.npy"
        shape = (len(names), size, size, 3)
        # The flags come last: where they are, the pictures' file is whole.
        for path, array_shape in ((self.path, shape), (self.flags_path, shape[:1])):
            if not path.is_file():
                with atomic_path(path) as temporary:
                    np.lib.format.open_memmap(temporary, "w+", np.uint8, array_shape).flush()
                    _reserve(temporary)
        with writing(folder):
            self._pictures = np.load(self.path, mmap_mode="r+")
            self._there = np.load(self.flags_path, mmap_mode="r+")

    def get(self, index: int) -> NDArray[np.uint8] | None:
        return np.asarray(self._pictures[index]) if self._there[index] else None

    def put(self, index: int, picture: NDArray[np.uint8]) -> None:
        self._pictures[index] = picture
        self._there[index] = 1


def _reserve(path: Path) -> None:
    """Take the space of a sparse file now: a disk that is full on writing to mapped memory kills the process."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _index(archive: Path) -> list[tuple[str, int, int]]:
    """Name, offset and length of the images of an archive."""
    try:
        with tarfile.open(archive, "r:") as tar:
            return [
                (member.name, member.offset_data, member.size)
                for member in tar
                if member.isfile()
                and member.name.lower().endswith(IMAGE_SUFFIXES)
                and not Path(member.name).name.startswith(".")
            ]
    except (OSError, tarfile.TarError) as error:
        raise TrainingError(f"{archive} is not a readable, uncompressed tar archive: {error}") from error


def _decode(data: bytes, size: int) -> NDArray[np.uint8]:
    """The middle square of a picture, uint8 [size, size, 3]."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            # JPEG can be decoded at 1/2, 1/4 or 1/8; the last halving at least is left to the better filter.
            image.draft(None, (2 * size, 2 * size))
            array = as_image(image)
    except ImageFileError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise ImageFileError(f"it is no image, truncated or damaged ({type(error).__name__})") from error
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = array[top : top + side, left : left + side]
    if side != size:
        square = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(square)
