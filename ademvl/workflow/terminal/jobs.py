"""Jobs as people are told of them: names, durations, and how much is left to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ademvl.workflow.terminal.job_logs import TrainingState

TRAINING = "train_run"
NAMES = {
    "dataset": "data set",
    "verify_dataset": "check data set",
    "feature_cache": "features",
    "convert_backbone": "convert language model",
    "choose_rate": "choose rate of",
    TRAINING: "train",
    "evaluate_run": "evaluate",
    "write_tables": "tables",
    "write_figures": "figures",
    "write_page": "page",
    "write_bundle": "bundle",
}
_MOMENTS = (  # many of them
    "study_settings",
    "run_settings",
    "rate_settings",
    "grid_settings",
    "relevant_settings",
)
_TARGETS = ("all", "data", "features", "train", "evaluate", "figures", "report", "bundle")
UNTOLD = frozenset((*_MOMENTS, *_TARGETS))


@dataclass(frozen=True)
class Job:
    """A job that has started.

    Attributes:
        rule: name of its rule.
        name: what people call it.
        logs: files that it writes its log to.
        started: when, on the display's clock, in seconds.
    """

    rule: str
    name: str
    logs: Sequence[str]
    started: float


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return what a job is called: its rule in words, and what it is about."""
    about = [
        f"{key} {value}" if key == "seed" else value
        for key, value in wildcards.items()
        if key not in ("task", "verb")
    ]
    words = NAMES.get(rule, rule.replace("_", " "))
    return f"{words} {', '.join(about)}".rstrip()


def duration(seconds: float) -> str:
    """Return seconds as people say them: 42 s, 3 min 05 s, 2 h 07 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@dataclass
class Durations:
    """How long jobs took, and what follows for those that are left.

    Attributes:
        left: jobs of each rule that have not ended.
        taken: seconds that ended jobs of each rule took.
        slots: jobs that ran at once, at most.
    """

    left: dict[str, int] = field(default_factory=dict)
    taken: dict[str, list[float]] = field(default_factory=dict)
    slots: int = 1

    def seconds_left(
        self, running: Sequence[tuple[Job, TrainingState | None]], now: float
    ) -> float | None:
        """Estimate what the whole still takes; None as long as no training tells.

        A rule's job takes the mean of those that ended; a training that runs says itself what it
        takes. What nothing is known of counts as nothing.
        """
        means = {rule: sum(taken) / len(taken) for rule, taken in self.taken.items()}
        told = [now - job.started + state.seconds_left for job, state in running if state]
        if told:
            means.setdefault(TRAINING, sum(told) / len(told))
        if self.left.get(TRAINING) and TRAINING not in means:
            return None
        of_running = [
            state.seconds_left
            if state
            else max(0.0, means.get(job.rule, 0.0) - (now - job.started))
            for job, state in running
        ]
        waiting = dict(self.left)
        for job, _ in running:
            waiting[job.rule] = waiting.get(job.rule, 0) - 1
        of_waiting = sum(max(0, n) * means.get(rule, 0.0) for rule, n in waiting.items())
        return max((sum(of_running) + of_waiting) / self.slots, *of_running, 0.0)
