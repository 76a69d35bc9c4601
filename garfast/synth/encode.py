"""PNG and NPZ files of small arrays in memory, quicker than the general writers.

To compress a photograph of 128 pixels takes 0.8 ms, a twentieth of what drawing it takes, and saves a tenth of a
sample's bytes, most of which are truth. ``numpy.savez`` takes 0.8 ms for its arrays, much of it bookkeeping per member.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_UNFILTERED = 0
_MADE = 1 << 21 | 1 << 16  # zip's oldest date, 1 January 1980, so that equal arrays make equal bytes
_ZIP_VERSION = 20


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A PNG file of an image, uint8 [H, W, 3], its bytes as they are."""
    height, width, _ = image.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UNFILTERED
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits of RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, level=0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in chunks
    )


def encode_npz(arrays: Mapping[str, NDArray]) -> bytes:
    """What ``numpy.savez`` writes: an uncompressed zip archive with one ``.npy`` file per array.

    Each array must be contiguous in C order, without objects, and the archive below 4 GiB.
    """
    parts: list[bytes | memoryview] = []
    directory: list[bytes] = []
    place = 0
    for key, array in arrays.items():
        head, name = _npy_header(array.dtype, array.shape), f"{key}.npy".encode()
        data = array.reshape(-1).view(np.uint8).data
        size = len(head) + len(data)
        # Version, flags, stored, date, checksum, sizes, length of the name and of what follows it.
        common = (_ZIP_VERSION, 0, 0, _MADE, zlib.crc32(data, zlib.crc32(head)), size, size, len(name), 0)
        parts += [struct.pack("<4sHHHIIIIHH", b"PK\x03\x04", *common), name, head, data]
        directory += [struct.pack("<4sHHHHIIIIHHHHHII", b"PK\x01\x02", _ZIP_VERSION, *common, 0, 0, 0, 0, place), name]
        place += 30 + len(name) + size
    listing = b"".join(directory)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(arrays), len(arrays), len(listing), place, 0)
    return b"".join([*parts, listing, end])


@lru_cache(maxsize=256)
def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()
