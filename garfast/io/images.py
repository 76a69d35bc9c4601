"""Photographs in, pictures out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from garfast.errors import ArgumentError, ImageFileError
from garfast.io.atomic import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# What `garfast fit FOLDER` picks up; a file named on its own is tried whatever it is called.
IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".ppm",
    ".pgm",
    ".jp2",
    ".avif",
    ".jfif",
)

_EXPECTED = "expected a photograph such as JPEG, PNG, WebP or TIFF"


def picture_array(picture: Tensor) -> np.ndarray:
    """A network's picture [..., 3, H, W], -1..1, as uint8 [..., H, W, 3]; NaN becomes grey."""
    values = ((picture.float().nan_to_num() + 1) * 127.5).round().clamp(0, 255)
    return values.byte().movedim(-3, -1).cpu().numpy()


def is_image(path: Path) -> bool:
    """Whether a path is a file that, by its name, holds a photograph."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a photograph as uint8 RGB.

    The EXIF orientation is applied, so the rows run from the top of the scene to its bottom. Grayscale, palette and
    CMYK become RGB; transparent pixels are laid over white; 16-bit values are scaled to 8 bits, 32-bit floating-point
    ones are taken as 0 (black) to 1 (white). Of an animation or a file of many pages the first one is read.

    Args:
        path: an image file of at most about 179 megapixels (Pillow's limit against decompression bombs).

    Returns:
        A writable, contiguous uint8 array [H,W,3] in sRGB values 0..255.

    Raises:
        ImageFileError: the file is missing, empty, truncated, too large or no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if path.is_dir():
        raise ImageFileError(f"{path} is a folder: {_EXPECTED}")
    if not path.exists():
        raise ImageFileError(f"there is no image file {path}: check the path")
    try:
        if path.stat().st_size == 0:
            raise ImageFileError(f"the image file {path} is empty: {_EXPECTED}")
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on and refuses from 179; only the refusal concerns a user.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                bits = _integer_bits(image)
                return _to_rgb(ImageOps.exif_transpose(image), bits, path)
    except ImageFileError:
        raise
    except UnidentifiedImageError as error:
        raise ImageFileError(f"{path} is not an image that can be read: {_EXPECTED}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageFileError(f"the image {path} has more than {limit:.0f} megapixels: make it smaller first") from error
    except PermissionError as error:
        raise ImageFileError(f"no permission to read {path}: check the file's owner and mode") from error
    except MemoryError as error:
        raise ImageFileError(f"the image {path} does not fit into memory: make it smaller first") from error
    except Exception as error:  # the decoders behind Pillow raise whatever they like on damaged data
        raise ImageFileError(
            f"the image {path} is truncated or damaged ({_one_line(error)}): get the file again"
        ) from error


def as_image(image: str | os.PathLike[str] | np.ndarray | Image) -> np.ndarray:
    """The photograph behind a path, an array or a Pillow image, as uint8 RGB.

    Args:
        image: a path (see `read_image`); an array [H,W], [H,W,1], [H,W,3] or [H,W,4] of dtype uint8 (0..255), uint16
            (0..65535) or floating (0..1); or a `PIL.Image.Image`.

    Returns:
        A contiguous uint8 array [H,W,3]; it may share memory with an array that was given.

    Raises:
        ArgumentError: an array of another shape, dtype or range, or with NaN in it.
        ImageFileError: as `read_image` does.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        from PIL import Image, ImageOps

        if not isinstance(image, Image.Image):
            raise ArgumentError(f"an image must be a path, a numpy array or a PIL image, not {type(image).__name__}")
        try:
            return _to_rgb(ImageOps.exif_transpose(image), _integer_bits(image), None)
        except ImageFileError:
            raise
        except Exception as error:  # only now is a file decoded that was opened before
            raise ImageFileError(f"the image is truncated, damaged or closed ({_one_line(error)})") from error
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise ArgumentError(f"an image array must be [H,W,3] (or [H,W], [H,W,1], [H,W,4]), not {list(image.shape)}")
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all():
            raise ArgumentError("the image array holds NaN or infinite values: expected finite values from 0 to 1")
        if image.min() < 0 or image.max() > 1:
            raise ArgumentError(
                f"the image array runs from {image.min():g} to {image.max():g}: expected floats from 0 to 1, or uint8"
            )
        image = np.round(image * 255).astype(np.uint8)
    elif image.dtype == np.uint16:
        image = _from_16_bits(image)
    elif image.dtype != np.uint8:
        raise ArgumentError(f"an image array must be uint8, uint16 or floating, not {image.dtype}")
    if image.shape[2] == 4:
        image = _over_white(image)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def write_image(path: str | os.PathLike[str], array: np.ndarray, *, quality: int = 92) -> None:
    """Write uint8 [H,W], [H,W,3] (RGB) or [H,W,4] (RGBA) atomically, in the format that the suffix names.

    Args:
        quality: of the lossy formats (JPEG, WebP), 1..100.

    Raises:
        ArgumentError: the array is not such an image, or the suffix names no format.
        OutputError: the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    array = np.asarray(array)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ArgumentError(f"write_image takes uint8 [H,W], [H,W,3] or [H,W,4], not {array.dtype} {list(array.shape)}")
    image_format = written_format(path)
    if image_format is None:
        raise ArgumentError(f"cannot write an image named {path.name}: use a suffix such as .png or .jpg")
    # PNG's default level 6 takes four times as long as 3 for files a few per cent smaller.
    options = {"compress_level": 3} if image_format == "PNG" else {"quality": quality}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(array)).save(temporary, format=image_format, **options)


def written_format(path: Path) -> str | None:
    """The format in which a picture of this name is written, by its suffix; None where there is none."""
    from PIL import Image

    image_format = Image.registered_extensions().get(path.suffix.lower())
    return image_format if image_format in Image.SAVE else None


def _integer_bits(image: Image) -> int:
    """Bits of the integer modes "I" and "I;16": TIFF says, a PNG of mode "I" (older Pillow) always has 16."""
    if image.mode != "I" or image.format != "TIFF":
        return 16
    bits = getattr(image, "tag_v2", {}).get(258, (32,))
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _to_rgb(image: Image, integer_bits: int, path: Path | None) -> np.ndarray:
    where = f"the image {path}" if path else "the image"
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ImageFileError(f"{where} holds NaN or infinite values: expected finite values from 0 to 1")
        if values.min() < 0 or values.max() > 1:
            raise ImageFileError(f"{where} holds floating-point values outside 0 to 1: save it with 8 or 16 bits")
        gray = np.round(values * 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        gray = np.clip(np.round(values * (255.0 / (2**integer_bits - 1))), 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _over_white(rgba: np.ndarray) -> np.ndarray:
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
