"""Protects the feature cache: right features for the right bytes, and never damaged or stale ones.

What several jobs do at once stands in test_jobs.py, the upkeep in test_upkeep.py.
"""

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ademvl.errors import CacheError, DataError
from ademvl.machine.precision import DTYPES
from ademvl.storage.files import read_json
from ademvl.vision.features.cache import FeatureCache
from ademvl.vision.features.namespace import FeatureKey
from tests.vision.features.feature_fakes import (
    SHAPE,
    encoded_names,
    expected,
    features_of,
    logging_encoder,
    make_images,
)

KEY = FeatureKey(
    preprocessing="squash-64",
    tower="mini GELU sha256:abc",
    precision="fp16",
    features="penultimate",
)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return make_images(tmp_path / "images", 20)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "encoded.log"


def make_cache(tmp_path: Path, key: FeatureKey = KEY) -> FeatureCache:
    return FeatureCache(tmp_path / "cache", key, shard_images=8)


def fill(cache: FeatureCache, images: list[Path], log: Path) -> int:
    encode = logging_encoder(log)
    return cache.ensure(images, encode, batch_size=3, progress=False).num_encoded


def shard_files(cache: FeatureCache) -> list[Path]:
    return sorted(cache.folder.glob("shards/*.safetensors"))


def assert_all_right(cache: FeatureCache, images: list[Path]) -> None:
    with cache.open(images) as reader:
        found = reader.read(images)
    assert torch.equal(found, expected(images).to(DTYPES[cache.key.precision]))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_features_come_back_in_the_stored_precision(tmp_path, images, log, precision):
    cache = make_cache(tmp_path, replace(KEY, precision=precision))
    report = cache.ensure(images, logging_encoder(log), batch_size=3, progress=False)
    assert (report.num_images, report.num_unique, report.num_encoded) == (20, 20, 20)
    assert report.bytes == 20 * 3 * 4 * DTYPES[precision].itemsize
    assert_all_right(cache, images)
    assert cache.open(images).read(images).dtype == DTYPES[precision]


def test_second_call_encodes_nothing_and_a_later_one_only_what_is_new(tmp_path, images, log):
    assert fill(make_cache(tmp_path), images[:12], log) == 12
    assert fill(make_cache(tmp_path), images[:12], log) == 0
    assert fill(make_cache(tmp_path), images, log) == 8
    assert sorted(encoded_names(log)) == [path.name for path in images]
    assert_all_right(make_cache(tmp_path), images)


def test_same_bytes_under_many_paths_are_encoded_once(tmp_path, images, log):
    copies = [tmp_path / f"copy{number}.png" for number in range(5)]
    for copy in copies:
        copy.write_bytes(images[3].read_bytes())
    cache = make_cache(tmp_path)
    report = cache.ensure(
        [*copies, *images, *copies], logging_encoder(log), batch_size=3, progress=False
    )
    assert (report.num_images, report.num_unique, report.num_encoded) == (30, 20, 20)
    assert_all_right(cache, [*copies, *images])


def test_new_bytes_under_an_old_path_are_encoded_anew(tmp_path, images, log):
    fill(make_cache(tmp_path), images, log)
    images[5].write_bytes(b"another picture")
    cache = make_cache(tmp_path)
    assert fill(cache, images, log) == 1
    assert_all_right(cache, images)


def test_image_that_changes_while_it_is_encoded_is_not_stored(tmp_path, images):
    def encode(paths):
        paths[0].write_bytes(b"written by someone else in the meantime")
        return expected(paths)

    cache = make_cache(tmp_path)
    with pytest.raises(DataError, match=f"changed while encoded.*\n.*{images[0].name}"):
        cache.ensure(images, encode, batch_size=8, progress=False)
    assert shard_files(cache) == []


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": "squash-32"},
        {"tower": "mini QuickGELU sha256:abc"},
        {"tower": "mini GELU sha256:abd"},
        {"precision": "bf16"},
        {"features": "all blocks but the last, without ln_post"},
    ],
)
def test_each_part_of_the_key_has_its_own_features(tmp_path, images, log, change):
    fill(make_cache(tmp_path), images, log)
    other = make_cache(tmp_path, replace(KEY, **change))
    with pytest.raises(CacheError, match="ademvl features"):
        other.open(images)
    assert fill(other, images, log) == 20
    assert other.folder != make_cache(tmp_path).folder


