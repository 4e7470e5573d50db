"""Protects MME's answers in one file: of LLaVA, lmms-eval and VLMEvalKit, equal to the digit."""

import json

import pytest
from openpyxl import Workbook

from ademvl.cli import main
from ademvl.errors import DataError, SettingsError
from ademvl.tasks.mme.files import read_mme_answers
from ademvl.tasks.mme.reader import TASKS, load_answers
from ademvl.tasks.mme.scores import score_mme

ADDED = "\nAnswer the question using a single word or phrase."
ASKED = " Please answer yes or no."


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_workbook(path, rows):
    workbook = Workbook()
    for row in (list(rows[0]), *(list(row.values()) for row in rows)):
        workbook.active.append(row)
    workbook.save(path)


def _write_benchmark(root, answers):
    """Write the benchmark's folder, as far as these answers tell of it."""
    for task, rows in answers.items():
        (root / task).mkdir(parents=True)
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            lines = "".join(f"{row.question}\t{row.gold}\n" for row in (first, second))
            stem = first.image.rpartition(".")[0]
            (root / task / f"{stem}.txt").write_text(lines, encoding="utf-8")
            (root / task / f"{stem}.jpg").write_bytes(b"picture")


def _llava(task, row):
    prompt = row.question.replace(ASKED, "") + ADDED
    return {"question_id": f"{task}/{row.image}", "prompt": prompt, "text": row.answer}


def _sample(task, row):
    doc = {"question_id": f"{task}/{row.image}", "question": row.question, "category": task}
    answers = {"resps": [[row.answer]], "filtered_resps": [row.answer]}
    return {"doc_id": 0, "doc": doc | {"answer": row.gold}, "target": row.gold} | answers


def _kit_row(task, row):
    place = {"index": 0, "category": task, "image_path": f"{task}/{row.image}"}
    return place | {"question": row.question, "answer": row.gold, "prediction": row.answer}


@pytest.fixture(scope="module")
def published(real_dir):
    """The published answers of LaVIN-13B, and their folder."""
    folder = real_dir / "mme/lavin_13b"
    if not folder.is_dir():
        pytest.skip(f"real data not found: {folder}")
    return folder, {task: load_answers(folder / f"{task}.txt") for task in TASKS}


@pytest.mark.parametrize(
    ("name", "to_row"),
    [("llava.jsonl", _llava), ("samples.jsonl", _sample), ("table.xlsx", _kit_row)],
)
def test_published_answers_give_the_same_scores_from_one_file(published, tmp_path, name, to_row):
    folder, answers = published
    rows = [to_row(task, row) for task in reversed(TASKS) for row in answers[task]]
    path = tmp_path / name
    (_write_workbook if path.suffix == ".xlsx" else _write_lines)(path, rows)
    benchmark = None
    if to_row is _llava:
        benchmark = tmp_path / "benchmark"
        _write_benchmark(benchmark, answers)
    found, expected = score_mme(path, benchmark=benchmark), score_mme(folder)
    for task in TASKS:
        assert found["tasks"][task].pop("file")["path"] == str(path)
        del expected["tasks"][task]["file"]
    assert found == expected
    assert round(found["sums"]["perception"]["score"], 1) == 963.6


PAIR = [
    {"question_id": "OCR/1.jpg", "prompt": f"Is it a?{ADDED}", "text": "Yes"},
    {"question_id": "OCR/1.jpg", "prompt": f"Is it b?{ADDED}", "text": "No"},
]


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "benchmark/OCR"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(b"picture")
    lines = f"Is it a? {ASKED}\tYes\nIs it b?{ASKED}\tNo\n"
    (folder / "1.txt").write_text(lines, encoding="utf-8")
    return folder.parent


def test_questions_are_found_without_what_was_added_to_them(tmp_path, benchmark):
    _write_lines(tmp_path / "a.jsonl", [PAIR[0], PAIR[1] | {"prompt": f"<image>\nIs it b?{ASKED}"}])
    found = read_mme_answers(tmp_path / "a.jsonl", benchmark)
    assert [(row.gold, row.answer) for row in found["OCR"]] == [("Yes", "Yes"), ("No", "No")]


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"question_id": "ocr/1.jpg"}, "row 2: task is 'ocr', expected one of existence"),
        ({"question_id": "OCR"}, "row 2: picture is 'OCR', expected task/picture"),
        ({"question_id": 3}, "row 2: task is ''"),
        ({"prompt": ""}, "row 2: no question"),
        ({"prompt": "Is it c?"}, "row 2: OCR/1.jpg: the benchmark does not ask 'Is it c"),
        ({"prompt": "Is it a?"}, "row 2: this question to OCR/1.jpg occurs twice"),
        ({"text": None}, "row 2: no answer that is text"),
        ({"target": "Yes"}, "row 2: OCR/1.jpg: right answer is 'Yes', the benchmark has 'No'"),
        ({"target": "Maybe"}, "row 2: right answer is 'Maybe', expected Yes or No"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, benchmark, changed, finding):
    path = tmp_path / "a.jsonl"
    _write_lines(path, [PAIR[0], PAIR[1] | changed])
    with pytest.raises(DataError) as caught:
        read_mme_answers(path, benchmark)
    assert finding in str(caught.value)
    assert str(path) in str(caught.value)


def test_picture_with_one_question_is_refused(tmp_path, benchmark):
    _write_lines(tmp_path / "a.jsonl", PAIR[:1])
    with pytest.raises(DataError, match=r"OCR/1.jpg: 1 questions, expected 2"):
        read_mme_answers(tmp_path / "a.jsonl", benchmark)


def test_answers_without_right_ones_need_the_benchmark(tmp_path):
    _write_lines(tmp_path / "a.jsonl", PAIR)
    with pytest.raises(SettingsError, match="name the benchmark with --benchmark"):
        read_mme_answers(tmp_path / "a.jsonl", None)


def test_answers_that_say_neither_yes_nor_no_are_told_first(tmp_path, benchmark, caplog):
    path = tmp_path / "a.jsonl"
    _write_lines(path, [PAIR[0], PAIR[1] | {"text": "<think>Hm.</think>No"}])
    arguments = ["score", "mme", "--answers", path, "--benchmark", benchmark, "--allow-incomplete"]
    assert main(list(map(str, arguments))) == 3
    assert "1 of 2 answers (50.0 %) name no choice" in caplog.text
    assert main([*map(str, arguments), "--allow-unread"]) == 0
