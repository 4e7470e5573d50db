"""Protects messages about wrong settings: all at once, with file and line and nearest spelling."""

from pathlib import Path
from typing import Any

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.settings_files import read_run
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from tests.config.methods_of_tests import Blind

STUDY = """\
study: s
scale: mini
datasets:
  mini: {train_questions: 0}
  real: {source: scienceqa, seed: 1}
defaults:
  dataset: mini
  method:
    gama: 0.1
    scales: [64, 60]
  optimization:
    effective_batch_size: 16
    base_lr: -1
    beta1: 1.5
runs:
  first: {}
  second:
    optimization: {per_device_batch_size: 5}
    evaluation:
      split: tset
    reported: [{table: scienceqa_test}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ademvl.config.methods_by_name._registered", {"blind": Blind})
    return tmp_path


def findings(source: Path | dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_study(source)
    return [line[4:] for line in str(caught.value).splitlines() if line.startswith("  - ")]


def study(**parts: Any) -> dict[str, Any]:
    datasets = {"mini": {"source": "easy_vqa"}}
    return {"study": "s", "datasets": datasets, "runs": {"a": {"dataset": "mini"}}, **parts}


def test_everything_that_is_wrong_is_named_once_with_its_line() -> None:
    path = Path("study.yaml")
    path.write_text(STUDY, encoding="utf-8")
    found = findings(path)
    expected = [
        "study.yaml:4: datasets.mini.train_questions: 0, expected >= 1 and <= 10000000",
        "study.yaml:5: datasets.real.seed: only with source easy_vqa or many_shapes, not scienceqa",
        "study.yaml:9: defaults.method.gama: unknown key of method adem (allowed: ",
        "study.yaml:10: defaults.method.scales.1: 60 is no square number",
        "study.yaml:13: defaults.optimization.base_lr: -1, expected >= 0 and <= 1000000",
        "study.yaml:14: defaults.optimization.beta1: 1.5, expected >= 0 and < 1",
        "study.yaml:18: runs.second.optimization.per_device_batch_size: 5 does not divide "
        "effective_batch_size 16; possible: [1, 2, 4, 8, 16]",
        "study.yaml:20: runs.second.evaluation.split: 'tset' is not allowed (allowed: val, test); "
        "did you mean test?",
        "study.yaml:21: runs.second.reported.0: missing row",
    ]
    assert len(found) == len(expected)
    for text in expected:
        assert [one for one in found if one.startswith(text)], (text, found)


def test_relation_is_about_right_fields_only() -> None:
    wrong = {"per_device_batch_size": "many", "loss_group_size": 3, "effective_batch_size": 16}
    assert findings(study(defaults={"optimization": wrong})) == [
        "defaults.optimization.per_device_batch_size: 'many', expected integer",
        "defaults.optimization.loss_group_size: 3 does not divide effective_batch_size 16",
    ]


def test_what_a_run_repeats_is_named_for_the_run_too() -> None:
    runs = {"a": {"dataset": "mini", "method": {"gamma": 2}}, "b": {"dataset": "mini"}}
    assert findings(study(defaults={"method": {"gamma": 2}}, runs=runs)) == [
        "defaults.method.gamma: 2, expected >= 0 and < 1",
        "runs.a.method.gamma: 2, expected >= 0 and < 1",
    ]


def test_relation_of_a_run_and_the_defaults_names_the_line_of_its_own_key() -> None:
    text = "study: s\ndatasets: {mini: {}}\ndefaults:\n  dataset: mini\n  optimization:\n"
    text += "    effective_batch_size: 16\n    per_device_batch_size: 16\nruns:\n  a:\n"
    Path("s.yaml").write_text(f"{text}    optimization: {{effective_batch_size: 8}}\n", "utf-8")
    (found,) = findings(Path("s.yaml"))
    assert found.startswith("s.yaml:7: runs.a.optimization.per_device_batch_size: 16 does not div")


def test_included_files_are_named_where_the_mistake_is_theirs() -> None:
    Path("common.yaml").write_text("defaults:\n  images: hidden\n", encoding="utf-8")
    Path("s.yaml").write_text("study: s\ninclude: [common.yaml]\nruns: {a: {}}\n", encoding="utf-8")
    for source in (Path("s.yaml"), {"study": "s", "include": ["common.yaml"], "runs": {"a": {}}}):
        (found,) = findings(source)
        assert found.startswith("common.yaml:2: defaults.images: 'hidden' is not allowed")


def test_included_files_are_not_named_where_the_command_line_says_something_else() -> None:
    Path("common.yaml").write_text("defaults:\n  images: shown\n", encoding="utf-8")
    raw = {"study": "s", "include": ["common.yaml"], "runs": {"a": {}}}
    (found,) = findings(raw | {"defaults": {"images": "hidden"}})
    assert found.startswith("defaults.images: 'hidden' is not allowed")


def test_later_checks_name_the_line_too() -> None:
    text = "study: s\ndatasets: {mini: {}}\nruns:\n  a: {dataset: mini, seeds: [1, 1]}\n"
    Path("s.yaml").write_text(text, encoding="utf-8")
    (found,) = findings(Path("s.yaml"))
    assert found == "s.yaml:4: runs.a.seeds: [1, 1], expected different numbers >= 0"


def test_what_is_wrong_between_runs_and_data_is_told_at_once() -> None:
    text = "study: s\nscale: paper\ndatasets: {mini: {}}\nbase_runs:\n  - a\n  - q\nruns:\n"
    text += (
        "  a: {dataset: x}\n  b: {dataset: y, evaluation_dataset: mini}\n  c-d: {dataset: mini}\n"
    )
    text += "  e: {dataset: mini, task: coco_caption, images: withheld}\n"
    Path("s.yaml").write_text(text, encoding="utf-8")
    found = findings(Path("s.yaml"))
    for expected in (
        "s.yaml:8: runs.a.dataset: 'x' is not under datasets (known: mini); name one for scienceqa",
        "s.yaml:9: runs.b.dataset: 'y' is not under datasets (known: mini); name one for scienceqa",
        "s.yaml:9: runs.b.evaluation_dataset: 'mini', but task scienceqa is evaluated on its own",
        "s.yaml:11: runs.e.images: captions cannot be trained with images withheld",
        "s.yaml:6: base_runs.1: 'q' is not under runs (known: a, b, c-d, e)",
        "s.yaml:7: runs: name 'c-d', expected text of letters A-Z a-z, digits and _",
        "s.yaml:10: runs.c-d.dataset: 'mini', which has source easy_vqa",
    ):
        assert [one for one in found if one.startswith(expected)], (expected, found)


def test_what_snakemake_passes_has_no_line() -> None:
    assert findings(study(gpus="none")) == [
        "gpus: 'none', expected `all`, a number of GPUs (0: CPU only), or a list of different "
        "indices or UUIDs such as [0, 3], as nvidia-smi -L shows them"
    ]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"name": "blind", "gamma": 0.1}, "runs.a.method.gamma: unknown key of method blind"),
        ({"name": "blind", "widht": 3}, "did you mean width?"),
        ({"name": "blind", "width": 0}, "runs.a.method.width: 0, expected >= 1"),
        ({"name": "blnd", "x": 1}, "runs.a.method.name: 'blnd' is no method (known: adem, "),
        ({"name": "blnd"}, "did you mean blind?"),
        ({"name": 3}, "runs.a.method.name: 3 is no name of a method"),
        ({"name": ["adem"]}, "runs.a.method.name: ['adem'] is no name of a method"),
        ({"clip_adapter": {"dims": 3}}, "clip_adapter.dims: unknown key (allowed: dim, "),
        ("blind", "runs.a.method: 'blind', expected object"),
    ],
)
def test_mistakes_in_a_method_name_it(method: Any, expected: str) -> None:
    (found,) = findings(study(runs={"a": {"dataset": "mini", "method": method}}))
    assert expected in found


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"runs": []}, "runs: [], expected object"),
        ({"runs": {"a": None}}, "runs.a: None, expected object"),
        ({"defaults": 3}, "defaults: 3, expected object"),
        ({"include": ["x"], "study": None}, "no such file"),
        ({"study": None}, "study: None, expected string"),
        ({"base_runs": "a"}, "base_runs: 'a', expected array"),
        ({"column_notes": {"nat": 3}}, "column_notes.nat: 3, expected string"),
        ({"column_notes": {"IMG": "x"}}, "column_notes.IMG: no column of scores (allowed: nat, "),
        ({"column_notes": {"IMG": "x"}}, "did you mean img?"),
        ({"column_notes": {"xyz": "x"}}, "column_notes.xyz: no column of scores (allowed: nat, "),
        ({"downloads": {"offline": 1}}, "downloads.offline: 1, expected boolean"),
        ({"downloads": {"retries": True}}, "downloads.retries: True, expected integer"),
        ({"downloads": {"retries": "2.5"}}, "downloads.retries: '2.5', expected integer"),
        ({"downloads": {"stall_seconds": True}}, "stall_seconds: True, expected finite number"),
        ({"runz": {}}, "runz: unknown key (allowed: study, include, "),
    ],
)
def test_values_of_another_kind_are_refused(raw: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_study(study() | raw)
    assert expected in str(caught.value)


def test_study_that_is_missing_is_named() -> None:
    raw = study()
    del raw["study"]
    assert findings(raw) == ["settings: missing study"]


@pytest.mark.parametrize("value", [3, None, ["s"]])
def test_key_that_is_wrong_is_not_missing_too(value: Any) -> None:
    assert findings(study(study=value)) == [f"study: {value!r}, expected string"]


def test_key_that_is_wrong_beside_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("study: 3\nname: n\nseed: 0\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_run(tmp_path)
    assert "2 found" in str(caught.value)
    assert "settings: missing task, data_dir" in str(caught.value)


def test_objects_built_in_code_are_checked_the_same() -> None:
    with pytest.raises(SettingsError) as caught:
        OptimizationSettings(base_lr=-1.0, eps="x")  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith("OptimizationSettings: wrong settings (2 found):")
    assert "- base_lr: -1.0, expected >= 0" in text
    assert "- eps: 'x', expected finite number" in text


def test_settings_of_a_run_name_their_line(tmp_path: Path) -> None:
    text = "study: s\nname: n\nseed: 0\ntask: scienceqa\ndata_dir: d\nimages: hidden\n"
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"- .*run\.yaml:6: images: 'hidden' is not allowed"):
        read_run(tmp_path)
