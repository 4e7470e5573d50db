"""Which values are tried next, and what was tried: optuna's sampler, rule and file.

Only finished trials stand in the file. What is tried next follows from them and the seed alone, so
that a search that was killed proposes the same again, and ends as if nothing had happened.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.errors import DataError, ToolError
from ademvl.randomness import derive_seed
from ademvl.storage.files import explained_disk_full
from ademvl.tuning.space import SearchedSetting

if TYPE_CHECKING:
    import optuna

_ATTEMPTS = 100
_STUDY = "tune"
_NUMPY_SEEDS = 2**32
_LINE_BEGINS = b'{"op_code":'  # as optuna writes each of its lines


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of one combination of values.

    Attributes:
        number: from 0.
        values: by path of the setting.
        score: on the val split after the longest training that it had, in percent; None where the
            first one failed.
        n: items of that split.
        rungs: lengths of training that it has finished.
        seconds: that all its trainings took.
        is_complete: whether it had the longest training.
        failure: why its last training gave nothing.
    """

    number: int
    values: Mapping[str, Any]
    score: float | None
    n: int
    rungs: int
    seconds: float
    is_complete: bool
    failure: str


def refuse_missing_optuna() -> None:
    """Make sure that optuna is installed.

    Raises:
        ToolError: it is not.
    """
    try:
        import optuna
    except ImportError as error:
        raise ToolError(
            f"tune: the package optuna is missing ({error}). Install it with "
            "`pip install 'ademvl[tune]'`."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class Search:
    """Proposes values and keeps what came of them.

    Its folder must be held by this process alone.

    Args:
        file: of finished trials.
        space: settings by path; the run's own values are tried first, where they are in it.
        reduction: one in how many trials goes on to a longer training.
        seed: of the draws.

    Raises:
        DataError: the file is damaged.
        DiskFullError: there is no room for it.
    """

    def __init__(
        self,
        file: Path,
        space: Mapping[str, SearchedSetting],
        *,
        reduction: int,
        seed: int,
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._file, self._space, self._reduction, self._seed = file, space, reduction, seed
        _cut_unfinished_line(file)
        try:
            backend = JournalFileBackend(str(file), lock_obj=_Held())  # type: ignore[arg-type]
            with explained_disk_full(file):
                self._finished = optuna.create_study(
                    storage=JournalStorage(backend),
                    study_name=_STUDY,
                    direction="maximize",
                    load_if_exists=True,
                )
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(file, str(error)) from error

    @property
    def trials(self) -> list[Trial]:
        """Finished trials, in the order in which they were tried."""
        return [self._told(trial) for trial in self._finished.get_trials(deepcopy=False)]

    def propose(self) -> "optuna.Trial | None":
        """Return a trial with new values; None where nearly all of the space was tried."""
        import optuna

        finished = self._finished.get_trials()
        tried = [self.values_of(trial.params) for trial in finished]
        for attempt in range(_ATTEMPTS):
            seed = derive_seed(self._seed, _STUDY, len(finished), attempt) % _NUMPY_SEEDS
            # In memory: a trial that never ends leaves no trace.
            memory = optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=seed),
                pruner=optuna.pruners.SuccessiveHalvingPruner(
                    min_resource=1, reduction_factor=self._reduction
                ),
            )
            memory.add_trials(finished)
            start = {path: setting.start_param for path, setting in self._space.items()}
            if not finished and None not in start.values():
                memory.enqueue_trial(start)
            space = {path: setting.distribution for path, setting in self._space.items()}
            trial = memory.ask(space)
            if self.values_of(trial.params) not in tried:
                return trial
        return None

    def keep(self, trial: "optuna.Trial", *, is_complete: bool) -> Trial:
        """Write a trial that has ended into the file, and return it.

        Raises:
            DiskFullError: there is no room for it.
        """
        from optuna.trial import TrialState

        reported = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if is_complete:
            ended = trial.study.tell(trial, reported[max(reported)])
        else:
            ended = trial.study.tell(trial, state=TrialState.PRUNED)
        with explained_disk_full(self._file):
            self._finished.add_trial(ended)
        return self._told(ended)

    def values_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that a run gets for what was drawn."""
        return {path: setting.value(params[path]) for path, setting in self._space.items()}

    def _told(self, trial: "optuna.trial.FrozenTrial") -> Trial:
        scores = trial.intermediate_values
        return Trial(
            number=trial.number,
            values=self.values_of(trial.params),
            score=scores[max(scores)] if scores else None,
            n=int(trial.user_attrs.get("n", 0)),
            rungs=len(scores),
            seconds=float(trial.user_attrs.get("seconds", 0.0)),
            is_complete=trial.state.name == "COMPLETE",
            failure=str(trial.user_attrs.get("failure", "")),
        )


class _Held:
    """A lock for optuna that takes nothing: its own would outlive a process that is killed."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _cut_unfinished_line(file: Path) -> None:
    """Remove what a crash has left of a line; optuna would write the next one behind it.

    Raises:
        DataError: the file ends with something else, which is left there.
    """
    with contextlib.suppress(FileNotFoundError), file.open("r+b") as written:
        content = written.read()
        end = content.rfind(b"\n") + 1
        if content[end : end + len(_LINE_BEGINS)] != _LINE_BEGINS[: len(content) - end]:
            raise _damaged(file, "it ends with what is no line of it")
        written.truncate(end)


def _damaged(file: Path, reason: str) -> DataError:
    return DataError(
        f"{file}: damaged ({reason}). Delete the file: the same command makes it again from the "
        "trainings beside it; only those that failed are trained anew."
    )
