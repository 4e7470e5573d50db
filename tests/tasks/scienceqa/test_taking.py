"""Protects data sets that are cut down to some questions of each split."""

import json

import pytest

from ademvl.config.dataset import DatasetSettings
from ademvl.config.study import load_study
from ademvl.data.links import write_json_in_tree
from ademvl.errors import DataError, SettingsError
from ademvl.tasks.layout import make_dataset
from ademvl.tasks.scienceqa.reader import load_scienceqa
from ademvl.tasks.verification import verify_dataset
from tests import tiny

TAKE = {"train": 5, "test": 2}


@pytest.fixture
def copy(tmp_path):
    folder = tiny.make_scienceqa(tmp_path / "copy", num_train=12, num_val=2, num_test=4)
    problems = json.loads((folder / "problems.json").read_text())
    captions = {"captions": {key: f"caption {key}" for key in problems}}
    (folder / "captions.json").write_text(json.dumps(captions))
    return folder


def make(tmp_path, copy, name="cut", **changes):
    settings = DatasetSettings(source="scienceqa", existing=str(copy), **changes)
    manifest = tmp_path / "shared" / "data" / name / "manifest.json"
    make_dataset(manifest, settings)
    return manifest.parent


def test_so_many_questions_of_each_split_are_kept_in_order(tmp_path, copy):
    before = {path.name: path.read_bytes() for path in copy.glob("*.json")}
    whole = load_scienceqa(copy)
    cut = load_scienceqa(make(tmp_path, copy, take=TAKE) / "scienceqa")
    sizes = {name: len(cut.split(name)) for name in ("train", "val", "test")}
    assert sizes == {"train": 5, "val": 2, "test": 2}
    for name in sizes:
        ids = [problem.question_id for problem in whole.split(name)]
        places = [ids.index(problem.question_id) for problem in cut.split(name)]
        assert places == sorted(places)
    assert {path.name: path.read_bytes() for path in copy.glob("*.json")} == before


def test_the_choice_is_the_same_every_time(tmp_path, copy):
    once = load_scienceqa(make(tmp_path, copy, "once", take=TAKE) / "scienceqa")
    again = load_scienceqa(make(tmp_path, copy, "again", take=TAKE) / "scienceqa")
    assert once.splits == again.splits
    assert [p.question_id for p in once.split("train")] != ["1", "2", "3", "4", "5"]


def test_a_cut_data_set_is_verified_without_the_published_sizes(tmp_path, copy):
    folder = make(tmp_path, copy, take=TAKE)
    report = verify_dataset(folder)
    assert report.has_passed
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"]["questions_before_take"] == {"train": 12, "test": 4}


def test_unknown_splits_and_negative_numbers_are_refused(tmp_path, copy):
    with pytest.raises(DataError, match="has no split 'dev'"):
        make(tmp_path, copy, take={"dev": 3})
    with pytest.raises(SettingsError, match=r"take\.train: -1"):
        DatasetSettings(source="scienceqa", take={"train": -1})


def test_the_key_belongs_to_scienceqa_and_is_absent_where_it_is_idle():
    assert "take" not in DatasetSettings(source="scienceqa").to_plain()
    study = {
        "study": "s",
        "datasets": {"coco": {"source": "coco_caption", "take": {"train": 3}}},
        "runs": {"a": {"dataset": "coco", "task": "coco_caption"}},
    }
    with pytest.raises(SettingsError, match=r"datasets\.coco\.take: only with source scienceqa"):
        load_study(study)


def test_what_a_tree_links_to_is_never_written(tmp_path):
    original = tmp_path / "theirs.json"
    original.write_text('{"theirs": 1}')
    (tmp_path / "link.json").symlink_to(original)
    write_json_in_tree(tmp_path / "link.json", {"ours": 2})
    assert json.loads(original.read_text()) == {"theirs": 1}
    assert json.loads((tmp_path / "link.json").read_text()) == {"ours": 2}
