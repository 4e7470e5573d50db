"""Protects the reading of text that others wrote: byte order marks, line ends, blank last lines."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ademvl.errors import DataError
from ademvl.prediction.requests import read_requests
from ademvl.storage.files import read_json, read_json_lines, read_json_or_lines, read_text
from ademvl.tasks.mme.reader import load_answers

ROW = {"id": "ä", "text": "B"}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
_ANY_SPEED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
_TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"))


@pytest.fixture
def write(tmp_path):
    def write(text, encoding="utf-8", name="file"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n \n", "\r\n\r\n"])
def test_every_reader_bears_marks_and_blank_last_lines(write, encoding, end):
    line = json.dumps(ROW, ensure_ascii=False)
    assert read_json(write(line + end, encoding), remedy="") == ROW
    assert read_json_lines(write(line + end, encoding), remedy="") == [ROW]
    assert read_json_or_lines(write(f"{line}\n{line}{end}", encoding), remedy="") == [ROW, ROW]
    request = write('{"question": "Why?"}' + end, encoding)
    assert [found.question for found in read_requests(request)] == ["Why?"]
    answers = "a.png\tQ1\tYes\tyes\na.png\tQ2\tNo\tno" + end.replace(" ", "")
    assert [row.answer for row in load_answers(write(answers, encoding))] == ["yes", "no"]


@_ANY_SPEED
@given(text=_TEXTS, encoding=st.sampled_from(ENCODINGS))
def test_text_is_read_as_it_was_written(tmp_path_factory, text, encoding):
    path = tmp_path_factory.mktemp("text") / "file"
    path.write_bytes(text.encode(encoding))
    assert read_text(path, remedy="") == text


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"\xff\xfea", "not UTF-16 text at byte 2. Write it anew."),
        (b"ab\xe4", "not UTF-8 text at byte 2. Write it anew."),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, content, finding):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=finding):
        read_text(path, remedy="Write it anew.")
