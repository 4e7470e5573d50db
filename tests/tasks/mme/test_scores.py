"""Protects MME's scores: the published ones of a published run, by the official rules."""

import json
import shutil

import pytest

from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.tasks.mme.scores import mme_table, parse_answer, score_mme

PUBLISHED_DIGITS = 2


def _write(folder, task, answers, *, image="a"):
    """Write one image's two answers, Yes and No being right, for each pair."""
    lines = [
        f"{image}{number // 2}.jpg\tQ{number % 2}\t{'Yes' if number % 2 == 0 else 'No'}\t{answer}\n"
        for number, answer in enumerate(answers)
    ]
    (folder / f"{task}.txt").write_text("".join(lines), encoding="utf-8")


def test_published_answers_give_the_published_scores(real_dir, tmp_path, capsys):
    folder, output = real_dir / "mme", tmp_path / "scores.json"
    arguments = ["--answers", folder / "lavin_13b", "--output", output]
    assert main(["score", "mme", *map(str, arguments)]) == 0
    scores = json.loads(output.read_text(encoding="utf-8"))
    expected = json.loads((folder / "expected_scores.json").read_text(encoding="utf-8"))
    for task, row in expected["recomputed"].items():
        if task in ("Perception", "Cognition"):
            assert round(scores["sums"][task.lower()]["score"], 4) == row["score"]
            continue
        found = scores["tasks"][task]
        assert found["n"] == row["questions"], task
        assert round(found["accuracy"]["percent"], 4) == row["acc"], task
        assert round(found["accuracy_plus"]["percent"], 4) == row["acc_plus"], task
        assert round(found["score"], PUBLISHED_DIGITS) == expected["leaderboard"][task], task
        assert found["ci_low"] <= found["score"] <= found["ci_high"], task
    assert round(scores["sums"]["perception"]["score"], 1) == 963.6
    assert round(scores["sums"]["cognition"]["score"], 2) == 249.64
    assert scores["n"] == 2374
    assert "963.61" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"),
        ("no, it is not", "no"),
        (" yes", "yes"),
        ("  yes", "other"),
        ("Not", "no"),
        ("The answer is yes", "other"),
        ("eyes no", "yes"),
        ("", "other"),
    ],
)
def test_answer_is_read_off_its_first_four_characters(text, said):
    assert parse_answer(text) == said


def test_accuracy_plus_wants_both_questions_of_an_image(tmp_path):
    _write(tmp_path, "count", ["yes", "no", "yes", "yes", "well", "yes", "no", "no"])
    scores = score_mme(tmp_path, allow_incomplete=True)
    row = scores["tasks"]["count"]
    assert row["accuracy"]["percent"] == 50.0  # 2 + 1 + 0 + 1 of 8
    assert row["accuracy_plus"]["percent"] == 25.0  # 1 of 4
    assert row["score"] == 75.0
    assert row["num_without_answer"] == 1
    assert "1 answers say neither yes nor no: wrong" in mme_table(scores)


def test_incomplete_answers_are_refused_or_give_no_sum(tmp_path, real_dir):
    folder = tmp_path / "answers"
    shutil.copytree(real_dir / "mme" / "lavin_13b", folder)
    folder.chmod(0o755)
    (folder / "OCR.txt").unlink()
    with pytest.raises(DataError, match=r"OCR\.txt: missing"):
        score_mme(folder)
    scores = score_mme(folder, allow_incomplete=True)
    assert scores["sums"]["perception"] is None
    assert scores["sums"]["cognition"]["score"] == pytest.approx(249.6429, abs=1e-4)
    assert not scores["is_complete"]
    assert "incomplete" in mme_table(scores)


def test_another_number_of_questions_is_refused(tmp_path):
    _write(tmp_path, "count", ["yes", "no"])
    with pytest.raises(DataError, match=r"count\.txt: 2 questions, expected 60"):
        score_mme(tmp_path)


def test_empty_folder_is_refused_whatever_is_allowed(tmp_path):
    with pytest.raises(DataError, match=r"existence\.txt: missing"):
        score_mme(tmp_path, allow_incomplete=True)


def test_answers_that_are_all_right_leave_a_doubt(tmp_path, real_dir):
    """Every resample of them scores the same."""
    folder = tmp_path / "answers"
    folder.mkdir()
    for source in (real_dir / "mme" / "lavin_13b").glob("*.txt"):
        lines = [line.split("\t") for line in source.read_text("utf-8").splitlines()]
        right = ["\t".join([*cells[:3], cells[2]]) for cells in lines]
        (folder / source.name).write_text("\n".join(right) + "\n", encoding="utf-8")
    scores = score_mme(folder)
    for row in (*scores["tasks"].values(), *scores["sums"].values()):
        assert row["ci_low"] < row["score"] == row["ci_high"]
    assert scores["sums"]["cognition"]["method"].startswith("intervals of the tasks joined")
