"""Protects the readers of others' files: whatever JSON or table it is, a reading or a message."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ademvl.errors import AdemvlError
from ademvl.tasks.coco_caption.metrics.files import read_results
from ademvl.tasks.mme.files import read_mme_answers
from ademvl.tasks.scienceqa.files import read_predictions
from ademvl.tasks.scienceqa.reader import load_problems
from tests.tiny import make_scienceqa

_KEYS = st.sampled_from(
    [
        *("results", "outputs", "logs", "correct", "incorrect", "preds", "labels", "annotations"),
        *("doc_id", "doc", "target", "filtered_resps", "resps", "index", "prediction", "answer"),
        *("question_id", "id", "text", "image_id", "caption", "category", "image_path", "prompt"),
        *("question", "15", "16", "A", "input"),
    ]
)
_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 20),
        st.floats(),
        st.sampled_from(["", "A", "15", "OCR/1.jpg", "OCR", "Yes", "\ud800", "what"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=6)),
    max_leaves=12,
)
_ROWS = st.lists(st.dictionaries(_KEYS, _VALUES, max_size=7), max_size=4)
_ANY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    folder = make_scienceqa(tmp_path_factory.mktemp("data"))
    return load_problems(folder / "problems.json", "test")


@pytest.fixture(scope="module")
def readers(problems):
    return (
        lambda path: read_predictions(path, problems),
        read_results,
        lambda path: read_mme_answers(path, None),
    )


def _read_or_refuse(readers, path):
    for read in readers:
        message = None
        try:
            read(path)
        except AdemvlError as error:
            message = str(error)
        assert message is None or str(path) in message


@_ANY
@given(content=st.one_of(_VALUES, _ROWS))
@example(content=[{"doc_id": 0, "filtered_resps": "A", "doc": 3, "target": [[]]}])
@example(content={"preds": [{}], "labels": [[]]})
def test_any_json_is_read_or_refused(readers, tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "file.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    _read_or_refuse(readers, path)


@_ANY
@given(
    header=st.lists(_KEYS, max_size=5),
    text=st.text(alphabet='ab"\t,\n\0 1', max_size=40),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_any_table_is_read_or_refused(readers, tmp_path_factory, header, text, suffix):
    path = tmp_path_factory.mktemp("any") / f"file{suffix}"
    delimiter = {".csv": ",", ".tsv": "\t"}[suffix]
    path.write_text(f"{delimiter.join(header)}\n{text}", encoding="utf-8")
    _read_or_refuse(readers, path)
