"""Protects what wrong settings and damaged files end in: `benchmarks/wrong_inputs.py`, in short."""

import os
import random
import shutil
from pathlib import Path

import pytest

from benchmarks.wrong_inputs import (
    DAMAGES,
    PLACED,
    Command,
    Outcome,
    Report,
    call,
    fault_of,
    try_file,
    try_settings,
    wrong_settings,
)
from tests.bundle.finished import FinishedStudy

STUDY = "results/tiny/study.yaml"
RUN = "results/tiny/runs/adem/seed0"
COMMANDS = (
    Command(("summary", STUDY), (STUDY, f"{RUN}/provenance.json", f"{RUN}/scores/scienceqa.json")),
    Command(("bundle", "results/tiny", "--output", "out/b.zip"), (STUDY, f"{RUN}/run.yaml")),
    Command(
        ("compare", RUN, "results/tiny/runs/other/seed0", "--output", "out/compared.json"),
        (
            f"{RUN}/predictions/scienceqa.jsonl",
            "results/shared/data/squares/scienceqa/problems.json",
        ),
    ),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        FinishedStudy(Path(), results_dir="results", shared_dir="results/shared").finish()
    return folder


def test_wrong_settings_end_in_a_message_that_names_the_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report()
    try_settings(25, report)
    assert report.is_right, capsys.readouterr().out
    assert report.counts["settings", "refused"] > 15


def test_there_are_enough_wrong_settings() -> None:
    assert len(list(wrong_settings())) > 2500


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.arguments[0])
def test_damaged_files_end_in_a_message_that_names_them(
    finished: Path, tmp_path: Path, command: Command
) -> None:
    generator = random.Random(0)
    damages = generator.sample([*DAMAGES, *PLACED], 5)
    for number, damage in enumerate(damages):
        file = command.reads[number % len(command.reads)]
        folder = tmp_path / str(number)
        outcome, fault = try_file(command, file, damage, finished, folder, generator)
        assert not fault, (file, damage, outcome)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(None, "", 20.0), "did not end in 20 s"),
        (Outcome(1, "Traceback (most recent call last):", 0.1), "traceback"),
        (Outcome(1, "scores.json: wrong", 0.1), "exit code 1"),
        (Outcome(-11, "", 0.1), "exit code -11"),
        (Outcome(2, "wrong", 0.1), "names none of scores.json"),
        (Outcome(2, "scores.json: " + "x" * 200_000, 0.1), "200,013 characters"),
        (Outcome(2, "scores.json: wrong", 0.1), ""),
        (Outcome(0, "", 0.1), ""),
    ],
)
def test_what_is_wrong_is_seen(outcome: Outcome, fault: str) -> None:
    assert fault_of(outcome, ["scores.json"]) == fault


def test_command_that_waits_for_ever_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "study.yaml")
    outcome = call(["plan", "study.yaml"], tmp_path, limit_seconds=0.5)
    assert fault_of(outcome, ["study.yaml"]).startswith("did not end")
