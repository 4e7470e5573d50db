"""What the log of one job tells while it runs and when it has ended; the verbs write it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_PROGRESS = re.compile(
    r"step (\d+) of (\d+), loss ([^ ,]+), (\d+) items/s, (\d+) s left", flags=re.ASCII
)
_WARNING = re.compile(r"^WARNING ([\w.]+): (.+)$", flags=re.MULTILINE)
_MESSAGE = re.compile(r"^ademvl [a-z-]+: ", flags=re.MULTILINE)
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*$", flags=re.MULTILINE)
_INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class TrainingState:
    """The last line that a training wrote about itself.

    Attributes:
        step: optimiser steps that are done.
        total_steps: of the whole training.
        loss: of the last step, as it is written.
        items_per_second: since the process started.
        seconds_left: that it expects to take.
    """

    step: int
    total_steps: int
    loss: str
    items_per_second: int
    seconds_left: int


def read_training_state(logs: Sequence[str]) -> TrainingState | None:
    """Return how far a training is; None before its first line, and for other jobs."""
    found = _PROGRESS.findall(_tail(logs))
    if not found:
        return None
    step, total, loss, rate, left = found[-1]
    return TrainingState(int(step), int(total), loss, int(rate), int(left))


def read_warnings(logs: Sequence[str]) -> list[str]:
    """Return the warnings of a job without the name of the module, each once."""
    return list(dict.fromkeys(text for _, text in _WARNING.findall(_tail(logs))))


def read_message(logs: Sequence[str]) -> str:
    """Return what a failed job said last: its message for people, or the last line of a traceback.

    Empty where it said nothing, as of a process that was killed.
    """
    text = _tail(logs).rstrip()
    if found := list(_MESSAGE.finditer(text)):
        return text[found[-1].end() :]
    if raised := _RAISED.findall(text):
        return raised[-1]
    last = text.splitlines()[-1:] or [""]
    return last[0] if last[0] == _INTERRUPTED else ""


def was_interrupted(message: str) -> bool:
    """Whether a job ended because somebody pressed Ctrl-C."""
    return message == _INTERRUPTED


def _tail(logs: Sequence[str]) -> str:
    for log in logs[:1]:
        try:
            with Path(log).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
                return file.read().decode("utf-8", errors="replace").replace("\r", "\n")
        except OSError:
            return ""
    return ""
