"""Learning rates that were chosen from a grid: the record of each choice, and its rule.

A run with `optimization.lr_grid` is trained with each of its rates, by a seed that no run has
(`CHOICE_SEED`), and scored on the val split; the test split has no part in it. The best rate
is the run's `base_lr`; where several are equally good, the smallest of them. Where it is the
outermost, the grid grows there, as far as `optimization.lr_grid_growth` allows (`next_rate`).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ademvl.config.optimization import CHOICE_SEED, OptimizationSettings
from ademvl.config.reading import read
from ademvl.config.run import ADAPTER_KEYWORDS, TRAINED, RunSettings
from ademvl.config.setting import record_class
from ademvl.config.settings_files import run_to_json
from ademvl.config.study import Study
from ademvl.errors import DataError, SettingsError, TrainingError, list_findings
from ademvl.runs.run_state import read_object
from ademvl.storage.files import parse_json, write_json

_REMEDY = "Delete the file; the workflow chooses again."


@record_class
class Candidate:
    """One rate of a grid.

    Attributes:
        base_lr: the rate.
        score: accuracy on all questions, or CIDEr of captions, in percent; None where the training
            diverged.
        n: items of the val split.
        seconds: that the training took.
        failure: how a training ended that diverged.
    """

    base_lr: float
    score: float | None = None
    n: int = 0
    seconds: float = 0.0
    failure: str = ""


@record_class
class RateChoice:
    """What was chosen for a run, and from what.

    Attributes:
        run: its name.
        base_lr: the chosen rate.
        candidates: by ascending rate.
        split: that they were scored on.
        seed: that they were trained with.
    """

    run: str
    base_lr: float
    candidates: tuple[Candidate, ...]
    split: str = "val"
    seed: int = CHOICE_SEED

    @property
    def grid(self) -> tuple[float, ...]:
        """All rates that were tried."""
        return tuple(candidate.base_lr for candidate in self.candidates)

    @property
    def is_at_edge(self) -> bool:
        """Whether a better rate may lie beyond the grid."""
        return len(self.grid) > 1 and self.base_lr in (min(self.grid), max(self.grid))

    @property
    def seconds(self) -> float:
        """What all trainings of the choice took."""
        return sum(candidate.seconds for candidate in self.candidates)


def choose_rate(candidates: Sequence[Candidate]) -> float:
    """Return the rate of the best score, the smallest of equally good ones.

    Raises:
        TrainingError: every training diverged.
    """
    scored = [(-found.score, found.base_lr) for found in candidates if found.score is not None]
    if not scored:
        findings = [f"base_lr {found.base_lr:g}: {found.failure}" for found in candidates]
        remedy = "Put smaller rates into optimization.lr_grid."
        raise TrainingError(list_findings("all trainings of the grid diverged", findings, remedy))
    return min(scored)[1]


def next_rate(optimization: OptimizationSettings, tried: Sequence[Candidate]) -> float | None:
    """Return the next rate to try; None where all are tried that the settings ask for.

    Args:
        optimization: settings with a grid, which is tried first.
        tried: what is known already, by ascending rate.
    """
    grid, rates = optimization.lr_grid, [candidate.base_lr for candidate in tried]
    if missing := [rate for rate in grid if rate not in rates]:
        return missing[0]
    if len(grid) < 2 or len(rates) >= len(grid) + optimization.lr_grid_growth:
        return None
    has_score = any(candidate.score is not None for candidate in tried)
    best = choose_rate(tried) if has_score else rates[0]  # where all diverge, smaller ones may not
    if best == rates[0]:
        return _rounded(rates[0] * grid[0] / grid[1])
    return _rounded(rates[-1] * grid[-1] / grid[-2]) if best == rates[-1] else None


def _rounded(rate: float) -> float:
    return float(f"{rate:.6g}")


def choice_file(study_dir: Path, run: str) -> Path:
    """Return the file of a run's choice."""
    return study_dir / "rates" / f"{run}.json"


def write_choice(path: Path, choice: RateChoice) -> None:
    """Write a choice."""
    write_json(path, dataclasses.asdict(choice))


