"""What has been run of a study: typed records read from its run directories, with gaps known.

Only settings, scores, metrics and notes of a run's directory are read, no weights; a run of the
study whose scores are not there is recorded as not run, never left out. Scores count where they
are of these settings and of the items that the data set holds now, or else of the same items as
the other runs'.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ademvl.config.method_groups import conditions_of
from ademvl.config.run import ADAPTER_KEYWORDS, GIVEN_ADAPTERS, RunSettings
from ademvl.config.study import Study
from ademvl.config.tasks import facts_of
from ademvl.errors import DataError, list_findings
from ademvl.reporting.checked_seeds import check_seeds
from ademvl.reporting.score_entries import impossible_numbers, object_at, read_estimates
from ademvl.reporting.seed_result import Cost, SeedResult
from ademvl.runs.adapter_training import other_training
from ademvl.runs.answer_speed import read_speed, speed_file
from ademvl.runs.chosen_rate import with_chosen_rates
from ademvl.runs.failures import read_failure
from ademvl.runs.identity import study_checksum
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import REMEDY, State, read_object, state_of
from ademvl.statistics.intervals import Estimate, combine_seeds
from ademvl.statistics.seed_spread import UNKNOWN, SeedRow, Spread, spread_of_others

GAPS: tuple[State, ...] = ("failed", "stale", "unfinished", "not run")
"""States without scores; the first that a run's seeds have is the run's."""


@dataclass(frozen=True)
class RunResult:
    """A run of the study over all of its seeds, at least one.

    Attributes:
        label: as printed.
        seeds: in the order of the study file.
        others: by column, the spread between seeds of the study's other rows of the same kind.
    """

    label: str
    seeds: tuple[SeedResult, ...]
    others: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def settings(self) -> RunSettings:
        """Settings of the first seed."""
        return self.seeds[0].settings

    @property
    def name(self) -> str:
        """Key of the run in the study file."""
        return self.settings.name

    @property
    def finished(self) -> tuple[SeedResult, ...]:
        """Seeds that have scores."""
        return tuple(seed for seed in self.seeds if seed.state == "finished")

    @property
    def state(self) -> str:
        """`finished`, `2 of 3 seeds`, or the first of `GAPS` that a seed has."""
        if self.finished:
            complete = len(self.finished) == len(self.seeds)
            return "finished" if complete else f"{len(self.finished)} of {len(self.seeds)} seeds"
        states = {seed.state for seed in self.seeds}
        return next(state for state in GAPS if state in states)

    def estimate(self, column: str) -> Estimate | None:
        """Combine the finished seeds' scores; None where no seed has any item in the column."""
        found = self.seed_estimates(column)
        return combine_seeds(found, self.others.get(column, UNKNOWN)) if found else None

    def seed_estimates(self, column: str) -> list[Estimate]:
        """Return the finished seeds' scores; what `statistics.verdict` judges by."""
        return [seed.scores[column] for seed in self.finished if column in seed.scores]

    @property
    def seed_row(self) -> SeedRow:
        """The finished seeds' scores, as pooling of their spread takes them."""
        settings = self.settings
        columns = {column for seed in self.finished for column in seed.scores}
        return SeedRow(
            kind=(settings.task, settings.data_dir, settings.evaluation.split),
            adapters=self.name if settings.adapter in ADAPTER_KEYWORDS else settings.adapter,
            scores={
                column: [estimate.value for estimate in self.seed_estimates(column)]
                for column in columns
            },
        )

    def ceiling(self, column: str) -> Estimate | None:
        """Return the ceiling of a caption metric, which does not depend on the seed."""
        found = [seed.ceiling[column] for seed in self.finished if column in seed.ceiling]
        return found[0] if found else None


@dataclass(frozen=True)
class StudyResults:
    """All runs of a study, in the order of the study file."""

    study: Study
    runs: tuple[RunResult, ...]

    @cached_property
    def study_text(self) -> str:
        """The study that tables belong to: its name, and a checksum of its settings."""
        return f"study {self.study.name}, settings {study_checksum(self.study.runs)}"

    def of_task(self, task: str) -> tuple[RunResult, ...]:
        """Return the runs of one task."""
        return tuple(run for run in self.runs if run.settings.task == task)

    def spread_beside(self, column: str, *runs: RunResult) -> Spread:
        """Pool the spread between seeds in a column over all runs of these runs' kind but these."""
        rows = [run.seed_row for run in self.runs]
        return spread_of_others(rows, column, *(run.seed_row for run in runs))

    def control_of(self, run: RunResult) -> RunResult | None:
        """Return the text-only control of a run that sees images.

        It has images withheld; task, data, split, prompts, answers and backbones are the same. With
        several controls, one with the same way of reading images is preferred.
        """
        if run.settings.images == "withheld" or not run.settings.method.sees_images:
            return None
        controls = [
            other
            for other in self.runs
            if other.settings.images == "withheld"
            and conditions_of(other.settings) == conditions_of(run.settings)
        ]
        if not controls:
            return None
        same_mode = run.settings.features.mode
        return min(controls, key=lambda other: other.settings.features.mode != same_mode)


