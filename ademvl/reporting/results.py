"""What has been run of a study: typed records read from its run directories, with gaps known.

Only settings, scores, metrics and notes of a run's directory are read, no weights; a run of the
study whose scores are not there is recorded as not run, never left out. Scores count where
`ademvl train` and `ademvl evaluate` would have nothing to do.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ademvl.config.run import RELEASED, RunSettings
from ademvl.config.study import Study
from ademvl.errors import DataError
from ademvl.runs.adapter_training import other_training
from ademvl.runs.failures import Failure, read_failure
from ademvl.runs.identity import data_checksums
from ademvl.runs.metrics import MetricsRow, read_metrics
from ademvl.runs.run_state import REMEDY, State, read_object, state_of
from ademvl.statistics.intervals import Estimate, combine_seeds

_MME_HEADERS = {"perception": "MME-P", "cognition": "MME-C"}

GAPS: tuple[State, ...] = ("failed", "stale", "unfinished", "not run")
"""States without scores; the first that a run's seeds have is the run's."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took; None where provenance.json does not tell.

    Attributes:
        trainable_parameters: tensors' elements that were trained.
        steps: of the optimiser.
        skipped_steps: of them, left out because loss or gradient was not finite.
        train_seconds: wall time of training, resumed parts added.
        peak_memory_mib: of the training process, or of the GPU where one was used.
        energy_joules: of the GPUs.
        gpu_hours: wall time of training times GPUs; None on a CPU.
        adapter_of: run that trained the adapter, where it is another one: what training took is
            told there alone.
        hardware: device in words.
    """

    trainable_parameters: int | None = None
    steps: int | None = None
    skipped_steps: int | None = None
    train_seconds: float | None = None
    peak_memory_mib: float | None = None
    energy_joules: float | None = None
    gpu_hours: float | None = None
    adapter_of: str = ""
    hardware: str = ""


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One training of a run.

    Attributes:
        settings: as the study resolves them.
        run_dir: folder of this run and seed.
        state: `failed` when the last step ended with an error; `stale` when the folder was made
            with other settings than the study has now, by another version of the verbs, or scored
            on other data than other seeds; `unfinished` when the present adapter is not trained or
            not evaluated yet.
        scores: by column or metric; empty unless finished. A column without items is absent.
        ceiling: captions only: scores of one reference against the others.
        cost: what it took.
        provenance: content of provenance.json; empty where there is none.
        failure: what failed; None unless failed.
        reason: why it is stale, where other settings or another version are not why.
        adapter_sha256: of the adapter that was scored; empty where it is not known.
        data: checksums of the data that was scored on.
    """

    settings: RunSettings
    run_dir: Path
    state: State
    scores: Mapping[str, Estimate]
    ceiling: Mapping[str, Estimate]
    cost: Cost
    provenance: Mapping[str, Any]
    failure: Failure | None = None
    reason: str = ""
    adapter_sha256: str = ""
    data: Mapping[str, str] = field(default_factory=dict)

    def left_out(self, reason: str) -> "SeedResult":
        """Return it as stale, without scores."""
        return replace(self, state="stale", reason=reason, scores={}, ceiling={})

    def learning_curve(self) -> list[MetricsRow]:
        """Read metrics.csv; empty where training has not started."""
        path = self.run_dir / "metrics.csv"
        return read_metrics(path) if path.is_file() else []


@dataclass(frozen=True)
class RunResult:
    """A run of the study over all of its seeds, at least one."""

    label: str
    seeds: tuple[SeedResult, ...]

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
        return combine_seeds(found) if found else None

    def seed_estimates(self, column: str) -> list[Estimate]:
        """Return the finished seeds' scores; what `evaluation.verdict` judges by."""
        return [seed.scores[column] for seed in self.finished if column in seed.scores]

    def ceiling(self, column: str) -> Estimate | None:
        """Return the ceiling of a caption metric, which does not depend on the seed."""
        found = [seed.ceiling[column] for seed in self.finished if column in seed.ceiling]
        return found[0] if found else None


@dataclass(frozen=True)
class StudyResults:
    """All runs of a study, in the order of the study file."""

    study: Study
    runs: tuple[RunResult, ...]

    def of_task(self, task: str) -> tuple[RunResult, ...]:
        """Return the runs of one task."""
        return tuple(run for run in self.runs if run.settings.task == task)

    def control_of(self, run: RunResult) -> RunResult | None:
        """Return the text-only control of a run: images withheld, else asked the same way.

        Task, data, split, prompts, answers and backbones are the same. With several controls, one
        with the same way of reading images is preferred.
        """
        controls = [
            other
            for other in self.runs
            if other.settings.images == "withheld" and _asked_of(other) == _asked_of(run)
        ]
        if run.settings.images == "withheld" or not controls:
            return None
        same_mode = run.settings.features.mode
        return min(controls, key=lambda other: other.settings.features.mode != same_mode)


def read_results(study: Study) -> StudyResults:
    """Read everything that has been run of a study.

    Raises:
        DataError: a score, provenance or settings file is malformed.
    """
    seeds: dict[str, list[SeedResult]] = {}
    for settings in study.runs:
        seeds.setdefault(settings.name, []).append(_read_seed(study.run_dir(settings), settings))
    runs = tuple(
        RunResult(study.label(name), _marked(_with_own_adapters(found)))
        for name, found in seeds.items()
    )
    return StudyResults(study, runs)


