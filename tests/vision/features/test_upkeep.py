"""Protects `ademvl cache ls|verify|gc`: true figures, all damage found, nothing in use removed."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ademvl.vision.features.cache import FeatureCache
from ademvl.vision.features.namespace import FeatureKey
from ademvl.vision.features.upkeep import (
    gc,
    list_namespaces,
    print_findings,
    print_garbage,
    print_namespaces,
    verify,
)
from tests.vision.features.feature_fakes import expected, make_images

KEY = FeatureKey(preprocessing="squash-64", tower="mini", precision="fp16", features="penultimate")
OTHER = replace(KEY, precision="fp32")
DAY_SECONDS = 86400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    images = make_images(tmp_path / "images", 20)
    for key in (KEY, OTHER):
        make_cache(tmp_path / "cache", key).ensure(images, expected, batch_size=4, progress=False)
    return tmp_path / "cache"


def make_cache(root: Path, key: FeatureKey) -> FeatureCache:
    return FeatureCache(root, key, shard_images=8)


def images_of(root: Path) -> list[Path]:
    return sorted((root.parent / "images").iterdir())


def files_of(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}


def damage_one(root: Path, key: FeatureKey) -> Path:
    shard = min((root / key.folder_name / "shards").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    return shard


def leave_behind(root: Path, key: FeatureKey) -> list[Path]:
    shards = root / key.folder_name / "shards"
    leftovers = [shards / ".abc.safetensors.xyz.tmp", shards / "dead.claim"]
    leftovers.append(root / key.folder_name / "claims" / "dead.claim")
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    return leftovers


def age(root: Path, key: FeatureKey, *, days: float) -> None:
    then = time.time() - days * DAY_SECONDS
    os.utime(root / key.folder_name / "use.lock", (then, then))


def test_list_tells_what_each_namespace_holds(root):
    infos = {info.key.precision: info for info in list_namespaces(root)}
    assert {precision: info.num_images for precision, info in infos.items()} == {
        "fp16": 20,
        "fp32": 20,
    }
    assert infos["fp16"].key == KEY
    assert infos["fp16"].num_shards == 3
    assert infos["fp16"].size_bytes >= 20 * 3 * 4 * 2
    assert not infos["fp16"].is_used
    with make_cache(root, KEY).open(images_of(root)):
        assert {info.key.precision for info in list_namespaces(root) if info.is_used} == {"fp16"}


def test_verify_names_each_damaged_file_and_changes_nothing(root):
    assert verify(root) == []
    shard = damage_one(root, KEY)
    description = root / OTHER.folder_name / "namespace.json"
    description.write_text("{")
    before = files_of(root)
    assert {finding.path for finding in verify(root)} == {shard, description}
    assert files_of(root) == before


def test_gc_removes_leftovers_and_damage_and_nothing_else(root):
    before = files_of(root)
    removable = {damage_one(root, KEY), *leave_behind(root, KEY)}
    dry = gc(root, dry_run=True)
    assert set(dry.removed) == removable
    assert files_of(root) == before | removable
    report = gc(root)
    assert set(report.removed) == removable
    assert report.freed_bytes == dry.freed_bytes > 0
    assert files_of(root) == before - removable
    assert verify(root) == []


def test_gc_empties_the_quarantine(root):
    damage_one(root, KEY)
    make_cache(root, KEY).ensure(images_of(root), expected, batch_size=4, progress=False)
    (put_away,) = (root / KEY.folder_name / "quarantine").iterdir()
    assert gc(root).removed == [put_away]


def test_gc_removes_old_namespaces_only_when_asked(root):
    age(root, KEY, days=40)
    assert gc(root).removed == []
    assert gc(root, older_than_days=50).removed == []
    assert gc(root, older_than_days=30, dry_run=True).removed == [root / KEY.folder_name]
    assert (root / KEY.folder_name).exists()
    assert gc(root, older_than_days=30).removed == [root / KEY.folder_name]
    assert sorted(path.name for path in root.iterdir()) == [OTHER.folder_name]


def test_opening_a_namespace_makes_it_young_again(root):
    age(root, KEY, days=40)
    make_cache(root, KEY).open(images_of(root)).close()
    assert gc(root, older_than_days=30).removed == []


def test_gc_leaves_alone_what_a_running_job_uses(root):
    reader = make_cache(root, KEY).open(images_of(root))
    age(root, KEY, days=40)
    leave_behind(root, KEY)
    report = gc(root, older_than_days=30)
    assert report.removed == []
    assert report.in_use == [root / KEY.folder_name]
    assert len(reader.read(images_of(root))) == 20
    reader.close()
    assert gc(root, older_than_days=30).removed == [root / KEY.folder_name]


def test_job_that_meets_a_removal_starts_the_namespace_anew(root):
    cache = make_cache(root, KEY)
    age(root, KEY, days=40)
    gc(root, older_than_days=30)
    report = cache.ensure(images_of(root), expected, batch_size=4, progress=False)
    assert report.num_encoded == 20


def test_gc_finishes_a_removal_that_was_killed(root):
    (root / KEY.folder_name).rename(root / ".removed-0123")
    assert gc(root).removed == [root / ".removed-0123"]
    assert [path.name for path in root.iterdir()] == [OTHER.folder_name]


def test_gc_leaves_files_that_are_not_the_caches_own(root):
    (root / "notes.txt").write_text("mine")
    (root / "folder").mkdir()
    (root / "folder" / "thing.tmp").write_text("mine too")
    gc(root, older_than_days=0)
    assert sorted(path.name for path in root.iterdir()) == ["folder", "notes.txt"]


def test_verbs_print_and_set_the_exit_code(root, capsys):
    assert print_namespaces(root) == 0
    assert "20 images in 3 shards" in capsys.readouterr().out
    assert print_findings(root) == 0
    shard = damage_one(root, KEY)
    assert print_findings(root) == 1
    assert f"{shard}: checksum is" in capsys.readouterr().out
    assert print_garbage(root, dry_run=True) == 0
    assert "would free" in capsys.readouterr().out
    assert print_namespaces(root / "nowhere") == 0
    assert "no features" in capsys.readouterr().out
