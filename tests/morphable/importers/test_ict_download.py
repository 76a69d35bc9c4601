"""Fetching the kit from a local server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from garfast.errors import DownloadError, ModelFileError
from garfast.morphable.importers import ict_download
from garfast.morphable.importers.ict_download import download_ict
from tests.serving import Server, serve

EXPRESSIONS = ["jawOpen", "mouthSmile_L"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(ict_download, "NUM_IDENTITIES", 2)
    monkeypatch.setattr(ict_download, "EXTRA_EXPRESSIONS", ("cheekRaiser_L",))
    root = tmp_path / "www"
    folder = root / "FaceXModel"
    folder.mkdir(parents=True)
    (root / "LICENSE").write_text("MIT")
    for name in ("generic_neutral_mesh", "identity000", "identity001", *EXPRESSIONS, "cheekRaiser_L"):
        (folder / f"{name}.obj").write_bytes(name.encode() * 1000)
    indices = {"expressions": EXPRESSIONS, "idx_to_landmark_verts": list(range(68))}
    (folder / "vertex_indices.json").write_text(json.dumps(indices))
    with serve(root) as running:
        yield running


def _list(server: Server) -> str:
    tree = [{"path": "FaceXModel", "type": "tree", "sha": "0"}]
    for file in sorted(server.folder.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            sha = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            path = file.relative_to(server.folder).as_posix()
            tree.append({"path": path, "type": "blob", "sha": sha, "size": len(data)})
    (server.folder / "tree.json").write_text(json.dumps({"tree": tree}))
    return f"{server.url}/tree.json"


def test_all_files_come_and_are_checked(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = tmp_path / "kit"
    checked = download_ict(
        folder,
        base_url=server.url + "/",
        listing_url=_list(server),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert checked
    assert seen[-1] == (8, 8)
    for file in (server.folder / "FaceXModel").iterdir():
        assert (folder / "FaceXModel" / file.name).read_bytes() == file.read_bytes()
    assert (folder / "LICENSE").is_file()
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 8
    digest = hashlib.sha256((folder / "FaceXModel" / "jawOpen.obj").read_bytes()).hexdigest()
    assert f"{digest}  FaceXModel/jawOpen.obj" in lines


def test_an_interrupted_run_continues(server: Server, tmp_path: Path) -> None:
    server.status["/FaceXModel/identity001.obj"] = 503
    with pytest.raises(DownloadError, match=r"identity001\.obj cannot be fetched: the server answered 503"):
        download_ict(tmp_path / "kit", base_url=server.url)
    server.status.clear()
    (tmp_path / "kit" / "FaceXModel" / "identity001.obj.part").write_bytes(b"identity001" * 10)
    server.requests.clear()
    assert not download_ict(tmp_path / "kit", base_url=server.url)  # no list: lengths only
    assert ("/FaceXModel/identity001.obj", "bytes=110-") in server.requests
    assert ("/FaceXModel/vertex_indices.json", None) not in server.requests
    assert (tmp_path / "kit" / "FaceXModel" / "identity001.obj").read_bytes() == b"identity001" * 1000


def test_a_file_that_differs_from_the_list_is_refused(server: Server, tmp_path: Path) -> None:
    listing = _list(server)
    (server.folder / "FaceXModel" / "jawOpen.obj").write_bytes(b"JawOpen" * 1000)
    with pytest.raises(DownloadError, match=r"jawOpen\.obj does not match .*git object id"):
        download_ict(tmp_path / "kit", base_url=server.url, listing_url=listing)
    assert not (tmp_path / "kit" / "FaceXModel" / "jawOpen.obj").exists()


def test_a_file_damaged_since_the_last_run_is_fetched_again(server: Server, tmp_path: Path) -> None:
    download_ict(tmp_path / "kit", base_url=server.url)
    damaged = tmp_path / "kit" / "FaceXModel" / "jawOpen.obj"
    damaged.write_bytes(b"JawOpen" * 1000)
    download_ict(tmp_path / "kit", base_url=server.url)
    assert damaged.read_bytes() == b"jawOpen" * 1000


@pytest.mark.parametrize("answer", [403, None])
def test_a_list_that_is_refused_or_strange_is_done_without(answer: int | None, server: Server, tmp_path: Path) -> None:
    (server.folder / "tree.json").write_text("[]")
    if answer is not None:
        server.status["/tree.json"] = answer
    assert not download_ict(tmp_path / "kit", base_url=server.url, listing_url=f"{server.url}/tree.json")


def test_another_index_file(server: Server, tmp_path: Path) -> None:
    (server.folder / "FaceXModel" / "vertex_indices.json").write_text("<html>")
    with pytest.raises(ModelFileError, match="is not the kit's index file"):
        download_ict(tmp_path / "kit", base_url=server.url)


def test_no_network_says_so(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="check the network"):
        download_ict(tmp_path / "kit", base_url="http://127.0.0.1:9", listing_url="http://127.0.0.1:9/tree", timeout=2)
