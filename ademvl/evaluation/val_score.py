"""The val score of a run that others are compared with to choose one, and what it took."""

from dataclasses import dataclass
from pathlib import Path

from ademvl.config.task_facts import TaskFacts
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import read_object


@dataclass(frozen=True, kw_only=True)
class ValScore:
    """Of one training.

    Attributes:
        percent: accuracy on all questions, or CIDEr of captions.
        n: items of the val split.
        seconds: that the training took.
    """

    percent: float
    n: int
    seconds: float


def read_val_score(run_dir: Path, task: TaskFacts) -> ValScore:
    """Read the main score of a run that was evaluated on the val split."""
    files = RunFiles(run_dir)
    found = read_object(files.scores(task.evaluated_as))[task.scores_in][task.main]
    usage = read_object(files.provenance)["usage"]
    return ValScore(
        percent=float(found["percent"]), n=int(found["n"]), seconds=float(usage["wall_seconds"])
    )