def read_results(study: Study, *, refuse_doubtful: bool = True) -> StudyResults:
    """Read everything that has been run of a study.

    Args:
        study: whose runs are looked for.
        refuse_doubtful: whether scores that cannot be, or are not of the predictions beside them,
            are an error; else they are left out, and `doubts` says why.

    Raises:
        DataError: a score, provenance or settings file is malformed, or scores are doubtful.
    """
    study = with_chosen_rates(study)
    found = [_read_seed(study.run_dir(settings), settings) for settings in study.runs]
    checked = check_seeds(found)
    doubts = [f"{seed.scores_path}: {doubt}" for seed in checked for doubt in seed.doubts]
    if doubts and refuse_doubtful:
        headline = "scores that cannot be, or do not follow from their predictions"
        folders = dict.fromkeys(str(seed.run_dir) for seed in checked if seed.doubts)
        remedy = f"`ademvl evaluate` makes them anew: {', '.join(folders)}."
        raise DataError(list_findings(headline, doubts, remedy))
    seeds: dict[str, list[SeedResult]] = {}
    for seed in checked:
        seeds.setdefault(seed.settings.name, []).append(seed)
    runs = tuple(
        RunResult(study.label(name), _of_same_items(_with_own_adapters(of)))
        for name, of in seeds.items()
    )
    results = StudyResults(study, runs)
    return replace(results, runs=tuple(_beside_others(run, results) for run in runs))


def _beside_others(run: RunResult, results: StudyResults) -> RunResult:
    """Add the other rows' spread; given weights are one training and stand for no other."""
    columns = () if run.settings.adapter in GIVEN_ADAPTERS else run.seed_row.scores
    return replace(run, others={name: results.spread_beside(name, run) for name in columns})


def _with_own_adapters(seeds: Sequence[SeedResult]) -> list[SeedResult]:
    """Leave out seeds that were scored with the adapter of an earlier one: it counts once.

    Seeds of a given adapter differ in how answers are drawn.
    """
    owners: dict[str, int] = {}
    found = []
    for seed in seeds:
        number, adapter = seed.settings.seed, seed.adapter_sha256
        if seed.state == "finished" and adapter and seed.settings.adapter not in GIVEN_ADAPTERS:
            owner = owners.setdefault(adapter, number)
            if owner != number:
                seed = seed.left_out(f"scored with the same adapter as seed {owner}")
        found.append(seed)
    return found


def _of_same_items(seeds: Sequence[SeedResult]) -> tuple[SeedResult, ...]:
    """Leave out the scores of seeds that count other items than the first: no mean is over both."""
    finished = [seed for seed in seeds if seed.state == "finished"]

    def counts(seed: SeedResult) -> dict[str, int]:
        return {column: score.n for column, score in seed.scores.items()}

    return tuple(
        seed.left_out("scored on other items than the first seed")
        if seed in finished and counts(seed) != counts(finished[0])
        else seed
        for seed in seeds
    )


def _read_seed(run_dir: Path, settings: RunSettings) -> SeedResult:
    files = RunFiles(run_dir)
    scores_path, provenance_path = files.scores(settings.evaluation_task), files.provenance
    raw, provenance = read_object(scores_path), read_object(provenance_path)
    header = object_at(raw, "header", scores_path)
    for key in ("checksums", "hardware", "usage"):
        object_at(provenance, key, provenance_path)
    failure = read_failure(run_dir)
    state = "failed" if failure else state_of(run_dir, settings, header, provenance)
    facts = facts_of(settings.task)
    impossible: list[str] = []
    if state == "finished":
        ceiling = object_at(raw, "ceiling", scores_path)
        impossible = [
            *impossible_numbers(raw, scores_path, facts),
            *impossible_numbers(ceiling, scores_path, facts),
        ]
    if state != "finished" or impossible:
        raw = {}
    speed = read_speed(speed_file(files.predictions(settings.evaluation_task)))
    cost = _cost(provenance, provenance_path)
    found = SeedResult(
        settings=settings,
        run_dir=run_dir,
        state=state,
        scores=read_estimates(raw, scores_path, facts),
        ceiling=read_estimates(object_at(raw, "ceiling", scores_path), scores_path, facts),
        cost=replace(cost, answer_seconds=speed.seconds / speed.items) if speed else cost,
        provenance=provenance,
        failure=failure,
        data=object_at(header, "data", scores_path),
        adapter_sha256=str(header.get("adapter_sha256") or ""),
        doubts=tuple(impossible),
    )
    other = other_training(files.adapter, provenance)
    return found.left_out(f"its adapter is of another training ({other})") if other else found


def _number(raw: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return a finite number in a file's content; None where it is null or absent."""
    found = raw.get(key)
    if found is not None and not (isinstance(found, int | float) and math.isfinite(found)):
        raise DataError(f"{path}: {key}: expected a number, found {found!r}. {REMEDY}")
    return found


def _cost(provenance: Mapping[str, Any], path: Path) -> Cost:
    # What the training of weights that others gave took is not known.
    usage = {} if provenance.keys() & {"released", "given"} else provenance.get("usage") or {}
    hardware = provenance.get("hardware") or {}
    gpus = hardware.get("gpus") or []
    num_gpus = _number(provenance, "parallel_processes", path) or 1
    device = f"{num_gpus} x {gpus[0]}" if gpus else str(hardware.get("cpu") or "")
    operations = object_at(provenance, "operations", path)
    trained = {
        key: _number(provenance, key, path)
        for key in ("trainable_parameters", "steps", "skipped_steps")
    }
    trained |= {f"{key}_flops": _number(operations, key, path) for key in ("training", "answer")}
    if owner := str(provenance.get("adapter_of") or ""):
        return Cost(**trained, adapter_of=owner)
    gpu_memory_mib = _number(usage, "peak_gpu_memory_mib", path) or None
    seconds = _number(usage, "wall_seconds", path)
    return Cost(
        **trained,
        train_seconds=seconds,
        peak_memory_mib=gpu_memory_mib or _number(usage, "peak_memory_mib", path),
        energy_joules=_number(usage, "energy_joules", path),
        gpu_hours=seconds * num_gpus / 3600 if gpu_memory_mib and seconds else None,
        hardware=device,
    )
