"""PNG and NPZ files written directly: the readers of others get the same arrays back."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from garfast.synth.encode import encode_npz, encode_png


def test_png_holds_the_image():
    image = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))), image)


def test_npz_holds_the_arrays():
    arrays = {"half": np.ones((3, 4), np.float16), "bytes": np.arange(5, dtype=np.uint8), "none": np.zeros((0, 2))}
    with np.load(io.BytesIO(encode_npz(arrays)), allow_pickle=False) as back:
        assert back.files == list(arrays)
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype
            np.testing.assert_array_equal(back[name], array)
