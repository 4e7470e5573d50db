"""Protects what is said to differ between two sets of results, and whether it matters."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ademvl.bundle.archive import open_results, write_bundle
from ademvl.bundle.difference import ResultsDifference, compare_results
from ademvl.bundle.records import Results
from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.storage.files import write_json
from tests.bundle.finished import FinishedStudy, usual


def one_in_ten_worse(place: int, right: int, seed: int) -> int:
    return 1 - right if place % 10 < 3 else usual(place, right, seed)


def one_other(place: int, right: int, seed: int) -> int:
    return 1 - usual(place, right, seed) if place == 5 else usual(place, right, seed)


def difference(first: Path, second: Path) -> ResultsDifference:
    return compare_results(*(Results(str(p), open_results(p)) for p in (first, second)))


def verdicts(found: ResultsDifference) -> dict[str, str]:
    return {run.run: run.verdict for run in found.runs}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return FinishedStudy(tmp_path / "a").finish()


def second_study(tmp_path: Path, **changes: Any) -> FinishedStudy:
    return FinishedStudy(tmp_path / "b", **changes)


def test_bundle_and_the_folder_that_it_is_of_are_the_same(first: Path, tmp_path: Path) -> None:
    write_bundle(first, tmp_path / "a.zip")
    found = difference(first, tmp_path / "a.zip")
    assert verdicts(found) == {"adem": "same", "other": "same"}
    assert found.is_same
    assert not found.matters
    assert set(found.tables.values()) == {"same"}


def test_single_other_answers_of_the_same_experiment_are_rounding(
    first: Path, tmp_path: Path
) -> None:
    found = difference(first, second_study(tmp_path).finish(predict=one_other))
    assert verdicts(found) == {"adem": "rounding", "other": "rounding"}
    run = found.runs[0]
    assert (run.num_items, run.num_identical) == (60, 59)
    assert not found.matters
    assert not found.is_same


def test_the_same_with_other_settings_is_indistinguishable(first: Path, tmp_path: Path) -> None:
    study = second_study(tmp_path)
    study.raw["runs"]["adem"]["optimization"] = {"weight_decay": 0.05}
    found = difference(first, study.finish(predict=one_other))
    run = found.runs[0]
    assert run.verdict == "indistinguishable"
    (change,) = run.settings
    assert (change.name, change.first, change.second) == ("optimization.weight_decay", 0.02, 0.05)
    assert verdicts(found)["other"] == "rounding"


def test_significant_difference_matters(first: Path, tmp_path: Path) -> None:
    found = difference(first, second_study(tmp_path).finish(predict=one_in_ten_worse))
    run = next(run for run in found.runs if run.run == "other")
    assert run.verdict == "different"
    assert run.reason.endswith("these adapters differ; one seed says nothing about the settings")
    assert run.paired is not None
    # `usual` is wrong at places 0, 4, 8, ...; the other also where the last digit is 0, 1 or 2.
    worse = sum(place % 10 < 3 and place % 4 != 0 for place in range(60))
    assert run.paired.difference.value == pytest.approx(worse / 60)
    (test,) = run.paired.tests
    assert (test.only_first, test.only_second) == (worse, 0)
    assert found.matters


def test_several_seeds_say_something_about_settings(first: Path, tmp_path: Path) -> None:
    def always_wrong(place: int, right: int, seed: int) -> int:
        return 1 - right

    found = difference(first, second_study(tmp_path).finish(predict=always_wrong))
    excludes = "the 95 % interval of the difference in accuracy excludes 0"
    # Two seeds each: two degrees of freedom of their spread.
    few = f"{excludes}: these adapters differ; so few seeds say nothing about the settings"
    assert found.runs[0].reason == few


def test_settings_that_are_left_out_at_their_default_do_not_differ(
    first: Path, tmp_path: Path
) -> None:
    study = second_study(tmp_path)
    folder = study.finish()
    path = folder / "runs/adem/seed0/run.yaml"
    path.write_text(path.read_text().replace("method:\n", "method:\n  drop_by: value\n"))
    (adem, _) = difference(first, folder).runs
    assert adem.settings == ()


def test_run_of_one_side_matters(first: Path, tmp_path: Path) -> None:
    found = difference(first, second_study(tmp_path).finish(only=("adem",)))
    assert found.only_first == ("other",)
    assert found.matters


def test_other_right_answers_are_not_comparable(first: Path, tmp_path: Path) -> None:
    study = second_study(tmp_path)
    path = study.data / "problems.json"
    problems = json.loads(path.read_text())
    for problem in problems.values():
        problem["answer"] = 1 - problem["answer"]
    path.write_text(json.dumps(problems))
    found = difference(first, study.finish())
    assert verdicts(found) == {"adem": "not comparable", "other": "not comparable"}
    assert "right answers to 60 of 60 common items differ" in found.runs[0].reason
    assert found.matters


def test_results_without_predictions_are_comparable_only_where_they_are_equal(
    first: Path, tmp_path: Path
) -> None:
    second = second_study(tmp_path).finish(predict=one_other)
    for path in second.glob("runs/*/*/predictions/*"):
        path.unlink()
    (adem, _) = difference(first, second).runs
    assert adem.verdict == "not comparable"
    assert "no predictions" in adem.reason


def test_data_packages_code_and_hardware_are_listed(first: Path, tmp_path: Path) -> None:
    study = second_study(tmp_path)
    study.trained_on = {"problems.json": "sha256:2"}
    second = study.finish()
    for path in second.glob("runs/*/*/provenance.json"):
        content = json.loads(path.read_text())
        content["packages"]["torch"] = "2.16.0"
        content["hardware"]["gpus"] = ["Some GPU"]
        write_json(path, content)
    found = difference(first, second)
    environment = {change.name: (change.first, change.second) for change in found.environment}
    assert environment["packages.torch"] == ("2.15.0", "2.16.0")
    assert environment["hardware.gpus"] == ("", "Some GPU")
    assert [change.name for change in found.runs[0].inputs] == ["data/problems.json"]
    assert verdicts(found)["adem"] == "same"  # what was predicted is what counts


def test_seeds_may_differ(first: Path, tmp_path: Path) -> None:
    study = second_study(tmp_path)
    study.raw = deepcopy(study.raw)
    study.raw["runs"]["adem"]["seeds"] = [1]
    run = difference(first, study.finish()).runs[0]
    assert run.verdict == "indistinguishable"
    assert run.seeds == ((0, 1), (1,))
    assert (run.num_items, run.num_identical) == (60, 60)  # of the seed that both have


@pytest.mark.parametrize(
    ("predict", "strict", "code"),
    [(usual, True, 0), (one_other, False, 0), (one_other, True, 1), (one_in_ten_worse, False, 1)],
)
def test_exit_code_says_whether_it_matters(
    first: Path, tmp_path: Path, predict: Any, strict: bool, code: int
) -> None:
    second = second_study(tmp_path).finish(predict=predict)
    options = ["--strict"] if strict else []
    assert main(["diff", str(first), str(second), *options]) == code


def test_text_begins_with_the_verdict(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = second_study(tmp_path).finish(predict=one_in_ten_worse)
    main(["diff", str(first), str(second)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("differ: other") or lines[0].endswith("differ: adem, other")
    assert any(line.startswith("other: different (the 95 % interval") for line in lines)
    assert any("n = 60, 1 and 1 seeds" in line for line in lines)


def test_json_holds_everything(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = second_study(tmp_path).finish(predict=one_in_ten_worse)
    main(["diff", str(first), str(second), "--json"])
    content = json.loads(capsys.readouterr().out)
    run = content["runs"]["other"]
    assert run["verdict"] == "different"
    assert run["paired"]["ci_low"] > 0
    assert run["paired"]["mcnemar"][0]["only_second"] == 0
    assert content["matters"]


def test_damaged_bundle_ends_with_code_2(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04")
    assert main(["diff", str(first), str(tmp_path / "bad.zip")]) == 2
    assert "bad.zip: truncated, or no zip archive" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("scores/scienceqa.json", "columns"),
        ("scores/scienceqa.json", "header"),
        ("provenance.json", "packages"),
        ("provenance.json", "checksums"),
    ],
)
@pytest.mark.parametrize("value", [["a"], "a", 1])
def test_list_or_text_in_the_place_of_an_object_is_named(
    first: Path, name: str, key: str, value: object
) -> None:
    place = f"runs/adem/seed0/{name}"
    bundle = open_results(first)
    content = {**json.loads(bundle.files[place]), key: value}
    damaged = replace(bundle, files={**bundle.files, place: json.dumps(content).encode()})
    with pytest.raises(DataError, match=rf"b\.zip: {place}: {key} holds a .*not an object"):
        compare_results(Results("a.zip", bundle), Results("b.zip", damaged))
