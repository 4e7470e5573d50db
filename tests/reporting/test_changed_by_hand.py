"""Protects tables from scores on other data than the rest, and from those changed by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import main
from ademvl.config.study import load_study
from ademvl.errors import DataError
from ademvl.evaluation.sealed_scores import seal_of_scores
from ademvl.reporting.headlines import find_headlines
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import StudyResults, read_results
from ademvl.reporting.summary import main_table
from ademvl.reporting.tables.build import render_tables
from tests.bundle.finished import FinishedStudy
from tests.conftest import PROJECT_ROOT

REPORTED = PROJECT_ROOT / "workflow" / "reported"


class Evaluated(FinishedStudy):
    """A run, its text-only control, and one more, all evaluated on the same questions."""

    def __init__(self, root: Path) -> None:
        runs = {
            "adem": {"label": "ADEM"},
            "online": {"label": "online", "features": {"mode": "online"}},
            "control": {"label": "control", "images": "withheld"},
        }
        super().__init__(root, runs=runs)
        self.folder = self.finish()

    def results(self, **options: Any) -> StudyResults:
        return read_results(load_study(self.raw), **options)

    def states(self) -> dict[str, str]:
        return {run.name: run.state for run in self.results().runs}

    def scores(self, run: str) -> Path:
        return self.folder / "runs" / run / "seed0" / "scores" / "scienceqa.json"

    def predictions(self, run: str) -> Path:
        return self.folder / "runs" / run / "seed0" / "predictions" / "scienceqa.jsonl"


@pytest.fixture
def study(tmp_path: Path) -> Evaluated:
    return Evaluated(tmp_path)


def change_answers(data: Path) -> None:
    path = data / "problems.json"
    problems = json.loads(path.read_text())
    for problem in problems.values():
        problem["answer"] = 1 - problem["answer"]
    path.write_text(json.dumps(problems))


def change_texts(data: Path) -> None:
    path = data / "problems.json"
    path.write_text(path.read_text().replace("color", "colour"))


def change_images(data: Path) -> None:
    first, second, *_ = sorted(data.glob("images/test/*/*.png"))
    first.write_bytes(second.read_bytes())


CHANGES: dict[str, tuple[Callable[[Path], None], str, set[str]]] = {
    "answers": (change_answers, "answers", {"adem", "online", "control"}),
    "texts": (change_texts, "texts", {"adem", "online", "control"}),
    "images, which the control does not see": (change_images, "images", {"adem", "online"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_scores_on_other_data_than_there_is_now_are_stale(study: Evaluated, name: str) -> None:
    change, part, stale = CHANGES[name]
    change(study.data)
    results = study.results()
    assert {run.name for run in results.runs if run.state == "stale"} == stale
    reason = f"scored on other {part} than data set squares holds now"
    assert {run.seeds[0].reason for run in results.runs if run.name in stale} == {reason}
    tables = render_tables(results, load_reported(REPORTED))
    assert f"Left out, {reason.replace('_', chr(92) + '_')}" in tables["accuracy.md"]
    assert f"Left out, {reason}: seed 0." in " ".join(main_table(results, load_reported()).split())


@pytest.mark.parametrize("name", CHANGES)
def test_run_that_was_evaluated_again_is_not_compared_with_the_others(
    study: Evaluated, name: str
) -> None:
    assert len(find_headlines(study.results())) == 3
    change, _, _ = CHANGES[name]
    change(study.data)
    study.finish(only=("online",))
    assert study.states()["online"] == "finished"
    assert study.states()["adem"] == "stale"
    compared = [found.run.name for found in find_headlines(study.results())]
    assert compared == (["online"] if "control" in name else [])


def test_without_the_data_set_the_first_run_says_what_is_right(study: Evaluated) -> None:
    change_answers(study.data)
    study.finish(only=("control",))
    shutil.rmtree(study.data)
    assert study.states() == {"adem": "finished", "online": "finished", "control": "stale"}
    (control,) = study.results().runs[2].seeds
    assert control.reason == "scored on other answers than the study's first run on it"


def test_split_that_nobody_is_asked_may_change(study: Evaluated) -> None:
    path = study.data / "problems.json"
    problems = json.loads(path.read_text())
    for problem in problems.values():
        if problem["split"] == "train":
            problem["answer"] = 1 - problem["answer"]
    path.write_text(json.dumps(problems))
    results = study.results()
    assert {run.state for run in results.runs} == {"finished"}
    assert all(seed.trained_on_other for run in results.runs for seed in run.seeds)


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a number": (
        lambda scores: scores["columns"]["AVG"].update(percent=99.9, ci_low=99.0, ci_high=100.0),
        r"changed since they were written; .*AVG: percent is 99\.9, not 75\.0000",
    ),
    "another number of right answers": (
        lambda scores: scores["columns"]["IMG"].update(correct=1),
        "changed since they were written; .*IMG: correct is 1, not",
    ),
    "a column left out": (
        lambda scores: scores["columns"].update(IMG=None),
        "changed since they were written; .*IMG is None",
    ),
    "the end of an interval": (
        lambda scores: scores["columns"]["AVG"].update(ci_high=75.1),
        "changed since they were written",
    ),
    "no seal": (lambda scores: scores.pop("seal"), "changed since they were written"),
    "percent": (lambda s: s["columns"]["AVG"].update(percent=150), "AVG: percent is 150, outside"),
    "n": (lambda scores: scores["columns"]["AVG"].update(n=1.5), r"AVG: n is 1\.5, not a count"),
    "sealed again": (
        lambda scores: (
            scores["columns"]["AVG"].update(percent=99.9, ci_low=99.0, ci_high=100.0),
            scores.update(seal=seal_of_scores(scores)),
        ),
        r"not what the predictions give: columns: AVG: percent is 99\.9, not 75\.0000",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_scores_that_do_not_follow_from_predictions_are_refused_by_name(
    study: Evaluated, name: str
) -> None:
    edit, finding = EDITS[name]
    scores = json.loads(study.scores("adem").read_text())
    edit(scores)
    study.scores("adem").write_text(json.dumps(scores))
    with pytest.raises(DataError, match=f"runs/adem/seed0/scores/scienceqa.json: {finding}") as it:
        study.results()
    assert f"`ademvl evaluate` makes them anew: {study.folder}/runs/adem/seed0." in str(it.value)


def edit_an_answer(study: Evaluated) -> None:
    path = study.predictions("adem")
    path.write_text(path.read_text().replace('"predicted_index": 0', '"predicted_index": 1', 1))


def edit_the_header(study: Evaluated) -> None:
    path = study.predictions("adem").with_suffix(".header.json")
    path.write_text(path.read_text().replace('"version": ', '"version": 1'))


def exchange_evaluations(study: Evaluated) -> None:
    """Give a run the predictions, and the scores, of another adapter with the header of its own."""
    header = json.loads(study.scores("adem").read_text())["header"]
    for name in ("scores", "predictions"):
        folder = study.scores("adem").parent.with_name(name)
        shutil.rmtree(folder)
        shutil.copytree(study.scores("online").parent.with_name(name), folder)
    scores = json.loads(study.scores("adem").read_text()) | {"header": header}
    study.scores("adem").write_text(json.dumps(scores))


@pytest.mark.parametrize("change", [edit_an_answer, edit_the_header, exchange_evaluations])
def test_predictions_that_are_not_those_that_were_scored_are_refused(
    study: Evaluated, change: Callable[[Evaluated], None]
) -> None:
    change(study)
    with pytest.raises(DataError, match=r"runs/adem/seed0/(scores|predictions)"):
        study.results()


def test_results_without_predictions_are_known_by_their_seal(study: Evaluated) -> None:
    shutil.rmtree(study.predictions("adem").parent)
    assert study.states()["adem"] == "finished"


def test_diff_says_that_scores_differ_while_predictions_are_the_same(
    study: Evaluated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Evaluated(tmp_path / "other")
    command = ["diff", str(study.folder), str(other.folder)]
    assert main(command) == 0
    scores = json.loads(study.scores("adem").read_text())
    scores["columns"]["AVG"].update(percent=99.9, ci_low=99.0, ci_high=100.0)
    study.scores("adem").write_text(json.dumps(scores))
    capsys.readouterr()
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert f"{study.folder} and {other.folder} differ: adem" in printed
    assert "adem: different (the scores differ, the predictions are the same" in printed
    assert f"the scores of {study.folder} do not follow from the predictions" in printed


def test_bundle_of_scores_changed_by_hand_is_refused(study: Evaluated, tmp_path: Path) -> None:
    scores = json.loads(study.scores("adem").read_text())
    scores["columns"]["AVG"].update(percent=80.0)
    study.scores("adem").write_text(json.dumps(scores))
    output = tmp_path / "bundle.zip"
    assert main(["bundle", str(study.folder), "--output", str(output)]) == 2
    assert not output.exists()
