"""Golden cases about evaluation: J, how answers are read off generated text and scored."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ademvl.data.choices import choice_named, first_capital
from ademvl.golden.checks import Check
from ademvl.storage.files import read_json, write_json
from ademvl.tasks.scienceqa.reader import SPLITS, Problem, load_scienceqa
from ademvl.tasks.scienceqa.scores import score_scienceqa

_REMEDY = "Copy the folder of golden numbers again."
_NO_LETTER = "FAILED"
# Names of the columns in the golden file, which are those of the reference implementation.
_REFERENCE_COLUMNS = {
    "NAT": "acc_natural",
    "SOC": "acc_social",
    "LAN": "acc_language",
    "TXT": "acc_has_text",
    "IMG": "acc_has_image",
    "NO": "acc_no_context",
    "G1-6": "acc_grade_1_6",
    "G7-12": "acc_grade_7_12",
    "AVG": "acc_average",
}
_ACCURACY_TOLERANCE = 1e-9


def check_scoring(golden_dir: Path) -> list[Check]:
    """Recompute case J: letters, choices, and the nine columns as the reference prints them.

    Without the case's files there are no checks.
    """
    if not (golden_dir / "J_scoring.json").exists():
        return []
    expected: Mapping[str, Any] = read_json(golden_dir / "J_scoring.json", remedy=_REMEDY)
    test = _test_problems(golden_dir)
    generated = expected["generated_text"]
    letters = {
        question_id: first_capital(text) or _NO_LETTER for question_id, text in generated.items()
    }
    predicted = {
        problem.question_id: choice_named(
            generated[problem.question_id], num_choices=len(problem.choices)
        )
        for problem in test
    }
    columns = score_scienceqa(test, predicted)
    printed = {}
    average = float("nan")
    for column, name in _REFERENCE_COLUMNS.items():
        score = columns[column]
        if score.accuracy is not None:
            printed[name] = f"{100 * score.accuracy.value:.2f}"
            average = 100 * score.accuracy.value  # the last column is AVG
    return [
        _exact("first capital", letters, expected["first_capital"]),
        _exact("predicted index", predicted, expected["predicted_index"]),
        _exact("columns as printed", printed, expected["scores"]),
        Check(
            "J_scoring",
            "overall accuracy",
            abs(average - expected["overall_accuracy_unrounded"]),
            _ACCURACY_TOLERANCE,
        ),
    ]


def _test_problems(golden_dir: Path) -> list[Problem]:
    """Read the case's problems through the reader of whole data sets; those of test are scored."""
    raw = read_json(golden_dir / "J_problems.json", remedy=_REMEDY)
    splits = {
        split: [question_id for question_id, problem in raw.items() if problem["split"] == split]
        for split in SPLITS
    }
    with tempfile.TemporaryDirectory(prefix="ademvl-golden-") as name:
        folder = Path(name)
        write_json(folder / "problems.json", raw)
        write_json(folder / "pid_splits.json", splits)
        return load_scienceqa(folder).split("test")


def _exact(what: str, found: Mapping[str, object], expected: Mapping[str, object]) -> Check:
    """Count entries that differ or stand on one side only."""
    names = found.keys() | expected.keys()
    differing = sum(found.get(name) != expected.get(name) for name in names)
    return Check("J_scoring", what, float(differing), 0.0)
