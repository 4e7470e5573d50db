"""Protects processes that open the cache together: each reads a share, and none reads damage."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ademvl.errors import CacheError, DataError
from ademvl.vision.features import cache as cache_module
from ademvl.vision.features import image_digests
from ademvl.vision.features.cache import FeatureCache
from tests.vision.features.feature_fakes import expected, make_images
from tests.vision.features.test_cache import KEY, flip_byte

SHARD_IMAGES = 4


class Meeting:
    """Lets threads stand for processes: what each tells, all hear."""

    def __init__(self, world_size):
        self.world_size = world_size
        self.told = [None] * world_size
        self.barrier = threading.Barrier(world_size, timeout=60)

    def process(self, rank):
        return MeetingProcess(self, rank)


class MeetingProcess:
    def __init__(self, meeting, rank):
        self.meeting, self.rank, self.world_size = meeting, rank, meeting.world_size

    def gather(self, value):
        self.meeting.told[self.rank] = value
        self.meeting.barrier.wait()
        everything = list(self.meeting.told)
        self.meeting.barrier.wait()
        return everything


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "images", 40)


@pytest.fixture
def reads(monkeypatch):
    """Count how often each image and shard is read whole."""
    counts = Counter()

    def counted(module, name):
        original = getattr(module, name)

        def call(path, *arguments):
            counts[path.name] += 1
            return original(path, *arguments)

        monkeypatch.setattr(module, name, call)

    counted(image_digests, "read_image_bytes")
    counted(cache_module, "check_bytes")
    return counts


def open_together(tmp_path, images, world_size, *, fill=True):
    """Return what each process reads."""
    meeting = Meeting(world_size)

    def work(rank):
        cache = FeatureCache(
            tmp_path / "cache", KEY, shard_images=SHARD_IMAGES, processes=meeting.process(rank)
        )
        if fill:
            cache.ensure(images, expected, batch_size=3, progress=False)
        with cache.open(images) as reader:
            return reader.read(images)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(work, range(world_size)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_full_cache_is_read_once_by_all_together(tmp_path, images, reads, world_size):
    open_together(tmp_path, images, 1)
    reads.clear()
    for found in open_together(tmp_path, images, world_size):
        assert torch.equal(found, expected(images).half())
    assert len(reads) == len(images) + len(images) // SHARD_IMAGES
    assert set(reads.values()) == {1}


def test_empty_cache_is_filled_together(tmp_path, images):
    for found in open_together(tmp_path, images, 3):
        assert torch.equal(found, expected(images).half())


@pytest.mark.parametrize("number", range(4))
def test_damaged_shard_is_rebuilt_whoever_finds_it(tmp_path, images, number):
    open_together(tmp_path, images, 1)
    flip_byte(sorted((tmp_path / "cache" / KEY.folder_name / "shards").iterdir())[number:])
    for found in open_together(tmp_path, images, 2):
        assert torch.equal(found, expected(images).half())


def test_damaged_shard_is_refused_by_all_that_only_read(tmp_path, images):
    open_together(tmp_path, images, 1)
    flip_byte(sorted((tmp_path / "cache" / KEY.folder_name / "shards").iterdir()))
    with pytest.raises(CacheError, match="images without whole features"):
        open_together(tmp_path, images, 2, fill=False)


def test_missing_images_are_all_told_by_each(tmp_path, images):
    for image in images[:2]:
        image.unlink()
    with pytest.raises(DataError, match=r"0000\.png[^$]*0001\.png"):
        open_together(tmp_path, images, 2)
