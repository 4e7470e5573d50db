"""Verbs that score files of other people, or answer a benchmark for its scoring."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ademvl.cli.verb import Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of scoring."""
    summary = "Score prediction files: scienceqa, captions or mme."
    score = verbs.add_parser("score", help=summary, description=summary)
    tasks = score.add_subparsers(dest="task", required=True, metavar="TASK")
    questions = add_verb(
        tasks, "scienceqa", _score_scienceqa, "Accuracy in the nine published columns."
    )
    questions.add_argument("--problems", type=Path, required=True, help="problems.json")
    questions.add_argument("--predictions", type=Path, required=True, help="predictions to score")
    questions.add_argument("--split", default="test", help="split to score (%(default)s)")
    questions.add_argument("--output", type=Path, help="score file to write (JSON)")


def _score_scienceqa(options: argparse.Namespace) -> int:
    from ademvl.evaluation.scienceqa_files import scienceqa_table, score_prediction_file

    scores = score_prediction_file(options.problems, options.predictions, split=options.split)
    return _finish(scores, scienceqa_table, options.output)


def _finish(
    scores: Mapping[str, Any], to_table: Callable[[Mapping[str, Any]], str], output: Path | None
) -> int:
    """Write and print scores; 1 where something that was asked for was not run."""
    from ademvl.files import write_json

    if output:
        write_json(output, scores)
    print(to_table(scores))
    return 1 if scores.get("not_run") else 0
