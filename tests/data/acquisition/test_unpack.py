"""Protects unpacking: hostile and damaged archives are refused by entry, restarts complete."""

import json
import os
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

from ademvl.data.acquisition.unpack import MARKER, is_unpacked, unpack_archives
from ademvl.data.acquisition.zip_entries import ZipArchive
from ademvl.errors import DataError
from tests.data.acquisition.conftest import random_bytes

FILES = {f"train/{number}/image.png": random_bytes(500 + number) for number in range(20)}
FILES["train/text.json"] = b"[1]" * 10_000


def make_archive(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpack(archive: Path, folder: Path) -> None:
    unpack_archives(folder, {archive: "images"}, {archive.name: "sha"})


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder / "images").as_posix(): path.read_bytes() for path in paths}


def refusal(archive: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        unpack(archive, folder)
    assert not (folder / MARKER).exists()
    return str(caught.value)


def test_archive_arrives_whole_with_its_marker(tmp_path: Path) -> None:
    unpack(make_archive(tmp_path / "a.zip"), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    marker = json.loads((tmp_path / "out" / MARKER).read_text(encoding="utf-8"))
    assert (marker["files"], marker["bytes"]) == (21, sum(map(len, FILES.values())))
    assert is_unpacked(tmp_path / "out", {"a.zip": "sha"})
    assert not is_unpacked(tmp_path / "out", {"a.zip": "another archive"})


def test_restart_repairs_what_is_wrong_and_leaves_what_is_right(tmp_path: Path) -> None:
    archive, out = make_archive(tmp_path / "a.zip"), tmp_path / "out"
    unpack(archive, out)
    (out / MARKER).unlink()
    images = out / "images/train"
    (images / "3/image.png").write_bytes(bytes(len(FILES["train/3/image.png"])))
    (images / "4/image.png").write_bytes(b"short")
    (images / "5/image.png").unlink()
    untouched = (images / "6/image.png").stat().st_ino
    unpack(archive, out)
    assert contents(out) == FILES
    assert (images / "6/image.png").stat().st_ino == untouched


def test_second_call_reads_nothing(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip")
    unpack(archive, tmp_path / "out")
    archive.unlink()
    unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "path that leaves its folder"),
        ("train/../../evil.txt", "path that leaves its folder"),
        ("/tmp/evil.txt", "absolute path"),
        ("C:/evil.txt", "absolute path"),
        ("train\\..\\evil.txt", "no usable name"),
        ("train//evil.txt", "not in plain form"),
        ("line\nbreak.txt", "no usable name"),
        ("train/\x1b[2J.txt", "no usable name"),
        ("train/\x7f", "no usable name"),
        (" ", "no usable name"),
    ],
)
def test_path_out_of_the_folder_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    archive = make_archive(tmp_path / "a.zip", FILES | {name: b"evil"})
    message = refusal(archive, tmp_path / "out")
    assert f"{name!r}: " in message
    assert reason in message
    assert contents(tmp_path / "out") == {}
    assert not (tmp_path / "evil.txt").exists()


def test_link_then_file_through_it_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, str(tmp_path))
        archive.writestr("train/link/evil.txt", b"evil")
    message = refusal(tmp_path / "a.zip", tmp_path / "out")
    assert "'train/link': symbolic link" in message
    assert not (tmp_path / "evil.txt").exists()


def test_link_that_stands_in_the_target_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/images/train").symlink_to(tmp_path / "elsewhere")
    archive = make_archive(tmp_path / "a.zip")
    assert "leads out of" in refusal(archive, tmp_path / "out")
    assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == []


def test_name_twice_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("train/a.png", b"first")
        archive.writestr("train/a.png", b"second")
    assert "'train/a.png': occurs twice" in refusal(tmp_path / "a.zip", tmp_path / "out")


def test_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"train": b"file", "train/a.png": b"in it"})
    assert "'train': is a file and a folder" in refusal(archive, tmp_path / "out")


def bomb(path: Path, *, size: int, declared: int) -> Path:
    """Zeros whose list and header declare another size, with the CRC of the declared part."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(1 << 24)
    stored = b"".join(deflate.compress(block) for _ in range(size // len(block))) + deflate.flush()
    crc = zlib.crc32(bytes(declared))
    name = b"train/bomb.bin"
    fixed = (20, 0, 8, 0, 0, crc, len(stored), declared, len(name), 0)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", *fixed) + name
    entry = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, *fixed, 0, 0, 0, 0, 0) + name
    start = len(local) + len(stored)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), start, 0)
    path.write_bytes(local + stored + entry + end)
    return path


def check_bomb_is_refused(folder: Path, *, size: int) -> None:
    archive = bomb(folder / "a.zip", size=size, declared=10**6)
    message = refusal(archive, folder / "out")
    assert "entry 'train/bomb.bin' holds more than its 1000000 bytes" in message
    left = [path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file()]
    assert sum(left) <= 10**6


def test_zeros_declared_as_one_megabyte_are_refused(tmp_path: Path) -> None:
    check_bomb_is_refused(tmp_path, size=256 << 20)


@pytest.mark.slow
def test_ten_gigabytes_of_zeros_declared_as_one_megabyte_are_refused(tmp_path: Path) -> None:
    check_bomb_is_refused(tmp_path, size=10 << 30)


def test_honest_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"train/zeros.bin": bytes(50 << 20)})
    message = refusal(archive, tmp_path / "out")
    assert "'train/zeros.bin': 52428800 of 52428800 declared bytes in an archive of" in message


def test_truncated_archive_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip")
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "a.zip: truncated, or no zip archive" in refusal(archive, tmp_path / "out")


def test_flipped_byte_names_the_entry(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for name, content in FILES.items():
            writer.writestr(name, content)
    content = bytearray(archive.read_bytes())
    content[content.index(FILES["train/7/image.png"]) + 100] ^= 1
    archive.write_bytes(content)
    message = refusal(archive, tmp_path / "out")
    assert "entry 'train/7/image.png' its checksum (CRC-32) is wrong" in message


def test_entry_renamed_in_its_own_header_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"train/a.png": b"content"})
    archive.write_bytes(archive.read_bytes().replace(b"train/a.png", b"../../a.png", 1))
    assert "is called b'../../a.png' in its own header" in refusal(archive, tmp_path / "out")


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"a": random_bytes(99), "b": random_bytes(99)})
    content = bytearray(archive.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    archive.write_bytes(content)
    assert "overlaps the entry before it" in refusal(archive, tmp_path / "out")


def test_encrypted_entry_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"a": b"secret"})
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert "'a': encrypted" in refusal(archive, tmp_path / "out")


def test_archive_is_closed_when_dropped(tmp_path: Path) -> None:
    archive = ZipArchive(make_archive(tmp_path / "a.zip"))
    descriptor = archive._descriptor
    del archive
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
