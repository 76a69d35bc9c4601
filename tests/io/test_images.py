"""Every kind of file a stranger may hand over."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from garfast.errors import ArgumentError, ImageFileError, OutputError
from garfast.io.images import IMAGE_SUFFIXES, as_image, is_image, picture_array, read_image, write_image


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth colours, so that lossy formats come close: [48,32,3]."""
    y, x = np.mgrid[0:48, 0:32]
    return np.stack([40 + 4 * y, 250 - 6 * x, 60 + y + x], axis=2).astype(np.uint8)


def test_lossless_formats_come_back_exactly(tmp_path: Path, picture: np.ndarray) -> None:
    for name in ("a.png", "a.bmp", "a.tif", "a.ppm"):
        Image.fromarray(picture).save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.dtype == np.uint8
        assert image.flags["C_CONTIGUOUS"]
        assert image.flags["WRITEABLE"]
        np.testing.assert_array_equal(image, picture)
    Image.fromarray(picture).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), picture)


def test_lossy_formats_and_cmyk_come_close(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    Image.fromarray(picture).save(tmp_path / "a.webp", quality=95)
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=97, subsampling=0)
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.tif")
    for name, tolerance in (("a.jpg", 6), ("a.webp", 12), ("cmyk.jpg", 6), ("cmyk.tif", 1)):
        assert np.abs(read_image(tmp_path / name).astype(int) - picture).max() <= tolerance, name


def test_what_is_taken_for_a_photograph_can_be_written(tmp_path: Path, picture: np.ndarray) -> None:
    for suffix in IMAGE_SUFFIXES:
        path = tmp_path / f"a{suffix}"
        try:
            write_image(path, picture)
        except ArgumentError:  # this Pillow was built without the format
            assert suffix in (".avif", ".jp2", ".webp")
            continue
        assert is_image(path)
        assert read_image(path).shape == picture.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


def test_gray_palette_and_one_bit(tmp_path: Path, picture: np.ndarray) -> None:
    gray = picture[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[..., None], 3, 2))
    palette = Image.fromarray(picture).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), np.array(palette.convert("RGB")))
    Image.fromarray(gray > 128).save(tmp_path / "bit.png")
    assert set(np.unique(read_image(tmp_path / "bit.png"))) == {0, 255}


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, picture: np.ndarray) -> None:
    import tifffile

    gray16 = picture[..., 0].astype(np.uint16) * 257
    Image.fromarray(gray16).save(tmp_path / "gray.png")
    Image.fromarray(gray16).save(tmp_path / "gray.tif")
    expected = np.repeat(picture[..., :1], 3, 2)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.tif"), expected)
    tifffile.imwrite(tmp_path / "rgb.tif", picture.astype(np.uint16) * 257, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.tif"), picture)
    tifffile.imwrite(tmp_path / "float.tif", picture[..., 0].astype(np.float32) / 255)
    np.testing.assert_array_equal(read_image(tmp_path / "float.tif"), expected)


def test_sixteen_bit_colour_png(tmp_path: Path, picture: np.ndarray) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = picture.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in picture.astype(np.uint16) * 257)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "rgb16.png").write_bytes(png)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb16.png"), picture)


def test_transparency_is_laid_over_white(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[24:] = 255
    rgba = np.dstack([picture, alpha])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    image = read_image(tmp_path / "rgba.png")
    assert (image[:24] == 255).all()
    np.testing.assert_array_equal(image[24:], picture[24:])
    assert (read_image(tmp_path / "la.png")[:24] == 255).all()
    half = np.dstack([picture * 0, np.full(picture.shape[:2], 128, np.uint8)])
    assert np.unique(as_image(half)).tolist() == [127]


def test_a_tiny_and_a_large_photograph(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (10, 20, 30)).save(tmp_path / "small.png")
    assert read_image(tmp_path / "small.png").shape == (64, 64, 3)
    Image.new("RGB", (7300, 5500), (200, 20, 30)).save(tmp_path / "large.jpg")
    assert read_image(tmp_path / "large.jpg").shape == (5500, 7300, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"this is no image at all", "is not an image"),
        ("page.png", b"<html></html>" * 40, "is not an image"),
    ],
)
def test_wrong_files_get_a_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageFileError, match=words) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_truncated_files_get_a_sentence(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    for fraction in (0.05, 0.5, 0.9):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * fraction)])
        with pytest.raises(ImageFileError) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    if suffix != "webp":  # which is decoded when it is opened
        with Image.open(path) as opened, pytest.raises(ImageFileError, match="truncated, damaged or closed"):
            as_image(opened)


def test_missing_file_folder_and_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageFileError, match="there is no image file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ImageFileError, match="is a folder"):
        read_image(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageFileError, match="megapixels"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # between warning and refusal: read without a word
    assert read_image(tmp_path / "a.png").shape == (64, 64, 3)


def test_arrays_are_checked(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(as_image(picture), picture)
    np.testing.assert_array_equal(as_image(picture.astype(np.float32) / 255), picture)
    np.testing.assert_array_equal(as_image(picture.astype(np.uint16) * 257), picture)
    np.testing.assert_array_equal(as_image(Image.fromarray(picture)), picture)
    assert as_image(picture[..., 0]).shape == picture.shape
    bad = picture.astype(np.float32) / 255
    bad[3, 3] = np.nan
    for wrong, words in (
        (bad, "NaN"),
        (picture.astype(np.float32), "from 0 to 1"),
        (picture.astype(np.int64), "uint8"),
        (picture.transpose(2, 0, 1), r"\[H,W,3\]"),
        (picture[:0], r"\[H,W,3\]"),
        ([1, 2], "list"),
    ):
        with pytest.raises(ArgumentError, match=words):
            as_image(wrong)  # type: ignore[arg-type]


def test_write_image(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    write_image(tmp_path / "a.jpg", picture[..., 0])
    with pytest.raises(ArgumentError, match="uint8"):
        write_image(tmp_path / "b.png", picture.astype(float))
    with pytest.raises(ArgumentError, match="suffix"):
        write_image(tmp_path / "b.xyz", picture)

    def full(self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="no space left"):
        write_image(tmp_path / "c.png", picture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "new"]


def test_pictures_of_networks_become_arrays() -> None:
    picture = torch.tensor([-1.0, 0.0, 1.0, -3.0, torch.inf, torch.nan]).expand(2, 3, 1, 6)
    array = picture_array(picture.to(torch.bfloat16))
    assert array.shape == (2, 1, 6, 3)
    assert array.dtype == np.uint8
    assert array[1, 0, :, 2].tolist() == [0, 128, 255, 0, 255, 128]
