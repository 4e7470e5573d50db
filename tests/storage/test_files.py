"""Protects atomic writing: a full disk is said, and what stood there stays."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ademvl.errors import DiskFullError
from ademvl.storage.files import atomic_path, write_bytes, write_text

TOO_LARGE = 4 << 20


def test_file_that_finds_no_room_is_named_and_its_old_content_stays(small_disk: Path) -> None:
    path = small_disk / "scores.json"
    write_text(path, "old")
    with pytest.raises(DiskFullError, match=r"scores\.json: the disk is full \(2\.\d MB free\)"):
        write_bytes(path, bytes(TOO_LARGE))
    assert path.read_text(encoding="utf-8") == "old"
    assert list(small_disk.iterdir()) == [path]


def test_safetensors_that_find_no_room_are_named_too(small_disk: Path) -> None:
    path = small_disk / "state" / "step-1.safetensors"
    with (
        pytest.raises(DiskFullError, match=r"step-1\.safetensors: the disk is full"),
        atomic_path(path) as temporary,
    ):
        save_file({"weight": torch.zeros(TOO_LARGE // 4)}, temporary)
    assert not list(path.parent.glob("step*"))
