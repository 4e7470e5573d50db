"""Which of Snakemake's log records a person is told, and how."""

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from ademvl.workflow.studies import no_such_study
from ademvl.workflow.terminal.display import Display

ENDING = "ademvl_ending"
"""Attribute of a record that asks for an end of drawing; holds the event to be set then."""

_PLUGIN = "snakemake_logger_plugin_ademvl"
_LOGGER = "snakemake.logging"
_NOTHING_TO_DO = "Nothing to be done"
_LONGEST_DRAWING_SECONDS = 30.0

_CHATTER = re.compile(
    r"^(None$|host: |Building DAG of jobs|Assuming unrestricted shared|Using shell: |Provided "
    r"|Rules claiming more threads|Select jobs to execute|Execute \d+ jobs|Conda environments: "
    r"|Singularity containers: |Group jobs: |Will exit after finishing|Shutting down, this might"
    r"|Elapsed time: |Cannot restore |--keep-incomplete mode|Exiting because a job"
    r"|Job \d+ has been submitted|Removing (?:temporary )?output|At least one job did not"
    r"|Cancelling snakemake on)"
)
_RESTART = re.compile(r"^Trying to restart job (\d+)")
_INTERRUPT = "Terminating processes on user request"
_FOLLOWED_BY_LOGS = "For further error details see"
_LOG_HINT = "Complete log(s): "
_OF_A_JOB = (
    "CalledProcessError",
    "Exiting because a job",
    "At least one job did not complete",
    "Cancelling snakemake on",
)


_NO_CONFIG_FILE = re.compile(
    r"\bload_configfile\b.*\nFileNotFoundError: \[Errno 2\] .*?: '(?P<path>.*)'\s*\Z", re.DOTALL
)


def in_plain_words(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record that names the nearest study in place of a traceback, where that is it.

    Snakemake reads what `--configfile` names before any Snakefile; this is the one place where a
    name that is mistyped can be told.
    """
    found = _NO_CONFIG_FILE.search(str(record.msg)) if record.levelno >= logging.ERROR else None
    if found is None:
        return record
    text = no_such_study(found["path"])
    if not found["path"].endswith((".yaml", ".yml")):
        text += (
            "\n--configfile takes all words behind it for files: targets stand before it, or "
            "behind --"
        )
    return logging.makeLogRecord({**vars(record), "msg": text, "args": ()})


def show_record(record: logging.LogRecord, display: Display) -> None:
    """Tell `display` what a record of Snakemake's is about; what is not known is said as it is."""
    event = getattr(record, "event", None)
    ending = getattr(record, ENDING, None)
    if isinstance(ending, threading.Event):
        display.stop_drawing()
        ending.set()
    elif event == LogEvent.RUN_INFO:
        stats: dict[str, int] = vars(record)["stats"]
        display.begin({rule: n for rule, n in stats.items() if rule != "total"})
    elif event == LogEvent.JOB_INFO:
        of = vars(record)
        display.start(of["jobid"], of["rule_name"], dict(of["wildcards"] or {}), list(of["log"]))
    elif event == LogEvent.JOB_FINISHED:
        display.finish(vars(record)["job_id"])
    elif event == LogEvent.JOB_ERROR:
        _show_failure(vars(record), display)
    elif event == LogEvent.GROUP_ERROR:
        for of in vars(record)["job_error_info"]:
            _show_failure(of, display)
    elif event in (None, LogEvent.ERROR):
        _show_text(record.levelno, record.getMessage().strip(), display)


def end_drawing(workflow: Any) -> None:
    """Wait until the display has said all that has happened and draws no more.

    Args:
        workflow: Snakemake's; nothing is waited for where it logs in another way.
    """
    handlers = workflow.logger_manager.get_log_handlers()
    if any(type(handler).__module__ == _PLUGIN for handler in handlers):
        ended = threading.Event()
        logging.getLogger(_LOGGER).info(None, extra={ENDING: ended})
        ended.wait(_LONGEST_DRAWING_SECONDS)


class _WhenIdle(logging.Handler):
    """Shows a study's results once Snakemake says that nothing is to be done."""

    def __init__(self, workflow: Any, study_file: str) -> None:
        super().__init__()
        self._workflow = workflow
        self._study_file = study_file

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one record, behind the handler that shows it."""
        if record.getMessage().startswith(_NOTHING_TO_DO):
            end_drawing(self._workflow)
            summary = [sys.executable, "-m", "ademvl", "summary", "--if-complete"]
            subprocess.run([*summary, self._study_file], check=False)


def show_results_when_idle(workflow: Any, study_file: str) -> None:
    """Show a study's results, as after a run, where all of it is there already.

    Snakemake calls neither `onstart` nor `onsuccess` then.

    Args:
        workflow: Snakemake's; dry runs, and processes that it starts for jobs, show nothing.
        study_file: study.yaml of the study's results.
    """
    if workflow.is_main_process and not workflow.output_settings.dryrun:
        logging.getLogger(_LOGGER).addHandler(_WhenIdle(workflow, study_file))


def _show_failure(of: Mapping[str, Any], display: Display) -> None:
    reason = (of["rule_msg"] or "").partition(_FOLLOWED_BY_LOGS)[0].strip()
    display.fail(of["jobid"], of["rule_name"], list(of["log"]), reason)


def _show_text(level: int, text: str, display: Display) -> None:
    if _INTERRUPT in text:
        display.interrupt()
    elif text.startswith(_LOG_HINT):
        display.say(f"full log: {text.removeprefix(_LOG_HINT)}")
    elif level >= logging.ERROR:
        if not any(part in text for part in _OF_A_JOB):
            display.say(text, style="red")
    elif not text or _CHATTER.match(text):
        pass
    elif level >= logging.WARNING:
        display.warn(text)
    elif _RESTART.match(text):
        display.say("  it is tried again")
    else:
        display.say(text)
