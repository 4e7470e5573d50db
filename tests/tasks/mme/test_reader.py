"""Protects reading MME: both folder layouts, answer files, nothing half."""

import pytest

from ademvl.errors import DataError
from ademvl.tasks.mme.reader import COGNITION, PERCEPTION, MmeAnswer, load_answers, load_benchmark
from ademvl.tasks.mme.reader import write_answers as write

LINES = ["a.jpg\tIs it?\tYes\tyes", "a.jpg\tIs it not?\tNo\tno"]


def make_task(folder, names, *, apart=False, suffix=".jpg"):
    texts = folder / "questions_answers_YN" if apart else folder
    images = folder / "images" if apart else folder
    for directory in (texts, images):
        directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (images / f"{name}{suffix}").write_bytes(b"image")
        (texts / f"{name}.txt").write_text(f"Is {name}?\tYes\nIs {name} not?\tNo\n", "utf-8")


def _write(tmp_path, lines):
    path = tmp_path / "count.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_benchmark_has_its_published_size():
    assert sum(PERCEPTION.values()) + sum(COGNITION.values()) == 2374


def test_both_layouts_are_read_in_published_order(tmp_path):
    make_task(tmp_path / "code_reasoning", ["0002", "0001"], suffix=".png")
    make_task(tmp_path / "landmark", ["x"], apart=True)
    questions = load_benchmark(tmp_path)
    assert [question.image.name for question in questions] == ["x.jpg"] * 2 + [
        "0001.png", "0001.png", "0002.png", "0002.png",
    ]  # fmt: skip
    assert questions[0].image == tmp_path / "landmark" / "images" / "x.jpg"
    assert [question.gold for question in questions[:2]] == ["Yes", "No"]


def test_what_is_missing_is_listed_at_once(tmp_path):
    make_task(tmp_path / "count", ["1", "2", "3"])
    (tmp_path / "count" / "1.jpg").unlink()
    (tmp_path / "count" / "2.txt").write_text("Is it?\tYes\n", encoding="utf-8")
    (tmp_path / "OCR").mkdir()
    with pytest.raises(DataError, match=r"\(3 found\)") as error:
        load_benchmark(tmp_path)
    for finding in ("no image 1.jpg", "2.txt: expected two lines", "OCR: no questions"):
        assert finding in str(error.value)


def test_folder_without_tasks_is_refused(tmp_path):
    with pytest.raises(DataError, match="no folder of a task"):
        load_benchmark(tmp_path)


def test_answers_are_written_as_they_are_read(tmp_path):
    answer = MmeAnswer("a.jpg", "Is it?", "Yes", "yes,\tit\nis\u2028")
    write(tmp_path, {"count": [answer, MmeAnswer("a.jpg", "Is it not?", "No", "")]})
    found = load_answers(tmp_path / "count.txt")
    assert [row.answer for row in found] == ["yes, it is\u2028", ""]


def test_tab_in_an_answer_belongs_to_it(tmp_path):
    assert load_answers(_write(tmp_path, [LINES[0] + "\tindeed", LINES[1]]))[0].answer == (
        "yes\tindeed"
    )


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        ([LINES[0]], "line 1: image a.jpg has no second question"),
        ([LINES[0], LINES[1].replace("a.", "b.")], "line 1: image a.jpg has no second question"),
        ([LINES[0], LINES[0]], "line 2: this question to a.jpg occurs twice"),
        ([LINES[0], "a.jpg\tIs it not?\tNo"], "line 2: 3 fields, expected 4"),
        ([LINES[0], "a.jpg\tIs it not?\tmaybe\tno"], "line 2: gold answer is 'maybe'"),
        ([], "line 1: 1 fields"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, lines, finding):
    with pytest.raises(DataError, match=finding):
        load_answers(_write(tmp_path, lines))


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_answers(tmp_path / "count.txt")
    (tmp_path / "count.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8 text at byte 0"):
        load_answers(tmp_path / "count.txt")
