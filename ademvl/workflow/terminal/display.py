"""A workflow as a person can follow it: a line for each job that ends, and what is running now.

On a terminal the running jobs stand below, each with its progress, and are drawn anew; elsewhere
they are told when nothing else was for a minute.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ademvl.workflow.terminal.job_logs import (
    TrainingState,
    read_message,
    read_training_state,
    read_warnings,
    was_interrupted,
)
from ademvl.workflow.terminal.jobs import TRAINING, UNTOLD, Durations, Job, duration, job_name

SILENT_SECONDS = 180.0
_SILENT_PART = 0.05
"""Of the time that has passed: a study of days needs no line a minute."""
_MAX_MESSAGE_LINES = 12
_GOES_ON = "The same command goes on from here."


class Display:
    """Tells of jobs on a console.

    Args:
        console: where to write.
        clock: returns seconds.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.RLock()
        self._running: dict[int, Job] = {}
        self._failed: dict[int, tuple[Job, str]] = {}
        self._durations = Durations()
        self._total = self._num_done = 0
        self._said: set[str] = set()
        self._is_interrupted = False
        self._began = self._last_line = clock()
        self._live: Live | None = None

    def begin(self, jobs: Mapping[str, int]) -> None:
        """Say how many jobs there are of each rule."""
        with self._lock:
            told = {rule: n for rule, n in jobs.items() if rule not in UNTOLD}
            self._durations.left = dict(told)
            self._total = sum(told.values())
            trainings = told.get(TRAINING, 0)
            self._say(f"{self._total} jobs, {trainings} of them trainings")
            if self._console.is_terminal and self._live is None:
                self._live = Live(
                    get_renderable=self._now,
                    console=self._console,
                    refresh_per_second=1,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()

    def start(self, number: int, rule: str, wildcards: Mapping[str, str], logs: list[str]) -> None:
        """Note that a job has started, or was submitted."""
        if rule in UNTOLD:
            return
        with self._lock:
            name = job_name(rule, wildcards)
            self._running[number] = Job(rule, name, tuple(logs), self._clock())
            self._durations.slots = max(self._durations.slots, len(self._running))

    def finish(self, number: int) -> None:
        """Say that a job is done."""
        with self._lock:
            job = self._running.pop(number, None)
            if job is None:
                return
            self._failed.pop(number, None)
            self._num_done += 1
            seconds = self._clock() - job.started
            self._durations.taken.setdefault(job.rule, []).append(seconds)
            self._durations.left[job.rule] = max(0, self._durations.left.get(job.rule, 0) - 1)
            state = read_training_state(job.logs)
            told = f", loss {state.loss} after {state.step} steps" if state else ""
            self._say_line(f"{job.name}: done in {duration(seconds)}{told}")
            for warning in read_warnings(job.logs):
                self.warn(warning, of=job.name)

    def fail(self, number: int, rule: str, logs: Sequence[str], reason: str = "") -> None:
        """Say that a job has failed, with its message.

        Args:
            rule: names a job that never started.
            logs: its own log first, then those of a cluster.
            reason: what the executor says, told of a job that said nothing itself.
        """
        with self._lock:
            now = self._clock()
            job = self._running.pop(number, None) or Job(rule, job_name(rule, {}), (), now)
            job = replace(job, logs=tuple(dict.fromkeys((*job.logs, *logs))))
            message = read_message(job.logs) or reason
            seconds = duration(now - job.started)
            if self._is_interrupted or was_interrupted(message):
                self._say_line(f"{job.name}: stopped after {seconds}")
                return
            self._failed[number] = (job, message)
            first = message.splitlines()[0] if message else "it said nothing"
            self._say_line(f"{job.name}: FAILED after {seconds}: {first}", style="red")

    def warn(self, text: str, *, of: str = "") -> None:
        """Say a warning, once in the whole workflow."""
        with self._lock:
            if text not in self._said:
                self._said.add(text)
                self._say(f"warning{f' ({of})' if of else ''}: {text}", style="yellow")

    def say(self, text: str, *, style: str = "") -> None:
        """Say something that is about no job."""
        with self._lock:
            self._say(text, style=style)

    def interrupt(self) -> None:
        """Note that Ctrl-C was pressed: what fails from now on was stopped."""
        with self._lock:
            self._is_interrupted = True
            self._say("Stopping; what the running jobs have done is kept.")

    def tell_running(self) -> None:
        """Tell of the running jobs, where no terminal shows them and nothing was said for long."""
        with self._lock:
            now = self._clock()
            silent = max(SILENT_SECONDS, _SILENT_PART * (now - self._began))
            if self._live is None and self._running and now - self._last_line >= silent:
                *lines, last = self._running_lines(now)
                for line in (*lines, last + self._left(now)):
                    self._say(f"          {line}")

    def stop_drawing(self) -> None:
        """Take away what is drawn anew, before others write to the terminal."""
        with self._lock:
            live, self._live = self._live, None
        if live is not None:  # outside of the lock: its thread ends when it has drawn once more
            live.stop()

    def close(self) -> None:
        """Say how it ended: what failed, with message and log, or that the same command goes on."""
        self.stop_drawing()
        with self._lock:
            for job, message in self._failed.values():
                self._say(f"\nFailed: {job.name}", style="red")
                self._say(_indented(message or "no message: it was killed, or could not start"))
                for log in job.logs:
                    self._say(f"  log: {log}")
            waiting = self._total - self._num_done - len(self._failed)
            if self._failed:
                rest = f"{waiting} of {self._total} jobs were not run. " if waiting > 0 else ""
                self._say(f"\n{rest}When that is mended: {_GOES_ON[0].lower()}{_GOES_ON[1:]}")
            elif self._is_interrupted:
                done = f"{self._num_done} of {self._total} jobs are done."
                self._say(f"Stopped. {done} {_GOES_ON}")
            self._failed, self._is_interrupted = {}, False

    def _now(self) -> Group:
        with self._lock:
            now = self._clock()
            lines = [Text(f"  {line}", style="cyan") for line in self._running_lines(now)]
            passed = duration(now - self._began)
            done = f"{self._num_done} of {self._total} jobs done in {passed}{self._left(now)}"
            for line in (*lines, last := Text(done, style="bold")):
                line.truncate(self._console.width, overflow="ellipsis")
            return Group(*lines, last)

    def _running_lines(self, now: float) -> list[str]:
        return [
            f"{job.name}: {_progress(state)}{duration(now - job.started)}"
            for job, state in self._states()
        ]

    def _states(self) -> list[tuple[Job, TrainingState | None]]:
        jobs = self._running.values()
        return [(job, read_training_state(job.logs)) for job in jobs]

    def _left(self, now: float) -> str:
        if self._num_done == self._total:
            return ""
        seconds = self._durations.seconds_left(self._states(), now)
        return f"; about {duration(seconds)} left" if seconds else ""

    def _say_line(self, text: str, *, style: str = "") -> None:
        width = len(str(self._total))
        left = self._left(self._clock())
        self._say(f"[{self._num_done:{width}}/{self._total}] {text}{left}", style=style)

    def _say(self, text: str, *, style: str = "") -> None:
        self._last_line = self._clock()
        self._console.print(Text(text, style=style), soft_wrap=True)


def _progress(state: TrainingState | None) -> str:
    if state is None:
        return ""
    return (
        f"step {state.step} of {state.total_steps}, loss {state.loss}, "
        f"{state.items_per_second} items/s, {duration(state.seconds_left)} left; "
    )


def _indented(message: str) -> str:
    lines: Sequence[str] = message.splitlines()
    more = ["..."] if len(lines) > _MAX_MESSAGE_LINES else []
    return "\n".join(f"  {line}" for line in [*lines[:_MAX_MESSAGE_LINES], *more])
