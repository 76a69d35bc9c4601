from __future__ import annotations

import pytest
import torch

from garfast.errors import WeightsFileError
from garfast.networks.face_finder import FaceFinder
from garfast.train.mining import load_finder, mine


@pytest.mark.parametrize("bias", [-9.0, 3.0])
def test_windows_come_whether_the_finder_is_fooled_or_not(bias):
    torch.manual_seed(0)
    finder = FaceFinder().eval().requires_grad_(False)
    finder.head.bias[0] = bias
    one, two = (mine(finder, 3, 4, 32, ratio=(1.2, 1.7), source=64) for _ in range(2))
    assert one.shape == (4, 3, 32, 32)
    assert one.dtype == torch.uint8
    assert torch.equal(one, two)


def test_a_missing_finder_is_said_to_be(tmp_path):
    with pytest.raises(WeightsFileError, match="there is no weight file"):
        load_finder(tmp_path / "none.safetensors")
