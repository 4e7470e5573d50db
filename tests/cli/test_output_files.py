"""Protects `--output`: links, pipes and standard output, and that no input is written over."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ademvl.cli import main

RUN = {"study": "a", "name": "b", "seed": 0, "task": "scienceqa", "data_dir": "c"}
PROBLEM = {"question": "q", "choices": ["x", "y"], "hint": "", "answer": 1, "image": None}
PROBLEM |= dict.fromkeys(("lecture", "solution", "task", "topic", "category", "skill"), "")


def write_scored(folder: Path) -> list[str]:
    """Write problems with a prediction; return the arguments that score it."""
    splits = {"train": ["3"], "val": ["2"], "test": ["1"]}
    problems = {
        ids[0]: PROBLEM | {"subject": "natural science", "grade": "grade2", "split": split}
        for split, ids in splits.items()
    }
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps(splits))
    (folder / "predictions.json").write_text(json.dumps({"1": 1}))
    files = [str(folder / "problems.json"), "--predictions", str(folder / "predictions.json")]
    return ["score", "scienceqa", "--problems", *files]


def test_link_and_pipe_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "target.yaml").write_text("old")
    (tmp_path / "link").symlink_to("target.yaml")
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        for name in ("link", "pipe"):
            assert main(["settings", json.dumps(RUN), "--output", str(tmp_path / name)]) == 0
        assert read.result() == (tmp_path / "target.yaml").read_text() != "old"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()


def test_scores_on_standard_output_can_be_piped_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ademvl", *write_scored(tmp_path)]
    command += ["--output", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n"] == 1
    assert "100.00" in done.stderr  # the table


@pytest.mark.parametrize("name", ["problems.json", "predictions.json", "link"])
def test_file_that_is_read_is_not_written_over(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_scored(tmp_path)
    (tmp_path / "link").symlink_to("predictions.json")
    before = (tmp_path / name).read_bytes()
    assert main([*arguments, "--output", str(tmp_path / name)]) == 2
    assert "is the file that is read; name another one" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


def test_full_disk_of_the_output_is_told_without_another_place() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ademvl", "schema"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert "no room for what was being written, the output of this command" in ended.stderr
    assert "free)" not in ended.stderr


def test_full_disk_is_told_with_its_remedy_where_data_is_made(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")
    (small_disk / "ballast").write_bytes(bytes((2 << 20) - (16 << 10)))
    output = small_disk / "data" / "mini" / "manifest.json"
    assert main(["data", "convert", '{"train_questions": 60}', "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert "Free some space and run the same command again" in said
    assert not output.exists()
