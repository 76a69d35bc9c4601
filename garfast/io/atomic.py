"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from garfast.errors import OutputError

_ATTEMPTS = 20  # at making a folder that other processes may remove


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
        _share(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(_sentence(target, error)) from error
    finally:
        with suppress(OSError):  # the folder's name is that of a file, or the name is too long
            temporary.unlink(missing_ok=True)


def _share(path: Path) -> None:
    """Give a file the permissions that new files get; some writers (safetensors) make theirs for the owner alone."""
    mask = os.umask(0)  # reading it means setting it
    os.umask(mask)
    usual, own = 0o666 & ~mask, path.stat().st_mode
    if own & usual != usual:
        path.chmod(own | usual)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say in one sentence why ``path`` could not be written, for files that grow in place.

    Raises:
        OutputError: for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(_sentence(Path(path), error)) from error


def check_writable(folder: str | os.PathLike[str]) -> None:
    """See that files can be written into a folder, which may have to be made; before long work, that is.

    It is made and removed again, with a file in it: permissions alone do not tell.

    Raises:
        OutputError: they cannot.
    """
    target = Path(folder)
    missing: list[Path] = []
    try:
        if target.exists() and not target.is_dir():
            raise OutputError(f"the output {target} is a file: choose a folder")
        missing = [path for path in (target, *target.parents) if not path.exists()]
        for attempt in range(_ATTEMPTS):
            try:
                target.mkdir(parents=True, exist_ok=True)
                probe = target / f".{secrets.token_hex(4)}"
                probe.touch()
                probe.unlink()
                break
            except FileNotFoundError:  # another process tried the same folder and has removed it
                if attempt == _ATTEMPTS - 1:
                    raise
    except OSError as error:
        raise OutputError(_sentence(target, error)) from error
    finally:
        for path in missing:
            with suppress(OSError):  # another process may have begun to write
                path.rmdir()


def holds_only(folder: Path, names: Collection[str]) -> bool:
    """Whether nothing but entries of these names is in a folder, so that replacing it costs nobody anything."""
    return all(path.name in names for path in folder.iterdir())


def check_free(folder: Path, *, replace: bool = False) -> None:
    """See that `atomic_folder` may write ``folder``; before long work, that is.

    Raises:
        OutputError: it is a file, or a folder with files in it that is not to be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write the folder {folder}: there is a file of that name")
    if not replace and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"the folder {folder} exists already and is not empty: choose another output folder, or "
            "--overwrite where the command has it"
        )


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Give a new folder beside ``path`` and rename it to ``path`` when the block ends without an error.

    Nothing is left behind on failure, and what was at ``path`` before stays.

    Args:
        replace: whether a folder with files in it may be at ``path`` already; it is deleted once the new one is whole.

    Raises:
        OutputError: ``path`` is a file, or a folder with files in it that is not to be replaced; or a folder cannot be
            made, the disk is full, or permission is missing.
    """
    target = Path(os.path.realpath(path))  # what a link stands for; '.' has a name, too
    token = secrets.token_hex(4)
    staging, old = target.with_name(f".{target.name}-{token}"), target.with_name(f".{target.name}-{token}.old")
    try:
        check_free(target, replace=replace)
        staging.mkdir(parents=True)
        yield staging
        check_free(target, replace=replace)  # another process may have written it meanwhile
        if target.is_dir():
            os.replace(target, old)
        os.replace(staging, target)
    except OSError as error:
        raise OutputError(_sentence(target, error)) from error
    except OutputError as error:
        # A file inside names the folder it was written to; the user knows it by its final name.
        raise OutputError(str(error).replace(str(staging), str(target))) from error
    finally:
        if old.is_dir() and not target.exists():
            os.replace(old, target)
        for leftover in (staging, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _sentence(target: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk while writing {target}: free some space or choose another output folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write {target}: choose another output folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"cannot write {target}: {target.parent} is not a folder"
    return f"cannot write {target}: {error.strerror or error}"
