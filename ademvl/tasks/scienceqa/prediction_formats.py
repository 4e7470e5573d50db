"""Finds out in which shape a file holds predictions for ScienceQA, and whose each of them is.

Shapes: an object from question id to prediction; result files that hold one under `results`
(GPT-3's, LLaVA's) or `outputs`; LLaVA's lists `correct` and `incorrect`; a list, or one object a
line, of rows with an id (LLaVA's answers, our own predictions); MM-CoT's lists `preds` and
`labels`; lmms-eval's samples; VLMEvalKit's tables.

The last three name no question by its id but by a place in the order of the split, or of its
questions with an image, which is all that some tasks of both tools ask. Labels, right answers and
texts in the file have to confirm the place of every row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from ademvl.data.choices import NO_ANSWER
from ademvl.errors import DataError, list_findings
from ademvl.tasks.row_files import single_value
from ademvl.tasks.scienceqa.free_text import read_choice
from ademvl.tasks.scienceqa.reader import Problem

ID_KEYS = ("question_id", "id", "qid", "pid")
PREDICTION_KEYS = (
    *("predicted_index", "pred_idx", "parsed_ans", "prediction", "pred", "predicted"),
    *("text", "output"),
)
SHAPES = "docs/scoring.md lists the shapes that can be read."
_REMEDY = "Give one prediction for each question: an index from 0, a letter, or text."
_ORDER_REMEDY = "Predictions without ids can be scored in the order of pid_splits.json only."
_SHOWN = 60  # characters of a text in a message

Entries = list[tuple[str, object]]


@dataclass(frozen=True)
class Shape:
    """What a file holds.

    Attributes:
        name: of the shape, in words.
        entries: question ids and predictions, as the file has them.
        problems: the questions asked: all of the split, or those with an image.
    """

    name: str
    entries: Entries
    problems: Sequence[Problem]


def find_shape(path: str, content: Any, problems: Sequence[Problem]) -> Shape:
    """Find the shape of a file's content.

    Args:
        path: of the file, for messages.
        content: as `read_rows_or_json` gives it.
        problems: of the split, in its order.

    Raises:
        DataError: no shape that is known, rows without id or prediction, or rows in another order;
            lists them.
    """
    if isinstance(content, list):
        return _rows(path, content, problems, "list of rows")
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {content!r:.200}, expected predictions. {SHAPES}")
    for key in ("results", "outputs", "logs"):
        if isinstance(content.get(key), dict):
            return Shape(f"result file, its {key!r}", _pairs(content[key]), problems)
        if isinstance(content.get(key), list):
            return _rows(path, content[key], problems, f"result file, its {key!r}")
    if isinstance(content.get("correct"), list) and isinstance(content.get("incorrect"), list):
        rows = content["correct"] + content["incorrect"]
        return _rows(path, rows, problems, "lists 'correct' and 'incorrect'")
    if isinstance(content.get("preds"), list) and isinstance(content.get("labels"), list):
        return _in_order(path, content, problems)
    if any(key in content for key in (*ID_KEYS, "doc_id")):
        return _rows(path, [content], problems, "one row")
    if content and not any(problem.question_id in content for problem in problems):
        keys = ", ".join(map(repr, list(content)[:10]))
        raise DataError(
            f"{path}: holds no prediction of any question of the split, but {keys}. {SHAPES}"
        )
    return Shape("question id to prediction", _pairs(content), problems)


def _pairs(content: Mapping[str, object]) -> Entries:
    return [
        (key, _prediction_in(value) if isinstance(value, dict) else value)
        for key, value in content.items()
    ]


def _prediction_in(row: Mapping[str, object]) -> object:
    return next((row[key] for key in PREDICTION_KEYS if key in row), None)


def _rows(path: str, rows: Sequence[object], problems: Sequence[Problem], name: str) -> Shape:
    fields = [row if isinstance(row, dict) else {} for row in rows]
    if any("doc_id" in row and row.keys() & {"filtered_resps", "resps"} for row in fields):
        return _samples(path, fields, problems)
    is_indexed = [{"index", "prediction"} <= row.keys() for row in fields]
    if any(is_indexed) and not any(row.keys() & set(ID_KEYS) for row in fields):
        return _indexed(path, fields, problems)
    entries: Entries = []
    findings = []
    for number, row in enumerate(fields, start=1):
        question_id = _text_id(next((row[key] for key in ID_KEYS if key in row), None))
        if question_id is None:
            findings.append(f"row {number}: no question id (keys: {', '.join(ID_KEYS)})")
        elif not row.keys() & set(PREDICTION_KEYS):
            findings.append(f"row {number}: no prediction (keys: {', '.join(PREDICTION_KEYS)})")
        else:
            entries.append((question_id, _prediction_in(row)))
    _refuse(path, findings)
    return Shape(name, entries, problems)


def _text_id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _refuse(path: str, findings: Sequence[str]) -> None:
    if findings:
        raise DataError(list_findings(f"{path}: rows cannot be read", findings, SHAPES))


@dataclass(frozen=True)
class _Placed:
    """A prediction at a place of the order, and what the file says about its question.

    Attributes:
        place: in the order, from 0.
        prediction: as the file has it.
        label: right answer, None where the file has none.
        question: text that holds the question, empty where the file has none.
        choices: by letter, as far as the file has them.
    """

    place: int
    prediction: object
    label: object = None
    question: str = ""
    choices: Mapping[str, str] | None = None

    def contradiction(self, problem: Problem) -> str | None:
        """Say what the file has at the place of a question that is not of that question."""
        found = None
        if self.label is not None and _label_index(self.label, problem) != problem.answer_index:
            found = f"the label at its place is {self.label!r:.80}, "
            found += f"but its answer is choice {problem.answer_index}"
        elif self.question and _folded(problem.question) not in _folded(self.question):
            found = f"the text at its place is {self.question[:_SHOWN]!r}, "
            found += f"but it asks {problem.question[:_SHOWN]!r}"
        elif self.choices:
            own = dict(zip(ascii_uppercase, map(_folded, problem.choices), strict=False))
            other = [key for key, text in self.choices.items() if _folded(text) != own.get(key)]
            found = f"choice {other[0]} at its place is another" if other else None
        elif self.label is None and not self.question:
            found = "nothing at its place confirms it: no target, no text of the question"
        return found and f"question {problem.question_id}: {found}"


def _folded(text: str) -> str:
    return "".join(text.split()).casefold()


def _label_index(label: object, problem: Problem) -> int:
    label = single_value(label)
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    if not isinstance(label, str):
        return NO_ANSWER
    found = read_choice(label, problem.choices).index
    is_number = found == NO_ANSWER and label.strip().isdecimal()
    return int(label) if is_number and len(label) < 9 else found


def _place(path: str, rows: Sequence[_Placed], problems: Sequence[Problem], name: str) -> Shape:
    """Assign predictions to the questions whose places they have, where all else confirms it."""
    with_image = [problem for problem in problems if problem.has_image]
    groups = sorted((list(problems), with_image), key=lambda group: len(group) != len(rows))
    findings: list[str] = []
    for group in groups:
        outside = [row.place for row in rows if row.place >= len(group)]
        wrong = [f"place {place}: beyond the {len(group)} questions" for place in outside]
        if not wrong:
            checked = (row.contradiction(group[row.place]) for row in rows)
            wrong = [finding for finding in checked if finding]
        if not wrong:
            entries = [(group[row.place].question_id, row.prediction) for row in rows]
            return Shape(name, entries, group)
        findings = findings or wrong
    raise DataError(list_findings(f"{path}: another order of questions", findings, _ORDER_REMEDY))


def _in_order(path: str, content: Mapping[str, Any], problems: Sequence[Problem]) -> Shape:
    """Read MM-CoT's lists, one entry a question."""
    predictions, labels = content["preds"], content["labels"]
    if not len(predictions) == len(labels) == len(problems):
        raise DataError(
            f"{path}: {len(predictions)} 'preds' and {len(labels)} 'labels' for "
            f"{len(problems)} questions. {_REMEDY}"
        )
    pairs = zip(predictions, map(str, labels), strict=True)
    rows = [_Placed(place, prediction, label) for place, (prediction, label) in enumerate(pairs)]
    return _place(path, rows, problems, "lists 'preds' and 'labels'")


