from __future__ import annotations

import os

import pytest

from garfast.bench.timing import settle_allocator


def pytest_configure() -> None:
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, before PyTorch's first allocation


@pytest.fixture(autouse=True, scope="session")
def _settled_allocator() -> None:
    settle_allocator()
