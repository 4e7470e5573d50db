"""Protects what users mistype: a message and exit code 2, never a traceback."""

import json
from pathlib import Path

import pytest

from ademvl.cli import main
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "run", "--threads", "-4"],
        ["train", "run", "--gpus", "-1"],
        ["train", "run", "--processes", "0"],
        ["predict", "run", "--caption", "--batch-size", "0"],
        ["cache", "gc", "--unused-days", "-1"],
        ["cache", "gc", "--unused-days", "nan"],
    ],
)
def test_numbers_outside_their_range_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"{arguments[-1]}, expected at least" in capsys.readouterr().err


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
