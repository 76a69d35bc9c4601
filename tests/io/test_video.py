"""Films and animations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from garfast.errors import ArgumentError, ImageFileError, OutputError
from garfast.io.video import is_video, open_video, write_animation


def frames(count: int = 4, size: tuple[int, int] = (24, 31)) -> list[np.ndarray]:
    """Grey pictures with a square that moves."""
    pictures = []
    for k in range(count):
        picture = np.full((*size, 3), 90, np.uint8)
        picture[8:16, 4 * k : 4 * k + 8] = (230, 40, 20)
        pictures.append(picture)
    return pictures


def test_gif_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    write_animation(path, frames(), fps=20)
    assert is_video(path)
    video = open_video(path)
    assert video.fps == pytest.approx(20)
    back = list(video.frames)
    assert len(back) == 4
    for mine, theirs in zip(frames(), back, strict=True):
        assert np.abs(mine.astype(int) - theirs).mean() < 6


def test_mp4_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "a.mp4"
    write_animation(path, frames(8, (65, 63)), fps=10)
    video = open_video(path)
    assert video.fps == pytest.approx(10)
    back = list(video.frames)
    assert len(back) == 8
    assert back[0].shape == (66, 64, 3)
    assert np.abs(back[3][:65, :63].astype(int) - frames(8, (65, 63))[3]).mean() < 12


def test_mp4_needs_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(OutputError, match="pip install imageio-ffmpeg"):
        write_animation(tmp_path / "a.mp4", frames())
    assert not list(tmp_path.iterdir())


def test_what_ffmpeg_raises_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_frames(path: str) -> Iterator[object]:
        yield {"size": (2, 2), "fps": 25}
        yield bytes(12)
        raise RuntimeError("end of file reached\nand a log")

    def write_frames(*_: object, **__: object) -> Iterator[None]:
        yield
        raise RuntimeError("no encoder")

    module = SimpleNamespace(read_frames=read_frames, write_frames=write_frames)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", module)
    (tmp_path / "a.mp4").write_bytes(b"half a film")
    with pytest.raises(ImageFileError, match=r"is damaged: end of file reached$"):
        list(open_video(tmp_path / "a.mp4").frames)
    with pytest.raises(OutputError, match="the encoder failed"):
        write_animation(tmp_path / "b.mp4", frames())


def test_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.gif or \.mp4"):
        write_animation(tmp_path / "a.png", frames())
    with pytest.raises(ArgumentError, match="at least one frame"):
        write_animation(tmp_path / "a.gif", [])
    with pytest.raises(ArgumentError, match="frames a second"):
        write_animation(tmp_path / "a.gif", frames(), fps=0)
    with pytest.raises(ImageFileError, match="there is no film"):
        open_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no film")
    with pytest.raises(ImageFileError, match="not a film that can be decoded"):
        open_video(tmp_path / "b.mp4")
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    with pytest.raises(ImageFileError, match="not a film"):
        open_video(tmp_path / "c.gif")
    assert not is_video(tmp_path / "c.gif")
