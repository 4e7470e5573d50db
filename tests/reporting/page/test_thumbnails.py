"""Protects the thumbnails: made once, never larger than asked, and never a reason to fail."""

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ademvl.reporting.page.thumbnails import SIDE, Thumbnail, Thumbnails


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.new("RGB", (4 * SIDE, 2 * SIDE), (200, 30, 30)).save(path)
    return path


def _made(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.webp")}


def test_large_images_shrink_and_small_ones_keep_their_size(tmp_path: Path, image: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "cache", tmp_path / "page")
    large = thumbnails.add(image, group="g", name="1")
    assert (large.width, large.height) == (SIDE, SIDE // 2)
    with Image.open(tmp_path / "page" / large.href) as written:
        assert written.format == "WEBP"
    Image.new("RGBA", (8, 6)).save(tmp_path / "small.png")
    small = thumbnails.add(tmp_path / "small.png", group="g", name="2")
    assert (small.href, small.width, small.height) == ("images/g/2.webp", 8, 6)


def test_second_page_makes_nothing_anew(tmp_path: Path, image: Path) -> None:
    for page in ("first", "second"):
        Thumbnails(tmp_path / "cache", tmp_path / page).add(image, group="g", name="1")
        made = _made(tmp_path / "cache")
        assert len(made) == 1
    assert _made(tmp_path / "cache") == made
    first, second = (tmp_path / page / "images/g/1.webp" for page in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_changed_image_gets_a_new_thumbnail(tmp_path: Path, image: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "cache", tmp_path / "page")
    thumbnails.add(image, group="g", name="1")
    before = (tmp_path / "page/images/g/1.webp").read_bytes()
    Image.new("RGB", (50, 40), (0, 0, 255)).save(image)
    changed = Thumbnails(tmp_path / "cache", tmp_path / "page").add(image, group="g", name="1")
    assert (changed.width, changed.height) == (50, 40)
    assert (tmp_path / "page/images/g/1.webp").read_bytes() != before


def test_damaged_thumbnail_is_made_anew(tmp_path: Path, image: Path) -> None:
    Thumbnails(tmp_path / "cache", tmp_path / "first").add(image, group="g", name="1")
    (cached,) = (tmp_path / "cache").rglob("*.webp")
    cached.write_bytes(b"")
    found = Thumbnails(tmp_path / "cache", tmp_path / "second").add(image, group="g", name="1")
    assert found.width == SIDE
    assert (tmp_path / "second" / found.href).stat().st_size > 0


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, image: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    thumbnails = Thumbnails(tmp_path / "cache", tmp_path / "page")
    found = thumbnails.add(image, group="g", name="1")
    assert (tmp_path / "page" / found.href).stat().st_size > 0
    assert thumbnails.missing == []


def test_image_in_an_archive_has_a_thumbnail_until_the_archive_changes(
    tmp_path: Path, image: Path
) -> None:
    archive, inside = tmp_path / "train.zip", tmp_path / "train" / "image.png"

    def page(name: str, other: str) -> Thumbnail | None:
        with zipfile.ZipFile(archive, "w") as written:
            written.write(image, "train/image.png")
            written.writestr("train/other.txt", other)
        return Thumbnails(tmp_path / "cache", tmp_path / name).add(inside, group="g", name="1")

    first = page("first", "")
    assert first is not None
    assert (first.width, first.height) == (SIDE, SIDE // 2)
    Image.new("RGB", (50, 40)).save(image)
    second = page("second", "longer")
    assert second is not None
    assert (second.width, second.height) == (50, 40)


def test_names_that_are_no_file_names_are_replaced(tmp_path: Path, image: Path) -> None:
    found = Thumbnails(tmp_path / "cache", tmp_path / "page").add(image, group="g", name='../"x')
    assert ".." not in found.href
    assert (tmp_path / "page" / found.href).is_file()


def test_missing_and_damaged_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG no more")
    thumbnails = Thumbnails(tmp_path / "cache", tmp_path / "page")
    for name in ("damaged.png", "absent.png"):
        assert thumbnails.add(tmp_path / name, group="g", name=name) is None
    assert [path.name for path in thumbnails.missing] == ["damaged.png", "absent.png"]
    assert not _made(tmp_path)
