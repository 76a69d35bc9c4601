"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(path: Path, digest: hashlib._Hash | None = None) -> str:
    """SHA-256 of a file, or another digest that may have begun already; hexadecimal."""
    digest = digest or hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
