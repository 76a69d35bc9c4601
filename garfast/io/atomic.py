"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from garfast.errors import OutputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it to ``path`` when the block ends without an error.

    The temporary name keeps the suffix, so writers that choose a format by it work. Nothing is left behind on failure.

    Raises:
        OutputError: the folder cannot be made, the disk is full, or permission is missing.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(_sentence(target, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sentence(target: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk while writing {target}: free some space or choose another output folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write {target}: choose another output folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"cannot write {target}: {target.parent} is not a folder"
    return f"cannot write {target}: {error.strerror or error}"
