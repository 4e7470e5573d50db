"""Protects what is shown of Snakemake's own records, with records as it makes them."""

import io
import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent

from ademvl.vision.features.image_progress import ImageProgress
from ademvl.workflow.terminal.display import Display
from ademvl.workflow.terminal.records import ENDING, show_record, show_results_when_idle
from tests.bundle.finished import FinishedStudy


class Shown:
    """Shows records, and returns what was printed."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.display = Display(Console(file=self.stream, width=100, color_system=None))

    def show(self, text: str | None, level: int = logging.INFO, **extra: object) -> str:
        record = logging.LogRecord("snakemake", level, "", 0, text, (), None)
        vars(record).update(extra)
        show_record(record, self.display)
        return self.stream.getvalue()


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.mark.parametrize(
    "text",
    [
        "Building DAG of jobs...",
        "Provided cores: 2",
        "Select jobs to execute...",
        "Execute 2 jobs...",
        "host: node1",
        None,
    ],
)
def test_chatter_is_left_out(shown: Shown, text: str | None) -> None:
    assert shown.show(text) == ""


def test_what_is_not_known_is_said_as_it_is(shown: Shown) -> None:
    assert shown.show("Nothing to be done (all requested files are present).").startswith("Nothing")


def test_errors_of_jobs_are_left_to_the_jobs_and_others_said(shown: Shown) -> None:
    assert shown.show("RuleException:\nCalledProcessError in file x", logging.ERROR) == ""
    assert shown.show("SettingsError: no", logging.ERROR, event=LogEvent.ERROR) == (
        "SettingsError: no\n"
    )


def test_a_warning_is_said_once(shown: Shown) -> None:
    shown.show("odd", logging.WARNING)
    assert shown.show("odd", logging.WARNING) == "warning: odd\n"


def test_a_job_from_start_to_end(shown: Shown) -> None:
    shown.show("", event=LogEvent.RUN_INFO, stats={"train_run": 1, "all": 1, "total": 2})
    about = {"rule_name": "train_run", "wildcards": {"run": "a", "seed": "0"}, "log": ["none.log"]}
    shown.show("", event=LogEvent.JOB_INFO, jobid=1, **about)
    printed = shown.show("", event=LogEvent.JOB_FINISHED, job_id=1)
    assert printed == "1 jobs, 1 of them trainings\n[1/1] train a, seed 0: done in 0 s\n"


def test_a_job_that_a_cluster_ended_is_told_with_the_cluster_s_reason(shown: Shown) -> None:
    """What the Slurm executor says stands in the record, as the job's own log says nothing."""
    reason = "SLURM-job '2' failed, SLURM status is: 'CANCELLED'. "
    hint = "For further error details see the cluster/cloud log and the log files"
    about = {"rule_name": "train_run", "jobid": 1, "log": ["none.log", "slurm/2.log"]}
    shown.show("", logging.ERROR, event=LogEvent.JOB_ERROR, rule_msg=reason + hint, **about)
    shown.display.close()
    printed = shown.stream.getvalue()
    assert f"FAILED after 0 s: {reason.strip()}\n" in printed
    assert hint not in printed
    assert "  log: slurm/2.log\n" in printed


def test_ctrl_c_is_understood(shown: Shown) -> None:
    shown.show("Terminating processes on user request, this might take some time.")
    shown.display.close()
    assert "The same command goes on" in shown.stream.getvalue()


def test_others_can_wait_for_the_end_of_drawing(shown: Shown) -> None:
    ended = threading.Event()
    shown.show(None, **{ENDING: ended})
    assert ended.is_set()


def test_results_are_shown_where_nothing_is_to_be_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = FinishedStudy(tmp_path).finish()
    (results / "tables").mkdir()
    workflow = SimpleNamespace(
        is_main_process=True,
        output_settings=SimpleNamespace(dryrun=False),
        logger_manager=SimpleNamespace(get_log_handlers=list),
    )
    logger = logging.getLogger("snakemake.logging")
    show_results_when_idle(workflow, str(results / "study.yaml"))
    handler = logger.handlers[-1]
    try:
        logger.handle(logging.makeLogRecord({"msg": "Building DAG of jobs...", "levelno": 20}))
        assert capfd.readouterr().out == ""
        nothing = "Nothing to be done (all requested files are present and up to date)."
        logger.handle(logging.makeLogRecord({"msg": nothing, "levelno": 20}))
    finally:
        logger.removeHandler(handler)
    assert "Study tiny" in capfd.readouterr().out


def test_no_images_have_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ImageProgress(0, "check images", shown=True):
        pass
    assert capsys.readouterr().err == ""
