"""Checksums of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def file_digest(path: Path, digest: hashlib._Hash | None = None) -> str:
    """SHA-256 of a file, or another digest that may have begun already; hexadecimal."""
    digest = digest or hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def film_digest(source: Path, frames: Sequence[Path] | None) -> str | None:
    """What tells a film from others: SHA-256 of its file, or of its frames where they are files; None for neither."""
    if frames:
        return _files_digest(frames)
    return file_digest(source) if source.is_file() else None


def _files_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files, in their order; hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path.name) + b"\0" + bytes.fromhex(file_digest(path)))
    return digest.hexdigest()
