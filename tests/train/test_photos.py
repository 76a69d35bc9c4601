from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from garfast.errors import ArgumentError, TrainingError
from garfast.synth.writer import sample_files
from garfast.train.photos import FolderPhotos, ShardedOrder, TarPhotos, open_photos


def _picture(seed: int, size=(40, 32)) -> np.ndarray:
    """A smooth picture [H, W, 3] that JPEG keeps well."""
    x = np.linspace(0, 3, size[1]) + seed
    y = np.linspace(0, 2, size[0])[:, None]
    return (100 * np.stack([np.sin(x + y), np.cos(x * y), np.sin(2 * x - y)], -1) + 128).astype(np.uint8)


def _bytes(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, quality=95)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    (place / "00000").mkdir(parents=True)
    (place / "01000").mkdir()
    for k in range(5):
        (place / ("00000" if k < 3 else "01000") / f"{k:05d}.png").write_bytes(_bytes(_picture(k, (32, 32))))
    (place / "readme.txt").write_text("no picture")
    (place / ".hidden.png").write_bytes(b"")
    return place


def test_a_nested_folder_in_order_of_paths(folder):
    photos = FolderPhotos(folder, 32)
    assert (photos.count, photos.size) == (5, 32)
    taken = photos.take([4, 0, 4])
    for got, seed in zip(taken, (4, 0, 4), strict=True):
        assert np.array_equal(got.permute(1, 2, 0).numpy(), _picture(seed, (32, 32)))
    with pytest.raises(ArgumentError, match=r"0\.\.4"):
        photos.take([5])


def test_the_middle_square_is_resized_without_aliasing(tmp_path):
    stripes = np.zeros((256, 400, 3), np.uint8)
    stripes[:, 72:328:2] = 255
    stripes[:, :72], stripes[:, 328:] = (255, 0, 0), (255, 0, 0)
    Image.fromarray(stripes).save(tmp_path / "a.png")
    Image.fromarray(_picture(1, (512, 512))).save(tmp_path / "b.jpg", quality=95)
    taken = FolderPhotos(tmp_path, 32).take([0, 1]).numpy().astype(int)
    assert np.abs(taken[0][:, :, 1:-1] - 127).max() <= 3
    wanted = np.asarray(Image.fromarray(_picture(1, (512, 512))).resize((32, 32), Image.Resampling.BOX))
    assert np.abs(taken[1].transpose(1, 2, 0) - wanted.astype(int)).mean() < 3


@pytest.mark.parametrize("cached", [False, True])
def test_a_broken_file_is_skipped_and_counted(folder, tmp_path, cached):
    (folder / "00000" / "00001.png").write_bytes(_bytes(_picture(1))[:200])
    (folder / "00000" / "00002.png").write_bytes(b"")
    for _ in range(2):
        photos = FolderPhotos(folder, 32, cache=tmp_path / "cache" if cached else None)
        taken = photos.take([0, 1, 2, 3])
        assert np.array_equal(taken[1], taken[3])
        assert np.array_equal(taken[2], taken[3])
        assert photos.skipped == 2
        assert set(photos.broken) == {"00000/00001.png", "00000/00002.png"}
        assert photos.take([1, 1]).shape == (2, 3, 32, 32)
        assert photos.skipped == 2


def test_the_last_broken_file_shows_the_first_and_all_broken_is_an_error(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(_bytes(_picture(k, (16, 16))))
    (tmp_path / "2.png").write_bytes(b"nonsense")
    assert np.array_equal(FolderPhotos(tmp_path, 16).take([2])[0].permute(1, 2, 0), _picture(0, (16, 16)))
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=r"none of the 3 photographs can be decoded: \d\.png: it is no image"):
        FolderPhotos(tmp_path, 16).take([0])


def test_the_cache_serves_what_was_decoded(folder, tmp_path):
    photos = FolderPhotos(folder, 16, cache=tmp_path / "cache", threads=2)
    photos.prepare([0, 1, 2])
    first = photos.take([0, 1, 2])
    for path in folder.rglob("0000[0-2].png"):
        path.write_bytes(b"gone")
    again = FolderPhotos(folder, 16, cache=tmp_path / "cache")
    assert np.array_equal(again.take([0, 1, 2]), first)
    assert again.skipped == 0
    assert FolderPhotos(folder, 8, cache=tmp_path / "cache").take([3]).shape == (1, 3, 8, 8)


def _shard(path, first: int, count: int, kind: str = "png", broken: int | None = None) -> None:
    with tarfile.open(path, "w") as tar:
        for k in range(first, first + count):
            data = _bytes(_picture(k, (16, 16)), "PNG" if kind == "png" else "JPEG")
            if k == broken:
                data = data[:60]
            for name, content in ((f"{k:08d}.{kind}", data), (f"{k:08d}.json", b"{}"), (f"{k:08d}.npz", b"x" * 700)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_tar_shards(tmp_path):
    _shard(tmp_path / "faces-000001.tar", 3, 2, "jpg")
    _shard(tmp_path / "faces-000000.tar", 0, 3, broken=1)
    photos = open_photos(tmp_path, 16)
    assert isinstance(photos, TarPhotos)
    assert photos.count == 5
    taken = photos.take([4, 2, 1]).permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(taken[0] - _picture(4, (16, 16)).astype(int)).mean() < 15
    assert np.array_equal(taken[1], _picture(2, (16, 16)))
    assert np.array_equal(taken[2], taken[1])
    assert photos.skipped == 1
    assert list(photos.broken) == ["faces-000000.tar/00000001.png"]


def test_shards_of_synthetic_faces(tmp_path):
    with tarfile.open(tmp_path / "faces-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for k in range(2):
            sample = {
                "index": k,
                "image": _picture(k, (64, 64)),
                "camera": {},
                "model": "m",
                "person": 0,
                "a": np.zeros(3),
            }
            for name, data in sample_files(sample):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    photos = open_photos(tmp_path, 64)
    assert photos.count == 2
    assert np.array_equal(photos.take([1])[0].permute(1, 2, 0), _picture(1, (64, 64)))


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(TrainingError, match="no folder or archive"):
        open_photos(tmp_path / "nowhere", 16)
    with pytest.raises(TrainingError, match="holds no photographs"):
        open_photos(tmp_path, 16)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(TrainingError, match="uncompressed tar"):
        open_photos(tmp_path / "a.tar.gz", 16)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(TrainingError, match="there is no photograph in"):
        open_photos(tmp_path, 16)


def test_every_epoch_takes_each_row_once_in_another_order():
    order = ShardedOrder(10, seed=1)
    rows = np.concatenate([order.rows(step, 4) for step in range(10)])
    for epoch in range(4):
        assert sorted(rows[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    assert np.array_equal(ShardedOrder(10, seed=1).rows(7, 4), order.rows(7, 4))
    assert not np.array_equal(ShardedOrder(10, seed=2).rows(7, 4), order.rows(7, 4))


def test_rows_before_the_first_are_left_out():
    order = ShardedOrder(11, seed=3, first=2)
    assert sorted(np.concatenate([order.rows(turn, 3) for turn in range(3)])) == list(range(2, 11))
    with pytest.raises(ArgumentError, match="no order of rows"):
        ShardedOrder(2, seed=3, first=2)
