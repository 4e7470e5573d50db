"""What has been run of a study: typed records read from its run directories, with gaps known.

Only `run.yaml`, `scores/`, `provenance.json` and `metrics.csv` are read; a run of the study whose
scores are not there is recorded as not run, never left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ademvl.config.run import RunSettings
from ademvl.config.schema import to_plain
from ademvl.config.study import Study, read_run
from ademvl.errors import DataError
from ademvl.evaluation.statistics import Estimate, combine_seeds
from ademvl.failures import Failure, read_failure
from ademvl.files import read_json
from ademvl.training.metrics import COLUMNS as METRICS_COLUMNS
from ademvl.training.metrics import MetricsRow, read_metrics
from ademvl.versions import RESULT_VERSIONS

_MME_HEADERS = {"perception": "MME-P", "cognition": "MME-C"}
_SCORED_WITH = ("task", "images", "method", "backbones", "prompts")
_REMEDY = "Delete the file and run the same command again."

State = Literal["finished", "failed", "stale", "unfinished", "not run"]
GAPS: tuple[State, ...] = ("failed", "stale", "unfinished", "not run")
"""States without scores; the first that a run's seeds have is the run's."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took; None where provenance.json does not tell.

    Attributes:
        trainable_parameters: tensors' elements that were trained.
        train_seconds: wall time of training, resumed parts added.
        peak_memory_mib: of the training process, or of the GPU where one was used.
        energy_joules: of the GPUs.
        gpu_hours: wall time of training times GPUs; None on a CPU.
        adapter_of: run that trained the adapter, where it is another one: what training took is
            told there alone.
        hardware: device in words.
    """

    trainable_parameters: int | None = None
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
            with other settings than the study has now, or by another version of the verbs; their
            scores are not read; `unfinished` when training began.
        scores: by column or metric; empty unless finished. A column without items is absent.
        ceiling: captions only: scores of one reference against the others.
        cost: what it took.
        provenance: content of provenance.json; empty where there is none.
        failure: what failed; None unless failed.
    """

    settings: RunSettings
    run_dir: Path
    state: State
    scores: Mapping[str, Estimate]
    ceiling: Mapping[str, Estimate]
    cost: Cost
    provenance: Mapping[str, Any]
    failure: Failure | None = None

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
        """Return the text-only control of a run: same task and data, images withheld.

        With several controls, one with the same way of reading images is preferred.
        """
        settings = run.settings
        controls = [
            other
            for other in self.of_task(settings.task)
            if other.settings.images == "withheld" and other.settings.data_dir == settings.data_dir
        ]
        if settings.images == "withheld" or not controls:
            return None
        same_mode = settings.features.mode
        return min(controls, key=lambda other: other.settings.features.mode != same_mode)


def read_results(study: Study) -> StudyResults:
    """Read everything that has been run of a study.

    Raises:
        DataError: a score, provenance or settings file is malformed.
    """
    seeds: dict[str, list[SeedResult]] = {}
    for settings in study.runs:
        seeds.setdefault(settings.name, []).append(_read_seed(study.run_dir(settings), settings))
    runs = tuple(RunResult(study.label(name), tuple(found)) for name, found in seeds.items())
    return StudyResults(study, runs)


def _read_seed(run_dir: Path, settings: RunSettings) -> SeedResult:
    scores_path = run_dir / "scores" / f"{settings.evaluation_task}.json"
    provenance_path = run_dir / "provenance.json"
    raw = _read_object(scores_path) if scores_path.is_file() else {}
    provenance = _read_object(provenance_path) if provenance_path.is_file() else {}
    failure, state = read_failure(run_dir), _state(run_dir, settings, raw, provenance)
    if state != "finished":
        raw, state = {}, "failed" if failure else state
    return SeedResult(
        settings=settings,
        run_dir=run_dir,
        state=state,
        scores=dict(_estimates(raw, scores_path)),
        ceiling=dict(_estimates(raw.get("ceiling") or {}, scores_path)),
        cost=_cost(provenance),
        provenance=provenance,
        failure=failure if state == "failed" else None,
    )


def _state(
    run_dir: Path, settings: RunSettings, raw: Mapping[str, Any], provenance: Mapping[str, Any]
) -> State:
    """Tell what the files say, without regard to failures."""
    if not raw and not (run_dir / "metrics.csv").is_file():
        return "not run"
    if read_run(run_dir) != settings or _was_trained_by_another_version(run_dir, provenance):
        return "stale"
    if not raw:
        return "unfinished"
    return "finished" if _were_scored_with(settings, raw) else "stale"


def _was_trained_by_another_version(run_dir: Path, provenance: Mapping[str, Any]) -> bool:
    current = RESULT_VERSIONS["train"]
    if provenance.get("train_version", current) != current:
        return True
    # Before its number was recorded, the columns of its metrics tell a version.
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().rstrip("\r\n") != ",".join(METRICS_COLUMNS)


def _were_scored_with(settings: RunSettings, raw: Mapping[str, Any]) -> bool:
    """Compare settings and version in a score file's header with those of the study."""
    header = raw.get("header") or {}
    recorded, expected = header.get("settings") or {}, to_plain(settings)
    is_of_version = header.get("version") in (None, RESULT_VERSIONS["evaluate"])
    return is_of_version and all(
        recorded[key] == expected[key] for key in _SCORED_WITH if key in recorded
    )


def _read_object(path: Path) -> Mapping[str, Any]:
    raw = read_json(path, remedy=_REMEDY)
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected an object, found {type(raw).__name__}. {_REMEDY}")
    return raw


def _estimates(raw: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Estimate]]:
    """Read each column's estimate from a score file, where it stands in percent or MME's points."""
    if "sums" in raw:
        found, unit = _mme_columns(raw["sums"]), "score"
    else:
        found, unit = raw.get("columns") or raw.get("metrics") or {}, "percent"
    for column, entry in found.items():
        if entry is None or entry.get("n") == 0:
            continue
        try:
            yield (
                str(column),
                Estimate(
                    value=entry[unit] / 100,
                    ci_low=entry["ci_low"] / 100,
                    ci_high=entry["ci_high"] / 100,
                    n=int(entry["n"]),
                    method=str(entry["method"]),
                ),
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: column {column} is malformed ({error}). {_REMEDY}") from error


def _mme_columns(sums: Mapping[str, Any]) -> dict[str, Any]:
    return {header: sums.get(group) for group, header in _MME_HEADERS.items()}


def _cost(provenance: Mapping[str, Any]) -> Cost:
    # What the training of a released adapter took is not known.
    usage = {} if "released" in provenance else provenance.get("usage") or {}
    hardware = provenance.get("hardware") or {}
    gpus = hardware.get("gpus") or []
    num_gpus = provenance.get("parallel_processes") or 1
    device = f"{num_gpus} x {gpus[0]}" if gpus else str(hardware.get("cpu") or "")
    parameters = provenance.get("trainable_parameters")
    if owner := str(provenance.get("adapter_of") or ""):
        return Cost(trainable_parameters=parameters, adapter_of=owner)
    gpu_memory_mib = usage.get("peak_gpu_memory_mib") or None
    seconds = usage.get("wall_seconds")
    return Cost(
        trainable_parameters=parameters,
        train_seconds=seconds,
        peak_memory_mib=gpu_memory_mib or usage.get("peak_memory_mib"),
        energy_joules=usage.get("energy_joules"),
        gpu_hours=seconds * num_gpus / 3600 if gpu_memory_mib and seconds else None,
        hardware=device,
    )
