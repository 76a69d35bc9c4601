"""Fetching from a local server that resumes, breaks, lies and stays silent."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from garfast.errors import DownloadError, OutputError
from garfast.io.digest import file_digest
from garfast.io.download import Expected, fetch, fetch_bytes
from tests.serving import Server, serve

DATA = bytes(range(256)) * 4000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "a.bin").write_bytes(DATA)
    with serve(folder) as running:
        yield running


def _expected() -> Expected:
    return Expected(
        len(DATA),
        hashlib.sha256(DATA).hexdigest(),
        hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest(),
    )


def test_fetch_checks_and_keeps(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.bin"
    fetch(f"{server.url}/a.bin", target, _expected())
    assert target.read_bytes() == DATA
    assert file_digest(target) == _expected().sha256
    fetch(f"{server.url}/a.bin", target, _expected())
    assert len(server.requests) == 1  # the second call found it complete
    assert [p.name for p in target.parent.iterdir()] == ["a.bin"]


def test_git_object_id_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"hello\n")
    assert Expected(git_sha1="ce013625030ba8dba906f756967f9e9ca394464a").mismatch(tmp_path / "t") is None


def test_a_part_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(DATA[:1000])
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", _expected())
    assert server.requests == [("/a.bin", "bytes=1000-")]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_broken_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.break_after["/a.bin"] = 300_000
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", _expected())
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-"]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_what_came_is_kept_for_the_next_run(server: Server, tmp_path: Path) -> None:
    server.break_after["/a.bin"] = 300_000
    with pytest.raises(DownloadError, match=r"broke after 300000 of 1024000 bytes: run it again to continue"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", attempts=1)
    assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin.part").stat().st_size == 300_000


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", _expected())
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_part_that_is_too_long_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(DATA + DATA)
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", _expected())
    assert (tmp_path / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Expected(size=5), "1024000 bytes instead of 5"),
        (Expected(sha256="0" * 64), "SHA-256 differs"),
        (Expected(git_sha1="0" * 40), "git object id differs"),
    ],
)
def test_contents_that_do_not_match_are_not_kept(
    expected: Expected, reason: str, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{server.url}/a.bin", tmp_path / "out" / "a.bin", expected)
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"damaged")
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", _expected())
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_missing_file_on_the_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the server answered 404"):
        fetch(f"{server.url}/b.bin", tmp_path / "b.bin")
    with pytest.raises(DownloadError, match="the server answered 404"):
        fetch_bytes(f"{server.url}/b.bin")


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=rf"127.0.0.1:{port} cannot be reached .* check the network"):
        fetch(f"http://127.0.0.1:{port}/a", tmp_path / "a")


def test_a_silent_server_is_given_up_within_seconds(server: Server, tmp_path: Path) -> None:
    server.delay = 5.0
    start = time.monotonic()
    with pytest.raises(DownloadError, match="did not answer"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", timeout=0.3)
    with pytest.raises(DownloadError, match="did not answer"):
        fetch_bytes(f"{server.url}/a.bin", timeout=0.3)
    assert time.monotonic() - start < 4


def test_only_http(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="not an http or https address"):
        fetch("file:///etc/hostname", tmp_path / "a")


def test_long_answers_are_refused(server: Server) -> None:
    assert fetch_bytes(f"{server.url}/a.bin") == DATA
    with pytest.raises(DownloadError, match="longer than the 100 bytes"):
        fetch_bytes(f"{server.url}/a.bin", limit=100)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        fetch(f"{server.url}/a.bin", tmp_path / "file" / "a.bin")