def test_namespace_says_for_people_what_it_holds(tmp_path, images, log):
    cache = make_cache(tmp_path)
    fill(cache, images, log)
    description = read_json(cache.folder / "namespace.json", remedy="")
    assert description["tower"] == KEY.tower
    assert description["preprocessing"] == KEY.preprocessing
    assert description["precision"] == "fp16"
    assert cache.folder.name.startswith("mini-GELU-sha256-abc-fp16-")


def test_batches_and_shards_keep_their_limits(tmp_path, images):
    sizes = []
    announced = []

    def encode(paths):
        sizes.append(len(paths))
        return expected(paths)

    cache = make_cache(tmp_path)
    cache.ensure(images, encode, batch_size=3, progress=False, announce=announced.append)
    assert sizes == [3, 3, 2, 3, 3, 2, 3, 1]
    assert [len(paths) for paths in announced] == [8, 8, 4]
    assert len(shard_files(cache)) == 3


def flip_byte(shards: list[Path]) -> None:
    content = bytearray(shards[0].read_bytes())
    content[-5] ^= 1
    shards[0].write_bytes(content)


def flip_header_byte(shards: list[Path]) -> None:
    content = bytearray(shards[0].read_bytes())
    content[content.index(b'"images":"') + 30] ^= 1
    shards[0].write_bytes(content)


def truncate(shards: list[Path]) -> None:
    os.truncate(shards[0], shards[0].stat().st_size // 2)


def empty(shards: list[Path]) -> None:
    shards[0].write_bytes(b"")


def swap(shards: list[Path]) -> None:
    aside = shards[0].with_suffix(".aside")
    shards[0].rename(aside)
    shards[1].rename(shards[0])
    aside.rename(shards[1])


@pytest.mark.parametrize("damage", [flip_byte, flip_header_byte, truncate, empty, swap])
def test_damaged_shard_is_never_read_and_rebuilt(tmp_path, images, log, caplog, damage):
    cache = make_cache(tmp_path)
    fill(cache, images, log)
    damage(shard_files(cache))
    later = make_cache(tmp_path)
    with caplog.at_level(logging.WARNING), pytest.raises(CacheError, match="ademvl features"):
        later.open(images)
    assert "damaged shard put away" in caplog.text
    num_encoded = fill(later, images, log)
    assert 0 < num_encoded <= 16
    assert_all_right(later, images)
    assert list(later.folder.glob("quarantine/*"))


def test_ensure_alone_repairs_before_a_reader_looks(tmp_path, images, log):
    fill(make_cache(tmp_path), images, log)
    flip_byte(shard_files(make_cache(tmp_path)))
    later = make_cache(tmp_path)
    assert fill(later, images, log) in (4, 8)
    assert_all_right(later, images)


def test_shard_of_another_namespace_is_not_read(tmp_path, images, log):
    other = make_cache(tmp_path, replace(KEY, tower="other weights"))
    other.ensure(images, lambda paths: -expected(paths), batch_size=3, progress=False)
    cache = make_cache(tmp_path)
    fill(cache, [], log)
    for shard in shard_files(other):
        (cache.folder / "shards" / shard.name).write_bytes(shard.read_bytes())
    assert fill(cache, images, log) == 20
    assert_all_right(cache, images)


def test_full_disk_leaves_no_half_shard_and_keeps_finished_ones(tmp_path, images, log, monkeypatch):
    cache = make_cache(tmp_path)
    fill(cache, images[:8], log)

    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_half)
        with pytest.raises(CacheError, match=r"the disk is full.*shared_dir"):
            fill(cache, images, log)
    names = {path.name for path in (cache.folder / "shards").iterdir()}
    assert names == {shard.name for shard in shard_files(cache)}
    assert len(names) == 1
    assert fill(cache, images, log) == 12
    assert_all_right(cache, images)