def read_choice(path: Path) -> RateChoice | None:
    """Read a choice; None where there is none yet.

    Raises:
        DataError: malformed, or what was chosen is not the best.
    """
    raw = read_object(path)
    if not raw:
        return None
    try:
        choice = read(RateChoice, dict(raw), source=str(path), remedy=_REMEDY)
    except SettingsError as error:
        raise DataError(str(error)) from error
    if choice.base_lr != choose_rate(choice.candidates):
        raise DataError(f"{path}: base_lr {choice.base_lr:g} is not the best of all. {_REMEDY}")
    return choice


def choosing_run(run: RunSettings) -> str:
    """Return the run whose choice a run's rate is: itself, or that whose adapter it takes.

    Empty where nothing is chosen.
    """
    if not run.optimization.lr_grid:
        return ""
    if run.adapter == TRAINED:
        return run.name
    return "" if run.adapter in ADAPTER_KEYWORDS else run.adapter


def choice_of(study_dir: Path, run: RunSettings) -> RateChoice | None:
    """Return the choice that a run's rate is of; None without a grid, and before it is made.

    Raises:
        DataError: the record is malformed.
    """
    owner = choosing_run(run)
    return read_choice(choice_file(study_dir, owner)) if owner else None


def candidate_dir(folder: Path, base_lr: float) -> Path:
    """Return the directory in which a rate is tried, in the folder of a run's grid."""
    return folder / f"base_lr_{base_lr:g}" / f"seed{CHOICE_SEED}"


def candidate_of(run: RunSettings, base_lr: float) -> RunSettings:
    """Return a run as a rate of its grid is tried: by a seed of its own, asked the val split."""
    return dataclasses.replace(
        run,
        seed=CHOICE_SEED,
        optimization=dataclasses.replace(
            run.optimization, base_lr=base_lr, lr_grid=(), lr_grid_growth=0
        ),
        evaluation=dataclasses.replace(run.evaluation, split="val"),
    )


def is_choice_for(run: RunSettings, choice: RateChoice) -> bool:
    """Whether just those rates were tried that a run's grid and its growth ask for."""
    optimization, tried = run.optimization, list[Candidate]()
    known = {candidate.base_lr: candidate for candidate in choice.candidates}
    while (rate := next_rate(optimization, tried)) in known:
        tried = sorted([*tried, known[rate]], key=lambda candidate: candidate.base_lr)
    return rate is None and len(tried) == len(known)


def with_rate(run: RunSettings, choice: RateChoice) -> RunSettings:
    """Return a run with its chosen rate.

    Raises:
        SettingsError: the choice was made from another grid.
    """
    grid = run.optimization.lr_grid
    if not is_choice_for(run, choice):
        raise SettingsError(
            f"run {run.name}: optimization.lr_grid is {list(grid)}, but the rate was chosen from "
            f"{list(choice.grid)}; choose again (`snakemake`, or `ademvl choose-rate`)"
        )
    optimization = dataclasses.replace(run.optimization, base_lr=choice.base_lr)
    return dataclasses.replace(run, optimization=optimization)


def resolved(settings_json: str, choice: Path | None) -> str:
    """Return JSON settings of a run with its chosen rate; all others as they are.

    Args:
        settings_json: of a run or study.
        choice: record of the choice, if there is any.

    Raises:
        SettingsError: a run with a grid has no record, or one of another grid.
        DataError: malformed JSON or record.
    """
    raw = parse_json(settings_json, place="settings", remedy="The workflow passes them as JSON.")
    grid = raw.get("optimization", {}).get("lr_grid") if isinstance(raw, dict) else None
    if not grid or "runs" in raw:
        return settings_json
    run: RunSettings = read(RunSettings, raw, source="settings")
    if not choosing_run(run):
        return settings_json
    found = read_choice(choice) if choice else None
    if found is None:
        raise SettingsError(
            f"run {run.name}: optimization.lr_grid leaves its rate open: `ademvl choose-rate` "
            "chooses it, and the record of that is named behind the settings"
        )
    return run_to_json(with_rate(run, found))


def with_chosen_rates(study: Study) -> Study:
    """Return a study whose runs have the rates that were chosen for them, where they were yet.

    Raises:
        DataError: the record of a choice is malformed.
    """

    def chosen(run: RunSettings) -> RunSettings:
        choice = choice_of(study.results_dir, run)
        if choice is None or not is_choice_for(run, choice):
            return run
        return with_rate(run, choice)

    return dataclasses.replace(study, runs=tuple(chosen(run) for run in study.runs))
