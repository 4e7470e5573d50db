"""Protects against chance that looks like an effect: few lucky seeds are called an effect nowhere.

A study as `SyntheticStudy` writes it, with predictions: one run right in 9 of 10 questions, another
one in half of them.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import main
from ademvl.reporting.headlines import find_headlines
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.summary import main_table
from ademvl.reporting.tables.build import render_tables
from tests.reporting.page.page_study import REPORTED_DIR, answered_study, make_page, predict
from tests.reporting.synthetic import SyntheticStudy

EFFECT = re.compile(
    r"\bseen[.<]|: seen\b|seen in \d|\| (higher|lower) \||(?<!Do )images help"
    r"|same direction|other direction|significant|not there",
)
"""What would say that a setting does something, or nothing."""
WRONG_IN = {"adem": 10, "text_only": 2, "plain": 2}
"""Every which question with an image is wrong."""


def _study(
    root: Path, seeds: dict[str, int], *, plain: Mapping[str, Any] = {"gamma": 0.0}
) -> SyntheticStudy:
    runs = {
        "adem": {"label": "ADEM-VL"},
        "text_only": {"label": "text-only control", "images": "withheld"},
        "plain": {"label": "without adaptive fusion", "method": dict(plain)},
        "captions": {"label": "ADEM-VL", "task": "coco_caption"},
    }
    study = answered_study(root, base_runs=["adem"])
    study.raw["runs"] = runs
    data = root / "shared/data/shapes/scienceqa"
    problems = json.loads((data / "problems.json").read_text())
    test_ids = json.loads((data / "pid_splits.json").read_text())["test"]
    with_image = [i for i in test_ids if problems[i]["image"]]
    for name, count in seeds.items():
        runs[name]["seeds"] = list(range(count))
        for seed in range(count):
            wrong = {i for place, i in enumerate(with_image) if place % WRONG_IN[name] == seed % 2}
            chosen = {i: problems[i]["answer"] ^ (i in wrong) for i in test_ids}
            right = {"IMG": (len(with_image) - len(wrong), len(with_image))}
            right["AVG"] = (len(test_ids) - len(wrong), len(test_ids))
            study.finish_scienceqa(name, right, seed=seed)
            rows = [
                {"id": i, "text": "AB"[chosen[i]], "predicted_index": chosen[i]} for i in test_ids
            ]
            predict(study, name, rows, seed=seed)
    return study


def _everything_said(study: SyntheticStudy, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what each place says: terminal, page, every table, `ademvl effects`."""
    results, reported = read_results(study.study), load_reported(REPORTED_DIR)
    said = {"terminal": main_table(results, reported)}
    said["page"] = make_page(study).read_text(encoding="utf-8").partition("<script>")[0]
    said |= {
        name: text
        for name, text in render_tables(results, reported).items()
        if not name.endswith(".csv")
    }
    path = study.study.results_dir / "study.yaml"
    path.write_text(json.dumps(study.raw))
    assert main(["effects", str(path)]) == 0
    said["effects"] = capsys.readouterr().out
    return said


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ({"adem": 2, "text_only": 1, "plain": 1}, "cannot tell, one seed"),
        ({"adem": 2, "text_only": 1, "plain": 2}, "cannot tell, too few seeds"),
    ],
)
def test_lucky_seeds_are_called_an_effect_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: dict[str, int], reason: str
) -> None:
    said = _everything_said(_study(tmp_path, seeds), capsys)
    for place, text in said.items():
        # What the page says of the rule itself is no sentence on these runs.
        text = re.sub(r'<p class="muted">Each pair of runs.*?</p>', "", text)
        assert not EFFECT.search(text), (place, EFFECT.search(text))
    for place in ("terminal", "page", "accuracy.md", "accuracy.tex", "accuracy.html", "effects"):
        assert reason in " ".join(said[place].split()), place


def test_enough_seeds_show_the_same_difference_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = _study(tmp_path, {"adem": 3, "text_only": 3, "plain": 3})
    found = find_headlines(read_results(study.study))
    assert [(headline.title, headline.verdict.outcome) for headline in found] == [
        ("images over text-only", "seen"),
        ("images over text-only", "cannot tell"),
        ("adaptive fusion on over off", "seen"),
    ]
    said = _everything_said(study, capsys)
    for headline in found:
        for place in ("terminal", "page", "accuracy.md", "accuracy.tex", "accuracy.html"):
            assert headline.points.lstrip("+−") in said[place]
            assert headline.verdict.words in " ".join(said[place].split())
    assert "| lower |" in said["effects"]


def test_a_method_that_sees_no_image_says_nothing_of_images(tmp_path: Path) -> None:
    study = _study(tmp_path, {"adem": 2, "text_only": 2, "plain": 2}, plain={"name": "lora"})
    results = read_results(study.study)
    assert next(run for run in results.runs if run.name == "plain").finished
    headlines = find_headlines(results)
    assert [(found.run.name, found.base.name) for found in headlines] == [("adem", "text_only")]
