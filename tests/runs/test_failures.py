"""Protects the note of a failed step: what it says, and that it goes with the next try."""

import json
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.errors import DataError, TrainingError
from ademvl.runs.failures import FAILURE_FILE, noted_failure, read_failure


def test_failure_is_noted_with_the_first_line_of_its_message(tmp_path: Path) -> None:
    with pytest.raises(TrainingError), noted_failure(tmp_path, "train"):
        raise TrainingError("loss is not finite in step 7\nremedy")
    found = read_failure(tmp_path)
    assert found is not None
    assert (found.step, found.message) == ("train", "loss is not finite in step 7")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("/scratch/alice/data/problems.json: malformed", "<path>/problems.json: malformed"),
        ("no such file: '/home/alice/x.json'", "no such file: '<path>/x.json'"),
        ("/home/alice: disk is full", "<path>: disk is full"),
        ("~alice/x.json and C:\\Users\\alice\\x.json", "<path>/x.json and <path>/x.json"),
        ("file:///scratch/alice/x.json", "file:<path>/x.json"),
        ("results/shared/x.json: expected 1/2 or a / b", None),
        ("see https://example.org/a/b", None),
        (r"text '\n' and '</s>'", None),
    ],
)
def test_folders_in_a_message_are_not_shown(
    tmp_path: Path, message: str, shown: str | None
) -> None:
    with pytest.raises(TrainingError), noted_failure(tmp_path, "train"):
        raise TrainingError(message)
    found = read_failure(tmp_path)
    assert found is not None
    assert found.message == (shown or message)
    assert message in json.loads((tmp_path / FAILURE_FILE).read_text())["message"]


def test_next_try_takes_the_note_away(tmp_path: Path) -> None:
    with pytest.raises(TrainingError), noted_failure(tmp_path, "train"):
        raise TrainingError("no")
    with noted_failure(tmp_path, "evaluate"):
        assert read_failure(tmp_path) is None
    assert read_failure(tmp_path) is None


def test_error_without_message_is_named_by_its_kind(tmp_path: Path) -> None:
    with pytest.raises(MemoryError), noted_failure(tmp_path, "train"):
        raise MemoryError
    found = read_failure(tmp_path)
    assert found is not None
    assert found.message == "MemoryError"


def test_interruption_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), noted_failure(tmp_path, "train"):
        raise KeyboardInterrupt
    assert read_failure(tmp_path) is None


def test_folder_that_does_not_exist_stays_so(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with pytest.raises(TrainingError), noted_failure(folder, "train"):
        raise TrainingError("no")
    assert not folder.exists()


def test_malformed_note_is_refused(tmp_path: Path) -> None:
    (tmp_path / FAILURE_FILE).write_text("[]")
    with pytest.raises(DataError, match=r"failure\.json: expected step and message"):
        read_failure(tmp_path)


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_verbs_note_what_stopped_them(tmp_path: Path, verb: str) -> None:
    (tmp_path / "run.yaml").write_text("study: tiny\n")
    assert main([verb, str(tmp_path)]) == 2
    found = read_failure(tmp_path)
    assert found is not None
    assert found.step == verb
    assert "wrong settings" in found.message
