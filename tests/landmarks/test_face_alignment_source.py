"""The face-alignment source, with a small package in the place of the real one: same files, names and answers."""

from __future__ import annotations

import hashlib
import http.server
import importlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from garfast.errors import DownloadError, LandmarkError, WeightsFileError
from garfast.landmarks import detect, sources
from garfast.landmarks import face_alignment_source as source

PACKAGE = {
    "__init__.py": "from .api import FaceAlignment, LandmarksType\n",
    "detection/__init__.py": "",
    "detection/sfd/__init__.py": "",
    "detection/sfd/sfd_detector.py": "models_urls = {'s3fd': 'URL/s3fd-NAME1.pth'}\n",
    "api.py": '''
import os
from enum import IntEnum
import numpy as np
import torch

TABLES


class LandmarksType(IntEnum):
    TWO_D = 1


class Detector:
    """Answers the boxes in its weights, in units of the image it is given."""

    def __init__(self, boxes):
        self.boxes = boxes

    def detect_from_image(self, image):
        self.seen = image.shape
        height, width = image.shape[:2]
        return [np.array([a * width, b * height, c * width, d * height, score]) for a, b, c, d, score in self.boxes]


class FaceAlignment:
    def __init__(self, landmarks_type, device="cuda", flip_input=False, face_detector="sfd", OPTIONS):
        assert landmarks_type == LandmarksType.TWO_D and flip_input and face_detector == "sfd" and CHECK
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        load = lambda name: torch.load(os.path.join(folder, name), map_location=device, weights_only=True)
        self.net = load(NETWORK)
        self.face_detector = Detector(load("s3fd-NAME1.pth")["boxes"].tolist())

    def get_landmarks_from_image(self, image, detected_faces=None, return_bboxes=False, return_landmark_score=False):
        landmarks = [self.net["layout"].numpy() * (b[2:4] - b[:2]) + b[:2] for b in detected_faces]
        return landmarks, [np.full((1, 68), 1.2, np.float32) for _ in landmarks], detected_faces
''',
}
NEW = "models_urls = {'2DFAN-4': 'URL/2DFAN4-NAME2.pth.tar'}"
OLD = (
    "models_urls = {'1.6': {'2DFAN-4': 'URL/2DFAN4_1.6-0.zip'}}\n"
    "default_model_urls = {'2DFAN-4': 'URL/2DFAN4-NAME2.pth.tar'}"
)
LAYOUT = torch.linspace(0.1, 0.9, 136).view(68, 2).float()
BOXES = torch.tensor([[0.1, 0.1, 0.2, 0.3, 0.9], [0.4, 0.2, 0.8, 0.9, 0.8]])


class Setup:
    """The fake package, PyTorch's hub folder and a server with the weights."""

    def __init__(self, folder: Path, url: str, tables: str, old: bool) -> None:
        self.hub = folder / "torch" / "hub" / "checkpoints"
        self.hub.mkdir(parents=True)
        self.site, self.served = folder / "site", folder / "served"
        self.served.mkdir()
        contents = {"NAME1": {"boxes": BOXES}, "NAME2": {"layout": LAYOUT}}
        digests = {}
        for key, content in contents.items():
            torch.save(content, folder / key)
            digests[key] = hashlib.sha256((folder / key).read_bytes()).hexdigest()[:10]
        self.files = {
            f"s3fd-{digests['NAME1']}.pth": folder / "NAME1",
            f"2DFAN4-{digests['NAME2']}.pth.tar": folder / "NAME2",
        }
        for name, text in PACKAGE.items():
            text = text.replace("TABLES", tables).replace("OPTIONS", "**_" if old else "compile=True")
            text = text.replace("CHECK", "True" if old else "not compile").replace("URL", url)
            text = text.replace("NETWORK", repr([*self.files][1]))
            for key, digest in digests.items():
                text = text.replace(key, digest)
            path = self.site / "face_alignment" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def install_weights(self) -> None:
        for name, path in self.files.items():
            (self.hub / name).write_bytes(path.read_bytes())

    def serve_weights(self) -> None:
        for name, path in self.files.items():
            (self.served / name).write_bytes(path.read_bytes())


@pytest.fixture(params=["new", "old"])
def setup(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    old = request.param == "old"
    made = Setup(tmp_path, f"http://127.0.0.1:{server.server_port}", OLD if old else NEW, old)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.syspath_prepend(str(made.site))
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "face_alignment"}
    importlib.invalidate_caches()
    source._load.cache_clear()
    yield made
    source._load.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "face_alignment"]:
        del sys.modules[name]
    sys.modules.update(kept)
    server.shutdown()
    server.server_close()
    thread.join()


