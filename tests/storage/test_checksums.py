"""Protects checksums: large files are sampled, and say so."""

from pathlib import Path

import pytest

from ademvl.storage import checksums
from ademvl.storage.checksums import checksum_file


def test_large_files_are_sampled_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "WHOLE_CHECKSUM_BYTES", 1 << 20)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(bytes(3 << 20))
    before = checksum_file(large)
    assert checksum_file(small).startswith("sha256:")
    assert before.startswith("sampled-sha256:")
    large.write_bytes(bytes((3 << 20) - 1) + b"x")
    assert checksum_file(large) != before
