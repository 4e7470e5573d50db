"""Protects the feature cache against several jobs at once and against jobs that are killed."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from ademvl.storage.files import sha256_file, write_bytes
from ademvl.storage.locks import lock_file
from ademvl.vision.features.cache import FeatureCache
from ademvl.vision.features.namespace import FeatureKey, Namespace
from ademvl.vision.features.shards import signature
from tests.vision.features.feature_fakes import (
    encoded_names,
    expected,
    logging_encoder,
    make_images,
)
from tests.waiting import finish, wait_until

KEY = FeatureKey(preprocessing="squash-64", tower="mini", precision="fp32", features="penultimate")
SHARD_IMAGES = 8
NUM_IMAGES = 120
PROCESSES = multiprocessing.get_context("fork")


def fill(root: Path, images: list[Path], log: Path, seconds_per_image: float) -> None:
    cache = FeatureCache(root, KEY, shard_images=SHARD_IMAGES)
    encode = logging_encoder(log, seconds_per_image=seconds_per_image)
    cache.ensure(images, encode, batch_size=4, progress=False)


def start(root: Path, images: list[Path], log: Path, seconds_per_image: float = 0.0):
    process = PROCESSES.Process(
        target=fill, args=(root, images, log, seconds_per_image), daemon=True
    )
    process.start()
    return process


def start_stuck(root: Path, images: list[Path], log: Path):
    """Start a job that holds a claim on the first images until it is killed."""
    process = start(root, images, log, seconds_per_image=600.0)
    claims = root / KEY.folder_name / "claims"
    wait_until(lambda: list(claims.glob("*.claim")), "images are claimed", processes=[process])
    lock_file(root / KEY.folder_name / "index.lock").release()  # waits until the claim is whole
    return process


def fill_telling(root: Path, images: list[Path], log: Path, num_pauses) -> None:
    def counted_pause(_seconds: float) -> None:
        num_pauses.value += 1
        sleep(0.01)

    sleep, time.sleep = time.sleep, counted_pause
    fill(root, images, log, 0.0)


def start_waiting(root: Path, images: list[Path], log: Path):
    """Start a job that finds all images claimed; return when it has looked again, in vain."""
    num_pauses = PROCESSES.Value("i", 0, lock=False)
    process = PROCESSES.Process(
        target=fill_telling, args=(root, images, log, num_pauses), daemon=True
    )
    process.start()
    wait_until(lambda: num_pauses.value >= 2, "the job waits", processes=[process])
    return process


def assert_whole(root: Path, images: list[Path]) -> None:
    cache = FeatureCache(root, KEY)
    with cache.open(images) as reader:
        assert torch.equal(reader.read(images), expected(images))
    kinds = Counter(path.suffix for path in (cache.folder / "shards").iterdir())
    assert set(kinds) == {".safetensors"}
    assert not list((cache.folder / "claims").iterdir())


def test_killed_at_random_moments_it_loses_at_most_a_shard_each_time(tmp_path):
    images = make_images(tmp_path / "images", NUM_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    moments = random.Random(7)
    num_kills = 12
    for _ in range(num_kills):
        process = start(root, images, log, seconds_per_image=0.001)
        time.sleep(moments.uniform(0.005, 0.06))
        process.kill()
        process.join()
    fill(root, images, log, 0.0)
    assert_whole(root, images)
    assert len(encoded_names(log)) <= NUM_IMAGES + num_kills * SHARD_IMAGES


@pytest.mark.parametrize("overlap", ["same", "partial"])
def test_jobs_at_once_share_the_work_without_doubling_any(tmp_path, overlap):
    images = make_images(tmp_path / "images", NUM_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    shuffled = random.Random(3).sample(images, NUM_IMAGES)
    lists = {
        "same": [images, images[::-1], shuffled],
        "partial": [images[:80], shuffled[:70], images[40:]],
    }[overlap]
    jobs = [start(root, part, log, seconds_per_image=0.002) for part in lists]
    assert finish(*jobs) == [0, 0, 0]
    assert max(Counter(encoded_names(log)).values()) == 1
    for part in lists:
        assert_whole(root, part)


def test_claim_of_a_killed_job_is_taken_over_by_one_that_waits(tmp_path):
    images = make_images(tmp_path / "images", SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    slow = start_stuck(root, images, log)
    waiting = start_waiting(root, images, log)
    slow.kill()
    slow.join()
    assert finish(waiting) == [0]
    assert_whole(root, images)


def test_stopped_job_does_not_hold_up_those_that_need_other_images(tmp_path):
    images = make_images(tmp_path / "images", 3 * SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    slow = start_stuck(root, images, log)
    os.kill(slow.pid, signal.SIGSTOP)
    fill(root, images[SHARD_IMAGES:], log, 0.0)
    with FeatureCache(root, KEY).open(images[SHARD_IMAGES:]) as reader:
        assert len(reader.read(images[SHARD_IMAGES:])) == 2 * SHARD_IMAGES
    slow.kill()
    slow.join()


def test_two_jobs_that_both_find_a_shard_damaged_rebuild_it_once(tmp_path):
    images = make_images(tmp_path / "images", NUM_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    fill(root, images, log, 0.0)
    shard = min((root / KEY.folder_name / "shards").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 255
    shard.write_bytes(content)
    jobs = [start(root, images, log) for _ in range(3)]
    assert finish(*jobs) == [0, 0, 0]
    assert_whole(root, images)
    assert len(encoded_names(log)) == NUM_IMAGES + SHARD_IMAGES


def test_temporary_files_are_cleared_only_when_nobody_can_be_writing_them(tmp_path):
    images = make_images(tmp_path / "images", 2 * SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    slow = start_stuck(root, images, log)
    half = root / KEY.folder_name / "shards" / ".abc.safetensors.xyz.tmp"
    half.write_bytes(b"half a shard")
    fill(root, images[SHARD_IMAGES:], log, 0.0)
    assert half.exists()
    slow.kill()
    slow.join()
    fill(root, images, log, 0.0)
    assert not half.exists()
    assert_whole(root, images)


def test_shard_that_another_job_has_repaired_meanwhile_stays(tmp_path):
    images = make_images(tmp_path / "images", SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    fill(root, images, log, 0.0)
    (shard,) = (root / KEY.folder_name / "shards").glob("*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    seen = signature(shard)
    write_bytes(shard, whole)
    Namespace(root, KEY).quarantine(shard.name, "was damaged", seen)
    assert_whole(root, images)


def test_claim_whose_content_has_not_arrived_is_waited_for(tmp_path):
    images = make_images(tmp_path / "images", 4)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    claims = root / KEY.folder_name / "claims"
    claims.mkdir(parents=True)
    claim = lock_file(claims / "abc.claim")
    job = start_waiting(root, images, log)
    claim.release()
    assert finish(job) == [0]
    assert_whole(root, images)


def test_job_killed_between_its_shard_and_the_log_loses_nothing(tmp_path):
    images = make_images(tmp_path / "images", 3 * SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"

    def fill_until_a_shard_is_there() -> None:
        Namespace.release = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        fill(root, images, log, 0.0)

    killed = PROCESSES.Process(target=fill_until_a_shard_is_there, daemon=True)
    namespace = Namespace(root, KEY)
    with namespace.hold(create=True):
        namespace.refresh()
        num_missing = namespace.want([sha256_file(image) for image in images])
        killed.start()
        killed.join()
        claim, num_left = namespace.claim(limit=SHARD_IMAGES)
        assert (num_missing, num_left) == (3 * SHARD_IMAGES, 2 * SHARD_IMAGES)
        assert not {*claim.images} & {*namespace.index}
        namespace.release(claim, None)
    fill(root, images, log, 0.0)
    assert_whole(root, images)
    assert len(encoded_names(log)) == len(images)


def test_claims_learn_of_shards_from_the_log_alone(tmp_path, monkeypatch):
    images = make_images(tmp_path / "images", 4 * SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    namespace = Namespace(root, KEY)
    with namespace.hold(create=True):
        namespace.refresh()
        namespace.want([sha256_file(image) for image in images])
        fill(root, images[: 2 * SHARD_IMAGES], log, 0.0)
        monkeypatch.setattr(namespace, "_scan", None)
        claim, num_left = namespace.claim(limit=len(images))
        assert num_left == len(claim.images) == 2 * SHARD_IMAGES
        namespace.release(claim, None)


@pytest.mark.parametrize(
    "damage", [lambda log: log.unlink(), lambda log: log.write_bytes(b"../half a li\xff")]
)
def test_damaged_log_makes_no_wrong_features(tmp_path, damage):
    images = make_images(tmp_path / "images", 4 * SHARD_IMAGES)
    root, log = tmp_path / "cache", tmp_path / "encoded.log"
    fill(root, images[:SHARD_IMAGES], log, 0.0)
    waiting = start_stuck(root, images, log)
    damage(root / KEY.folder_name / "shards.log")
    fill(root, images[2 * SHARD_IMAGES :], log, 0.0)
    waiting.kill()
    waiting.join()
    fill(root, images, log, 0.0)
    assert_whole(root, images)
    assert len(encoded_names(log)) == len(images)
