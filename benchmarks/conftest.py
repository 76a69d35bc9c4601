from __future__ import annotations

import pytest

from garfast.bench.timing import settle_allocator


@pytest.fixture(autouse=True, scope="session")
def _settled_allocator() -> None:
    settle_allocator()
