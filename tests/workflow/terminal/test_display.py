"""Protects what a person is told of a workflow: a line a job, failures by name, how to go on."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from ademvl.workflow.terminal.display import SILENT_SECONDS, Display
from ademvl.workflow.terminal.jobs import NAMES, UNTOLD, duration, job_name
from tests.conftest import PROJECT_ROOT

STEP = "INFO ademvl.machine.progress: step 20 of 80, loss 0.5123, 12 items/s, 60 s left\n"


class Stage:
    """A display on a file, with a clock that tests turn."""

    def __init__(self, folder: Path, *, terminal: bool = False) -> None:
        self.now = 0.0
        self.folder = folder
        self.stream = io.StringIO()
        console = Console(file=self.stream, force_terminal=terminal, width=100, color_system=None)
        self.display = Display(console, clock=lambda: self.now)

    def start(self, number: int, rule: str = "train_run", log: str = "", **wildcards: str) -> None:
        path = self.folder / f"{number}.log"
        path.write_text(log, encoding="utf-8")
        self.display.start(number, rule, wildcards, [str(path)])

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_each_job_has_one_line_and_settings_and_targets_have_none(stage: Stage) -> None:
    stage.display.begin({"train_run": 1, "write_tables": 1, "run_settings": 30, "all": 1})
    stage.start(1, "run_settings", run="adem", seed="0")
    stage.display.finish(1)
    stage.start(2, log=STEP, run="adem", seed="0")
    stage.now = 75.0
    stage.display.finish(2)
    stage.start(3, "write_tables")
    stage.display.finish(3)
    assert stage.lines == [
        "2 jobs, 1 of them trainings",
        "[1/2] train adem, seed 0: done in 1 min 15 s, loss 0.5123 after 20 steps",
        "[2/2] tables: done in 0 s",
    ]


def test_time_left_counts_running_and_waiting_trainings_over_those_at_once(stage: Stage) -> None:
    stage.display.begin({"train_run": 4, "dataset": 1})
    stage.start(1, "dataset", dataset="easy_vqa")
    stage.display.finish(1)
    stage.start(2, log=STEP, run="a", seed="0")
    stage.start(3, log=STEP, run="b", seed="0")
    stage.now = 40.0
    stage.start(4, "fusion_maps", run="a", seed="0")
    stage.display.finish(4)
    # Two have 60 s left, two more take 40 + 60 s each; two run at once, three did.
    assert stage.lines[1] == "[1/5] data set easy_vqa: done in 0 s"
    assert stage.lines[2].endswith(f"about {duration((60 + 60 + 100 + 100) / 3)} left")


def test_a_failed_job_is_told_at_once_and_again_at_the_end(stage: Stage) -> None:
    stage.display.begin({"train_run": 1, "evaluate_run": 1})
    stage.start(1, log="ademvl train: the disk is full\nfree some space\n", run="adem", seed="0")
    stage.now = 3.0
    stage.display.fail(1, "train_run", [])
    stage.display.close()
    assert stage.lines == [
        "2 jobs, 1 of them trainings",
        "[0/2] train adem, seed 0: FAILED after 3 s: the disk is full",
        "",
        "Failed: train adem, seed 0",
        "  the disk is full",
        "  free some space",
        f"  log: {stage.folder / '1.log'}",
        "",
        "1 of 2 jobs were not run. When that is mended: the same command goes on from here.",
    ]


def test_a_job_that_succeeds_when_tried_again_has_not_failed(stage: Stage) -> None:
    stage.display.begin({"train_run": 1})
    stage.start(1, run="adem", seed="0")
    stage.display.fail(1, "train_run", [])
    stage.start(1, run="adem", seed="0")
    stage.display.finish(1)
    stage.display.close()
    assert stage.lines[-1] == "[1/1] train adem, seed 0: done in 0 s"


def test_ctrl_c_is_no_failure_and_says_that_the_same_command_goes_on(stage: Stage) -> None:
    stage.display.begin({"train_run": 2})
    stage.start(1, log="interrupted\n", run="adem", seed="0")
    stage.start(2, log="", run="adem", seed="1")
    stage.display.fail(1, "train_run", [])  # the job ends before Snakemake notices
    stage.display.interrupt()
    stage.display.fail(2, "train_run", [])
    stage.display.close()
    assert not [line for line in stage.lines if "FAILED" in line]
    assert stage.lines[-1] == ("Stopped. 0 of 2 jobs are done. The same command goes on from here.")


def test_warnings_are_said_once(stage: Stage) -> None:
    stage.display.begin({"train_run": 2})
    for number in (1, 2):
        stage.start(number, log="WARNING ademvl.x: slow\n", run="adem", seed=str(number))
        stage.display.finish(number)
    assert stage.lines.count("warning (train adem, seed 1): slow") == 1
    assert len([line for line in stage.lines if "slow" in line]) == 1


def test_without_a_terminal_running_jobs_are_told_after_a_silence(stage: Stage) -> None:
    stage.display.begin({"train_run": 1})
    stage.start(1, log=STEP, run="adem", seed="0")
    stage.now = SILENT_SECONDS - 1
    stage.display.tell_running()
    assert len(stage.lines) == 1
    stage.now = SILENT_SECONDS
    stage.display.tell_running()
    told = "train adem, seed 0: step 20 of 80, loss 0.5123, 12 items/s, 1 min 00 s left"
    assert told in stage.lines[1]
    assert stage.lines[1].endswith("; 3 min 00 s; about 1 min 00 s left")
    stage.display.tell_running()
    assert len(stage.lines) == 2


def test_on_a_terminal_running_jobs_are_drawn_below(tmp_path: Path) -> None:
    stage = Stage(tmp_path, terminal=True)
    stage.display.begin({"train_run": 1})
    stage.start(1, log=STEP, run="adem", seed="0")
    stage.display.say("something")
    stage.display.stop_drawing()
    printed = stage.stream.getvalue()
    assert "train adem, seed 0: step 20 of 80, loss 0.5123, 12 items/s" in printed
    assert "0 of 1 jobs done in 0 s; about 1 min 00 s left" in printed


def test_every_rule_and_target_is_told_of_or_left_out_on_purpose() -> None:
    paths = [PROJECT_ROOT / "Snakefile", *(PROJECT_ROOT / "workflow").rglob("*.smk")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    rules = set(re.findall(r"^rule (\w+):", text, flags=re.MULTILINE))
    own_words = {
        "download",
        "unpack",
        "fusion_maps",
        "mini_backbones",
        "mini_shapes_backbones",
        "tables",
    }
    assert rules == {*NAMES, *UNTOLD, *own_words}


@pytest.mark.parametrize(
    ("rule", "wildcards", "name"),
    [
        ("train_run", {"run": "adem", "seed": "0"}, "train adem, seed 0"),
        ("evaluate_run", {"run": "a", "seed": "1", "task": "mme"}, "evaluate a, seed 1"),
        ("download", {"source": "llama_7b"}, "download llama_7b"),
        ("write_page", {}, "page"),
    ],
)
def test_names_of_jobs(rule: str, wildcards: dict[str, str], name: str) -> None:
    assert job_name(rule, wildcards) == name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
