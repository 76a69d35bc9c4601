"""Fetching files over HTTP: resumable, checked, and never a hang."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from garfast import __version__
from garfast.errors import DownloadError, OutputError
from garfast.io.digest import file_digest

T = TypeVar("T")

CHUNK = 1 << 18
MAX_BYTES = 1 << 31
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


class Expected(NamedTuple):
    """What is known about a file before it is fetched; None where nothing is."""

    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None  # the object id that git gives the file's contents

    def mismatch(self, path: Path) -> str | None:
        """Why a file on disk is not the expected one, or None."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size} bytes instead of {self.size}"
        if self.sha256 is not None and file_digest(path) != self.sha256:
            return "its SHA-256 differs"
        if self.git_sha1 is not None and file_digest(path, hashlib.sha1(b"blob %d\0" % size)) != self.git_sha1:
            return "its git object id differs"
        return None


def fetch_bytes(url: str, *, timeout: float = 10.0, limit: int = 1 << 24) -> bytes:
    """The body of a small response.

    Args:
        url: http or https.
        timeout: seconds for the whole exchange, name lookup included.
        limit: largest accepted number of bytes.

    Raises:
        DownloadError: no answer in time, an error status, or a longer body.
    """

    def get() -> bytes:
        try:
            with _open(url, {}, timeout) as response:
                body: bytes = response.read(limit + 1)
        except (*_NETWORK_ERRORS, OSError) as error:
            raise DownloadError(_sentence(url, error)) from error
        if len(body) > limit:
            raise DownloadError(f"{url} is longer than the {limit} bytes that were expected at most")
        return body

    return _within(get, timeout, url)


def fetch(
    url: str,
    path: str | os.PathLike[str],
    expected: Expected | None = None,
    *,
    timeout: float = 10.0,
    attempts: int = 3,
) -> None:
    """Fetch a file, continuing where an earlier try stopped.

    A file that is there already is checked and kept. While it grows the file is called ``NAME.part``; it gets its name
    once it is complete and matches ``expected``.

    Args:
        url: http or https.
        path: the file to write; its folder is made.
        expected: size and checksums to check, as far as they are known; None checks nothing. The length that the
            server states is always checked.
        timeout: seconds without an answer after which a try is given up.
        attempts: tries in all, as long as each brings the file further.

    Raises:
        DownloadError: no answer, an error status, or contents that do not match.
        OutputError: the file cannot be written.
    """
    target, expected = Path(path), expected or Expected()
    part = target.with_name(target.name + ".part")
    try:
        if target.exists() and expected.mismatch(target) is None:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    for attempt in range(attempts):
        before = _size(part)
        try:
            _continue(url, part, timeout)
            break
        except DownloadError:
            if attempt + 1 == attempts or _size(part) <= before:
                raise
    reason = expected.mismatch(part)
    if reason is not None:
        part.unlink()
        raise DownloadError(f"{url} does not match what was expected ({reason}): nothing was kept, try again later")
    try:
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


def _continue(url: str, part: Path, timeout: float) -> None:
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        response = _within(lambda: _open(url, headers, timeout), timeout + 2, url)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            part.unlink()  # it is longer than the file: it belongs to something else
            return _continue(url, part, timeout)
        raise DownloadError(_sentence(url, error)) from error
    except (*_NETWORK_ERRORS, OSError) as error:
        raise DownloadError(_sentence(url, error)) from error
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        length = response.headers.get("Content-Length")
        total = int(length) + (have if resumed else 0) if length and length.isdigit() else None
        if total is not None and total > MAX_BYTES:
            raise DownloadError(f"{url} is {total} bytes long, which cannot be right")
        try:
            stream = part.open("ab" if resumed else "wb")
        except OSError as error:
            raise OutputError(f"cannot write {part}: {error.strerror or error}") from error
        with stream:
            while True:
                try:
                    chunk = response.read(CHUNK)
                except (*_NETWORK_ERRORS, OSError) as error:
                    raise DownloadError(_sentence(url, error)) from error
                if not chunk:
                    break
                try:
                    stream.write(chunk)
                except OSError as error:
                    raise OutputError(f"cannot write {part}: {error.strerror or error}") from error
    size = part.stat().st_size
    if total is not None and size != total:
        raise DownloadError(
            f"the connection to {_host(url)} broke after {size} of {total} bytes: run it again to continue"
        )


def _open(url: str, headers: dict[str, str], timeout: float) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} is not an http or https address")
    request = urllib.request.Request(url, headers={"User-Agent": f"garfast/{__version__}"} | headers)
    return urllib.request.urlopen(request, timeout=timeout)


def _within(call: Callable[[], T], seconds: float, url: str) -> T:
    """Run a call with a limit on its whole time: socket timeouts do not cover name lookup."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise DownloadError(
            f"{_host(url)} did not answer within {seconds:.0f} seconds: check the network and try again"
        )
    return result[0]


def _sentence(url: str, error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{url} cannot be fetched: the server answered {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return f"{_host(url)} did not answer in time: check the network and try again"
    return f"{_host(url)} cannot be reached ({reason}): check the network and try again"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc or url
