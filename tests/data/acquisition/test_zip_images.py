"""Protects images read straight from an archive: the same bytes and pixels as unpacked."""

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ademvl.data.acquisition.zip_images import (
    image_names,
    image_size_bytes,
    read_image_bytes,
)
from ademvl.data.image_checks import ImageUse, check_image_files
from ademvl.data.image_files import missing_image_findings, open_rgb
from ademvl.errors import DataError
from ademvl.vision.features.image_digests import digest_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 pictures in unpacked/train, and the same in packed/train.zip."""
    (tmp_path / "unpacked/train/1").mkdir(parents=True)
    (tmp_path / "packed").mkdir()
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "packed/train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(40):
            pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            path = tmp_path / f"unpacked/train/1/{number}.png"
            Image.fromarray(pixels).save(path)
            archive.write(path, f"train/1/{number}.png")
    return tmp_path


def both(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / "unpacked" / name, folder / "packed" / name


@pytest.mark.parametrize("read", [read_image_bytes, image_size_bytes])
def test_archive_stands_in_for_its_folder(folder: Path, read: Callable[[Path], object]) -> None:
    for number in range(40):
        unpacked, packed = both(folder, f"train/1/{number}.png")
        assert read(packed) == read(unpacked)
    assert image_names(folder / "packed/train") == image_names(folder / "unpacked/train")


def test_pixels_and_digests_are_the_same(folder: Path) -> None:
    unpacked, packed = both(folder, "train/1/7.png")
    assert np.array_equal(open_rgb(packed), open_rgb(unpacked))
    digests = digest_images([unpacked, packed], progress=False)
    assert digests[packed] == digests[unpacked]


def test_linked_archive_works_too(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data/train.zip").symlink_to(folder / "packed/train.zip")
    unpacked, _ = both(folder, "train/1/3.png")
    assert read_image_bytes(folder / "data/train/1/3.png") == unpacked.read_bytes()


def test_threads_read_one_archive_together(folder: Path) -> None:
    names = [f"train/1/{number}.png" for number in range(40)] * 25
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda name: read_image_bytes(folder / "packed" / name), names))
    assert read == [(folder / "unpacked" / name).read_bytes() for name in names]


def test_missing_images_are_listed_as_those_of_a_folder(folder: Path) -> None:
    for path in both(folder, "train/1/99.png"):
        assert missing_image_findings([("id 5", path)]) == [f"{path}: image of id 5 is missing"]
        with pytest.raises(DataError, match="no such file"):
            open_rgb(path)


def test_verification_decodes_packed_images_and_names_damaged_ones(folder: Path) -> None:
    archive = folder / "packed/train.zip"
    content = bytearray(archive.read_bytes())
    content[content.index(b"train/1/3.png") + 60] ^= 0xFF
    archive.write_bytes(content)
    uses = [
        ImageUse(str(number), f"question {number}", "train", path)
        for number in range(40)
        for path in both(folder, f"train/1/{number}.png")
    ]
    findings, num_decoded = check_image_files(uses, sample=None, seed=0, threads=2, progress=False)
    assert num_decoded == 80
    assert [(finding.kind, finding.item_ids) for finding in findings] == [("damaged_image", ("3",))]
    assert "entry 'train/1/3.png'" in findings[0].text


def test_folder_without_archive_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image_bytes(tmp_path / "train/1/3.png")
    with pytest.raises(DataError, match="there is no such folder"):
        image_names(tmp_path / "train")


def test_changed_archive_is_opened_anew(folder: Path) -> None:
    _, packed = both(folder, "train/1/3.png")
    read_image_bytes(packed)
    other = folder / "packed/other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("train/1/3.png", b"changed")
    other.replace(folder / "packed/train.zip")
    assert read_image_bytes(packed) == b"changed"
