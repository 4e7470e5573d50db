"""Protects rows of systems that were measured elsewhere: read from a file, scored as all others."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import main
from ademvl.config.run import PREDICTIONS, RunSettings
from ademvl.config.systems import without_unread
from ademvl.errors import DataError
from ademvl.evaluation.elsewhere import rows_from_file
from ademvl.evaluation.run import evaluate_run
from ademvl.systems.elsewhere.settings import ElsewhereSettings
from ademvl.tasks.registry import evaluation_examples
from ademvl.tasks.scienceqa.reader import load_scienceqa
from ademvl.training.run import train_run
from tests.tiny import make_captions, make_mme, make_scienceqa, write_run

SOURCE = "A paper, table 1; its file of answers."
CAPTION_IDS = (1, 2)


def make_elsewhere(data: Path, answers: Path, **changes: Any) -> RunSettings:
    """Settings of a run whose answers are in a file."""
    run = RunSettings(
        study="tiny",
        name="elsewhere",
        seed=0,
        task="scienceqa",
        data_dir=str(data),
        adapter=PREDICTIONS,
        released_from=str(answers),
        method=ElsewhereSettings(source=SOURCE),
    )
    return without_unread(dataclasses.replace(run, **changes))


def make_caption_test(root: Path) -> Path:
    """Two images with one reference each, as the test split."""
    make_captions(root, num_train=3)
    rows = [{"image": f"{number}.png", "caption": ["a square"]} for number in CAPTION_IDS]
    truth = {
        "images": [{"id": number} for number in CAPTION_IDS],
        "annotations": [
            {"id": number, "image_id": number, "caption": "a red square"} for number in CAPTION_IDS
        ],
    }
    for name, content in (("test", rows), ("test_gt", truth)):
        path = root / "karpathy" / f"coco_karpathy_{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return root


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def evaluated(run_dir: Path, run: RunSettings) -> dict[str, Any]:
    """Note and evaluate a run; return its scores."""
    write_run(run_dir, run)
    assert train_run(run_dir, progress=False) == 0
    evaluate_run(run_dir, progress=False)
    path = run_dir / "scores" / f"{run.evaluation_task}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture
def questions(tmp_path: Path) -> RunSettings:
    """A run whose file answers the first of four questions right and the last not at all."""
    data = make_scienceqa(tmp_path / "scienceqa")
    problems = load_scienceqa(data).split("test")
    answers: dict[str, object] = {
        problem.question_id: 1 - problem.answer_index for problem in problems
    }
    answers[problems[0].question_id] = problems[0].answer_index
    answers[problems[-1].question_id] = -1
    return make_elsewhere(data, write_json(tmp_path / "answers.json", answers))


def test_answers_are_scored_as_those_of_all_runs(questions: RunSettings, tmp_path: Path) -> None:
    scores = evaluated(tmp_path / "runs/elsewhere/seed0", questions)

    average = scores["columns"]["AVG"]
    assert (average["correct"], average["n"], scores["num_without_answer"]) == (1, 4, 1)
    assert average["ci_low"] < 25.0 < average["ci_high"]


def test_where_they_come_from_is_kept(questions: RunSettings, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs/elsewhere/seed0"
    evaluated(run_dir, questions)

    provenance = json.loads((run_dir / "provenance.json").read_text("utf-8"))
    assert provenance["given"]["source"] == SOURCE
    assert provenance["checksums"].keys() == {"weights/released"}


def test_another_file_is_evaluated_anew(questions: RunSettings, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs/elsewhere/seed0"
    evaluated(run_dir, questions)
    answers = json.loads(Path(questions.released_from).read_text("utf-8"))
    write_json(Path(questions.released_from), dict.fromkeys(answers, -1))

    assert evaluated(run_dir, questions)["columns"]["AVG"]["correct"] == 0


def test_the_samples_of_a_run_give_the_same_row(questions: RunSettings, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs/elsewhere/seed0"
    first = evaluated(run_dir, questions)
    samples = tmp_path / "samples.jsonl"

    assert main(["samples", str(run_dir), "--output", str(samples)]) == 0

    lines = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    assert [line["doc_id"] for line in lines] == [0, 1, 2, 3]
    again = dataclasses.replace(questions, released_from=str(samples))
    second = evaluated(tmp_path / "runs/again/seed0", again)
    assert second["columns"] == first["columns"]


def test_captions_are_written_as_the_coco_server_takes_them(tmp_path: Path) -> None:
    data = make_caption_test(tmp_path / "coco_caption")
    captions = [{"image_id": number, "caption": f"a square {number}"} for number in (1, 2, 7)]
    answers = write_json(tmp_path / "results.json", captions)
    run = make_elsewhere(data, answers, task="coco_caption")
    ids = [example.item_id for example in evaluation_examples(run)]
    run_dir = write_run(tmp_path / "runs/captions/seed0", run)
    rows = rows_from_file(run, ids)
    predictions = run_dir / "predictions/coco_caption.jsonl"
    predictions.parent.mkdir()
    predictions.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    output = tmp_path / "captions_test_tiny_results.json"

    assert main(["samples", str(run_dir), "--output", str(output)]) == 0

    assert json.loads(output.read_text("utf-8")) == captions[:2]


def test_answers_to_mme_keep_their_questions(tmp_path: Path) -> None:
    benchmark = make_mme(tmp_path / "mme")
    run = make_elsewhere(
        benchmark, tmp_path / "answers", task="instruction", evaluation_data_dir=str(benchmark)
    )
    ids = [example.item_id for example in evaluation_examples(run)]
    answers = [
        {
            "question_id": "/".join(item.split("/")[:2]),
            "prompt": f"{example.context} Please answer yes or no.",
            "text": f"Yes, {number}",
        }
        for number, (item, example) in enumerate(zip(ids, evaluation_examples(run), strict=True))
    ]
    shuffled = write_json(tmp_path / "answers.json", answers[::-1])
    run = dataclasses.replace(run, released_from=str(shuffled))

    assert [row["text"] for row in rows_from_file(run, ids)] == [row["text"] for row in answers]

    run_dir = tmp_path / "runs/mme/seed0"
    scores = evaluated(run_dir, run)
    samples = tmp_path / "samples.jsonl"
    assert main(["samples", str(run_dir), "--output", str(samples)]) == 0
    again = dataclasses.replace(run, released_from=str(samples))
    assert evaluated(tmp_path / "runs/again/seed0", again)["tasks"] == scores["tasks"]


def test_files_that_do_not_answer_everything_are_refused(
    questions: RunSettings, tmp_path: Path
) -> None:
    answers = json.loads(Path(questions.released_from).read_text("utf-8"))
    answers.pop(next(iter(answers)))
    write_json(Path(questions.released_from), answers)

    with pytest.raises(DataError, match="no answer") as caught:
        evaluated(tmp_path / "runs/elsewhere/seed0", questions)
    assert "answers.json: other items (1 found)" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"id": "15"}', "row 1: expected an object with id and predicted_index"),
        ("[1]", "row 1: expected an object with id and predicted_index"),
        (
            "\n".join(json.dumps({"id": str(n), "predicted_index": 9}) for n in range(15, 19)),
            "question 15: choice 9, of 2",
        ),
        ('{"id": "99", "predicted_index": 0}', "question 15: no prediction"),
    ],
)
def test_predictions_that_cannot_be_written_are_refused(
    questions: RunSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: str,
    message: str,
) -> None:
    run_dir = write_run(tmp_path / "seed0", questions)
    (run_dir / "predictions").mkdir()
    (run_dir / "predictions/scienceqa.jsonl").write_text(f"{row}\n", encoding="utf-8")

    assert main(["samples", str(run_dir), "--output", str(tmp_path / "out.jsonl")]) == 2

    assert message in capsys.readouterr().err


def test_samples_need_predictions(
    questions: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = write_run(tmp_path / "seed0", questions)

    assert main(["samples", str(run_dir), "--output", str(tmp_path / "out.jsonl")]) == 2

    assert "Evaluate the run first" in capsys.readouterr().err
