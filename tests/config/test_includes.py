"""Protects studies made of other files: shared runs stand once, contradictions are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.settings_files import study_to_json
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from tests.config.methods_of_tests import Blind

COMMON = {"defaults": {"dataset": "questions"}, "datasets": {"questions": {"source": "scienceqa"}}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("common.yaml", COMMON)
    write("first.yaml", {"study": "first", "include": ["common.yaml"], "runs": {"shared": {}}})
    second = {"shared": {}, "own": {"seeds": [3]}}
    write("second.yaml", {"study": "second", "include": ["common.yaml"], "runs": second})
    return tmp_path


def write(name: str, content: object) -> None:
    Path(name).write_text(yaml.safe_dump(content), encoding="utf-8")


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_study(raw)
    return str(caught.value)


def test_runs_that_files_share_stand_once() -> None:
    study = load_study({"study": "all", "include": ["first.yaml", "second.yaml"]})
    assert [(run.name, run.seed) for run in study.runs] == [("shared", 0), ("own", 3)]
    assert study.name == "all"
    assert "include" not in study_to_json(study)


def test_including_file_goes_first() -> None:
    own = {"defaults": {"seeds": [7]}, "runs": {"own": {"seeds": [8]}}}
    study = load_study({"study": "mine", "include": ["first.yaml", "second.yaml"], **own})
    assert [(run.name, run.seed) for run in study.runs] == [("shared", 7), ("own", 8)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"runs": {"shared": {"seeds": [1]}}}, "runs.shared.seeds differs in first.yaml and other"),
        ({"defaults": {"seeds": [1]}}, "defaults.seeds differs in first.yaml and other.yaml"),
        (
            {"datasets": {"questions": {"source": "coco_caption"}}},
            "datasets.questions.source differs in first.yaml and other.yaml",
        ),
    ],
)
def test_files_that_disagree_are_refused(changes: dict[str, Any], expected: str) -> None:
    write("other.yaml", {"study": "other", "include": ["common.yaml"], **changes})
    assert expected in refusal({"study": "all", "include": ["first.yaml", "other.yaml"]})


def test_what_the_including_file_decides_is_no_disagreement() -> None:
    write("other.yaml", {"study": "other", "runs": {"shared": {"seeds": [1]}}})
    own = {"runs": {"shared": {"seeds": [2]}}}
    study = load_study({"study": "all", "include": ["first.yaml", "other.yaml"], **own})
    assert [run.seed for run in study.runs] == [2]


def test_another_method_in_the_including_file_starts_from_its_own_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ademvl.config.methods_by_name._registered", {"blind": Blind})
    base = {"include": ["common.yaml"], "runs": {"shared": {}}}
    write("base.yaml", base | {"defaults": {"method": {"gamma": 0.3}}})
    own = {"defaults": {"method": {"name": "blind", "width": 3}}}
    study = load_study({"study": "all", "include": ["base.yaml"], **own})
    assert [run.method for run in study.runs] == [Blind(width=3)]


def test_missing_and_circular_files_are_named() -> None:
    missing = refusal({"study": "all", "include": ["nosuch.yaml"]})
    assert "config: include: nosuch.yaml: no such file, neither here" in missing
    write("loop.yaml", {"study": "loop", "include": ["loop.yaml"]})
    assert "loop.yaml: include: loop.yaml includes itself" in refusal(
        {"study": "all", "include": ["loop.yaml"]}
    )
    assert "expected a list of study files" in refusal({"study": "all", "include": "first.yaml"})


def test_only_keeps_included_runs_and_own_ones_and_the_data_that_they_name() -> None:
    other = {"datasets": {"captions": {"source": "coco_caption"}}}
    runs = {"seen": {"task": "coco_caption", "dataset": "captions"}}
    write("third.yaml", {"study": "third", **other, "runs": runs})
    raw = {"study": "mine", "include": ["second.yaml", "third.yaml"], "only": ["own"]}
    study = load_study({**raw, "runs": {"mine": {}}})
    assert [run.name for run in study.runs] == ["own", "mine"]
    assert list(study.settings.datasets) == ["questions"]
    study = load_study({**raw, "only": ["seen"]})
    assert list(study.settings.datasets) == ["captions"]


def test_null_drops_an_included_run_or_data_set() -> None:
    raw = {"study": "mine", "include": ["second.yaml"], "runs": {"shared": None}}
    assert [run.name for run in load_study(raw).runs] == ["own"]
    changed = {"defaults": {"dataset": "others"}, "datasets": {"questions": None}}
    changed["datasets"]["others"] = {"source": "scienceqa"}
    study = load_study({"study": "mine", "include": ["second.yaml"], **changed})
    assert list(study.settings.datasets) == ["others"]


def test_choices_among_runs_that_no_file_has_are_refused_with_the_nearest() -> None:
    raw = {"study": "mine", "include": ["second.yaml"]}
    assert "only: 'sharde' (allowed: own, shared); did you mean shared?" in refusal(
        {**raw, "only": ["sharde"]}
    )
    assert "only: 'own', expected a list of runs" in refusal({**raw, "only": "own"})
    assert "only: []" in refusal({**raw, "only": [[]]})
    assert "runs.owm: null (allowed: own, shared); did you mean own?" in refusal(
        {**raw, "runs": {"owm": None}}
    )


def test_a_run_that_evaluates_a_dropped_adapter_is_refused() -> None:
    write("fourth.yaml", {"include": ["first.yaml"], "runs": {"again": {"adapter": "shared"}}})
    found = refusal({"study": "mine", "include": ["fourth.yaml"], "only": ["again"]})
    assert "runs.again.adapter: 'shared'" in found
