from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from garfast.fit.rows import Rows


@dataclass(frozen=True)
class _Inner(Rows):
    value: Tensor


@dataclass(frozen=True)
class _Outer(Rows):
    matrix: Tensor
    inner: _Inner
    name: str
    nothing: None = None

    SHARED = ("name", "nothing")


def _outer(start: int) -> _Outer:
    values = torch.arange(start, start + 12).view(3, 4)
    return _Outer(values, _Inner(values[:, 0]), f"from {start}")


def test_rows_are_picked_chosen_and_put_back() -> None:
    first, second = _outer(0), _outer(100)
    picked = first[torch.tensor([2, 0])]
    assert picked.inner.value.tolist() == [8, 0]
    assert picked.name == "from 0"
    assert first[torch.tensor([False, True, False])].matrix.tolist() == [[4, 5, 6, 7]]
    chosen = first.where(torch.tensor([True, False, True]), second)
    assert chosen.inner.value.tolist() == [0, 104, 8]
    assert chosen.matrix[1].tolist() == [104, 105, 106, 107]
    merged = first.put(torch.tensor([2, 0]), second[torch.tensor([1, 2])])
    assert merged.inner.value.tolist() == [108, 4, 104]
    assert first.inner.value.tolist() == [0, 4, 8]
