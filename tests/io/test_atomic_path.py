"""A file that appears whole can be read by those who could read any other new file."""

from __future__ import annotations

import os
import stat

import pytest

from garfast.io.atomic import atomic_path


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_new_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "weights.safetensors") as path:
            path.write_bytes(b"x")
            path.chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights.safetensors").stat().st_mode) == 0o666 & ~mask
    assert [found.name for found in tmp_path.iterdir()] == ["weights.safetensors"]
