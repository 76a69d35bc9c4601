"""A folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from garfast.errors import OutputError
from garfast.io.atomic import atomic_folder, atomic_path, check_writable


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_appears_with_its_files(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new" / "fit") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "new" / "fit").exists()
    assert names(tmp_path) == ["new", "new/fit", "new/fit/a.txt"]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "fit").mkdir()
    with atomic_folder(tmp_path / "fit") as folder:
        (folder / "a.txt").write_text("a")
    assert names(tmp_path) == ["fit", "fit/a.txt"]


def test_files_are_replaced_only_where_asked_for(tmp_path: Path) -> None:
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="exists already"), atomic_folder(tmp_path / "fit"):
        pass
    assert names(tmp_path) == ["fit", "fit/old.txt"]
    with atomic_folder(tmp_path / "fit", replace=True) as folder:
        (folder / "a.txt").write_text("a")
    assert names(tmp_path) == ["fit", "fit/a.txt"]


def test_files_that_came_meanwhile_are_spared(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.txt").write_text("theirs")
    with pytest.raises(OutputError, match="exists already"), atomic_folder(tmp_path / "fit"):
        shutil.copytree(tmp_path / "theirs", tmp_path / "fit")
    assert names(tmp_path) == ["fit", "fit/a.txt", "theirs", "theirs/a.txt"]


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "old.txt").write_text("old")

    def fail() -> None:
        with atomic_folder(tmp_path / "fit", replace=True) as folder:
            (folder / "a.txt").write_text("a")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert names(tmp_path) == ["fit", "fit/old.txt"]


def test_failure_of_the_last_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "old.txt").write_text("old")
    rename = os.replace
    calls = []

    def fail_second(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_second)
    with pytest.raises(OutputError, match="no space left"), atomic_folder(tmp_path / "fit", replace=True) as folder:
        (folder / "a.txt").write_text("a")
    assert names(tmp_path) == ["fit", "fit/old.txt"]


def test_a_file_in_the_way_and_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="there is a file of that name"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="not a folder"), atomic_folder(tmp_path / "file" / "fit"):
        pass
    with pytest.raises(OutputError) as caught, atomic_folder(tmp_path / "fit") as folder, atomic_path(folder / "a.txt"):
        raise OSError(28, "No space left on device")
    assert f"while writing {tmp_path / 'fit' / 'a.txt'}" in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_a_folder_is_tried_before_work_and_nothing_is_left(tmp_path):
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file: choose a folder"):
        check_writable(tmp_path / "file")
    with pytest.raises(OutputError, match=r"file is not a folder"):
        check_writable(tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_another_process_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch, removed = Path.touch, []

    def late(path: Path, *args, **options) -> None:
        if not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        touch(path, *args, **options)

    monkeypatch.setattr(Path, "touch", late)
    check_writable(tmp_path / "new")
    assert removed == [tmp_path / "new"]
    assert names(tmp_path) == []


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["link", "store", "store/a.txt"]