def _samples(path: str, rows: Sequence[Mapping[str, Any]], problems: Sequence[Problem]) -> Shape:
    """Read lmms-eval's samples: `doc_id` counts the questions from 0."""
    placed = []
    findings = []
    for number, row in enumerate(rows, start=1):
        place, answers = row.get("doc_id"), row.get("filtered_resps", row.get("resps"))
        doc: Mapping[str, Any] = row["doc"] if isinstance(row.get("doc"), dict) else {}
        question = doc.get("question", row.get("input", ""))
        if not isinstance(place, int) or isinstance(place, bool) or place < 0:
            findings.append(f"row {number}: doc_id is {place!r:.80}, expected a number from 0")
        elif not isinstance(single_value(answers), str):
            what = f"filtered_resps is {answers!r:.80}, expected one text"
            findings.append(f"row {number}: {what}")
        else:
            question = question if isinstance(question, str) else ""
            placed.append(_Placed(place, single_value(answers), row.get("target"), question))
    _refuse(path, findings)
    return _place(path, placed, problems, "samples of lmms-eval")


def _indexed(path: str, rows: Sequence[Mapping[str, Any]], problems: Sequence[Problem]) -> Shape:
    """Read VLMEvalKit's rows: `index` is the question's id, or else grows in the order asked."""
    findings = []
    indices = []
    for number, row in enumerate(rows, start=1):
        index = str(row.get("index", "")).strip()
        if not (index.isdecimal() and len(index) < 19):
            findings.append(f"row {number}: index is {index!r:.80}, expected a number")
        elif "prediction" not in row:
            findings.append(f"row {number}: no prediction")
        elif int(index) in indices:
            findings.append(f"row {number}: index {index} occurs twice")
        indices.append(int(index) if index.isdecimal() and len(index) < 19 else -number)
    _refuse(path, findings)
    places = {problem.question_id: place for place, problem in enumerate(problems)}
    if all(str(index) in places for index in indices):
        placed = [
            _with_texts(places[str(index)], row) for index, row in zip(indices, rows, strict=True)
        ]
        if not any(row.contradiction(problems[row.place]) for row in placed):
            entries = [(problems[row.place].question_id, row.prediction) for row in placed]
            return Shape("rows of VLMEvalKit", entries, problems)
    in_order = sorted(range(len(rows)), key=indices.__getitem__)
    placed = [_with_texts(place, rows[number]) for place, number in enumerate(in_order)]
    return _place(path, placed, problems, "rows of VLMEvalKit")


def _with_texts(place: int, row: Mapping[str, Any]) -> _Placed:
    texts = {key: str(value) for key, value in row.items() if value not in (None, "")}
    choices = {letter: texts[letter] for letter in ascii_uppercase if letter in texts}
    label, question = texts.get("answer"), texts.get("question", "")
    return _Placed(place, row["prediction"], label, question, choices)
