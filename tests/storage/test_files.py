"""Protects atomic writing: a full disk is said, and what stood there stays."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ademvl.errors import DataError, DiskFullError
from ademvl.storage.files import atomic_path, parse_json, write_bytes, write_text

TOO_LARGE = 4 << 20


def test_file_that_finds_no_room_is_named_and_its_old_content_stays(small_disk: Path) -> None:
    path = small_disk / "scores.json"
    write_text(path, "old")
    with pytest.raises(DiskFullError, match=r"scores\.json: the disk is full \(2[.\d]* MB free\)"):
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 3000, "nested too deeply"),
        ("[" * 200 + "]" * 200, "nested more than 100 levels deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested more than 100 levels deep"),
        ("9" * 5000, "not readable as JSON"),
        (r'{"a": ["\udc00"]}', "holds half of a character"),
        (r'{"\ud83d": 1}', "holds half of a character"),
        ('{"a": 1, "a": 2}', "key 'a' occurs twice"),
    ],
)
def test_json_that_nothing_could_be_done_with_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_json(text, place="file.json", remedy="Make it again.")


def test_json_with_whole_characters_and_usual_nesting_is_read() -> None:
    assert parse_json(r'["\ud83d\ude00 \\ud800"]', place="x", remedy="") == ["😀 \\ud800"]
    assert parse_json("[" * 100 + "]" * 100, place="x", remedy="")
