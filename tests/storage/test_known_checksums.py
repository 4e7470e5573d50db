"""Protects remembered checksums: a file that has changed is read again, whatever its times say."""

import os
import time
from pathlib import Path

import pytest

from ademvl.storage.files import sha256_file
from ademvl.storage.known_checksums import KnownChecksums, file_stamp


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was written a minute ago, as the clock has it."""
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 60 * 10**9)
    return path


def remember(path: Path) -> None:
    known = KnownChecksums(path.with_name("list"))
    known.add(path, file_stamp(path), sha256_file(path))
    known.save()


def remembered(path: Path) -> str | None:
    return KnownChecksums(path.with_name("list")).find(path, file_stamp(path))


def test_file_that_is_as_it_was_is_known(old: Path) -> None:
    remember(old)
    assert remembered(old) == sha256_file(old)


def test_other_bytes_of_the_same_size_and_time_are_noticed(old: Path) -> None:
    times = old.stat().st_atime_ns, old.stat().st_mtime_ns
    remember(old)
    old.write_bytes(b"two")
    os.utime(old, ns=times)
    assert remembered(old) is None


def test_what_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    remember(path)
    assert not path.with_name("list").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"image.png": 1}', '{"image.png": []}'])
def test_damaged_list_is_written_anew(old: Path, content: str) -> None:
    old.with_name("list").write_text(content)
    assert remembered(old) is None
    remember(old)
    assert remembered(old) == sha256_file(old)


def test_folder_that_cannot_be_written_to_is_no_error(old: Path) -> None:
    known = KnownChecksums(old / "no folder" / "list")
    known.add(old, file_stamp(old), "checksum")
    known.save()
    assert old.read_bytes() == b"one"