def _asked_of(run: RunResult) -> tuple[object, ...]:
    """Return what a run and its control must have in common."""
    settings = run.settings
    how = (settings.evaluation.split, settings.evaluation.answer_by, settings.prompts.evaluation)
    return (settings.task, settings.data_dir, settings.backbones, *how)


def _with_own_adapters(seeds: Sequence[SeedResult]) -> list[SeedResult]:
    """Leave out seeds that were scored with the adapter of an earlier one: it counts once.

    Seeds of a released adapter differ in how answers are drawn.
    """
    owners: dict[str, int] = {}
    found = []
    for seed in seeds:
        number, adapter = seed.settings.seed, seed.adapter_sha256
        if seed.state == "finished" and adapter and seed.settings.adapter != RELEASED:
            owner = owners.setdefault(adapter, number)
            if owner != number:
                seed = seed.left_out(f"scored with the same adapter as seed {owner}")
        found.append(seed)
    return found


def _marked(seeds: Sequence[SeedResult]) -> tuple[SeedResult, ...]:
    """Mark seeds as stale that were scored on other items than the rest.

    Right are those on the data that is there now, or else the first.
    """

    def items(seed: SeedResult) -> tuple[object, object]:
        return seed.data, {column: score.n for column, score in seed.scores.items()}

    finished = [seed for seed in seeds if seed.state == "finished"]
    if all(items(seed) == items(finished[0]) for seed in finished):
        return tuple(seeds)
    try:
        present = data_checksums(Path(finished[0].settings.data_dir))
    except DataError:
        present = {}
    right = items(next((seed for seed in finished if seed.data == present), finished[0]))
    return tuple(
        replace(seed, state="stale", scores={}, ceiling={})
        if seed in finished and items(seed) != right
        else seed
        for seed in seeds
    )


def _read_seed(run_dir: Path, settings: RunSettings) -> SeedResult:
    scores_path = run_dir / "scores" / f"{settings.evaluation_task}.json"
    provenance_path = run_dir / "provenance.json"
    raw, provenance = read_object(scores_path), read_object(provenance_path)
    header = _part(raw, "header", scores_path)
    for key in ("checksums", "hardware", "usage"):
        _part(provenance, key, provenance_path)
    failure = read_failure(run_dir)
    state = "failed" if failure else state_of(run_dir, settings, header, provenance)
    if state != "finished":
        raw = {}
    found = SeedResult(
        settings=settings,
        run_dir=run_dir,
        state=state,
        scores=dict(_estimates(raw, scores_path)),
        ceiling=dict(_estimates(_part(raw, "ceiling", scores_path), scores_path)),
        cost=_cost(provenance, provenance_path),
        provenance=provenance,
        failure=failure,
        data=header.get("data") or {},
        adapter_sha256=str(header.get("adapter_sha256") or ""),
    )
    other = other_training(run_dir / "adapter", provenance)
    return found.left_out(f"its adapter is of another training ({other})") if other else found


def _part(raw: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """Return an object in a file's content; empty where it is null or absent."""
    found = raw.get(key)
    if not isinstance(found, dict | None):
        kind = type(found).__name__
        raise DataError(f"{path}: {key}: expected an object, found {kind}. {REMEDY}")
    return found or {}


def _number(raw: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return a finite number in a file's content; None where it is null or absent."""
    found = raw.get(key)
    if found is not None and not (isinstance(found, int | float) and math.isfinite(found)):
        raise DataError(f"{path}: {key}: expected a number, found {found!r}. {REMEDY}")
    return found


def _estimates(raw: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Estimate]]:
    """Read each column's estimate from a score file, where it stands in percent or MME's points."""
    found: Mapping[str, Any]
    if "sums" in raw:
        found, unit = _mme_columns(_part(raw, "sums", path)), "score"
    else:
        found, unit = _part(raw, "columns", path) or _part(raw, "metrics", path), "percent"
    for column, entry in found.items():
        try:
            if entry is None or entry["n"] == 0:
                continue
            numbers = [entry[key] / 100 for key in (unit, "ci_low", "ci_high")]
            if not all(map(math.isfinite, numbers)):
                raise ValueError("a number is not finite")
            keywords = dict(zip(("value", "ci_low", "ci_high"), numbers, strict=True))
            method = str(entry["method"])
            yield str(column), Estimate(**keywords, n=int(entry["n"]), method=method)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: column {column} is malformed ({error}). {REMEDY}") from error


def _mme_columns(sums: Mapping[str, Any]) -> dict[str, Any]:
    return {header: sums.get(group) for group, header in _MME_HEADERS.items()}


def _cost(provenance: Mapping[str, Any], path: Path) -> Cost:
    # What the training of a released adapter took is not known.
    usage = {} if "released" in provenance else provenance.get("usage") or {}
    hardware = provenance.get("hardware") or {}
    gpus = hardware.get("gpus") or []
    num_gpus = _number(provenance, "parallel_processes", path) or 1
    device = f"{num_gpus} x {gpus[0]}" if gpus else str(hardware.get("cpu") or "")
    trained = {
        key: _number(provenance, key, path)
        for key in ("trainable_parameters", "steps", "skipped_steps")
    }
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