def test_disk_that_damages_all_it_is_given_ends_the_job(tmp_path, images, log, monkeypatch):
    def write_other_bytes(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            return stream.write(b"\0" + content[1:])

    monkeypatch.setattr(Path, "write_bytes", write_other_bytes)
    with pytest.raises(CacheError, match="Check the disk"):
        fill(make_cache(tmp_path), images, log)


def test_error_of_the_encoder_is_not_blamed_on_the_cache(tmp_path, images, log):
    def encode(paths):
        raise OSError(errno.EIO, "camera on fire")

    cache = make_cache(tmp_path)
    with pytest.raises(OSError, match="camera on fire"):
        cache.ensure(images, encode, batch_size=3, progress=False)
    assert fill(cache, images, log) == 20


def test_too_small_a_disk_is_told_before_anything_is_encoded(tmp_path, images, log):
    cache = make_cache(tmp_path)
    needed = 1 << 60
    with pytest.raises(CacheError, match=r"for 20 images are needed, and .* are free there"):
        cache.ensure(
            images, logging_encoder(log), batch_size=3, progress=False, image_bytes=needed // 20
        )
    assert not log.exists()
    assert fill(cache, images, log) == 20


def test_room_is_asked_for_missing_images_only(tmp_path, images, log):
    cache = make_cache(tmp_path)
    fill(cache, images, log)
    report = cache.ensure(
        images, logging_encoder(log), batch_size=3, progress=False, image_bytes=1 << 60
    )
    assert report.num_encoded == 0


def test_features_too_large_for_the_precision_are_refused(tmp_path, images):
    def encode(paths):
        return expected(paths) + torch.tensor([0.0 if p != images[1] else 1e6 for p in paths]).view(
            -1, 1, 1
        )

    cache = make_cache(tmp_path)
    with pytest.raises(CacheError, match=f"not finite in fp16.*\n.*{images[1].name}"):
        cache.ensure(images, encode, batch_size=3, progress=False)


def test_tower_that_changes_its_shape_under_one_key_is_refused(tmp_path, images, log):
    cache = make_cache(tmp_path)
    fill(cache, images[:8], log)
    with pytest.raises(ValueError, match="does not tell two towers apart"):
        cache.ensure(images, lambda p: expected(p)[:, :2], batch_size=3, progress=False)


def test_missing_images_are_all_listed(tmp_path, images, log):
    images[2].unlink()
    images[7].unlink()
    with pytest.raises(DataError, match=r"(?s)2 found.*0002\.png.*0007\.png"):
        fill(make_cache(tmp_path), images, log)


def test_reader_refuses_what_it_was_not_opened_for(tmp_path, images, log):
    cache = make_cache(tmp_path)
    fill(cache, images, log)
    with pytest.raises(ValueError, match=images[9].name):
        cache.open(images[:9]).read(images[8:10])


def test_reader_gives_copies_in_the_order_asked(tmp_path, images, log):
    cache = make_cache(tmp_path)
    fill(cache, images, log)
    reader = cache.open(images)
    asked = [images[17], images[0], images[17], images[9]]
    first = reader.read(asked)
    first.zero_()
    assert torch.equal(reader.read(asked).float(), expected(asked))
    assert reader.read([]).shape == (0, *SHAPE)


def test_no_images_at_all_is_no_error(tmp_path):
    cache = make_cache(tmp_path)
    assert cache.ensure([], features_of, batch_size=3, progress=False).num_encoded == 0
    cache.open([]).close()


def test_cache_of_another_user_can_be_read(tmp_path, images, log):
    cache = make_cache(tmp_path)
    fill(cache, images, log)
    folders = [cache.folder, cache.folder / "shards"]
    for folder in folders:
        folder.chmod(0o555)
    (cache.folder / "use.lock").chmod(0o444)
    if os.access(cache.folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    later = make_cache(tmp_path)
    assert fill(later, images, log) == 0
    assert_all_right(later, images)
    more = make_images(tmp_path / "more", 21)[20:]
    with pytest.raises(CacheError, match="write permission"):
        fill(later, more, log)
    for folder in folders:
        folder.chmod(0o755)
