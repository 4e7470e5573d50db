"""Protects what users mistype: a message and exit code 2, never a traceback."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ademvl.cli import _parser, main
from tests import tiny


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an adapter folder, which is looked at only as far as refusals go."""
    folder = tmp_path_factory.mktemp("world")
    run_dir = tiny.write_run(folder / "run", tiny.make_run(folder))
    (run_dir / "adapter").mkdir()
    (run_dir / "adapter" / "adapter.json").write_text("{}")
    return run_dir


@pytest.mark.parametrize("verb", ["train", "evaluate", "fusion-maps"])
def test_file_in_place_of_a_run_is_refused(
    run_dir: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, str(run_dir / "adapter" / "adapter.json")]) == 2
    assert "adapter.json: expected a run directory" in capsys.readouterr().err


NUMBERS = {
    ("--threads",): [["train", "run"], ["predict", "run", "--caption"], ["data", "verify", "x"]],
    ("--gpus",): [["evaluate", "run"], ["plan", "study.yaml"]],
    ("--processes",): [["train", "run"]],
    ("--port",): [["demo", "run"]],
    ("--batch-size",): [["predict", "run", "--caption"]],
    ("--items", "--seed"): [["fusion-maps", "run"]],
    ("--quick",): [["data", "verify", "x"]],
    ("--max-new-tokens",): [["evaluate-mme", "run", "--benchmark", "x", "--answers", "y"]],
    ("--utilization",): [["plan", "study.yaml"]],
    ("--unused-days",): [["cache", "gc"]],
    ("--minutes",): [["tune", "study.yaml"]],
    ("--difference", "--seed-spread", "--seed"): [["compare", "a", "b"]],
    ("--seed",): [["effects", "study.yaml"], ["diff", "a", "b"]],
    ("--meteor-seconds", "--meteor-mib", "--spice-seconds", "--spice-mib"): [
        ["score", "captions", "--references", "x", "--results", "y"]
    ],
}
NO_NUMBERS = ["nan", "inf", "-inf", "-1", "9" * 26, "9" * 5000, "1e400", "one", ""]


@pytest.mark.parametrize("text", NO_NUMBERS, ids=lambda text: text[:9] or "nothing")
@pytest.mark.parametrize(
    "arguments",
    [[*verb, name] for names, verbs in NUMBERS.items() for verb in verbs for name in names],
    ids=" ".join,
)
def test_numbers_outside_their_range_are_refused(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments[:-1], f"{arguments[-1]}={text}"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {arguments[-1]}: " in message
    assert re.search(r", expected (at least|more than) \S+ and at most [\d,]+", message)
    assert len(message) < 200


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "run", "--threads", "0"],
        ["train", "run", "--threads", "1.5"],
        ["train", "run", "--processes", "0"],
        ["predict", "run", "--caption", "--batch-size", "0"],
        ["compare", "a", "b", "--difference", "0"],
        ["compare", "a", "b", "--difference", "150"],
        ["plan", "study.yaml", "--utilization", "1.1"],
    ],
)
def test_numbers_just_outside_their_range_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"{arguments[-1]}, expected " in capsys.readouterr().err


def test_every_number_of_every_verb_has_a_range() -> None:
    """`int` and `float` take nan, inf, and what no machine has."""

    def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from parsers(below)

    found = {
        option
        for parser in parsers(_parser())
        for action in parser._actions
        if action.type not in (None, Path)
        for option in action.option_strings
        if option != "--output"  # refuses files that cannot be written
    }
    assert found == {option for options in NUMBERS for option in options}


@pytest.mark.parametrize("verb", [["settings"], ["data", "convert"]])
def test_malformed_json_is_refused(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, "{", "--output", str(tmp_path / "out")]) == 2
    assert "not valid JSON at line 1" in capsys.readouterr().err


def test_folder_in_place_of_a_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = {"study": "a", "name": "b", "seed": 0, "task": "scienceqa", "data_dir": "c"}
    with pytest.raises(SystemExit, match="2"):
        main(["settings", json.dumps(run), "--output", str(tmp_path)])
    assert f"--output: {tmp_path}: is a folder; a file is to be written." in capsys.readouterr().err


def test_a_plan_takes_its_study_either_way_and_not_both(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = "workflow/studies/smoke.yaml"
    assert main(["plan", study]) == main(["plan", "--study", study]) == 0
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]
    for arguments in ([], [study, "--study", study]):
        assert main(["plan", *arguments]) == 2
        assert "name one study file" in capsys.readouterr().err