def test_weights_decide_whether_auto_uses_it(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "embedded_present", lambda: False)
    photo = np.zeros((100, 200, 3), np.uint8)
    assert not source.weights_present()
    assert "face_alignment" not in sys.modules  # looking does not cost an import
    with pytest.raises(LandmarkError, match="nothing here"):
        detect(photo)
    setup.serve_weights()
    assert not source.weights_present()  # what could be fetched is not fetched
    setup.install_weights()
    assert source.weights_present()
    assert [face.source for face in detect(photo)] == ["face-alignment"] * 2


def test_weights_of_another_release_do_not_count(setup: Setup) -> None:
    for name in ("s3fd-0123456789.pth", "2DFAN4-0123456789.pth.tar"):
        (setup.hub / name).write_bytes(b"")
    assert not source.weights_present()


def test_asked_for_by_name_it_is_fetched(setup: Setup) -> None:
    setup.serve_weights()
    faces = detect(np.zeros((100, 200, 3), np.uint8), "face-alignment")
    assert sorted(path.name for path in setup.hub.iterdir()) == sorted(setup.files)
    # Largest first; boxes and landmarks in photo pixels.
    np.testing.assert_allclose(faces[0].box, [80, 20, 160, 90], rtol=1e-5)
    np.testing.assert_allclose(faces[0].landmarks, LAYOUT.numpy() * [80, 70] + [80, 20] + 0.5, rtol=1e-4)
    np.testing.assert_allclose([face.score for face in faces], [0.8, 0.9], rtol=1e-5)
    np.testing.assert_allclose(faces[0].landmarks_score, np.full(68, 0.6))
    assert faces[0].landmarks.dtype == np.float32
    assert faces[0].contour == "sliding"


def test_faces_of_a_large_photo_are_looked_for_in_a_small_copy(setup: Setup) -> None:
    setup.install_weights()
    faces = source.detect_face_alignment(np.zeros((2000, 4000, 3), np.uint8))
    assert source._load("cpu").face_detector.seen == (400, 800, 3)
    np.testing.assert_allclose(faces[0].box, [1600, 400, 3200, 1800], rtol=1e-5)
    assert faces[0].landmarks[-1, 0] > 2000


def test_no_face_is_an_empty_answer(setup: Setup) -> None:
    setup.install_weights()
    name = next(name for name in setup.files if name.startswith("s3fd"))
    torch.save({"boxes": torch.zeros(0, 5)}, setup.hub / name)
    assert source.detect_face_alignment(np.zeros((10, 10, 3), np.uint8)) == []


def test_damaged_weights(setup: Setup) -> None:
    setup.install_weights()
    for name in setup.files:
        (setup.hub / name).write_bytes(b"not a file of weights")
    with pytest.raises(WeightsFileError, match="delete its files") as caught:
        source.detect_face_alignment(np.zeros((10, 10, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_file_with_another_checksum_is_not_kept(setup: Setup) -> None:
    setup.serve_weights()
    for name in setup.files:
        (setup.served / name).write_bytes(b"something else")
    with pytest.raises(DownloadError, match="checksum"):
        source.fetch_weights()
    assert not list(setup.hub.iterdir())


def test_a_server_without_the_weights(setup: Setup) -> None:
    with pytest.raises(DownloadError, match="by hand, or use another source"):
        detect(np.zeros((10, 10, 3), np.uint8), "face-alignment")


def test_a_silent_network_gives_a_sentence(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/2DFAN4-0123456789.pth.tar"
        monkeypatch.setattr(source, "missing_weights", lambda: {url: setup.hub / "2DFAN4-0123456789.pth.tar"})
        monkeypatch.setattr(source, "TIMEOUT", 0.5)
        start = time.monotonic()
        with pytest.raises(DownloadError, match="cannot be fetched") as caught:
            detect(np.zeros((10, 10, 3), np.uint8), "face-alignment")
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)


def test_an_unknown_release(setup: Setup) -> None:
    api = setup.site / "face_alignment" / "api.py"
    api.write_text(api.read_text().replace("2DFAN-4", "4DFAN"))
    setup.install_weights()
    with pytest.raises(LandmarkError, match=r"1\.4 or 1\.5"):
        source.missing_weights()
    assert not source.weights_present()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment.api", None)
    with pytest.raises(LandmarkError, match="pip install face-alignment"):
        source.missing_weights()


def test_the_installed_package_names_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("face_alignment", reason="face-alignment is not installed", exc_type=ImportError)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    names = sorted(path.name for path in source.missing_weights().values())
    assert len(names) == 2
    assert names[0].startswith("2DFAN4-")
    assert names[1].startswith("s3fd-")
