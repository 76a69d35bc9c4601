"""Dataclasses whose tensors share a first dimension, handled row by row."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound="Rows")


class Rows:
    """Base of frozen dataclasses: every field is a tensor [B, ...], another ``Rows``, or shared by all rows.

    Shared fields are listed in ``SHARED``.
    """

    SHARED: tuple[str, ...] = ()

    def _rowwise(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.SHARED}  # type: ignore[arg-type]

    def __getitem__(self: T, rows: Tensor) -> T:
        """The rows with these indices [n] int64, or where a mask [B] is true."""
        return replace(self, **{name: value[rows] for name, value in self._rowwise().items()})  # type: ignore[type-var]

    def where(self: T, mask: Tensor, other: T) -> T:
        """This object's rows where ``mask`` [B] is true, else the other's."""

        def pick(mine: Any, its: Any) -> Any:
            if isinstance(mine, Rows):
                return mine.where(mask, its)
            return torch.where(mask.view(-1, *[1] * (mine.ndim - 1)), mine, its)

        return replace(self, **{k: pick(v, getattr(other, k)) for k, v in self._rowwise().items()})  # type: ignore[type-var]

    def put(self: T, rows: Tensor, other: T) -> T:
        """A copy with the rows of these indices replaced by the other's."""

        def merge(mine: Any, its: Any) -> Any:
            return mine.put(rows, its) if isinstance(mine, Rows) else mine.index_copy(0, rows, its)

        return replace(self, **{k: merge(v, getattr(other, k)) for k, v in self._rowwise().items()})  # type: ignore[type-var]
