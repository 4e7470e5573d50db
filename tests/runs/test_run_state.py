"""Protects what is read of a run: what is missing is no fault, what is malformed is named."""

from pathlib import Path

import pytest

from ademvl.errors import DataError
from ademvl.runs.run_state import read_object


def test_file_that_is_not_there_is_empty(tmp_path):
    assert read_object(tmp_path / "scores.json") == {}


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_named(tmp_path, make):
    make(tmp_path / "scores.json")
    with pytest.raises(DataError, match=r"scores\.json: cannot be read"):
        read_object(tmp_path / "scores.json")


def test_other_json_than_an_object_is_named(tmp_path):
    (tmp_path / "scores.json").write_text("[1]")
    with pytest.raises(DataError, match=r"scores\.json: expected an object, found list"):
        read_object(tmp_path / "scores.json")
